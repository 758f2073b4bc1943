"""Maps for tools that smooth: llm-compressor's AWQ and SmoothQuant, from the rescalings of a model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.maps.expressions import Template, expression, template
from neuralmechanics.rewrite.maps.modules import Layers, looked_at
from neuralmechanics.rewrite.maps.notes import notes_on
from neuralmechanics.rewrite.maps.pairing import paired
from neuralmechanics.rewrite.maps.places import Place, Refusal, merged, short, smoothing_places
from neuralmechanics.symmetry import Symmetries

__all__ = ["OFFSET_NORMS", "SmoothingMap", "awq_mappings", "place_targets", "smoothquant_mappings"]

# Norms with a gain 1 + weight that llm-compressor replaces by plain ones meanwhile (its norm calibration).
OFFSET_NORMS = frozenset(
    {"GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm", "Qwen3NextRMSNorm", "Qwen3_5RMSNorm", "Qwen3_5MoeRMSNorm"}
)


@dataclass(frozen=True)
class SmoothingMap:
    """The mappings as the tool takes them, the places that they stand for, and what could not be expressed.

    ``mappings`` is plain data: for AWQ ``{"smooth_layer": …, "balance_layers": […]}`` each, for SmoothQuant
    ``[[…], …]``, balance layers first. ``refused`` has a reason for each set of channels that the format cannot hold.
    """

    format: str
    mappings: tuple[Any, ...]
    places: tuple[Place, ...]
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.mappings)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.mappings)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with places, refusals and notes."""
        return {
            "format": self.format,
            "mappings": list(self.mappings),
            "places": [place.to_dict() for place in self.places],
            "refused": [{"tensors": list(r.tensors), "reason": r.reason} for r in self.refused],
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return json.dumps(list(self.mappings), indent=2)


def awq_mappings(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, symmetries: Symmetries | None = None
) -> SmoothingMap:
    """AWQ's mappings of a model: every layer whose outputs can be rescaled, with all layers that read them.

    ``AWQModifier(mappings=[AWQMapping(**m) for m in awq_mappings(model, batch)])``. Expressions match the layers meant
    and no others of this model, and its walk through the modules pairs them as meant; both are checked. ``symmetries``:
    those found in the model already. Raises ``ValueError`` with the reasons where no place can be expressed.

    Source: Lin et al. 2024, Activation-aware Weight Quantization; llm-compressor's ``AWQMapping``.
    """
    return _smoothing_map("awq", model, batch, loss_fn, symmetries, _awq, _awq_refuses)


def smoothquant_mappings(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, symmetries: Symmetries | None = None
) -> SmoothingMap:
    """SmoothQuant's mappings of a model: ``[[balance layers], smooth layer]``, otherwise as ``awq_mappings``.

    Source: Xiao et al. 2023, SmoothQuant; llm-compressor's ``SmoothQuantModifier(mappings=…)``.
    """
    return _smoothing_map("smoothquant", model, batch, loss_fn, symmetries, _smoothquant, _smoothquant_refuses)


def _smoothing_map(
    name: str,
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None,
    symmetries: Symmetries | None,
    write: Callable[[str, Sequence[str]], Any],
    refuses: Callable[[Place, Layers], str | None],
) -> SmoothingMap:
    layers, found = looked_at(model, batch, loss_fn, symmetries)
    every, refused = smoothing_places(found, layers)
    kept: list[Place] = []
    for place in every:
        reason = _offset_refusal(place, layers) or refuses(place, layers)
        if reason is None:
            kept.append(place)
        else:
            refused += (Refusal((f"{place.smooth}.weight", *(f"{name}.weight" for name in place.balance)), reason),)
    refused = merged(refused)
    if not kept:
        reasons = "; ".join(map(str, refused)) or "no rescaling moves the columns of any layer"
        raise ValueError(f"nothing of {type(model).__name__} can be expressed as a map for {name}: {reasons}")
    mappings = tuple(write(smooth, balance) for smooth, balance in place_targets(kept, layers))
    return SmoothingMap(name, mappings, tuple(kept), refused, notes_on(found))


def _awq(smooth: str, balance: Sequence[str]) -> dict[str, Any]:
    return {"smooth_layer": smooth, "balance_layers": list(balance)}


def _smoothquant(smooth: str, balance: Sequence[str]) -> list[Any]:
    return [list(balance), smooth]


def _offset_refusal(place: Place, layers: Layers) -> str | None:
    kind = layers.class_of(place.smooth)
    if place.offset and kind not in OFFSET_NORMS:
        return f"the gain of {short(place.smooth)} ({kind}) is a constant + weight; the tool divides the weight alone"
    return None


def _awq_refuses(place: Place, layers: Layers) -> str | None:
    """AWQ divides the last rows of a layer that has more rows than are read; its bias, all of it."""
    if place.rows == place.channels:
        return None
    if place.first + place.channels != place.rows:
        last = place.first + place.channels - 1
        return f"rows {place.first} to {last} of {short(place.smooth)} are read; the format takes the last rows alone"
    return (
        f"{short(place.smooth)} packs several layers and has a bias, which the tool divides whole"
        if place.biased
        else None
    )


def _smoothquant_refuses(place: Place, layers: Layers) -> str | None:
    """SmoothQuant takes the range of what the smooth layer gives out for that of what is read."""
    if place.rows != place.channels:
        return f"{place.channels} of {place.rows} rows of {short(place.smooth)} are read; the format takes whole layers"
    if isinstance(layers.module(place.smooth), nn.Linear):
        return (
            f"the tool measures what {short(place.smooth)} gives out; attention, an activation or a gate stands "
            "between that and what is read"
        )
    return None


def place_targets(places: Sequence[Place], layers: Layers) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Targets over all layers that are alike; the layers one by one where no such targets would be exact."""
    alike: dict[tuple[Template, tuple[Template, ...]], list[Place]] = defaultdict(list)
    for place in places:
        forms = tuple(dict.fromkeys(template(name) for name in place.balance))
        # Layers that see all activations come before experts, which see some: the tool listens to the first.
        ordered = tuple(sorted(forms, key=lambda form: sum(part is None for part in form)))
        alike[template(place.smooth), ordered].append(place)
    for (_, forms), group in alike.items():
        together = _over_layers(group, forms, layers)
        if together is not None:
            yield together
            continue
        for place in group:
            yield _one_by_one(place, layers)


def _over_layers(
    group: Sequence[Place], forms: Sequence[Template], layers: Layers
) -> tuple[str, tuple[str, ...]] | None:
    by_form = [[name for place in group for name in place.balance if template(name) == form] for form in forms]
    meant = [[place.smooth for place in group], *by_form]
    targets = [expression(names, layers.names, layers.class_names) for names in meant]
    exact = [target for target in targets if target is not None]
    if len(exact) < len(targets) or not _pairs_as_meant(exact, group, layers):
        return None
    return exact[0], tuple(exact[1:])


def _one_by_one(place: Place, layers: Layers) -> tuple[str, tuple[str, ...]]:
    named = [expression([name], layers.names, layers.class_names) for name in (place.smooth, *place.balance)]
    exact = [target for target in named if target is not None]
    if not _pairs_as_meant(exact, [place], layers):
        raise ValueError(
            f"the layers {', '.join((place.smooth, *place.balance))} cannot be named so that the tool pairs them"
        )
    return exact[0], tuple(exact[1:])


def _pairs_as_meant(targets: Sequence[str], group: Sequence[Place], layers: Layers) -> bool:
    """Whether the tool's walk makes exactly these places of the targets."""
    try:
        sets = list(paired(targets, layers.names))
    except ValueError:
        return False
    found = sorted((*smooth, *sorted(name for names in balance for name in names)) for smooth, *balance in sets)
    return found == sorted((place.smooth, *sorted(place.balance)) for place in group)
