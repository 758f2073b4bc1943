"""Where the channels of a space stand along a dimension of a parameter, in mixed-radix digits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from neuralmechanics.symmetry.families.actions.terms.gain import Dressing, dressing_from

__all__ = ["Digit", "Entry", "Placement"]

Role = Literal["channel", "rest"] | int


@dataclass(frozen=True)
class Digit:
    """A part of an index along a dimension, which counts ``size`` places at distances of ``stride``.

    ``role``: the number of the channel; or which copy of the space it is, by the number k of ``Space.copies``; or
    "rest", what else there is of each channel.
    """

    size: int
    stride: int
    role: Role = "channel"


@dataclass(frozen=True)
class Placement:
    """The entries offset + Σ digit·stride along dimension ``axis``.

    Four heads of eight channels, one head behind the other: the channels are the inner digit.

    >>> heads = Placement(0, 0, (Digit(4, 8, 0), Digit(8, 1)))
    >>> heads.positions((2,))[:3].tolist()
    [[16], [17], [18]]
    """

    axis: int
    offset: int
    digits: tuple[Digit, ...]

    def positions(self, copy: Sequence[int] = ()) -> np.ndarray:
        """The entries of one copy: one row a channel, one column for each of the rest."""
        start = self.offset + sum(copy[d.role] * d.stride for d in self.digits if isinstance(d.role, int))
        channel = _counted([d for d in self.digits if d.role == "channel"])
        rest = _counted([d for d in self.digits if d.role == "rest"])
        found: np.ndarray = start + channel[:, None] + rest
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "axis": self.axis,
            "offset": self.offset,
            "digits": [{"size": d.size, "stride": d.stride, "role": d.role} for d in self.digits],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Placement:
        return cls(data["axis"], data["offset"], tuple(Digit(**d) for d in data["digits"]))


def _counted(digits: Sequence[Digit]) -> np.ndarray:
    """All values of the digits, row-major."""
    out = np.zeros(1, dtype=np.int64)
    for digit in digits:
        out = (out[:, None] + digit.stride * np.arange(digit.size)).reshape(-1)
    return out


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
            "dressing": [[asdict(gain), power] for gain, power in self.dressing],
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
