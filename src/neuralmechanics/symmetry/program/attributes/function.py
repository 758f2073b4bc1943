"""What a primitive computes where its name does not say it: for execution and for printing, never for symmetries."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "CAUSAL",
    "COUNTING",
    "COUNTS",
    "ELSEWHERE",
    "EQUALS",
    "GROUPS",
    "HIDDEN",
    "IDENTITY",
    "INDEX",
    "LARGEST",
    "NEGATIVE",
    "ONE_HOT",
    "PARTS",
    "POSITIVE",
    "PUT",
    "RESULT",
    "SEEN",
    "SORTED",
    "TRIANGLE",
    "UNITS",
    "WRITTEN",
    "Function",
]

UNITS = "units"  # the numbers 1 and i, along one dimension
COUNTS = "counts"  # how often each of the numbers 0, 1, … occurs among the entries
GROUPS = "groups"  # the group of each row, by where the rows of each group end
INDEX = "index"  # the entries themselves, as places
ONE_HOT = "one-hot"  # one in the place that each entry names, zero elsewhere, along a new last dimension
SORTED = "sort"  # the entries, smallest first
LARGEST = "topk"  # the largest entries, or the smallest
EQUALS = "equals"  # whether the entries are a given number, the settings
IDENTITY = "identity"  # the entries
COUNTING = "counting"  # the numbers 0, 1, …
WRITTEN = "index_put"  # entries written at places, or added there
PUT = "put"  # the entries at given places, zero elsewhere
ELSEWHERE = "elsewhere"  # a number wherever nothing was put
TRIANGLE = "triangle"  # a lower triangle of ones: running sums
RESULT = "result"  # what an operation gives in a run of the model, of which no more is known
HIDDEN = "mask"  # zero where a mask of truth values holds, minus infinity elsewhere
CAUSAL = "causal softmax"  # over the entries that do not lie behind the diagonal
SEEN = "softmax of what is seen"  # zeros where nothing is
PARTS = "parts"  # the real and the imaginary part, along a new last dimension


@dataclass(frozen=True)
class Function:
    """A function of the operands, and after them of what the tensors called ``data`` hold in a run of the model.

    Two functions are equal where their names, their ``settings`` and their data are: ``apply`` is not looked at.
    """

    name: str
    # Two closures are never equal, though they do the same: the name and the settings tell.
    apply: Callable[..., Any] = field(repr=False, compare=False)
    data: tuple[str, ...] = ()
    settings: Hashable = field(default=(), repr=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.data)})" if self.data else self.name


POSITIVE = Function("positive part", lambda x: x.clamp(min=0))
NEGATIVE = Function("negative part", lambda x: x.clamp(max=0))
