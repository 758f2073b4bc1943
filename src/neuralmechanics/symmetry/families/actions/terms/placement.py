"""Where channels stand along a dimension of a parameter, in mixed-radix digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Digit", "Placement"]

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
        # Mixed radix: a place is the sum of its digits times their strides, and a copy fixes some of the digits.
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
