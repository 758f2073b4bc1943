"""Optimiser states carried along: gradients against autograd at the transformed point, steps against steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared
from tests.symmetry.families.spaces.test_elements import CASES
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing import Element, transport
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, space_steps
from neuralmechanics.symmetry import Element as SpaceElement
from neuralmechanics.symmetry.families.actions import Rotation

from .planting import distance, planted, state_of

Make = Callable[[Iterable[tuple[str, Tensor]]], torch.optim.Optimizer]


def gradient(model: nn.Module, batch: tuple[Tensor, ...], params: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    output = functional_call(model, leaves, batch)
    target = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
    (output - target).square().sum().backward()
    return {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@pytest.mark.parametrize("name", ["relu", "linear", "layer-norm"])
def test_momentum_goes_as_gradients_do(name: str) -> None:
    """J⁻ᵀ ∇L(θ) is ∇L(g θ), for elements of all kinds at once, shears and matrices through gains among them."""
    model, batch = CASES[name]()
    model = prepared(model)
    params = state_of(model)
    found = find_symmetries(model, batch)
    turns = [f for f in found if isinstance(f.action, Rotation) and f.action.inputs]
    element = planted(replace(found, families=tuple(f for f in found if f not in turns)), 4)
    before = {n: {"exp_avg": g} for n, g in gradient(model, batch, params).items()}
    carried = transport(before, element, params=params)
    wanted = gradient(model, batch, element.transform(params))
    assert distance(wanted, {n: entry["exp_avg"] for n, entry in carried.items()}) < 1e-10
    for turn in turns:
        step = FamilyStep(turn, torch.ones(turn.size, dtype=torch.float64))
        with pytest.raises(ValueError, match="fold the gains first"):
            transport(before, Element((step,)), params=params)


def trained(model: nn.Module, batch: tuple[Tensor, ...], optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        output = model(*batch)
        target = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).reshape(output.shape)
        optimizer.zero_grad()
        (output - target).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make",
    [lambda p: torch.optim.Adam(p, 0.01, amsgrad=True), lambda p: torch.optim.SGD(p, 1e-3, momentum=0.9)],
    ids=["Adam", "momentum"],
)
def test_training_goes_on_as_if_nothing_had_happened(make: Make) -> None:
    """A signed permutation between two halves of a training: the rest ends at the transformed end."""
    model, batch = CASES["tanh"]()
    model = prepared(model)
    names = [name for name, _ in model.named_parameters()]
    space = find_symmetries(model, batch).spaces[0]
    element = Element(space_steps(space, space.random_element(torch.Generator().manual_seed(2))))
    optimizer = make(p for p in model.parameters())
    trained(model, batch, optimizer, 5)
    half, state = state_of(model), optimizer.state_dict()
    state = {**state, "state": {k: {n: v.clone() for n, v in e.items()} for k, e in state["state"].items()}}
    trained(model, batch, optimizer, 5)
    wanted = element.transform(state_of(model))
    model.load_state_dict(element.transform(half))
    again = make(p for p in model.parameters())
    again.load_state_dict(transport(state, element, names=names))
    trained(model, batch, again, 5)
    assert distance(wanted, state_of(model)) < 1e-12


def test_second_moments_under_scales_and_under_mixing() -> None:
    model, batch = CASES["relu"]()
    model = prepared(model)
    space = find_symmetries(model, batch).spaces[0]
    factors = torch.full((len(space.directions), space.width), 2.0, dtype=torch.float64)
    element = Element(space_steps(space, SpaceElement(factors=factors)))
    state = {name: {"exp_avg_sq": torch.ones_like(p)} for name, p in state_of(model).items()}
    carried = transport(state, element)
    assert carried["0.weight"]["exp_avg_sq"].unique().tolist() == [0.25]
    assert carried["2.weight"]["exp_avg_sq"].unique().tolist() == [4.0]
    model, batch = CASES["linear"]()
    model = prepared(model)
    space = find_symmetries(model, batch).spaces[0]
    mixing = Element(space_steps(space, space.random_element(torch.Generator().manual_seed(0))))
    state = {name: {"exp_avg_sq": torch.ones_like(p)} for name, p in state_of(model).items()}
    with pytest.raises(ValueError, match=r"second moments of '0.weight' cannot be carried along"):
        transport(state, mixing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_moments_keep_their_type_and_their_step(dtype: torch.dtype) -> None:
    model, batch = CASES["relu"]()
    space = find_symmetries(prepared(model), batch).spaces[0]
    element = Element(space_steps(space, space.random_element(torch.Generator().manual_seed(2))))
    state = {
        name: {
            "exp_avg": torch.ones_like(p, dtype=dtype),
            "exp_avg_sq": torch.ones_like(p, dtype=torch.float32),
            "step": torch.tensor(7.0),
        }
        for name, p in state_of(model).items()
    }
    carried = transport(state, element)
    assert {name: [v.dtype for v in entries.values()] for name, entries in carried.items()} == {
        name: [v.dtype for v in entries.values()] for name, entries in state.items()
    }
    assert all(entries["step"] == 7 for entries in carried.values())


def test_unknown_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="entry 'acc_delta' is of an unknown kind"):
        transport({"w": {"acc_delta": torch.ones(2)}}, Element())
    with pytest.raises(ValueError, match="0 names for 1 parameters"):
        transport({"state": {}, "param_groups": [{"params": [0]}]}, Element())
