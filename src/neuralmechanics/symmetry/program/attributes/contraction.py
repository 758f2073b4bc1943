"""Sums of products, in einsum letters."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

__all__ = ["Contraction", "Window"]


@dataclass(frozen=True)
class Window:
    """A convolved axis: output letter ``out`` sees input letter ``x`` through kernel letter ``kernel``.

    ``keeps_constants``: an input that is constant along the axis gives a constant output (no zero padding).
    ``geometry``: what else decides which entries the output sees (stride, padding, dilation, direction).
    ``size``: how many entries the output has along the axis.
    """

    x: str
    kernel: str
    out: str
    keeps_constants: bool
    geometry: Hashable = None
    size: int = 1


@dataclass(frozen=True)
class Contraction:
    """A sum of products: letters in both inputs and not in the output are summed."""

    x: str
    y: str
    out: str
    windows: tuple[Window, ...] = ()

    def sizes(self, x: Sequence[int], y: Sequence[int]) -> dict[str, int]:
        """The length along each letter for operands of shapes ``x`` and ``y``; one broadcasts.

        >>> Contraction("az", "zb", "ab").sizes((2, 3), (3, 4))
        {'a': 2, 'z': 3, 'b': 4}
        """
        found: dict[str, int] = {}
        for letters, shape in ((self.x, x), (self.y, y)):
            for letter, n in zip(letters, shape, strict=True):
                found[letter] = n if found.get(letter, 1) == 1 else found[letter]
        return found | {window.out: window.size for window in self.windows}

    def output_shape(self, x: Sequence[int], y: Sequence[int]) -> tuple[int, ...]:
        # A letter of one entry may be repeated along the other's: the greater length is that of the result.
        sizes = self.sizes(x, y)
        return tuple(sizes[letter] for letter in self.out)
