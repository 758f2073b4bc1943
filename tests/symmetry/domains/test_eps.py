"""Constants added on the way: an eps breaks a scale by a known amount, anything else ends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

Step = Callable[[Tensor], Tensor]


class Between(nn.Module):
    """Two linear layers with a step between them."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.first, self.last, self.step = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False), step

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.step(self.first(x)))


STABILISED: dict[str, tuple[float, Step]] = {
    "root-mean-square": (1e-5, lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)),
    "root-mean-square, large eps": (1e-2, lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-2)),
    "variance": (1e-3, lambda x: (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + 1e-3)),
    "deviation": (1e-4, lambda x: x / (x.std(-1, keepdim=True) + 1e-4)),
    "sum of squares": (1e-6, lambda x: x / ((x * x).sum(-1, keepdim=True) + 1e-6) ** 0.5),
    "absolute values": (1e-3, lambda x: x / (1e-3 + x.abs().sum(-1, keepdim=True))),
    "normalize": (1e-12, lambda x: nn.functional.normalize(x, dim=-1)),
    "smaller of two sizes": (1e-3, lambda x: x / (torch.minimum(x.abs(), 2 * x.abs()) + 1e-3)),
    "larger of a size and what has either sign": (1e-3, lambda x: x / (torch.maximum(x, x.abs()) + 1e-3)),
    "rectified": (1e-8, lambda x: torch.relu(x) / (torch.relu(x).sum(-1, keepdim=True) + 1e-8)),
}
ENDED: dict[str, Step] = {
    "activation": lambda x: torch.relu(x) + 1e-6,
    "activation in a denominator": lambda x: torch.relu(x) / (x + 1e-6),
    "mean of either sign": lambda x: x / (x.mean(-1, keepdim=True) + 1e-6),
    "size that is also read": lambda x: (m := x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * x + m,
    "one in a denominator": lambda x: x / (1 + x.abs()),
    "subtracted": lambda x: x / (x.abs() - 1e-6),
    "small threshold": lambda x: x.clamp(min=1e-6),
    "smaller of a size and what has either sign": lambda x: x / (torch.minimum(x, x.abs()) + 1e-3),
    "fminimum of the same": lambda x: x / (torch.fmin(x.abs(), x) + 1e-3),
    "size made larger by cubics": lambda x: (
        x.repeat_interleave(4, 1)
        / (nn.functional.interpolate(x.abs()[:, None, None], scale_factor=(1, 4), mode="bicubic")[:, 0, 0] + 1e-3)
    )[:, ::4],
    "tenth": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.1),
}


@pytest.mark.parametrize("name", STABILISED)
def test_added_to_a_size_that_divides_it_is_an_eps(name: str) -> None:
    value, step = STABILISED[name]
    families = [f for f in find_symmetries(Between(step), torch.randn(5, 3)) if f.kind == "scale"]
    assert len(families) == 1
    assert families[0].parameters == ("first.weight",)
    assert [breaking.value for breaking in families[0].broken_by] == [value]


@pytest.mark.parametrize("name", ENDED)
def test_added_to_anything_else_it_ends_the_scale(name: str) -> None:
    symmetries = find_symmetries(Between(ENDED[name]), torch.randn(5, 3))
    assert not symmetries.unknown
    assert symmetries.count()["scale"] == 0
    assert all(family.exact for family in symmetries)
