"""Rules that fix a gauge: what they make of one network is the same wherever on its orbit it stands."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving import matching
from neuralmechanics.rewrite.comparing.solving.gauge import centred, is_readable, rescaled
from neuralmechanics.rewrite.comparing.solving.levelling import levelled
from neuralmechanics.rewrite.comparing.solving.matching import Matched, Solver
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import Shift

from .planting import distance, planted, state_of


class Readers(nn.Module):
    """A centring norm with gain and bias, read by a map without a bias and one with."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm = nn.Linear(3, 4), nn.LayerNorm(4, eps=0.0)
        self.first, self.second = nn.Linear(4, 3, bias=False), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.enter(x))
        return torch.cat([torch.tanh(self.first(h)), self.second(h)], -1)


class Squares(nn.Module):
    """v ⊙ (w ⊙ x)²: a factor of w is taken back by its square in v, and a sign by nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.v = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.v * (self.w * x).square()


def network_of(model: nn.Module, width: int = 3) -> tuple[Network, dict[str, Tensor]]:
    model = prepared(model)
    return Network.of(model, torch.randn(5, width, dtype=torch.float64)), state_of(model)


def blind(network: Network) -> Family:
    (family,) = (f for f in network.families if f.action.along_ones)
    return family


def test_what_a_centring_norm_forgets_is_made_level() -> None:
    """The norm's bias over its gain becomes one in every channel, or minus one in every channel."""
    network, params = network_of(Readers())
    family = blind(network)
    draw = torch.Generator().manual_seed(5)
    elsewhere = dict(params)
    for _, amount in family.action.random_elements(0.3, draw):
        elsewhere = FamilyStep(family, amount).transform(elsewhere)
    assert distance(params, elsewhere) > 1e-2
    level = []
    for at in (params, elsewhere):
        matrix = levelled(network, family, at)
        assert matrix is not None
        level.append(FamilyStep(family, matrix).transform(at))
        ratio = level[-1]["norm.bias"] / level[-1]["norm.weight"]
        assert torch.allclose(ratio, ratio.sign()[:1].expand(4), rtol=1e-12)
        again = levelled(network, family, level[-1])
        assert again is not None
        assert torch.allclose(again, torch.eye(4).double(), atol=1e-12)
    assert distance(*level) < 1e-12


@pytest.mark.parametrize(
    "change",
    [
        {"norm.bias": [0.0] * 4},
        {"norm.bias": [1.0, -1.0, 2.0, -2.0]},
        {"norm.weight": [1.0, 0.0, 1.0, 1.0]},
        {"norm.weight": [1.0, 0.0, 1.0, 1.0], "norm.bias": [1.0, 0.0, 2.0, 3.0]},
    ],
    ids=["no bias", "a bias without mean", "a gain that is zero", "a channel that is zero"],
)
def test_what_has_no_level_is_left(change: Mapping[str, list[float]]) -> None:
    network, params = network_of(Readers())
    params["norm.weight"] = torch.ones(4, dtype=torch.float64)
    given = params | {name: torch.tensor(values, dtype=torch.float64) for name, values in change.items()}
    assert levelled(network, blind(network), given) is None
    assert all(levelled(network, family, params) is None for family in network.families if not family.action.along_ones)


def test_without_shifts_all_networks_of_an_orbit_of_shifts_are_one() -> None:
    network, params = network_of(Readers())
    assert any(family.action.anchors for family in network.shifts)
    draw = torch.Generator().manual_seed(2)
    moved = dict(params)
    for family in network.shifts:
        for _, amount in family.action.random_elements(0.5, draw):
            moved = FamilyStep(family, amount).transform(moved)
    assert distance(params, moved) > 1e-2
    (out, steps), (other, others) = (centred(network.shifts, at) for at in (params, moved))
    assert distance(out, other) < 1e-11
    assert distance(out, Element(tuple(steps)).transform(params)) < 1e-12
    assert steps
    assert others
    assert centred(network.shifts, out)[1] == []
    for family in (f for f in network.shifts if not f.action.anchors):
        shift = Shift(family.action.shift_terms)
        assert float(shift.pair(out, out).abs().max()) < 1e-12


def test_of_what_is_stored_beside_a_constant_the_sum_is_centred() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    network, params = network_of(model)
    (family,) = (f for f in network.shifts if f.parameters == ("0.bias",))
    origin = torch.full((4,), 0.75, dtype=torch.float64)
    out, _ = centred([family], params, (), {"0.bias": origin})
    assert torch.allclose(out["0.bias"], -origin, atol=1e-13)
    assert torch.equal(centred([family], params)[0]["0.bias"], torch.zeros(4, dtype=torch.float64))


def test_shifts_that_lean_on_hidden_tensors_cannot_be_read() -> None:
    network, _ = network_of(Readers())
    for family in network.shifts:
        assert is_readable(family, ())
        assert is_readable(family, family.action.anchors[:1]) == (not family.action.anchors)
    assert not any(is_readable(family, ()) for family in network.scalings)


@pytest.mark.parametrize(("tensor", "axis"), [("0.weight", 1), ("2.weight", 0)])
def test_slices_of_what_is_readable_have_unit_length(tensor: str, axis: int) -> None:
    """Rows of what writes a channel, or columns of what reads it, which the factor divides."""
    network, params = network_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    (family,) = network.families
    factors = rescaled(family, params, [tensor])
    assert factors is not None
    lengths = FamilyStep(family, factors).transform(params)[tensor].norm(dim=axis)
    assert torch.allclose(lengths, torch.ones(4).double(), rtol=1e-12)
    assert rescaled(family, params, []) is None


def test_gains_come_first_and_lose_their_signs() -> None:
    network, params = network_of(Readers())
    params["norm.weight"] = torch.tensor([2.0, -0.5, 1.0, -3.0], dtype=torch.float64)
    (family,) = (f for f in network.scalings if "norm.weight" in f.parameters)
    assert len(family.parameters) > 1
    factors = rescaled(family, params, family.parameters, {"norm.weight"})
    assert factors is not None
    assert torch.allclose(FamilyStep(family, factors).transform(params)["norm.weight"], torch.ones(4).double())


def test_an_even_power_of_a_factor_moves_no_sign() -> None:
    network, params = network_of(Squares(), 4)
    (family,) = network.families
    params["v"] = torch.tensor([4.0, -9.0, 1.0, -0.25], dtype=torch.float64)
    factors = rescaled(family, params, ["v"])
    assert factors is not None
    assert bool((factors > 0).all())
    fixed = FamilyStep(family, factors).transform(params)
    assert torch.allclose(fixed["v"], params["v"].sign())
    assert torch.equal(fixed["w"].sign(), params["w"].sign())


def test_both_networks_are_left_without_shifts_and_level() -> None:
    """What shifts add is taken off once more after the levelling; readers that are hidden have no say in it."""
    model = prepared(Readers())
    batch = torch.randn(5, 3, dtype=torch.float64)
    network, before = Network.of(model, batch), state_of(model)
    after = planted(find_symmetries(model, batch), 5).transform(before)
    solver = Solver(network, frozenset(), before, after)
    solver.fix_gauges()
    for at in (solver.a, solver.b):
        assert centred(network.shifts, at, (), network.origins(at))[1] == []
    assert blind(network).name in solver.known
    for hidden in ("second.weight", "second.bias"):
        beside = Solver(network, frozenset({hidden}), before, after)
        assert beside._level([], []) == {blind(network).name}
    other = before | {"second.weight": torch.randn_like(before["second.weight"])}
    seen = [levelled(network, blind(network), at, {"second.weight"}) for at in (before, other)]
    assert torch.equal(seen[0], seen[1])
    assert levelled(network, blind(network), before, {"norm.weight"}) is None
    hiding = Solver(network, frozenset({"norm.weight"}), before, after)
    assert hiding._level([], []) == set()
    # g_a⁻¹ of its own gauge steps leads back
    assert distance(before, Element(tuple(solver.undone)).transform(solver.a)) < 1e-11
    assert distance(solver.b, Element(tuple(solver.steps)).transform(after)) < 1e-11


class Sweeping(Solver):
    """A solver of which it is told how far apart both are after each sweep."""

    def __init__(self, distances: list[float]) -> None:
        self.b, self.steps, self.distances = {"sweeps": torch.zeros(())}, [], distances

    def off(self) -> float:
        return self.distances.pop(0)

    def sweep(self) -> None:
        self.b = {"sweeps": self.b["sweeps"] + 1}


@pytest.mark.parametrize(
    ("distances", "kept", "left"),
    [
        ([1.0, 0.5, 0.7, 0.1], 1, 1),  # the second makes it worse and is taken back
        ([1.0, 0.5, 0.499, 0.1], 2, 1),  # it falls no more to speak of
        ([1.0, 0.5, 1e-14, 0.1], 2, 1),
        ([1.0, 0.9, 0.8, 0.7, 0.1], 3, 1),  # as many as were asked for
        ([1e-14, 0.1], 0, 1),
    ],
)
def test_sweeps_go_on_while_they_help(distances: list[float], kept: int, left: int) -> None:
    solver = Sweeping(distances)
    solver.finish(3)
    assert (int(solver.b["sweeps"]), len(distances)) == (kept, left)


def test_a_last_approach_that_leads_away_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    network, params = network_of(Readers())
    family = next(f for f in network.shifts if not f.action.anchors)
    away = FamilyStep(family, torch.ones(family.generator_shape, dtype=torch.float64))
    near = {name: value * (1 + 1e-6) for name, value in params.items()}
    found = Matched(Element(), matching.gaps(params, near), frozenset())
    monkeypatch.setattr(matching, "refined", lambda *_: [away])
    assert matching._refined(network, params, near, found) is found
