"""Dimension of a Lie algebra of vector fields at a point, by brackets level by level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.diagnostics.counting.lie_brackets import bracket_with_scale
from neuralmechanics.diagnostics.counting.optimizer_fields import OptimizerFlow
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.diagnostics.counting.rank import Gap

__all__ = ["Deepening", "Growing"]


class Growing(Protocol):
    """A span that vectors of natural size 1 are added to."""

    @property
    def rank(self) -> int: ...

    def extend(self, vectors: Float64[Tensor, "count n"], where: str = "") -> tuple[int, Gap]: ...


@dataclass(frozen=True, eq=False)
class Deepening:
    """Brackets of random fields at z added to a span until it has ``target`` dimensions or no longer grows.

    ``seen`` takes vectors of phase space, of natural size 1, to the coordinates of the span. A level is drawn until a
    round adds nothing; the search ends with the first level that adds nothing in two rounds of fresh inputs. Then [W,
    Δ] ⊆ Δ near a generic point, so no deeper bracket leaves Δ.
    """

    potentials: Potentials
    flow: OptimizerFlow
    z: Float64[Tensor, " n"]
    seen: Callable[[Tensor], Tensor]
    tell: Callable[[str], None]

    def extend(self, span: Growing, target: int, levels: range, gaps: list[Gap]) -> int:
        """The deepest level used; the span grows and gaps of the rounds are appended."""
        z = self.z.detach().requires_grad_()
        for level in levels:
            grown = quiet = 0
            while span.rank < target and quiet < (1 if grown else 2):
                fields = [[self.flow.draw(self.potentials, z) for _ in range(level + 1)] for _ in range(4)]
                vectors = [v / s if s > 0 else v for v, s in (bracket_with_scale(draw, z) for draw in fields)]
                more, gap = span.extend(self.seen(torch.stack(vectors)), f"brackets of level {level}")
                gaps.append(gap)
                grown, quiet = grown + more, quiet + (more == 0)
                self.tell(f"level {level}: {span.rank} of {target} directions")
            if span.rank >= target or not grown:
                return level
        return levels[-1]
