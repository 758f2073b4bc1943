"""A worker that ends with the process it works for, however that one ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

# As if by SIGKILL: what a run holds is whole after any kill, and nobody is left to read another status.
_STATUS = 137


def end_with_parent() -> None:
    """From now on this process ends as soon as the one that started it through `multiprocessing` has ended.

    It does not hear Ctrl-C, which a terminal sends to all processes of a command: the one that started it ends it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_watch, args=(parent.sentinel,), name="parent", daemon=True).start()


def _watch(sentinel: int) -> None:
    # The system closes the parent's end of this pipe whatever kills it, SIGKILL included.
    wait([sentinel])
    os._exit(_STATUS)
