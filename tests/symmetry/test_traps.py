"""No careless rule: where comparisons, stopped gradients, padding or penalties break a symmetry none is claimed."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics import find_symmetries

from .agreement import amounts, change, flatten, one_by_one
from .nullspace import randomise, trainable
from .pending import TRAPPED
from .zoo.traps import TRAPS


def cases() -> list[object]:
    unknown = set(TRAPPED) - set(TRAPS)
    assert not unknown, f"pending traps that do not exist: {sorted(unknown)}"
    return [
        pytest.param(name, marks=pytest.mark.xfail(reason=TRAPPED[name], strict=True)) if name in TRAPPED else name
        for name in TRAPS
    ]


@pytest.mark.parametrize("name", cases())
def test_no_false_symmetry(name: str) -> None:
    module, batch, loss_fn = TRAPS[name]()
    symmetries = find_symmetries(module, batch, loss_fn)
    generator = torch.Generator().manual_seed(11)
    randomise(module, generator)
    params = trainable(module)
    loss = loss_fn(module, batch)
    pieces = torch.autograd.grad(loss, list(params.values()), allow_unused=True) if loss.requires_grad else []
    gradient = flatten({n: g for n, g in zip(params, pieces, strict=False) if g is not None}, params)
    for family in symmetries:
        if any(breaking.value > 1e-6 for breaking in family.broken_by):
            continue  # said to be broken, with the constant that breaks it: nothing false
        for ray in one_by_one(family, {n: p.detach() for n, p in params.items()}):
            residual = float((gradient @ ray).abs() / (gradient.norm() * ray.norm() + 1e-300))
            assert residual < 1e-10, f"⟨g, ξ⟩ is {residual:.1e} of its bound for {family!r}"
        for _ in range(2):
            moved = change(module, lambda: loss_fn(module, batch), family, amounts(family, generator, 1.0))
            assert moved < 1e-10, f"{family!r} changes the loss by {moved:.1e}"
