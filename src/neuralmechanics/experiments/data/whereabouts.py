"""Where a published data set lies: the folder or archive that was named, the usual one, or Hugging Face's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from neuralmechanics.experiments.config import ImageConfig
from neuralmechanics.experiments.data.readers.archives import ARCHIVES, open_archive
from neuralmechanics.experiments.data.readers.tree import FolderTree, Place
from neuralmechanics.experiments.data.sources import SOURCES, Source

# As deep as publishers go with folders of such names in one another: ILSVRC/Data/CLS-LOC.
_NESTED = 4


@dataclass(frozen=True)
class Found:
    """A folder or archive that may be read, and the path in it where the data set is to be looked for."""

    root: Path
    within: str = ""


def find_root(name: str, images: ImageConfig, source: Source) -> Found:
    """The folder or archive of the data set `name`; `ValueError` with the remedy where there is none.

    It is `images.root`; or what is called `name`, or as its publisher calls it, in the folder $NEURALMECHANICS_DATA; or
    Hugging Face's cache. Nothing is asked of any network.
    """
    if images.root is not None:
        root = Path(images.root)
        if not root.exists():
            raise ValueError(f"images.root: there is no {images.root!r}; {_remedy(name, source)}")
        if not root.is_dir() and not root.name.lower().endswith(ARCHIVES):
            raise ValueError(f"images.root: {images.root!r} is no folder and no archive ({', '.join(ARCHIVES)})")
        return Found(root)
    for found in (_usual(source), _of_hub(source)):
        if found is not None:
            return found
    raise ValueError(f"{name} is not here: {_remedy(name, source)}")


def require_here(name: str, images: ImageConfig) -> None:
    """`ValueError` at once where a published data set is not here; nothing is read and no network asked."""
    if name in SOURCES:
        find_root(name, images, SOURCES[name])


def opened(found: Found, stack: ExitStack) -> Place:
    """The place in a folder or in an archive, which is closed with `stack`."""
    root = found.root
    return Place(FolderTree(root) if root.is_dir() else stack.enter_context(open_archive(root)), found.within)


def candidates(place: Place, source: Source, stack: ExitStack) -> Iterator[Place]:
    """`place`, then what in it has one of the data set's own names: folders first, then archives."""
    yield from _entered(place, source, stack, _NESTED)


def _entered(place: Place, source: Source, stack: ExitStack, deepest: int) -> Iterator[Place]:
    yield place
    if not deepest:
        return
    for folder in place.folders():
        if folder.name.lower() in source.own_names:
            yield from _entered(folder, source, stack, deepest - 1)
    if isinstance(place.tree, FolderTree):
        for file in place.files():
            if _stem(file.name) in source.own_names:
                yield from _entered(
                    Place(stack.enter_context(open_archive(Path(str(file))))), source, stack, deepest - 1
                )


def _stem(name: str) -> str | None:
    """The name of an archive without its ending; None for any other file."""
    ending = next((ending for ending in reversed(ARCHIVES) if name.lower().endswith(ending)), None)
    return None if ending is None else name.lower().removesuffix(ending)


def _usual(source: Source) -> Found | None:
    given = os.environ.get("NEURALMECHANICS_DATA")
    if not given or not Path(given).is_dir():
        return None
    here = sorted(Path(given).iterdir())
    folders = [path for path in here if path.name.lower() in source.own_names and path.is_dir()]
    archives = [path for path in here if _stem(path.name) in source.own_names and path.is_file()]
    return next(map(Found, (*folders, *archives)), None)


def _of_hub(source: Source) -> Found | None:
    """The newest copy in the cache of Hugging Face's `datasets`, else of its hub's client."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or caches / "huggingface")
    owner, _, repository = source.repository.partition("/")
    tables = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets") / f"{owner}___{repository}"
    # configuration/version/fingerprint, and the files of one preparation in each.
    prepared = [path for path in tables.glob("*/*/*") if any(path.glob("*.arrow"))]
    if prepared:
        return Found(_newest(prepared))
    copied = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"datasets--{owner}--{repository}"
    snapshots = [path for path in copied.glob("snapshots/*") if any(path.rglob("*.parquet"))]
    # Its files are links to others of the copy, beside the snapshots.
    return Found(copied, f"snapshots/{_newest(snapshots).name}") if snapshots else None


def _newest(paths: Sequence[Path]) -> Path:
    return max(paths, key=lambda path: path.stat().st_mtime_ns)


def _remedy(name: str, source: Source) -> str:
    return (
        f"put {source.files} in a folder, or its archive as published, and give that as images.root (or call it "
        f"{source.own_names[0]} and set NEURALMECHANICS_DATA to the folder around it), or, with a network, run: "
        f"pip install 'neuralmechanics[data]' && "
        f'python -c "import datasets; datasets.load_dataset({source.repository!r})"'
    )
