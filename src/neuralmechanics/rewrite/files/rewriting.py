"""Rewriting a checkpoint: one tensor at a time from shard to shard, published by a rename when all of it is written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.files.publishing import sync_folder
from neuralmechanics.files.scratch import NEW, move_into_place, scratch_beside
from neuralmechanics.functional.as_found.copying import plain_module
from neuralmechanics.rewrite.files.checkpoint import Checkpoint, all_finite, open_checkpoint
from neuralmechanics.rewrite.files.matching import Matched, matched
from neuralmechanics.rewrite.files.safetensors_header import Header
from neuralmechanics.rewrite.files.untying import CONFIG, sources_of_copies, untied_config
from neuralmechanics.rewrite.files.writing import Write, bytes_of, copy_file, written
from neuralmechanics.rewrite.plan import Plan

__all__ = ["FilesReport", "rewrite_checkpoint"]

_KEPT = 1 << 20  # bytes of a tensor that stays in memory when others read it: gains and biases
_OTHER_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ckpt")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class FilesReport:
    """What was written: names of tensors that changed, were added, and that the model does not know; bytes of tensors.

    ``bytes_read`` counts a tensor as often as it was read; ``notes``: what the user of the folder should know.
    """

    target: Path
    changed: tuple[str, ...]
    added: tuple[str, ...]
    unknown: tuple[str, ...]
    bytes_read: int
    bytes_written: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        names = {key: list(getattr(self, key)) for key in ("changed", "added", "unknown", "notes")}
        return {"target": str(self.target), **names, "bytes_read": self.bytes_read, "bytes_written": self.bytes_written}

    def __str__(self) -> str:
        head = f"{len(self.changed)} tensors changed, {len(self.added)} added, in {str(self.target)!r}"
        unknown = f"{len(self.unknown)} tensors that the model does not have were kept: {', '.join(self.unknown)}"
        return "\n".join([head, *([unknown] if self.unknown else []), *self.notes])


def rewrite_checkpoint(
    source: str | Path,
    target: str | Path,
    plan: Plan,
    model: nn.Module,
    *,
    precision: torch.dtype | None = None,
    untie_config: bool = False,
    progress: Tell | None = None,
) -> FilesReport:
    """A checkpoint after a plan, at ``target``: a file where ``source`` is one, else a folder with all that is in it.

    ``model``, which may be on the meta device, says which tensors there are, of which shape, and which are tied; the
    plan is one of its own (``rewrite.fold(model, batch).plan``). Tensors are read and written one at a time, each once
    unless the plan reads it for another; types, their order, the files' metadata and index stay as they are. Tensors
    that the plan does not name, and all other files, are copied byte for byte. ``target`` is absent or whole whatever
    happens; ``source`` is only read. Memory: a few times the largest tensor that the plan changes.

    ``precision``: in which changes are computed, by default float32 where all tensors concerned have 16 bits, else
    float64. ``untie_config``: ``tie_word_embeddings`` in config.json is set to false where the plan unties.
    ``progress`` is told of each tensor.

    Raises ``FileExistsError`` where something is at ``target``, and ``ValueError`` with file, tensor and remedy: a
    missing or damaged shard, an index that is wrong, a tensor that is missing, of another shape, of a type without
    decimals, not finite before or after.
    """
    root, out = Path(source), Path(target)
    _require_free(root, out)
    checkpoint = open_checkpoint(root)
    found = matched(checkpoint, plan, plain_module(model))
    config = untied_config(checkpoint, plan, untie_config)
    job = _Job(checkpoint, plan, found, precision, progress or (lambda _: None))
    job.require_ties()
    with scratch_beside(out) as folder:
        made = folder / NEW
        if checkpoint.is_file:
            with written(made) as write:
                job.shard(checkpoint.shards[0], write)
        else:
            made.mkdir()
            job.fill(made, config)
        move_into_place(made, out)
    job.tell("published")
    return job.report(out, config)


def _require_free(root: Path, out: Path) -> None:
    if os.path.lexists(out):
        raise FileExistsError(f"something is at {str(out)!r} already; name a place that is free")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder of {str(out)!r} does not exist; make it first")
    if root.is_dir() and out.parent.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{str(out)!r} lies inside {str(root)!r}, which stays as it is; name a place outside")


@dataclass(eq=False)
class _Job:
    """One rewrite under way: what was read and written so far."""

    checkpoint: Checkpoint
    plan: Plan
    found: Matched
    asked: torch.dtype | None
    tell: Tell
    bytes_read: int = 0
    bytes_written: int = 0
    changed: list[str] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def copies(self) -> Mapping[str, str]:
        """The tensors that are untied, and from what."""
        return sources_of_copies(self.plan)

    @cached_property
    def read_for_others(self) -> frozenset[str]:
        """Names in the files of tensors that some change of another tensor reads."""
        return frozenset(self.found.held[name] for change in self.plan for name in change.reads)

    @cached_property
    def precision(self) -> torch.dtype:
        """What was asked for; else float32 where nothing that the plan concerns has more than 16 bits."""
        if self.asked is not None:
            return self.asked
        names = {name for tensor in self.plan.tensors for name in self.plan.reads(tensor)}
        types = {self.checkpoint.places[self.found.held[name]][1].dtype for name in names}
        return torch.float32 if types <= {"BF16", "F16"} else torch.float64

    def require_ties(self) -> None:
        """Names of one tensor of the model that the files have twice must hold the same there."""
        for alias, name in {**self.plan.aliases, **self.copies}.items():
            one, other = self.found.held.get(alias), self.found.held.get(name)
            if one is None or other is None or one == other or one not in self.found.sources:
                continue
            if self.checkpoint.raw(one) != self.checkpoint.raw(other):
                raise ValueError(
                    f"{self.checkpoint.where(one)} and {other!r} are one tensor in the model and differ in the files; "
                    "give a model that does not tie them"
                )

    def fill(self, folder: Path, config: bytes | None) -> None:
        """Everything of the new folder, each file and folder on the disk."""
        for header in self.checkpoint.shards:
            inner = header.path.relative_to(self.checkpoint.root)
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            with written(folder / inner) as write:
                self.shard(header, write)
            self.tell(f"closed {inner}")
        if self.checkpoint.index is not None:
            self._write_index(folder)
        for inner in self.checkpoint.others:
            (folder / inner).parent.mkdir(parents=True, exist_ok=True)
            if inner == CONFIG and config is not None:
                with written(folder / inner) as write:
                    write(config)
            else:
                copy_file(self.checkpoint.root / inner, folder / inner)
            self.tell(f"copied {inner}")
        for each, _, _ in os.walk(folder):
            sync_folder(Path(each))

    def shard(self, header: Header, write: Write) -> None:
        """One file: its header, then its tensors in the order in which they stand."""
        added = [name for name in self.found.added if self._home(name) is header]
        full = header.with_added([(name, *self._like_source(name)) for name in added])
        write(full.text)
        for stored in full.tensors:
            write(self._new_bytes(stored.name))
            self.bytes_written += stored.bytes
            self.tell(f"wrote {stored.name}")

    def _home(self, added: str) -> Header:
        return self.checkpoint.places[self.found.held[self.copies[added]]][0]

    def _like_source(self, added: str) -> tuple[str, tuple[int, ...], int]:
        stored = self.checkpoint.places[self.found.held[self.copies[added]]][1]
        return stored.dtype, stored.shape, stored.bytes

    def _new_bytes(self, name: str) -> bytearray | memoryview:
        source = self.found.sources.get(name)
        if source is None:
            raw = self.checkpoint.raw(name)
            self.bytes_read += len(raw)
            return raw
        self.changed.append(name)
        return bytes_of(self._value(name, source))

    def _value(self, name: str, source: str) -> Tensor:
        home = name if name in self.checkpoint.places else self.found.held[self.copies[name]]
        try:
            # What one new tensor is made of is read once, and forgotten after it.
            value = self.plan.value(source, cache(self._load), self.precision)
        except ValueError as error:
            if str(self.checkpoint.root) in str(error):
                raise
            raise ValueError(f"{self.checkpoint.where(home)} cannot be rewritten: {error}") from None
        stored = self.checkpoint.places[home][1]
        if tuple(value.shape) != stored.shape or value.element_size() * value.numel() != stored.bytes:
            raise ValueError(f"{self.checkpoint.where(home)} would have shape {tuple(value.shape)} and {value.dtype}")
        if not all_finite(value):
            raise ValueError(
                f"the new values of {self.checkpoint.where(home)} are not finite in {stored.dtype}; convert the "
                "checkpoint to a type with more range first"
            )
        return value

    def _load(self, name: str) -> Tensor:
        held = self.found.held[name]
        if held in self.kept:
            return self.kept[held]
        value = self.checkpoint.tensor(held)
        size = value.numel() * value.element_size()
        self.bytes_read += size
        if held in self.read_for_others and size <= _KEPT:
            self.kept[held] = value
        return value

    def _write_index(self, folder: Path) -> None:
        """As it is, or with the added tensors and their size."""
        assert self.checkpoint.index is not None
        path, content = self.checkpoint.index
        inner = path.relative_to(self.checkpoint.root)
        if not self.found.added:
            copy_file(path, folder / inner)
        else:
            names = dict(content["weight_map"])
            for name in self.found.added:
                names[name] = self._home(name).path.relative_to(self.checkpoint.root).as_posix()
            changed = {**content, "metadata": self._sizes(content.get("metadata")), "weight_map": names}
            with written(folder / inner) as write:
                write(json.dumps(changed, indent=2, ensure_ascii=False).encode() + b"\n")
        self.tell(f"wrote {inner}")

    def _sizes(self, metadata: Any) -> Any:
        """The index's counts with what was added."""
        if not isinstance(metadata, dict):
            return metadata
        stored = [self.checkpoint.places[self.found.held[self.copies[name]]][1] for name in self.found.added]
        more = {
            "total_size": sum(one.bytes for one in stored),
            "total_parameters": sum(torch.Size(one.shape).numel() for one in stored),
        }
        return {k: v + more[k] if k in more and isinstance(v, int | float) else v for k, v in metadata.items()}

    def report(self, out: Path, config: bytes | None) -> FilesReport:
        """What was done."""
        notes = [f"{inner} holds weights, too, and is copied as it was" for inner in self._other_weights()]
        if config is not None:
            notes.append(f"tie_word_embeddings is false in {CONFIG} now")
        elif self.plan.untied and CONFIG not in self.checkpoint.others:
            notes.append(f"the model that loads it must no longer tie {', '.join(self.plan.untied)}")
        added = tuple(self.found.added)
        changed = tuple(name for name in self.changed if name not in added)
        return FilesReport(out, changed, added, self.found.unknown, self.bytes_read, self.bytes_written, tuple(notes))

    def _other_weights(self) -> Iterator[Path]:
        return (inner for inner in self.checkpoint.others if inner.suffix in _OTHER_WEIGHTS)
