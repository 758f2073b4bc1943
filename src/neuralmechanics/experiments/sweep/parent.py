"""A worker that ends with the process it works for, however that one ended."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing.connection import wait

# As if by SIGKILL: what a run holds is whole after any kill, and nobody is left to read another status.
_STATUS = 137


def end_with_parent() -> None:
    """From now on this process ends as soon as the one that started it through `multiprocessing` has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel,), name="parent", daemon=True).start()


def _watch(sentinel: int) -> None:
    # The system closes the parent's end of this pipe whatever kills it, SIGKILL included.
    wait([sentinel])
    os._exit(_STATUS)
