"""What reaches a terminal: text. A run of somebody else's may name its layers with codes that move the cursor."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

# Control codes but for tab and line end; marks that turn the direction of writing; line separators; lone surrogates.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def printable(text: str) -> str:
    r"""The text with every control character written out.

    >>> printable("layer \x1b[2J 1")
    'layer \\x1b[2J 1'
    """
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The same in one line: what a message quotes cannot begin a line of its own."""
    return printable(" ".join(text.split()))


class _PlainOutput:
    """A stream that writes nothing but printable text to the one beneath it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def plain_output(stream: TextIO) -> Iterator[None]:
    """Inside the block all that is printed is made printable, and a warning is one line."""
    before = warnings.formatwarning
    warnings.formatwarning = _warning
    if hasattr(stream, "reconfigure"):
        # A terminal without Greek shows a character's number rather than ending the command.
        stream.reconfigure(errors="backslashreplace")
    try:
        with redirect_stdout(_PlainOutput(stream)):
            yield
        stream.flush()
    finally:
        warnings.formatwarning = before


def _warning(message: Warning | str, *place: Any, **more: Any) -> str:
    return f"neuralmechanics: warning: {one_line(str(message))}\n"
