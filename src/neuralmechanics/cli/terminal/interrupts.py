"""Ctrl-C that is never lost: Python drops an exception that is raised while an object is destroyed."""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Long enough for the destructor to be over, too short to be noticed.
_LATER = 0.01


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """In the block a `KeyboardInterrupt` that falls into a destructor, or into what runs when one ends, comes again.

    Importing a module runs such code by the thousand. Without this the interrupt is printed as an exception that was
    ignored, and the command goes on.
    """
    before = sys.unraisablehook

    def hand_on(ignored: Any) -> None:
        if isinstance(ignored.exc_value, KeyboardInterrupt):
            # From another thread: raised here it would be ignored like the first one.
            threading.Timer(_LATER, _thread.interrupt_main).start()
        else:
            before(ignored)

    sys.unraisablehook = hand_on
    try:
        yield
    finally:
        sys.unraisablehook = before
