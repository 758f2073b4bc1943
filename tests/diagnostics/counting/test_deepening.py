"""When the search for deeper brackets goes on, and when it ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from neuralmechanics.diagnostics.counting.brackets.deepening import Deepening
from neuralmechanics.diagnostics.counting.lie_brackets import GeneralField
from neuralmechanics.diagnostics.counting.rank import Gap


class Growing:
    """A span to which each round of brackets adds as much as it is told."""

    def __init__(self, additions: list[int]) -> None:
        self.rank, self.additions = 0, additions

    def extend(self, vectors: Tensor, where: str = "") -> tuple[int, Gap]:
        more = self.additions.pop(0)
        self.rank += more
        return more, Gap(float("inf"), 0.0, where)


def _linear() -> Callable[..., GeneralField]:
    draw = torch.Generator().manual_seed(0)

    def field(potentials: object, z: Tensor) -> GeneralField:
        matrix = torch.randn(3, 3, generator=draw, dtype=torch.float64)
        return GeneralField(lambda z: matrix @ z)

    return field


@pytest.mark.parametrize(
    ("additions", "level", "rank"),
    [
        ([3], 1, 3),  # all there is
        ([1, 1, 1], 1, 3),
        ([0, 0], 1, 0),  # two rounds of fresh inputs that add nothing
        ([0, 2, 0, 0], 2, 2),  # the first of a level may be in vain
        ([1, 0, 1, 0, 1], 3, 3),  # a level that has grown ends with a round that adds nothing
        ([1, 0, 1, 0, 0, 0], 3, 2),
    ],
)
def test_a_level_ends_the_search_when_two_rounds_add_nothing(additions: list[int], level: int, rank: int) -> None:
    gaps: list[Gap] = []
    rounds = len(additions)
    span = Growing(additions)
    flow = SimpleNamespace(draw=_linear())
    z = torch.ones(3, dtype=torch.float64)
    deepening = Deepening(None, flow, z, lambda vectors: vectors, lambda _: None)  # type: ignore[arg-type]
    assert deepening.extend(span, 3, range(1, 6), gaps) == level
    assert (span.rank, span.additions, len(gaps)) == (rank, [], rounds)
