"""Routers and the ways in which the outputs of experts that are modules of their own come back to their rows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Residual
from .registry import small

Router = Callable[[Tensor], tuple[Tensor, Tensor]]


def best_then_softmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The two largest scores, and then shares."""
    values, chosen = scores.topk(2, -1)
    return values.softmax(-1), chosen


def softmax_then_best(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The two largest shares, made to add up to one."""
    values, chosen = scores.softmax(-1).topk(2, -1)
    return values / values.sum(-1, keepdim=True), chosen


def softmax_of_masked(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of scores of which all but the two largest are minus infinity."""
    values, chosen = scores.topk(2, -1)
    shares = torch.full_like(scores, float("-inf")).scatter(-1, chosen, values).softmax(-1)
    return shares.gather(-1, chosen), chosen


class Routed(nn.Module):
    """Rectified experts, two for each row."""

    def __init__(self, router: Router) -> None:
        super().__init__()
        self.route, self.scores = router, nn.Linear(3, 3)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.route(self.scores(x))
        return self.collected(x, weight, chosen)

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        raise NotImplementedError


class RowsAdded(Routed):
    """y[rows] += …"""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == number)
            out[rows] += weight[rows, place, None] * expert(x[rows])
        return out


class RowsOfEveryPlace(Routed):
    """Rows of a repeated batch, assigned where a mask holds to what was never initialised."""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        repeated, flat = x.repeat_interleave(2, 0), chosen.flatten()
        out = torch.empty_like(repeated)
        for number, expert in enumerate(self.experts):
            out[flat == number] = expert(repeated[flat == number])
        return (out.view(len(x), 2, -1) * weight[..., None]).sum(1)


class Dense(Routed):
    """Every expert on every row, weighted by shares most of which are zero."""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        shares = (functional.one_hot(chosen, 3) * weight[..., None]).sum(1)
        return torch.einsum("ne,end->nd", shares, torch.stack([expert(x) for expert in self.experts]))


class Sorted(Routed):
    """Rows sorted by expert, split by how many each has, and put back."""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        flat = chosen.flatten()
        order = flat.argsort()
        counts = torch.bincount(flat, minlength=3).tolist()
        parts = [f(part) for f, part in zip(self.experts, x[order // 2].split(counts), strict=True)]
        joined = torch.cat(parts)
        back = torch.zeros_like(joined)
        back[order] = joined
        return (back.view(len(x), 2, -1) * weight[..., None]).sum(1)


for _name, _kind, _router in (
    ("rows-added", RowsAdded, best_then_softmax),
    ("rows-of-every-place", RowsOfEveryPlace, softmax_then_best),
    ("dense", Dense, softmax_of_masked),
    ("sorted", Sorted, softmax_of_masked),
):
    small(f"routed-{_name}", (64, 3), "output")(
        lambda kind=_kind, router=_router: nn.Sequential(  # type: ignore[misc]
            nn.Linear(3, 3), Residual(kind(router)), nn.Linear(3, 5)
        )
    )
