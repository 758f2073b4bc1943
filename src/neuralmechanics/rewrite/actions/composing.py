"""Several actions one after the other, as one plan with one certificate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.centring import centre_pieces
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.equalising import equalise_pieces
from neuralmechanics.rewrite.actions.folding import fold_pieces
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.permuting import permute_pieces
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.actions.rotating import rotate_pieces
from neuralmechanics.rewrite.actions.smoothing import smooth_pieces
from neuralmechanics.rewrite.actions.untying import untied_or_not

__all__ = ["PLANNERS", "Planner", "in_turn"]

Planner = Callable[..., tuple[list[Piece], list[Refusal]]]

PLANNERS: Mapping[str, Planner] = {
    "untie": untied_or_not,
    "fold": fold_pieces,
    "centre": centre_pieces,
    "smooth": smooth_pieces,
    "equalise": equalise_pieces,
    "rotate": rotate_pieces,
    "permute": permute_pieces,
}


def in_turn(
    model: nn.Module,
    batch: Any,
    steps: Sequence[tuple[str, Mapping[str, Any]]],
    loss_fn: LossFunction | None = None,
    *,
    params: Mapping[str, Tensor] | None = None,
) -> Rewritten:
    """Actions by name with their settings, each on the model that those before it leave.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    >>> batch = nn.init.normal_(nn.Linear(3, 5).double().weight).detach()
    >>> print(in_turn(model, batch, [("fold", {}), ("centre", {})]).plan)
    2.bias: plus 2.weight · 1.bias
    1.bias: set to 0
    2.weight: times 1.weight along axis 1
    1.weight: set to 1
    0.weight: less its mean along axis 0
    0.bias: less its mean along axis 0
    """
    subject = Subject(model, batch, loss_fn, params)
    refused: list[Refusal] = []
    for action, settings in steps:
        if action not in PLANNERS:
            raise ValueError(f"action must be one of {', '.join(PLANNERS)}; got {action!r}")
        pieces, more = PLANNERS[action](subject, **settings)
        subject = subject.after(pieces) if pieces else subject
        refused += more
    return subject.rewritten((), refused)
