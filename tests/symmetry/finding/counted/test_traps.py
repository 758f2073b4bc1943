"""No careless rule: where comparisons, stopped gradients, padding or penalties break a symmetry none is claimed.

What a trap leaves is claimed all the same: nothing would be found in a network that nothing is looked for in.
"""

from __future__ import annotations

import pytest
import torch
from tests.spread import one_in

from neuralmechanics import find_symmetries

from ...agreement import amounts, change, flatten, one_by_one
from ...nullspace import randomise, trainable
from ...pending import TRAPPED
from ...zoo.affine_traps import TRAPS
from ...zoo.what_traps_leave import LEFT
from .test_zoo import marks


def cases() -> list[object]:
    unknown = set(TRAPPED) - set(TRAPS)
    assert not unknown, f"pending traps that do not exist: {sorted(unknown)}"
    return one_in(3, [pytest.param(name, marks=marks(name, TRAPPED)) for name in TRAPS])


@pytest.mark.parametrize("name", cases())
def test_no_false_symmetry(name: str) -> None:
    module, batch, loss_fn = TRAPS[name]()
    symmetries = find_symmetries(module, batch, loss_fn)
    counts = {kind: number for kind, number in symmetries.count().items() if number}
    assert ", ".join(f"{kind} {number}" for kind, number in sorted(counts.items())) == LEFT.get(name, "")
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


def test_what_traps_leave_is_told_of_traps() -> None:
    assert set(LEFT) <= set(TRAPS)
    assert len(LEFT) > len(TRAPS) // 2


@pytest.mark.parametrize("name", ["where-above-one", "hardtanh", "softsign", "sine", "detached-gate", "half-centred"])
def test_a_careless_claim_would_be_seen(name: str) -> None:
    """What holds of a rectifier in the place of the trap's function changes the trap's loss."""
    module, batch, loss_fn = TRAPS[name]()
    module.function, function = torch.relu, module.function
    careless = find_symmetries(module, batch, loss_fn).of_kind("rescale")
    assert sum(family.charges for family in careless) == 5
    module.function = function
    generator = torch.Generator().manual_seed(11)
    for family in careless:
        assert change(module, lambda: loss_fn(module, batch), family, amounts(family, generator, 1.0)) > 1e-2
