"""The tally: one line beside the shards that counts what was acknowledged, so that a lost tail is noticed.

It is written over in place after each record, and never counts one that is not on the disk: a kill, or a power cut,
leaves it right or behind, never ahead.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from neuralmechanics.files import read_regular
from neuralmechanics.monitor.store.atomic import publish, write_all

TALLY_FILE = "tally.txt"

_LINE = re.compile(rb"(segments=(\d{8}) records=(\d{12}) closed=([01]) )crc32=([0-9a-f]{8})\n")
# A reader may meet the line while it is written.
_ATTEMPTS = 3


@dataclass(frozen=True)
class Tally:
    """Segments begun, records acknowledged in the last of them, and whether its writer closed it."""

    segments: int = 0
    records: int = 0
    closed: bool = True

    def line(self) -> bytes:
        """The tally as a line of fixed width with its checksum."""
        text = f"segments={self.segments:08d} records={self.records:012d} closed={int(self.closed)} ".encode()
        return text + f"crc32={zlib.crc32(text):08x}\n".encode()


def publish_tally(folder: Path, tally: Tally) -> None:
    """Put a tally where there may be none, or a damaged one."""
    publish(folder / TALLY_FILE, tally.line())


def write_tally(folder: Path, tally: Tally, *, durable: bool = False) -> None:
    """Write the line over the one before; `durable` waits for the disk."""
    handle = os.open(folder / TALLY_FILE, os.O_WRONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        write_all(handle, tally.line())
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def read_tally(folder: Path) -> Tally:
    """The tally of a run; `ValueError` when it is missing or its checksum does not match."""
    for _ in range(_ATTEMPTS):
        try:
            match = _LINE.fullmatch(read_regular(folder / TALLY_FILE, 256))
        except FileNotFoundError:
            raise ValueError(f"{TALLY_FILE} is missing: nobody knows how many records the run held") from None
        except OSError as error:
            raise ValueError(f"{TALLY_FILE} cannot be read ({error.strerror})") from None
        if match and int(match[5], 16) == zlib.crc32(match[1]):
            return Tally(int(match[2]), int(match[3]), match[4] == b"1")
    raise ValueError(f"{TALLY_FILE} is damaged: its line does not match its checksum")
