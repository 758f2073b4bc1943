"""What equalising is for: weights rounded to four bits, one scale a weight, in a network with a residual connection."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from neuralmechanics import find_symmetries, rewrite


class Residual(nn.Module):
    """A ReLU layer, a bottleneck of two layers beside an identity, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.narrow = nn.Linear(64, 24), nn.Linear(24, 48), nn.Linear(48, 24)
        self.last, self.head = nn.Linear(24, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = x + self.narrow(functional.relu(self.wide(x)))
        out: Tensor = self.head(functional.relu(self.last(x)))
        return out


@pytest.fixture(scope="module")
def trained() -> tuple[Residual, Tensor, Tensor]:
    """Every second digit was trained on; the others."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images) / 16, torch.tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Residual().double()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[::2]), y[::2]).backward()
        optimizer.step()
    return model, x[1::2], y[1::2]


def _rounded(value: Tensor) -> Tensor:
    """The nearest of 15 symmetric levels."""
    step = value.abs().max() / 7
    return (value / step).round() * step if value.ndim > 1 else value


def _loss(model: nn.Module, params: Mapping[str, Tensor], x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        return float(functional.cross_entropy(functional_call(model, dict(params), (x,)), y))


@pytest.mark.parametrize("by", ["range", pytest.param("max", marks=pytest.mark.slow), "l2"])
def test_equalised_weights_lose_at_most_a_twentieth_to_four_bits(
    by: str, trained: tuple[Residual, Tensor, Tensor]
) -> None:
    """Ranges that a random element of the network's own group has made uneven: its function is as good as it was."""
    model, x, y = trained
    uneven = {name: value.detach() for name, value in model.state_dict().items()}
    draw = torch.Generator().manual_seed(1)
    for family in find_symmetries(model, x[:4]).of_kind("rescale"):
        uneven = family.transform(uneven, torch.randn(family.size, generator=draw, dtype=torch.float64).exp())
    equalised = rewrite.equalise(model, x[:4], by=by, params=uneven)
    assert equalised.certificate.ok

    def lost(params: Mapping[str, Tensor]) -> float:
        return _loss(model, {name: _rounded(value) for name, value in params.items()}, x, y) - whole

    whole = _loss(model, uneven, x, y)
    assert abs(_loss(model, equalised.params, x, y) - whole) < 1e-12
    assert whole < 0.5
    before = lost(uneven)
    assert before > 1.0
    assert lost(equalised.params) < before / 20
