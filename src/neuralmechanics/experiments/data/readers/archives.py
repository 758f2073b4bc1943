"""Data sets in the archives in which they are published, read without unpacking: zip and tar, bounded, no way out."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from neuralmechanics.experiments.data.readers.tree import Entry, Tree, is_hidden
from neuralmechanics.files import open_regular

__all__ = ["ARCHIVES", "open_archive"]

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")

# Three times the files of ImageNet's archive, and three times the largest file of any data set here.
_MOST_FILES, _MOST_BYTES = 4_000_000, 1 << 29
# A tar has no list of what it holds: it is read once, into memory.
_MOST_OF_TAR = 1 << 30
# Pictures and arrays of them shrink five times; black ones alone a thousand times.
_MOST_SHRUNK, _SMALL = 100, 1 << 20
_BLOCK = 1 << 14
_FAULTS = (
    *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, struct.error, EOFError, OSError),
    *(NotImplementedError, RuntimeError, UnicodeError, OverflowError, ValueError),
)


class _ArchiveTree:
    """The files of an archive: names once, content when it is asked for."""

    def __init__(
        self,
        path: Path,
        contents: Mapping[str, Callable[[], bytes]],
        marks: Mapping[str, int],
        folders: Collection[str],
    ) -> None:
        found = path.stat()
        self._path, self._state = path, f"{path}:{found.st_size}:{found.st_mtime_ns}"
        self._contents, self._marks = contents, marks
        self._entries: dict[str, dict[str, Entry]] = {"": {}}
        for name in contents:
            self._add(name)
        for name in folders:
            self._enter(name)

    def _add(self, name: str) -> None:
        folder, _, last = name.rpartition("/")
        known = self._entries.setdefault(folder, {})
        known[last] = Entry(last, is_folder=False)
        self._enter(folder)

    def _enter(self, folder: str) -> None:
        while folder:
            above, _, last = folder.rpartition("/")
            siblings = self._entries.setdefault(above, {})
            if last in siblings:
                if siblings[last].is_folder:
                    return
                raise ValueError(f"{str(self._path)!r} has {folder!r} as a file and as a folder")
            siblings[last] = Entry(last, is_folder=True)
            folder = above

    def entries(self, folder: str) -> list[Entry]:
        """What a folder of the archive holds."""
        return sorted(self._entries.get(folder, {}).values(), key=lambda entry: entry.name)

    def open(self, path: str) -> BinaryIO:
        """A file's content, in memory."""
        if path not in self._contents:
            raise ValueError(f"there is no {self.where(path)!r}")
        try:
            return BytesIO(self._contents[path]())
        except _FAULTS as error:
            raise ValueError(f"cannot read {self.where(path)!r}: {_reason(error)}") from None

    def state(self, path: str) -> str:
        """The archive's own state, with the file's name and checksum."""
        if path not in self._contents:
            raise ValueError(f"there is no {self.where(path)!r}")
        return f"{self._state}:{path}:{self._marks.get(path, 0)}"

    def where(self, path: str) -> str:
        """The archive, and the path in it."""
        return f"{self._path}/{path}" if path else str(self._path)


@contextmanager
def open_archive(path: Path) -> Iterator[Tree]:
    """The files of a zip or tar archive for as long as the block lasts; `ValueError` names what is wrong with it.

    Refused are archives that promise or hold more than their bytes can (bombs), names that lead out, links, encrypted
    files, two files of one name, and other compressions than deflate.
    """
    with ExitStack() as stack:
        file = stack.enter_context(open_regular(path))
        try:
            if path.name.lower().endswith(".zip"):
                tree = _of_zip(path, stack.enter_context(zipfile.ZipFile(file)))
            else:
                tree = _of_tar(path, file)
        except _FAULTS as error:
            raise ValueError(f"cannot read the archive {str(path)!r}: {_reason(error)}") from None
        yield tree


def _of_zip(path: Path, archive: zipfile.ZipFile) -> _ArchiveTree:
    size = path.stat().st_size
    kept: dict[str, zipfile.ZipInfo] = {}
    folders: set[str] = set()
    packed = unpacked = 0
    for member in archive.infolist():
        name = _safe(member.filename)
        packed, unpacked = packed + member.compress_size, unpacked + member.file_size
        if _is_hidden_path(name):
            continue
        if member.is_dir():
            folders.add(name)
            continue
        _require_plain(member, name)
        if name in kept:
            raise ValueError(f"it holds two files {name!r}")
        kept[name] = member
    if len(kept) + len(folders) > _MOST_FILES:
        raise ValueError(f"it holds {len(kept) + len(folders)} files, more than the {_MOST_FILES} of any data set")
    # Members that overlap share their bytes: what they promise together is then more than there is.
    if packed > size or unpacked > _most(size):
        raise ValueError(f"its {size} bytes promise {packed} packed and {unpacked} unpacked ones: no data set is such")

    def content(member: zipfile.ZipInfo) -> bytes:
        with archive.open(member) as file:
            # One byte more than promised, so that a content that is too long shows.
            found = file.read(member.file_size + 1)
        if len(found) != member.file_size:
            raise ValueError(f"it is cut short: {len(found)} of {member.file_size} bytes")
        return found

    contents = {name: (lambda member=member: content(member)) for name, member in kept.items()}
    return _ArchiveTree(path, contents, {name: member.CRC for name, member in kept.items()}, folders)


def _require_plain(member: zipfile.ZipInfo, name: str) -> None:
    # The upper half of these attributes is the file's mode where Unix wrote the archive, and zero elsewhere.
    kind = member.external_attr >> 16
    if stat.S_ISLNK(kind) or (stat.S_IFMT(kind) and not stat.S_ISREG(kind)):
        raise ValueError(f"{name!r} in it is a link or no regular file")
    if member.flag_bits & 1:
        raise ValueError(f"{name!r} in it is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} in it is packed by method {member.compress_type}; stored and deflated are read")
    if member.file_size > min(_MOST_BYTES, _most(member.compress_size)):
        raise ValueError(f"{name!r} in it promises {member.file_size} bytes of {member.compress_size} packed ones")


def _of_tar(path: Path, file: BinaryIO) -> _ArchiveTree:
    most = min(_MOST_OF_TAR, _most(os.fstat(file.fileno()).st_size))
    with ExitStack() as stack:
        plain = path.name.lower().endswith(".tar")
        unpacked = file if plain else cast(BinaryIO, stack.enter_context(gzip.GzipFile(fileobj=file)))
        # A stream: headers that claim sizes are followed by reading, and reading is what is counted.
        counted = _Counted(unpacked, most)
        archive = stack.enter_context(tarfile.open(fileobj=cast(BinaryIO, counted), mode="r|"))
        found: dict[str, bytes] = {}
        folders: set[str] = set()
        for member in archive:
            name = _safe(member.name)
            if _is_hidden_path(name):
                continue
            if member.isdir():
                folders.add(name)
                continue
            if not member.isreg():
                raise ValueError(f"{name!r} in it is a link or no regular file")
            if name in found:
                raise ValueError(f"it holds two files {name!r}")
            reader = archive.extractfile(member)
            found[name] = b"" if reader is None else reader.read()
            if len(found[name]) != member.size:
                raise ValueError(f"{name!r} in it is cut short: {len(found[name])} of {member.size} bytes")
        # To its very end, where gzip keeps the checksum of all before.
        while counted.read(_BLOCK):
            pass
    contents = {name: (lambda name=name: found[name]) for name in found}
    return _ArchiveTree(path, contents, {name: zlib.crc32(content) for name, content in found.items()}, folders)


class _Counted:
    """A stream of which no more than `most` bytes are read."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream, self._left, self._most = stream, most, most

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise ValueError(f"it unpacks to more than {self._most} bytes; unpack it and give the folder")
        content = self._stream.read(size)
        self._left -= len(content)
        return content


def _most(packed: int) -> int:
    return _MOST_SHRUNK * packed + _SMALL


def _safe(name: str) -> str:
    """The path of a member; `ValueError` where it leads out of the archive or means another place on some system."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if not parts or name[0] in "/\\" or ".." in parts or ":" in parts[0] or "\0" in name:
        raise ValueError(f"the name {name!r} in it leads out of it")
    if "\\" in name:
        raise ValueError(
            f"the name {name!r} in it has a backslash, which is no folder here; unpack it, give the folder"
        )
    return "/".join(parts)


def _is_hidden_path(name: str) -> bool:
    return any(is_hidden(part) for part in name.split("/"))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
