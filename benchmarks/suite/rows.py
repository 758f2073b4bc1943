"""One number beside what a user would otherwise do, both measured in one process, in turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """`value` of what is measured at a size, `other` of what stands beside it, in one unit; their ratio is shown."""

    name: str
    size: str
    value: float
    unit: str
    beside: str
    other: float

    @property
    def ratio(self) -> float:
        """How many times the other it is; nan where that is nothing."""
        return self.value / self.other if self.other else math.nan


def least_seconds(works: Mapping[str, Work], rounds: int = 5, repeats: int = 1) -> dict[str, float]:
    """Processor seconds a call of each work, the least of all rounds; the works take turns, so all bear one load."""
    least = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, work in works.items():
            begun = time.process_time()
            for _ in range(repeats):
                work()
            least[name] = min(least[name], (time.process_time() - begun) / repeats)
    return least


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log value on log size: 1 is growth in proportion.

    >>> round(exponent([1, 2, 4], [3.0, 12.0, 48.0]), 6)
    2.0
    """
    x, y = [math.log(size) for size in sizes], [math.log(max(value, 1e-12)) for value in values]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    along = sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True))
    return along / sum((a - middle) ** 2 for a in x)
