"""A checkpoint on disk: one safetensors file or a folder of shards with their index, read one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.files import parse_json, read_regular
from neuralmechanics.rewrite.files.safetensors_header import FLOATS, Header, Stored, read_header

__all__ = ["Checkpoint", "all_finite", "open_checkpoint"]

_SUFFIX, _INDEX = ".safetensors", ".safetensors.index.json"
_INDEX_BYTES = 1 << 28


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """``shards``: the files that hold the model's tensors; ``others``: all else in the folder, as paths inside it.

    ``index``: the path and the content of the index, where there is one.
    """

    root: Path
    shards: tuple[Header, ...]
    others: tuple[Path, ...] = ()
    index: tuple[Path, Mapping[str, Any]] | None = None

    @cached_property
    def places(self) -> dict[str, tuple[Header, Stored]]:
        """Where each tensor is."""
        return {stored.name: (header, stored) for header in self.shards for stored in header.tensors}

    @property
    def is_file(self) -> bool:
        """Whether it is one file rather than a folder."""
        return bool(self.shards) and self.shards[0].path == self.root

    def where(self, name: str) -> str:
        """A tensor with its file, for a message."""
        return f"tensor {name!r} of {str(self.places[name][0].path)!r}"

    def raw(self, name: str) -> bytearray:
        """The bytes of a tensor, as they are."""
        header, stored = self.places[name]
        out = bytearray(stored.bytes)
        view, at = memoryview(out), header.start + stored.begin
        with open(header.path, "rb", buffering=0) as file:
            file.seek(at)
            while view:
                taken = file.readinto(view)
                if not taken:
                    raise ValueError(f"{self.where(name)} ends early: the file has become shorter while it was read")
                view = view[taken:]
        return out

    def tensor(self, name: str) -> Tensor:
        """A tensor of one of the four floating-point types; ``ValueError`` for others and where it is not finite."""
        _, stored = self.places[name]
        if stored.dtype not in FLOATS:
            known = ", ".join(FLOATS)
            raise ValueError(
                f"{self.where(name)} is of type {stored.dtype}, and the rewrite needs its values; convert it to one of "
                f"{known} first"
            )
        raw = self.raw(name)
        value = torch.frombuffer(raw, dtype=FLOATS[stored.dtype]) if raw else torch.empty(0, dtype=FLOATS[stored.dtype])
        if not all_finite(value):
            bad = int((~value.isfinite()).to(torch.int8).argmax())
            raise ValueError(f"{self.where(name)} holds {float(value[bad])} at entry {bad}; repair it before a rewrite")
        return value.reshape(stored.shape)


def all_finite(value: Tensor) -> bool:
    """Whether every entry is a finite number. By the extremes, which are NaN where any entry is: no mask is made.

    >>> all_finite(torch.tensor([1.0, torch.nan])), all_finite(torch.tensor([-torch.inf])), all_finite(torch.zeros(0))
    (False, False, True)
    """
    return not value.numel() or all(bool(extreme.isfinite()) for extreme in torch.aminmax(value.reshape(-1)))


def open_checkpoint(root: Path) -> Checkpoint:
    """What is at a path, with every header read and held against the index; no tensor is read.

    ``ValueError`` in one line: a shard that is missing or damaged, an index that names what is not there, a tensor in
    two shards, more than one checkpoint in the folder.
    """
    if not root.exists():
        raise FileNotFoundError(f"there is no checkpoint at {str(root)!r}")
    if not root.is_dir():
        return Checkpoint(root, (read_header(root),))
    files = list(_files(root))
    indices = [path for path in files if path.parent == root and path.name.endswith(_INDEX)]
    weights = [path for path in files if path.parent == root and path.suffix == _SUFFIX]
    if len(indices) > 1:
        raise ValueError(f"{str(root)!r} has {len(indices)} indices ({_listed(indices)}); leave one")
    if indices:
        return _indexed(root, files, weights, indices[0])
    if len(weights) != 1:
        found = f"{len(weights)} safetensors files ({_listed(weights)})" if weights else "no safetensors file"
        raise ValueError(f"{str(root)!r} has {found} and no index; give the file itself, or a folder with an index")
    others = tuple(path.relative_to(root) for path in files if path not in weights)
    return Checkpoint(root, (read_header(weights[0]),), others)


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files below a folder, links followed; ``ValueError`` for a link that leads back up."""
    here = folder.resolve()
    if here in above:
        raise ValueError(f"{str(folder)!r} is a link to a folder that it lies in; take it away")
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _files(path, above | {here})
        else:
            yield path


def _listed(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _indexed(root: Path, files: list[Path], weights: list[Path], index: Path) -> Checkpoint:
    content = _index_content(index)
    names: dict[str, str] = content["weight_map"]
    paths = {shard: root / shard for shard in dict.fromkeys(names.values())}
    for shard, path in paths.items():
        if Path(shard).is_absolute() or ".." in Path(shard).parts:
            raise ValueError(f"{str(index)!r} names the shard {shard!r}, which leads out of the folder; fetch it again")
        if not path.exists():
            raise ValueError(f"{str(index)!r} names the shard {shard!r}, which is missing; fetch it again")
    rest = [path for path in weights if path not in paths.values()]
    if any(path.name == index.name.removesuffix(".index.json") for path in rest):
        one = index.name.removesuffix(".index.json")
        raise ValueError(f"{str(root)!r} has both {one!r} and an index of shards, which may differ; take one away")
    shards = tuple(read_header(path) for path in paths.values())
    held: dict[str, Header] = {}
    for header in shards:
        for stored in header.tensors:
            if stored.name in held:
                both = f"{held[stored.name].path.name} and {header.path.name}"
                raise ValueError(f"tensor {stored.name!r} is in two shards of {str(root)!r}: {both}; take one away")
            held[stored.name] = header
    for name, shard in names.items():
        if name not in held or held[name].path != paths[shard]:
            raise ValueError(
                f"{str(index)!r} says that tensor {name!r} is in {shard!r}, and it is not; fetch both again"
            )
    known = {*paths.values(), index}
    return Checkpoint(root, shards, tuple(p.relative_to(root) for p in files if p not in known), (index, content))


def _index_content(index: Path) -> dict[str, Any]:
    try:
        content = parse_json(read_regular(index, _INDEX_BYTES))
    except ValueError as error:
        raise ValueError(f"{str(index)!r} cannot be read: {error}; fetch it again") from None
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(shard, str) for shard in names.values()):
        raise ValueError(f"{str(index)!r} has no weight_map from tensors to shards; fetch it again")
    return dict(content)
