"""What every action returns: the new tensors, the plan that made them, its certificate, and what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neuralmechanics.rewrite.actions.certificate import Certificate
from neuralmechanics.rewrite.plan import Plan

__all__ = ["Refusal", "Rewritten"]


@dataclass(frozen=True)
class Refusal:
    """Why a place has no such action: the tensor, and the operation or parameter that stops it."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True, eq=False)
class Rewritten:
    """``params``: the state dict after ``plan``, empty for a model without weights (on the meta device).

    ``refused``: reasons, one for each place that has no such action.
    """

    params: Mapping[str, Tensor]
    plan: Plan
    certificate: Certificate
    refused: tuple[Refusal, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON), without the tensors."""
        refused = [{"place": r.place, "reason": r.reason} for r in self.refused]
        return {"plan": self.plan.to_dict(), "certificate": self.certificate.to_dict(), "refused": refused}

    def __str__(self) -> str:
        head = f"{len(self.plan)} changes of {len(self.plan.tensors)} tensors"
        return "\n".join([head, str(self.certificate), *(f"refused: {refusal}" for refusal in self.refused)])
