"""Entries taken from a dimension that holds channels and more: each channel from places of its own, or all alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

_STEPS = torch.randint(5, (3, 5, 4), generator=torch.Generator().manual_seed(2))
_ALIKE = _STEPS[..., :1].expand(-1, -1, 4)


def _places(steps: Tensor) -> Tensor:
    return (torch.arange(3)[:, None, None] * 20 + steps * 4 + torch.arange(4)).reshape(-1)


WAYS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "indices": lambda h, steps: h[torch.arange(3)[:, None, None], steps, torch.arange(4)],
    "flattened": lambda h, steps: h.reshape(60)[_places(steps)].reshape(3, 5, 4),
    "selected": lambda h, steps: h.reshape(60).index_select(0, _places(steps)).reshape(3, 5, 4),
}


class Picked(nn.Module):
    def __init__(self, way: Callable[[Tensor, Tensor], Tensor], steps: Tensor) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 5, bias=False)
        self.way, self.steps = way, steps

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.way(self.a(x), self.steps))


@pytest.mark.parametrize("way", WAYS)
def test_channels_that_are_taken_apart_scale_and_do_not_mix(way: str) -> None:
    symmetries = find_symmetries(Picked(WAYS[way], _STEPS), torch.randn(3, 5, 4))
    assert {kind: n for kind, n in symmetries.count().items() if n} == {"rescale": 4}


@pytest.mark.parametrize("way", WAYS)
def test_channels_that_are_taken_together_mix(way: str) -> None:
    symmetries = find_symmetries(Picked(WAYS[way], _ALIKE), torch.randn(3, 5, 4))
    assert {kind: n for kind, n in symmetries.count().items() if n} == {"linear": 10}


def test_a_gradient_inside_a_model_is_captured() -> None:
    """The memory of a tensor is asked for while a derivative wraps it."""

    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Linear(3, 4), nn.Linear(4, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            energy = lambda one: self.head(nn.functional.silu(self.a(one))).sum()  # noqa: E731
            return torch.func.vmap(torch.func.grad(energy))(x)

    assert find_symmetries(Field(), torch.randn(5, 3)).unknown == ()
