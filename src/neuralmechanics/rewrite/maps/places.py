"""Places where range can be moved from activations to weights: one layer's outputs, and all layers that read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from neuralmechanics.rewrite.maps.channels import Stretch, stretches
from neuralmechanics.rewrite.maps.modules import Layers
from neuralmechanics.symmetry import Family, Symmetries
from neuralmechanics.symmetry.families.name_summaries import summarised, templated

__all__ = ["Place", "Refusal", "merged", "short", "smoothing_places"]


@dataclass(frozen=True)
class Place:
    """The outputs of layer ``smooth`` may be divided by factors, one a channel, that the columns of ``balance`` take.

    ``first``: the row of the smooth layer that is channel 0; 0 unless it packs several layers. ``offset``: its gain is
    1 + weight. ``biased``: it has a bias, which moves along.
    """

    smooth: str
    balance: tuple[str, ...]
    channels: int
    rows: int
    first: int = 0
    offset: bool = False
    biased: bool = False
    family: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "smooth_layer": self.smooth,
            "balance_layers": list(self.balance),
            "channels": self.channels,
            "rows": [self.first, self.first + self.channels],
            "offset_gain": self.offset,
            "family": self.family,
        }


@dataclass(frozen=True)
class Refusal:
    """Scalings of channels that no smooth layer with its balance layers expresses: of which tensors, and why."""

    tensors: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(summarised(self.tensors))}: {self.reason}"


class _InexpressibleError(ValueError):
    """Why a set of channels is no place."""


def smoothing_places(symmetries: Symmetries, layers: Layers) -> tuple[tuple[Place, ...], tuple[Refusal, ...]]:
    """Every place of a model, in the order of its layers, and what is scaled along input columns and is none."""
    places: list[Place] = []
    refused: list[Refusal] = []
    for family in symmetries.of_kind("rescale", "linear"):
        for moved in stretches(family, layers.shapes):
            if not any(_reads(stretch, layers) for stretch in moved):
                continue
            try:
                places.append(_place(family, moved, layers))
            except _InexpressibleError as error:
                refused.append(Refusal(tuple(dict.fromkeys(s.parameter for s in moved)), str(error)))
    order = {name: number for number, name in enumerate(layers.names)}
    return tuple(sorted(places, key=lambda place: order[place.smooth])), tuple(refused)


def merged(refusals: Iterable[Refusal]) -> tuple[Refusal, ...]:
    """One refusal for all layers that are alike."""
    alike: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for refusal in refusals:
        forms = tuple(sorted({templated(name)[0] for name in refusal.tensors}))
        alike.setdefault((forms, refusal.reason), []).extend(refusal.tensors)
    return tuple(Refusal(tuple(dict.fromkeys(names)), reason) for (_, reason), names in alike.items())


def short(name: str) -> str:
    """A name inside its numbered layer, the same for all layers that are alike.

    >>> short("model.layers.3.mlp.up_proj"), short("lm_head"), short("features.3.weight")
    ('mlp.up_proj', 'lm_head', 'features.3.weight')
    """
    parts = name.split(".")
    start = max((k + 1 for k, part in enumerate(parts) if part.isdecimal()), default=0)
    return ".".join(parts[start:]) if len(parts) - start > 1 else name


def _reads(stretch: Stretch, layers: Layers) -> bool:
    """Whether channels of a layer's input are what is multiplied."""
    rank = len(layers.shapes[stretch.parameter])
    return rank > 1 and stretch.axis != _output_axis(stretch, layers) and len(stretch.positions) > 1


def _output_axis(stretch: Stretch, layers: Layers) -> int:
    owner, _ = layers.owner(stretch.parameter)
    rank = len(layers.shapes[stretch.parameter])
    if isinstance(layers.module(owner), nn.Embedding) or layers.is_transposed(owner):
        return rank - 1
    return max(rank - 2, 0) if rank == 3 else 0


def _place(family: Family, moved: Sequence[Stretch], layers: Layers) -> Place:
    if not family.exact:
        raise _InexpressibleError(f"the scaling is broken by {', '.join(map(str, family.broken_by))}")
    readers = [stretch for stretch in moved if _reads(stretch, layers)]
    writers = [stretch for stretch in moved if not _reads(stretch, layers)]
    if not writers:
        raise _InexpressibleError("no layer writes these channels")
    balance = tuple(_balance_layers(readers, layers))
    smooth, main, biased = _smooth_layer(writers, layers)
    if {s.exponent for s in readers} != {-main.exponent}:
        powers = ", ".join(f"{short(s.parameter)}: {s.exponent:g}" for s in (main, *readers))
        raise _InexpressibleError(
            f"the powers of one factor differ ({powers}); the format multiplies and divides by the same"
        )
    order = np.argsort(readers[0].positions[:, 0])
    columns = np.arange(layers.shapes[readers[0].parameter][1])
    for stretch in readers:
        _require_each_column_once(stretch, order, len(columns), layers)
    if main.positions.shape[1] != 1:
        raise _InexpressibleError(f"several rows of {short(main.parameter)} share a factor; the format takes one a row")
    rows = main.positions[order, 0]
    if not bool((rows == rows[0] + columns).all()):
        raise _InexpressibleError(
            f"the rows of {short(main.parameter)} stand in another order than the columns that read them"
        )
    offset = bool(family.action.origin({main.parameter: torch.zeros(())}))
    return Place(
        smooth, balance, len(columns), layers.shapes[main.parameter][0], int(rows[0]), offset, biased, family.name
    )


def _balance_layers(readers: Sequence[Stretch], layers: Layers) -> Iterator[str]:
    """The layers whose columns are multiplied."""
    for stretch in readers:
        name, leaf = layers.owner(stretch.parameter)
        shape = layers.shapes[stretch.parameter]
        if leaf != "weight":
            raise _InexpressibleError(
                f"{short(stretch.parameter)} reads the channels and is the weight of no layer of its own"
            )
        if layers.is_transposed(name):
            raise _InexpressibleError(
                f"{short(stretch.parameter)} is stored as [inputs, outputs] ({layers.class_of(name)}); the format "
                "scales dimension 1, which are its outputs"
            )
        if len(shape) != 2:
            raise _InexpressibleError(
                f"{short(stretch.parameter)} has {len(shape)} dimensions; the format scales columns of matrices"
            )
        yield name


def _smooth_layer(writers: Sequence[Stretch], layers: Layers) -> tuple[str, Stretch, bool]:
    """The one layer that writes the channels, with what its weight does, and whether a bias moves along."""
    owners = dict.fromkeys(layers.owner(stretch.parameter)[0] for stretch in writers)
    if len(owners) > 1:
        raise _InexpressibleError(
            f"{len(owners)} layers write the channels ({', '.join(map(short, owners))}); the format names one"
        )
    (name,) = owners
    held = {layers.owner(stretch.parameter)[1]: stretch for stretch in writers}
    if len(held) != len(writers) or not set(held) <= {"weight", "bias"} or "weight" not in held:
        raise _InexpressibleError(
            f"{', '.join(short(s.parameter) for s in writers)} write the channels; the format moves weight and bias"
        )
    main = held["weight"]
    bias = layers.tensor_of(name, "bias")
    if (bias is not None) != ("bias" in held):
        raise _InexpressibleError(f"{short(bias or name)} does not take the factors, and the format divides it by them")
    if bias is not None and not _alike(main, held["bias"]):
        raise _InexpressibleError(f"{short(bias or name)} does not take the factors of its layer's rows")
    rank = len(layers.shapes[main.parameter])
    if not (rank == 1 or (rank == 2 and isinstance(layers.module(name), nn.Linear))):
        raise _InexpressibleError(
            f"{short(name)} is a {layers.class_of(name)} with a weight of {rank} dimensions; the format divides gains "
            "and the rows of linear layers"
        )
    return name, main, bias is not None


def _alike(one: Stretch, other: Stretch) -> bool:
    same = one.exponent == other.exponent and one.positions.shape == other.positions.shape
    return same and bool((one.positions == other.positions).all())


def _require_each_column_once(stretch: Stretch, order: np.ndarray, columns: int, layers: Layers) -> None:
    """Channel k, in the order given, is column k and no other."""
    shared = stretch.positions.shape[1]
    if shared != 1:
        raise _InexpressibleError(
            f"{shared} columns of {short(stretch.parameter)} read each channel (grouped heads, or places behind a "
            "channel); the format has one factor a column"
        )
    found = stretch.positions[order, 0]
    if layers.shapes[stretch.parameter][1] != len(found) or len(found) != columns:
        raise _InexpressibleError(
            f"{len(found)} of {layers.shapes[stretch.parameter][1]} columns of {short(stretch.parameter)} move"
        )
    if not bool((found == np.arange(columns)).all()):
        raise _InexpressibleError(
            f"the columns of {short(stretch.parameter)} stand in another order than those of other readers"
        )
