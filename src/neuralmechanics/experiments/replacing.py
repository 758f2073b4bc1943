"""Replacing what a command wrote itself: only what it wrote, whole, in this version, and nobody touched since.

A finished folder is sealed: a list of its files with their checksums. A folder that differs from its list by a byte or
a file is a user's, and stays.
"""

from __future__ import annotations

import os
import stat
import zlib
from pathlib import Path

from neuralmechanics import __version__
from neuralmechanics.experiments.training.runfolder import read_json, write_json
from neuralmechanics.files import open_regular

SEAL = ".sealed.json"

_BLOCK = 1 << 20


def seal(folder: Path) -> None:
    """List the files of a folder that a command has finished, so that the command may replace it."""
    write_json(folder / SEAL, {"version": __version__, "files": _files(folder)})


def require_replaceable(folder: Path) -> None:
    """`ValueError` unless there is nothing at `folder`, an empty folder, or one that is as it was sealed."""
    if not os.path.lexists(folder) or (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        return
    problem = _problem(folder)
    if problem is not None:
        raise ValueError(
            f"{str(folder)!r} is not replaced: {problem}; move it away, remove it yourself, or choose another folder"
        )


def remove_sealed(folder: Path) -> None:
    """Remove a folder that is as it was sealed, file by file as the seal lists them, and nothing else."""
    require_replaceable(folder)
    if not (folder / SEAL).is_file():
        return
    for name in read_json(folder / SEAL)["files"]:
        (folder / name).unlink()
    (folder / SEAL).unlink()
    # From the innermost out; a folder with a file of somebody else refuses, and stays.
    for path, _, _ in os.walk(folder, topdown=False):
        os.rmdir(path)


def _problem(folder: Path) -> str | None:
    """Why a folder is not, byte for byte, what was sealed in this version."""
    if folder.is_symlink() or not folder.is_dir():
        return "it is no folder"
    if not (folder / SEAL).is_file():
        return "it was not written by this command, or not to its end"
    try:
        content = read_json(folder / SEAL)
        files = _files(folder)
    except (ValueError, OSError) as error:
        return str(error)
    if content.get("version") != __version__:
        return f"it was written by version {content.get('version')}"
    listed = content.get("files")
    if not isinstance(listed, dict):
        return f"its {SEAL} is damaged"
    odd = sorted(name for name in {*listed, *files} if listed.get(name) != files.get(name))
    if not odd:
        return None
    what = "is missing" if odd[0] not in files else "is not of this command" if odd[0] not in listed else "was changed"
    more = f", and {len(odd) - 1} more files" if len(odd) > 1 else ""
    return f"{odd[0]!r} {what}{more}"


def _files(folder: Path) -> dict[str, list[int]]:
    """Every file below a folder but the seal, with its size and CRC-32; `ValueError` for what is no file or folder."""
    found = {}
    for path, folders, names in os.walk(folder):
        for name in (*folders, *names):
            kind = os.lstat(Path(path) / name).st_mode
            if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
                raise ValueError(f"{name!r} in it is no file")
        for name in names:
            file = Path(path) / name
            if file != folder / SEAL:
                found[file.relative_to(folder).as_posix()] = _sum(file)
    return found


def _sum(path: Path) -> list[int]:
    checksum, size = 0, 0
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return [size, checksum]
