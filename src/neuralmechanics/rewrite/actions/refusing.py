"""Why not: for each place that lacks an action, the operation and the parameter that stop it, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.composing import PLANNERS
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.preparing import prepared
from neuralmechanics.rewrite.actions.rewritten import Refusal
from neuralmechanics.rewrite.actions.untying import untie_pieces

__all__ = ["why_not"]


def why_not(
    model: nn.Module,
    batch: Any,
    action: str,
    loss_fn: LossFunction | None = None,
    *,
    params: Mapping[str, Tensor] | None = None,
) -> tuple[Refusal, ...]:
    """The places of a model that an action does not reach, each with its reason; nothing is rewritten.

    Where ``prepare=True`` opens the action, that is said too. ``action``: fold, rotate, smooth, equalise, untie, centre
    or permute.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> print(*why_not(model, nn.init.normal_(nn.Linear(3, 5).weight).detach(), "rotate"))
    0.weight[0]: aten.relu at 1 treats each of its channels alone
    """
    if action not in PLANNERS:
        raise ValueError(f"action must be one of {', '.join(PLANNERS)}; got {action!r}")
    subject = Subject(model, batch, loss_fn, params)
    _, refused = PLANNERS[action](subject)
    if action not in _OPENED or not refused:
        return tuple(refused)
    after = _OPENED[action](subject)
    if not after.prior:
        return tuple(refused)
    _, still = PLANNERS[action](after)
    left = {refusal.place for refusal in still}
    return tuple(r if r.place in left or _moved_on(r, still) else _opened(r, after) for r in refused)


def _moved_on(refusal: Refusal, still: list[Refusal]) -> bool:
    """Whether the same place goes by another name, with the same reason."""
    return refusal.reason in {other.reason for other in still}


def _opened(refusal: Refusal, after: Subject) -> Refusal:
    steps = ["untie"] if after.plan.untied else []
    steps += ["fold"] if len(after.plan) > len(after.plan.untied) else []
    return Refusal(refusal.place, f"{refusal.reason} ({' and '.join(steps)} opens it: prepare=True)")


_OPENED: dict[str, Callable[[Subject], Subject]] = {
    "rotate": lambda subject: prepared(subject)[0],
    "centre": lambda subject: subject.after(untie_pieces(subject)),
}
