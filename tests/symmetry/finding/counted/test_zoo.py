"""The hand-picked networks: no false symmetry, none missed, every continuous symmetry explained."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.spread import one_in
from torch import Tensor

from neuralmechanics import Symmetries, find_symmetries

from ...agreement import Verdict, judge
from ...network import Network
from ...nullspace import moved_parameters
from ...pending import DIMENSIONS, FIBRE, FREE
from ...zoo import SLOW, SMALL
from .test_classical import assert_transformations


@cache
def found(name: str) -> tuple[Network, Symmetries]:
    network = SMALL[name]()
    return network, find_symmetries(network.module, network.batch(), network.loss_fn)


@cache
def verdict_of(name: str) -> Verdict:
    return judge(*found(name))


def cases(pending: dict[str, str]) -> list[object]:
    unknown = set(pending) - set(SMALL)
    assert not unknown, f"pending networks that the zoo lacks: {sorted(unknown)}"
    return one_in(5, [pytest.param(name, marks=marks(name, pending)) for name in SMALL])


def marks(name: str, pending: dict[str, str]) -> list[pytest.MarkDecorator]:
    slow = [pytest.mark.slow] if name in SLOW else []
    return [*slow, pytest.mark.xfail(reason=pending[name], strict=True)] if name in pending else slow


def test_the_zoo_is_large_enough() -> None:
    assert len(SMALL) >= 45


@pytest.mark.parametrize("name", cases({}))
def test_no_false_symmetry(name: str) -> None:
    verdict = verdict_of(name)
    assert verdict.truth.clear
    assert verdict.sound, verdict
    assert verdict.diagonal <= verdict.truth.multiplicative, verdict
    assert verdict.orbit <= verdict.truth.fibre, verdict


@torch.no_grad()
def observed(network: Network, params: dict[str, Tensor]) -> Tensor:
    """What losses are functions of, with other parameters and the same random numbers."""
    own = {key: value.clone() for key, value in network.module.named_parameters()}
    state = {key: value.clone() for key, value in network.module.named_buffers()}
    for values in (params, own):
        for key, parameter in network.module.named_parameters():
            parameter.copy_(values[key])
        if values is params:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                out = network.observed(network.batch())
    for key, buffer in network.module.named_buffers():
        buffer.copy_(state[key])
    return out


@pytest.mark.parametrize("name", cases({}))
def test_elements_of_spaces_leave_the_output_unchanged(name: str) -> None:
    """Random permutations, signs, factors and matrices of every space, and negative factors of signed families."""
    network, symmetries = found(name)
    params = {key: value.detach().clone() for key, value in network.module.named_parameters()}
    before = observed(network, params)
    draw = torch.Generator().manual_seed(0)
    moved = [space.transform(params, space.random_element(draw)) for space in symmetries.spaces]
    for family in symmetries.of_kind("scale", "rescale"):
        if family.action.signed and family.exact:
            amount = torch.randn(family.size, generator=draw, dtype=torch.float64)
            moved.append(family.transform(params, amount + 0.3 * amount.sign()))
    for after in (observed(network, other) for other in moved):
        assert float((after - before).abs().max()) < 1e-8 * max(1.0, float(before.abs().max()))


@pytest.mark.parametrize("name", cases(FREE))
def test_what_is_called_free_does_not_move(name: str) -> None:
    """No translation and no diagonal symmetry of the null space moves an element of a free parameter."""
    network, symmetries = found(name)
    free = {c.parameter for c in symmetries.coverage if c.status == "free"}
    assert not free & moved_parameters(network.module, verdict_of(name).truth.moved)


@pytest.mark.parametrize("name", cases(DIMENSIONS))
def test_translations_and_diagonal_symmetries_are_complete(name: str) -> None:
    verdict = verdict_of(name)
    assert verdict.equal, verdict
    assert verdict.counted, verdict


@pytest.mark.parametrize("name", cases(FIBRE))
def test_every_continuous_symmetry_is_explained(name: str) -> None:
    verdict = verdict_of(name)
    assert verdict.orbit == verdict.truth.fibre, verdict


@pytest.mark.parametrize("name", cases({}))
def test_finite_transformations(name: str) -> None:
    assert_transformations(*found(name), tolerance=1e-11)
