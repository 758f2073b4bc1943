"""Positions written in the code are read, whichever way they are brought to the device and type of the input."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "device and type by place": lambda x: torch.tensor([0, 2]).to(x.device, torch.int64),
    "device by name": lambda x: torch.tensor([0, 2]).to(device=x.device),
    "like another": lambda x: torch.tensor([0, 2], dtype=torch.int32).to(torch.zeros(2, dtype=torch.int64)),
    "made there": lambda x: torch.tensor([0, 2], device=x.device),
    "by a range": lambda x: torch.arange(0, 4, 2, device=x.device),
}


class Picking(nn.Module):
    def __init__(self, places: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.map = nn.Linear(3, 4, dtype=torch.float64)
        self.places = places

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x)[:, self.places(x)].tanh()


@pytest.mark.parametrize("name", WAYS)
def test_what_is_never_picked_does_nothing(name: str) -> None:
    """Outputs 1 and 3 of four are not read: two rows of three weights and two biases are translations."""
    symmetries = find_symmetries(Picking(WAYS[name]), torch.randn(5, 3, dtype=torch.float64))
    assert symmetries.unknown == ()
    assert {f.parameters: f.size for f in symmetries.of_kind("translation")} == {("map.weight",): 6, ("map.bias",): 2}
