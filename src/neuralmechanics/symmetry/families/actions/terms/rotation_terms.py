"""Where a matrix acts on a parameter: along a whole dimension, or on some of its entries, for each copy of a space."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions.terms.gain import Dressing, dressing_from, dressing_to, gain_values
from neuralmechanics.symmetry.families.actions.terms.placement import Placement

__all__ = ["RotationTerm"]


@dataclass(frozen=True)
class RotationTerm:
    """A dimension of a parameter that transforms with D A D⁻¹, or with D A⁻ᵀ D⁻¹ where ``dual`` is set.

    ``place``: where along the dimension the channels stand, if it is not the whole of it; ``beside``: where else in the
    parameter the number of a copy stands.
    """

    parameter: str
    dim: int
    dual: bool = False
    dressing: Dressing = ()
    place: Placement | None = None
    beside: tuple[Placement, ...] = ()

    def acted(self, params: Mapping[str, Tensor], matrix: Tensor, copies: Sequence[int], rest: Tensor) -> Tensor:
        """``rest`` in float64, of the parameter's shape, but for the channels: these are D·matrix·D⁻¹ times them."""
        value = params[self.parameter].double()
        gain = gain_values(self.dressing, params, value, dead=1.0)  # what is behind a gain of zero has no effect
        if gain is not None:
            # D A D⁻¹ entry by entry: d_i A_ij / d_j.
            matrix = gain[..., :, None] * matrix / gain[..., None, :]
        if self.place is None:
            return torch.movedim(torch.tensordot(matrix, value, dims=([1], [self.dim])), 0, self.dim)
        index = self._entries(value, copies)
        part = value[index].movedim(self.dim + 1, 1)  # one for each copy, its channels in front
        rows = part.reshape(len(part), matrix.shape[-1], -1)
        mixed = (matrix.reshape(-1, *matrix.shape[-2:]) @ rows).reshape(part.shape).movedim(1, self.dim + 1)
        return rest.double().index_put(index, mixed)

    def rows(self, value: Tensor, copies: Sequence[int]) -> Tensor:
        """The channels of each copy as rows of a matrix, [copies, width, rest]."""
        if self.place is None:
            return value.movedim(self.dim, 0).flatten(1)[None]
        part = value[self._entries(value, copies)].movedim(self.dim + 1, 1)
        return part.reshape(*part.shape[:2], -1)

    def _entries(self, value: Tensor, copies: Sequence[int]) -> tuple[Tensor, ...]:
        """The indices of each copy's entries, along a dimension of copies in front of those of the parameter."""
        numbers = list(itertools.product(*(range(n) for n in copies)))
        places = {place.axis: place for place in (*([self.place] if self.place else []), *self.beside)}
        index = []
        for d, n in enumerate(value.shape):
            place = places.get(d)
            if place is None:
                found = torch.arange(n)[None]
            else:
                found = torch.stack([torch.as_tensor(place.positions(copy).reshape(-1)) for copy in numbers])
            sizes = [found.shape[1] if k == d else 1 for k in range(value.ndim)]
            index.append(found.reshape(len(found), *sizes).to(value.device))
        return tuple(index)

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of a whole dimension without a place."""
        data: dict[str, Any] = {"parameter": self.parameter, "dim": self.dim, "dual": self.dual}
        data["dressing"] = dressing_to(self.dressing)
        if self.place is not None:
            data |= {"place": self.place.to_dict(), "beside": [place.to_dict() for place in self.beside]}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> RotationTerm:
        """The term that was written."""
        place = Placement.from_dict(data["place"]) if "place" in data else None
        beside = tuple(Placement.from_dict(p) for p in data.get("beside", ()))
        return cls(data["parameter"], data["dim"], data["dual"], dressing_from(data["dressing"]), place, beside)
