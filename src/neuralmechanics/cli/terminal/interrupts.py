"""Ctrl-C that is never lost: Python drops an exception that is raised while an object is destroyed.

Nor is it raised where it would end the process another way: while an extension loads.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import Any

# Long enough for a destructor to be over, too short to be noticed.
_LATER = 0.01


@dataclass
class Interrupts:
    """Whether Ctrl-C has come, whatever became of its exception: a module that loads may put its own in the place."""

    came: bool = False

    def hear(self, number: int, frame: FrameType | None) -> None:
        """What Python does at Ctrl-C, and the memory of it; where C++ loads or imports a module, a moment later.

        There the exception may pass through code that allows none, which ends the process with `SIGABRT`.
        """
        self.came = True
        if _below_an_extension(frame):
            _again()
        else:
            signal.default_int_handler(number, frame)


def _below_an_extension(frame: FrameType | None) -> bool:
    # Code in C++ that asks for a module runs these few lines of the import system, and nothing above them is its own.
    if frame is not None and frame.f_code.co_filename == "<frozen importlib._bootstrap>":
        return True
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap_external>" and isinstance(
            frame.f_locals.get("self"), ExtensionFileLoader
        ):
            return True
        frame = frame.f_back
    return False


def _again() -> None:
    later = threading.Timer(_LATER, _interrupt)
    later.daemon = True
    later.start()


def _interrupt() -> None:
    main = threading.main_thread().ident
    if main is None or not hasattr(signal, "pthread_kill"):
        _thread.interrupt_main()  # it does not end a wait in C
    else:
        signal.pthread_kill(main, signal.SIGINT)


@contextmanager
def no_interrupt_lost() -> Iterator[Interrupts]:
    """In the block a `KeyboardInterrupt` that falls into a destructor, or into what runs when one ends, comes again.

    Importing a module runs such code by the thousand. Without this the interrupt is printed as an exception that was
    ignored, and the command goes on. What is given tells of one that another exception has taken the place of.
    """
    heard = Interrupts()
    with _heard_by(heard), _raised_again():
        yield heard


@contextmanager
def _heard_by(heard: Interrupts) -> Iterator[None]:
    # Only where Python's own handler stands: the caller's is the caller's, and other threads may set none.
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, heard.hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _raised_again() -> Iterator[None]:
    before = sys.unraisablehook

    def hand_on(ignored: Any) -> None:
        if isinstance(ignored.exc_value, KeyboardInterrupt):
            # From another thread: raised here it would be ignored like the first one.
            _again()
        else:
            before(ignored)

    sys.unraisablehook = hand_on
    try:
        yield
    finally:
        sys.unraisablehook = before
