"""Values: tensors of a program, without their entries, and what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Value", "flat_values", "is_value"]


# Compared by identity: two tensors of which the same is known are still two tensors.
@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the program.

    ``depends``: a trainable parameter reaches it. ``number``: what all its entries equal, where that is known.
    ``nonnegative``: no entry can be negative, by the way it is made.
    """

    index: int
    shape: tuple[int, ...]
    depends: bool
    number: float | None = None
    nonnegative: bool = False

    def constant_number(self) -> float | None:
        """The number that fills it, where no parameter reaches it; zero also where one does (a product with zeros)."""
        return None if self.depends and self.number != 0 else self.number

    def covers(self, other: Value) -> bool:
        """Whether ``other`` broadcasts to its shape."""
        front = len(self.shape) - len(other.shape)
        return front >= 0 and all(n in (1, m) for n, m in zip(other.shape, self.shape[front:], strict=True))


def is_value(x: Any) -> bool:
    """Whether x stands for a tensor of the program."""
    return isinstance(x, Value)


def flat_values(value: Any) -> list[Value]:
    """Every value in a nest of arguments."""
    if isinstance(value, Value):
        return [value]
    parts: Iterable[Any] = ()
    if isinstance(value, (tuple, list)):
        parts = value
    elif isinstance(value, Mapping):
        parts = value.values()
    return [v for part in parts for v in flat_values(part)]
