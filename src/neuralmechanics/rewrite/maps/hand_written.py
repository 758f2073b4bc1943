"""Hand-written smoothing maps, held against the symmetries of the model that they are meant for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.maps.modules import Layers, looked_at
from neuralmechanics.rewrite.maps.pairing import paired
from neuralmechanics.rewrite.maps.places import Place, Refusal, smoothing_places
from neuralmechanics.symmetry import Symmetries

__all__ = ["MappingFinding", "check_mappings"]

Verdict = Literal["exact", "changes the model", "not applied"]


@dataclass(frozen=True)
class MappingFinding:
    """One set of layers that a mapping stands for: whether scaling it leaves the function unchanged, and why not."""

    smooth_layer: str
    balance_layers: tuple[str, ...]
    verdict: Verdict
    reason: str = ""

    def __str__(self) -> str:
        tail = f": {self.reason}" if self.reason else ""
        return f"{self.smooth_layer} → {', '.join(self.balance_layers)}: {self.verdict}{tail}"


def check_mappings(
    model: nn.Module,
    batch: Any,
    mappings: Sequence[Mapping[str, Any] | Sequence[Any]],
    loss_fn: LossFunction | None = None,
    *,
    symmetries: Symmetries | None = None,
) -> tuple[MappingFinding, ...]:
    """What a hand-written AWQ or SmoothQuant map does to a model, set by set of the layers that it names.

    ``mappings``: ``{"smooth_layer": …, "balance_layers": […]}``, or ``[[balance layers], smooth layer]``. A set is
    "exact" where a symmetry of the model divides the smooth layer and multiplies just these balance layers; a layer
    that reads the same channels and is not named, or that is named and does not read them, changes the model. A mapping
    that matches nothing, or on which the tool's walk stops, is not applied.
    """
    layers, found = looked_at(model, batch, loss_fn, symmetries)
    places, refused = smoothing_places(found, layers)
    return tuple(finding for mapping in mappings for finding in _findings(mapping, layers, places, refused))


def _findings(
    mapping: Mapping[str, Any] | Sequence[Any], layers: Layers, places: Sequence[Place], refused: Sequence[Refusal]
) -> Iterator[MappingFinding]:
    smooth, balance = _read(mapping)
    try:
        sets = list(paired((smooth, *balance), layers.names))
    except ValueError as error:
        yield MappingFinding(smooth, tuple(balance), "not applied", str(error))
        return
    if not sets:
        yield MappingFinding(smooth, tuple(balance), "not applied", "no layer of the model is matched")
    for (*first,), *others in sets:
        named = tuple(name for names in others for name in names)
        if len(first) > 1:
            yield MappingFinding(", ".join(first), named, "not applied", "the set has more than one smooth layer")
            continue
        yield _finding(first[0], named, places, refused)


def _read(mapping: Mapping[str, Any] | Sequence[Any]) -> tuple[str, list[str]]:
    if isinstance(mapping, Mapping):
        return mapping["smooth_layer"], list(mapping["balance_layers"])
    balance, smooth = mapping
    return smooth, list(balance)


def _finding(
    smooth: str, named: tuple[str, ...], places: Sequence[Place], refused: Sequence[Refusal]
) -> MappingFinding:
    at_smooth = [place for place in places if place.smooth == smooth]
    if any(set(place.balance) == set(named) for place in at_smooth):
        return MappingFinding(smooth, named, "exact")
    known = next((place for place in at_smooth if set(place.balance) & set(named)), None)
    if known is not None:
        return MappingFinding(smooth, named, "changes the model", _difference(known.balance, named))
    weights = {f"{smooth}.weight", *(f"{name}.weight" for name in named)}
    wider = next((r for r in refused if weights <= set(r.tensors) or f"{smooth}.weight" in r.tensors), None)
    if wider is not None and weights & set(wider.tensors) != {f"{smooth}.weight"}:
        others = sorted(set(wider.tensors) - weights - {f"{smooth}.bias"})
        tail = f"; {', '.join(others)} move with them" if others else ""
        return MappingFinding(smooth, named, "changes the model", wider.reason + tail)
    return MappingFinding(smooth, named, "changes the model", "no symmetry scales these layers against each other")


def _difference(right: Sequence[str], named: Sequence[str]) -> str:
    forgotten = [name for name in right if name not in named]
    added = [name for name in named if name not in right]
    parts = [f"{', '.join(forgotten)} read the channels and are not named"] if forgotten else []
    parts += [f"{', '.join(added)} do not read the channels"] if added else []
    return "; ".join(parts)
