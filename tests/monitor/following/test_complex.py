"""Complex parameters are followed as their real and imaginary parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "heavy ball": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "Nesterov": lambda ps: torch.optim.SGD(ps, lr=0.05, momentum=0.9, nesterov=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=1e-2),
}


class Moduli(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.abs()


def loss_fn(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - 1).square().mean()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_hermitian_charges_of_two_maps(name: str, dtype: torch.dtype) -> None:
    """W₂, W₁ ↦ W₂A⁻¹, AW₁: the real parts of what W₁W₁† + b₁b₁† - W₂†W₂ has on and above its diagonal."""
    model = nn.Sequential(nn.Linear(3, 4, dtype=dtype), nn.Linear(4, 2, dtype=dtype), Moduli())
    x = torch.randn(5, 3, dtype=dtype)
    symmetries = nm.find_symmetries(model, x, loss_fn)
    optimizer = OPTIMIZERS[name](model.parameters())
    with nm.Monitor(model, optimizer, symmetries, every=3, residuals=True, strict=True) as monitor:
        for _ in range(12):
            optimizer.zero_grad()
            loss_fn(model, x).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    first, bias, second = (model[0].weight, model[0].bias, model[1].weight)
    gram = (first @ first.mH + torch.outer(bias, bias.conj()) - second.mH @ second).real.detach().double()
    rows, columns = torch.triu_indices(4, 4)
    rounding = 1e-5 if dtype == torch.complex64 else 1e-12
    now = torch.from_numpy(monitor.run.data["charge"].values[-1])
    assert torch.allclose(now, gram[rows, columns], rtol=rounding, atol=rounding)
    assert monitor.run.errors().query("law in ('exact', 'identity')")["max_error"].max() < rounding
    assert not monitor.run.warnings or name == "AdamW"
