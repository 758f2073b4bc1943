"""Networks trained apart: what is missing half way falls by descent over the group, and nothing else changes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared, transformer
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing import Element, align
from neuralmechanics.rewrite.comparing.align import _Between
from neuralmechanics.rewrite.comparing.checkpoints import Function
from neuralmechanics.rewrite.comparing.elements.steps import SpaceStep, space_steps
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.descending import descended
from neuralmechanics.rewrite.comparing.solving.matching import Solver, distance_between
from neuralmechanics.symmetry import Element as SpaceElement

from .planting import distance, state_of

aligning = importlib.import_module("neuralmechanics.rewrite.comparing.align")  # the module, not its function
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "barriers.py"


def batch_of_tokens() -> Tensor:
    return torch.randint(7, (4, 3), generator=torch.Generator().manual_seed(0))


def test_the_gradient_half_way_is_that_of_autograd() -> None:
    model = prepared(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    batch, params = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3), state_of(model)
    value, gradients = Function(model, batch).pulled(params, lambda out: out.pow(3).sum())
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    expected = functional_call(model, leaves, (batch,)).pow(3).sum()
    expected.backward()
    assert value == pytest.approx(float(expected.detach()), rel=1e-14)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert torch.allclose(gradients[name], leaf.grad, atol=1e-14)
    assert not any(tensor.requires_grad for tensor in params.values())


def descent_lowers_what_is_missing(make: Callable[[], nn.Module], batch: Tensor, named: bool) -> None:
    model, other = (prepared(make(), seed) for seed in (0, 1))
    classes = model(batch).shape[-1]
    target = torch.randint(classes, (model(batch).numel() // classes,), generator=torch.Generator().manual_seed(2))

    def loss(model: nn.Module, given: Tensor) -> Tensor:
        return nn.functional.cross_entropy(model(given).flatten(0, -2), target)

    loss_fn = loss if named else None
    a, b = state_of(model), state_of(other)
    missing = _Between(a, b, Function(model, batch, loss_fn))
    nearest, further = (align(model, batch, a, b, loss_fn, starts=1, steps=steps) for steps in (0, 12))
    assert missing(further) < missing(nearest) - 0.02 * abs(missing(nearest))
    assert Function(model, batch).change(b, further.transform(b)) < 1e-9


@pytest.mark.parametrize("named", [False, True])
def test_descent_lowers_what_is_missing_half_way_and_keeps_the_function(named: bool) -> None:
    """With the outputs themselves, and with a loss; the element is of the group, so that g·b computes what b does."""
    batch = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    descent_lowers_what_is_missing(lambda: nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, 4)), batch, named)


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
def test_descent_turns_streams_and_heads(named: bool) -> None:
    descent_lowers_what_is_missing(lambda: transformer(nn.RMSNorm), batch_of_tokens(), named)


def test_where_nothing_is_better_nothing_is_moved() -> None:
    """The element that is there is tried first, before any sweep: half way between two, each with its own order."""
    model = prepared(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)))
    network = Network.of(model, torch.zeros(1, 3, dtype=torch.float64))
    a, b = state_of(model), state_of(prepared(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)), 1))
    seen: list[dict[str, Tensor]] = []

    def objective(half: Mapping[str, Tensor]) -> tuple[float, Mapping[str, Tensor]]:
        seen.append(dict(half))
        return float(len(seen)), {name: torch.ones_like(value) for name, value in half.items()}

    for steps in (0, 3):
        seen.clear()
        element, value = descended(network, a, b, objective, steps)
        assert (value, len(seen)) == (1.0, steps + 1)
        assert distance(b, element.transform(b)) == 0
        assert all(torch.equal(seen[0][name], (a[name] + b[name]) / 2) for name in a)


@pytest.mark.parametrize(("starts", "begun"), [(0, [0]), (1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3])])
def test_as_many_starts_as_are_asked_for(starts: int, begun: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which the nearest is kept."""
    model = prepared(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)))
    network = Network.of(model, torch.zeros(1, 3, dtype=torch.float64))
    a, b = state_of(model), state_of(prepared(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)), 1))
    numbers: list[int] = []
    distances: list[float] = []
    begin, off = aligning._begin, Solver.off

    def noted(solver: Solver, number: int) -> None:
        numbers.append(number)
        begin(solver, number)

    def measured(solver: Solver) -> float:
        distances.append(off(solver))
        return distances[-1]

    monkeypatch.setattr(aligning, "_begin", noted)
    monkeypatch.setattr(Solver, "off", measured)
    element, found = aligning._nearest(network, a, b, starts)
    assert numbers == begun
    assert found == min(distances)
    assert distance_between(a, element.transform(b)) == pytest.approx(found, rel=1e-12)


def test_steps_of_spaces_along_different_dimensions_are_joined() -> None:
    """The stream is turned and heads are turned, three times in turns: one step each is left, the same element."""
    model = prepared(transformer(nn.RMSNorm))
    spaces = find_symmetries(model, batch_of_tokens()).spaces
    stream, head = (next(s for s in spaces if s.group == group) for group in ("orthogonal", "general linear"))
    draw, state = torch.Generator().manual_seed(0), state_of(model)
    steps: list[SpaceStep] = []
    for _ in range(3):
        for space in (stream, head):
            steps += space_steps(space, SpaceElement(matrix=space.random_element(draw).matrix))
    joined = Element().compose(Element(tuple(steps)))
    assert len(joined.steps) == 2
    assert distance(Element(tuple(steps)).transform(state), joined.transform(state)) < 1e-13


def barriers() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_barriers", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("name", "share"), [("perceptron", 1.0), ("vgg", 1.0), ("transformer", 0.5)])
def test_barriers_are_lower_than_by_permutations(name: str, share: float) -> None:
    """On the digits that were held out, and on those that were trained on."""
    found = barriers().measured(name, 0)
    for data in ("held out", "trained on"):
        heights = found[data]
        assert heights["align"] <= share * heights["permutations"], found
        assert heights["permutations"] < heights["as they are"], found
