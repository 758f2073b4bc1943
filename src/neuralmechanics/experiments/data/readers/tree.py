"""The files of a data set wherever they lie: one kind of path into a folder or into an archive."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from neuralmechanics.files import inside, open_regular

__all__ = ["FolderTree", "Place", "Tree"]

_DEEPEST = 32
# macOS's, a network drive's with small pictures of the pictures, Windows's.
_OF_SYSTEMS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder: of another folder, of a file, of a link that stays inside the data set."""

    name: str
    is_folder: bool
    is_link: bool = False


class Tree(Protocol):
    """Files by their paths in a data set, with `/` between the parts; the empty path is its root."""

    def entries(self, folder: str) -> list[Entry]:
        """What a folder holds, sorted by name; nothing where there is no such folder."""
        ...

    def open(self, path: str) -> BinaryIO:
        """The content of a file, which can be sought in; `ValueError` for what is no regular file."""
        ...

    def state(self, path: str) -> str:
        """A text that changes when the file does."""
        ...

    def where(self, path: str) -> str:
        """The path as a message shows it."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """A path into a tree of files, used as `pathlib.Path` is."""

    tree: Tree
    path: str = ""

    def __truediv__(self, name: str) -> Place:
        return Place(self.tree, f"{self.path}/{name}" if self.path else name)

    def __str__(self) -> str:
        return self.tree.where(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The folder above; the root is its own."""
        return Place(self.tree, self.path.rpartition("/")[0])

    def folders(self, *, linked: bool = True) -> list[Place]:
        """The folders in this one, sorted; links to folders among them if `linked`."""
        return [self / e.name for e in self.tree.entries(self.path) if e.is_folder and (linked or not e.is_link)]

    def files(self) -> list[Place]:
        """The files in this folder, sorted."""
        return [self / entry.name for entry in self.tree.entries(self.path) if not entry.is_folder]

    def is_folder(self) -> bool:
        """Whether the tree has a folder of this path; the root is one."""
        return not self.path or any(e.name == self.name and e.is_folder for e in self.tree.entries(self.parent.path))

    def is_file(self) -> bool:
        """Whether the tree has a file of this path, or something else that is no folder."""
        return any(e.name == self.name and not e.is_folder for e in self.tree.entries(self.parent.path))

    def below(self, deepest: int = _DEEPEST) -> list[Place]:
        """All files below this folder, sorted; links to folders are not followed.

        Raises `ValueError` for folders nested more than `deepest` deep.
        """
        found: list[Place] = []
        waiting = [(self, 0)]
        while waiting:
            where, depth = waiting.pop()
            if depth > deepest:
                raise ValueError(f"{str(self)!r} has folders nested more than {deepest} deep; put its files higher up")
            found += where.files()
            waiting += [(folder, depth + 1) for folder in where.folders(linked=False)]
        return sorted(found, key=lambda place: place.path.split("/"))

    def open(self) -> BinaryIO:
        """The content of this file."""
        return self.tree.open(self.path)

    def read(self, most: int) -> bytes:
        """The content of a file of at most `most` bytes; `ValueError` for more."""
        with self.open() as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"{str(self)!r} is larger than the {most} bytes that are read of such a file")
        return content

    def state(self) -> str:
        """A text that changes when the file does."""
        return self.tree.state(self.path)


def is_hidden(name: str) -> bool:
    """Whether a system or a tool keeps a file of its own under this name: no part of any data set.

    >>> is_hidden("._n01443537_0.JPEG"), is_hidden("__MACOSX"), is_hidden("n01443537_0.JPEG")
    (True, True, False)
    """
    return name.startswith(".") or name in _OF_SYSTEMS


class FolderTree:
    """A folder on disk; `ValueError` for any link in it that leads out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def entries(self, folder: str) -> list[Entry]:
        """What lies in a folder."""
        where = inside(self.root, folder)
        found = []
        try:
            with os.scandir(where) as entries:
                for entry in entries:
                    if not is_hidden(entry.name):
                        link = entry.is_symlink()
                        if link:
                            # For its error: a link that leads out of the data set.
                            inside(self.root, f"{folder}/{entry.name}" if folder else entry.name)
                        found.append(Entry(entry.name, entry.is_dir(), link))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(found, key=lambda entry: entry.name)

    def open(self, path: str) -> BinaryIO:
        """The file at a path."""
        return open_regular(inside(self.root, path))

    def state(self, path: str) -> str:
        """Path, size and times of the last change: of the content, and of the file, which no tool sets back."""
        try:
            found = (self.root / path).stat()
        except OSError as error:
            raise ValueError(f"cannot read {self.where(path)!r}: {error.strerror}") from None
        return f"{self.root / path}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"

    def where(self, path: str) -> str:
        """The path on disk."""
        return str(self.root / path)
