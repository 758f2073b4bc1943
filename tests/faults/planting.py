"""A copy of the source in which one line at a time is wrong."""

from __future__ import annotations

import compileall
import importlib.util
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Fault

__all__ = ["PACKAGE", "ROOT", "Copy", "changed", "place_of"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "neuralmechanics"


def changed(fault: Fault, text: str) -> str:
    """The text with the fault in it; ValueError where its place is not there once."""
    if text.count(fault.before) != 1:
        raise ValueError(f"{fault.name}: {fault.file} holds its place {text.count(fault.before)} times, not once")
    return text.replace(fault.before, fault.after)


def place_of(fault: Fault, source: Path) -> str:
    """File and line."""
    text = (source / PACKAGE / fault.file).read_text()
    return f"{fault.file}:{text[: text.index(fault.before)].count(chr(10)) + 1}"


@dataclass(frozen=True)
class Copy:
    """The package in a folder of its own, compiled once, so that a fault costs the compilation of one file."""

    source: Path

    @classmethod
    def of(cls, source: Path, folder: Path) -> Copy:
        """Copies and compiles all files."""
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        compileall.compile_dir(folder, quiet=1)
        return cls(folder)

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """With the fault inside the block, and as it was behind it."""
        file = self.source / PACKAGE / fault.file
        sound, times = file.read_text(), file.stat()
        compiled = Path(importlib.util.cache_from_source(str(file)))
        file.write_text(changed(fault, sound))
        compiled.unlink(missing_ok=True)
        try:
            yield
        finally:
            file.write_text(sound)
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
            compiled.unlink(missing_ok=True)
