"""A dimension of a parameter along which the channels of a space stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuralmechanics.symmetry.families.actions.terms.gain import Dressing, dressing_from, dressing_to
from neuralmechanics.symmetry.families.actions.terms.placement import Placement

__all__ = ["Entry"]


@dataclass(frozen=True)
class Entry:
    """A dimension of a parameter along which a space's channels stand.

    Permutations move them all. A matrix A acts on those that it ``mixes``: as D A D⁻¹, or as D A⁻ᵀ D⁻¹ where
    ``inverse_transposed`` is set, D the product of the gains of ``dressing``; gains themselves are not mixed.
    ``beside`` says where else in the parameter the number of a copy stands. ``buffer``: it is no parameter but a
    buffer of the model (running statistics).
    """

    parameter: str
    shape: tuple[int, ...]
    place: Placement
    beside: tuple[Placement, ...] = ()
    mixes: bool = False
    inverse_transposed: bool = False
    dressing: Dressing = ()
    buffer: bool = False

    @property
    def axis(self) -> int:
        """The dimension."""
        return self.place.axis

    @property
    def whole(self) -> bool:
        """Whether the dimension is the space, channel by channel."""
        channels = math.prod(d.size for d in self.place.digits if d.role == "channel")
        return len(self.place.digits) == 1 and channels == self.shape[self.axis]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "parameter": self.parameter,
            "shape": list(self.shape),
            "place": self.place.to_dict(),
            "beside": [place.to_dict() for place in self.beside],
            "mixes": self.mixes,
            "inverse_transposed": self.inverse_transposed,
            "dressing": dressing_to(self.dressing),
            "buffer": self.buffer,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Entry:
        """The entry that was written."""
        return cls(
            data["parameter"],
            tuple(data["shape"]),
            Placement.from_dict(data["place"]),
            tuple(Placement.from_dict(place) for place in data["beside"]),
            data["mixes"],
            data["inverse_transposed"],
            dressing_from(data["dressing"]),
            data["buffer"],
        )
