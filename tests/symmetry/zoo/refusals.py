"""Operations that are not followed: what enters them is fixed, and what does not enter them keeps its symmetries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..blocks import Residual
from .registry import small
from .tables import Read

_ROWS = (96, 3)

REFUSED: list[str] = []  # the networks in which an operation is not followed


@torch.library.custom_op("zoo::bent", mutates_args=())
def bent(x: Tensor) -> Tensor:
    """2 tanh(x) + x, behind a name that no rule knows."""
    return 2 * torch.tanh(x) + x


@bent.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _keep(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _pull_back(ctx: Any, gradient: Tensor) -> Tensor:
    (x,) = ctx.saved_tensors
    return gradient * (3 - 2 * torch.tanh(x).square())


bent.register_autograd(_pull_back, setup_context=_keep)


class Bent(nn.Module):
    """The operation without a rule."""

    def forward(self, x: Tensor) -> Tensor:
        return bent(x)


def refused(name: str, build: Callable[[], nn.Module]) -> None:
    """A network in which the operation without a rule is not followed."""
    small(name, _ROWS, "output")(build)
    REFUSED.append(name)


small("unknown-before-the-first-layer", _ROWS, "output")(
    lambda: nn.Sequential(Bent(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
)


refused(
    "unknown-between-two-pairs",
    lambda: nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), Bent(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)
    ),
)
refused("unknown-behind-the-last-layer", lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3), Bent()))
refused(
    "unknown-on-a-branch",
    lambda: nn.Sequential(
        nn.Linear(3, 4), nn.ReLU(), Residual(nn.Sequential(nn.Linear(4, 4), Bent(), nn.Linear(4, 4))), nn.Linear(4, 5)
    ),
)
refused(
    "unknown-under-a-norm",
    lambda: nn.Sequential(nn.Linear(3, 4), Bent(), nn.LayerNorm(4), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)),
)
refused(
    "unknown-on-a-weight",
    lambda: Read(
        lambda m, x: m.c(torch.relu(m.b(torch.tanh(x @ bent(m.w))))),
        w=nn.Parameter(torch.randn(3, 4)),
        b=nn.Linear(4, 4),
        c=nn.Linear(4, 3),
    ),
)
refused(
    "unknown-gate",
    lambda: Read(lambda m, x: m.h(m.a(x) * bent(m.g(x))), a=nn.Linear(3, 4), g=nn.Linear(3, 4), h=nn.Linear(4, 5)),
)
refused(
    "unknown-twice",
    lambda: nn.Sequential(nn.Linear(3, 4), Bent(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), Bent()),
)
small("slice-scattered-with-gaps", _ROWS, "output")(
    lambda: Read(
        lambda m, x: m.h(torch.relu(m.a(x)).slice_scatter(torch.tanh(m.c(x)), 1, 0, 4, 2)),
        a=nn.Linear(3, 4),
        c=nn.Linear(3, 2),
        h=nn.Linear(4, 5),
    )
)
