"""Shifts that depend on one another are projected out exactly; channels follow the gains that matrices leave."""

from __future__ import annotations

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared
from tests.symmetry.zoo import SMALL
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.rewrite.comparing import equivalent
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving import gauge
from neuralmechanics.rewrite.comparing.solving.krylov import minimal_residual
from neuralmechanics.rewrite.comparing.solving.matching import Solver
from neuralmechanics.rewrite.comparing.solving.ordering import in_order

from .planting import distance, planted, state_of


@pytest.mark.parametrize("seed", range(5))
def test_a_system_is_solved_from_products_alone(seed: int) -> None:
    """Also a singular one whose right-hand side is an image."""
    draw = torch.Generator().manual_seed(seed)
    matrix, x = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((12, 12), (12,)))
    for system in (matrix + 4 * torch.eye(12).double(), matrix.mT @ torch.diag(torch.arange(12.0).double()) @ matrix):
        found = minimal_residual(lambda v, system=system: system @ v, system @ x)
        assert torch.allclose(system @ found, system @ x, rtol=0, atol=1e-9 * float((system @ x).norm()))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_depended_on_comes_first(seed: int) -> None:
    """On random graphs: every part once, and no arrow from a later group to an earlier one."""
    draw = torch.Generator().manual_seed(seed)
    arrows = torch.rand(9, 9, generator=draw) < 0.15
    groups = in_order(range(9), lambda i, j: bool(arrows[i, j]))
    place = {part: k for k, group in enumerate(groups) for part in group}
    assert sorted(part for group in groups for part in group) == list(range(9))
    assert all(place[i] <= place[j] for i in range(9) for j in range(9) if arrows[i, j])


def test_nothing_is_left_along_shifts_that_answer_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a post-norm block each bias answers the shift of another: three rounds, where one by one took a hundred."""
    network = SMALL["attention-post-layer-norm"]()
    parts = Network.of(network.module, network.batch(), network.loss_fn)
    monkeypatch.setattr(gauge, "_ROUNDS", 3)
    params = state_of(network.module)
    found, _ = gauge.centred(parts.shifts, params)
    moved, _ = gauge.centred(parts.shifts, planted_shifts(parts, params))
    assert distance(params, found) > 1e-3
    assert distance(found, moved) < 1e-12


def planted_shifts(parts: Network, params: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random shifts of all families, one after another."""
    draw = torch.Generator().manual_seed(2)
    for family in parts.shifts:
        for _, chosen in family.action.random_elements(0.5, draw):
            params = family.transform(params, chosen)
    return params


class OffsetCentred(nn.Module):
    """A centring norm whose gain is 1 + w, read by a hidden layer in a residual stream."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.enter, self.head = nn.Embedding(9, width), nn.Linear(width, 9, bias=False)
        self.weight, self.bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.up, self.down = nn.Linear(width, 7, bias=False), nn.Linear(7, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.enter(tokens)
        y = functional.layer_norm(x, x.shape[-1:], 1 + self.weight, self.bias)
        x = x + self.down(torch.tanh(self.up(y)))
        out: Tensor = self.head(functional.layer_norm(x, x.shape[-1:]))
        return out


@pytest.mark.parametrize("seed", range(3))
def test_gains_about_one_that_are_negative(seed: int) -> None:
    """Channels change places with the signs of 1 + w, which no factor of the group changes."""
    model = prepared(OffsetCentred(), seed)
    with torch.no_grad():
        model.weight[:3] -= 3.0
    batch = torch.randint(9, (4, 5), generator=torch.Generator().manual_seed(seed))
    before = state_of(model)
    after = planted(Network.of(model, batch).symmetries, seed).transform(before)
    found = equivalent(model, batch, before, after)
    assert distance(before, after) > 0.1
    assert found.equal, str(found)
    assert distance(after, found.element.transform(before)) < 1e-9


class Attention(nn.Module):
    """Values without a bias behind a centring norm, and what they make before one: W_v may gain (W_o⁻¹1)·uᵀ."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8, eps=0.0)
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(self.norm(x)).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        out: Tensor = x + self.o(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


def test_shears_whose_direction_is_solved_for_are_found_beside_all_else() -> None:
    """Where the columns of W_o are centred 1 is none of its outputs: their translation is taken back meanwhile."""
    torch.manual_seed(0)
    end = (nn.LayerNorm(8, eps=0.0), nn.Linear(8, 3, bias=False))
    model = prepared(nn.Sequential(nn.Embedding(7, 8), Attention(), *end))
    batch = torch.randint(0, 7, (2, 5))
    symmetries, before = Network.of(model, batch).symmetries, state_of(model)
    assert any(getattr(family.action, "solved", None) is not None for family in symmetries)
    after = planted(symmetries, 1).transform(before)
    assert distance(before, after) > 0.1
    assert equivalent(model, batch, before, after).equal
    solver = Solver(Network.of(model, batch), frozenset(), after, before)
    solver.fix_gauges()
    solver.in_turn()
    assert solver.off() < 1e-9  # part by part, before any last approach
    wrong = after | {"1.v.weight": after["1.v.weight"] + torch.eye(8).double()}
    assert equivalent(model, batch, before, wrong).tensors == ("1.v.weight",)
