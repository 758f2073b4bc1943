"""A plan and a model held against a checkpoint before anything is read or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from neuralmechanics.rewrite.files.checkpoint import Checkpoint
from neuralmechanics.rewrite.plan import Copy, Plan

__all__ = ["Matched", "matched"]


@dataclass(frozen=True, eq=False)
class Matched:
    """``held``: for each tensor of the model, under every name that it has, the name that the files have it under.

    ``sources``: for each tensor of the files that changes, the name under which it does in the plan. ``unknown``:
    tensors of the files that the model does not have. ``added``: names that the plan makes tensors of.
    """

    held: Mapping[str, str]
    sources: Mapping[str, str]
    unknown: tuple[str, ...]
    added: tuple[str, ...]


def matched(checkpoint: Checkpoint, plan: Plan, model: nn.Module) -> Matched:
    """Which tensor of the files is which of the model; ``ValueError`` where one is missing or of another shape."""
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    groups = _groups(model)
    held: dict[str, str] = {}
    for names in groups:
        there = [name for name in names if name in checkpoint.places]
        for name in there:
            stored = checkpoint.places[name][1]
            if name in shapes and stored.shape != shapes[name]:
                raise ValueError(
                    f"{checkpoint.where(name)} has shape {stored.shape}, the model's has {shapes[name]}; give the "
                    "checkpoint of this model, or the model of this checkpoint"
                )
        held.update((name, name if name in there else there[0]) for name in names if there)
    _require_all(checkpoint, plan, model, held)
    for change in plan:
        if isinstance(change, Copy) and held[change.source] != change.source:
            raise ValueError(
                f"the files have {change.source!r} under the name {held[change.source]!r} alone, and the plan makes "
                "two tensors of it; name it as the model does first"
            )
    model_names = {name for names in groups for name in names}
    unknown = tuple(name for name in checkpoint.places if name not in model_names)
    added = tuple(name for name in plan.untied if name not in checkpoint.places)
    return Matched(held, _sources(checkpoint, plan, groups), unknown, added)


def _sources(checkpoint: Checkpoint, plan: Plan, groups: Iterable[Sequence[str]]) -> dict[str, str]:
    """What changes: under its own name, or under that of the same tensor which the plan has."""
    sources: dict[str, str] = {}
    for names in groups:
        others = [name for name in names if plan.source(name) == name and name not in plan.untied]
        for name in names:
            if name in checkpoint.places or name in plan.untied:
                found = plan.source(name) or (others[0] if others else None)
                if found is not None:
                    sources[name] = found
    return sources


def _require_all(checkpoint: Checkpoint, plan: Plan, model: nn.Module, held: Mapping[str, str]) -> None:
    parameters = {name for name, _ in model.named_parameters()}
    needed = {name for tensor in plan.tensors for name in plan.reads(tensor)}
    missing = [name for name in (*sorted(needed), *sorted(parameters)) if name not in held]
    if missing:
        raise ValueError(
            f"tensor {missing[0]!r} of the model is in no file of {str(checkpoint.root)!r} (of {len(missing)} that are "
            "missing the first); give the checkpoint of this model, with the model's own names"
        )


def _groups(model: nn.Module) -> list[list[str]]:
    """The names of the model's tensors, those of one tensor together."""
    found: dict[int, list[str]] = {}
    tensors = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for name, tensor in tensors.items():
        found.setdefault(id(tensor), []).append(name)
    return list(found.values())
