"""Experts that are modules: matched as blocks that change places, whatever acts within them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.rewrite.comparing.planting import distance, planted, state_of
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite import permutation_spec, permute
from neuralmechanics.rewrite.comparing import align, canonical, equivalent, fingerprint
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.matching import matched


class Gated(nn.Module):
    """o(silu(g x) ⊙ u x)."""

    def __init__(self) -> None:
        super().__init__()
        self.g, self.u, self.o = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(nn.functional.silu(self.g(x)) * self.u(x))
        return out


class Mixture(nn.Module):
    """The two best of several experts, each of them run on every row."""

    def __init__(self, expert: Callable[[], nn.Module], count: int = 3) -> None:
        super().__init__()
        self.router = nn.Linear(4, count, bias=False)
        self.experts = nn.ModuleList(expert() for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        best, chosen = self.router(x).topk(2, -1)
        shares = (nn.functional.one_hot(chosen, len(self.experts)) * best.softmax(-1)[..., None]).sum(-2)
        return x + sum(shares[..., k : k + 1] * expert(x) for k, expert in enumerate(self.experts))  # type: ignore[no-any-return]


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4))


def normed() -> nn.Module:
    return nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 4))


def low_rank() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False))


def linear() -> nn.Module:
    return nn.Linear(4, 4)


NETWORKS = {
    "perceptrons": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Mixture(perceptron), nn.Linear(4, 2)),
    "a stream of two": lambda: nn.Sequential(
        nn.Linear(3, 4), Mixture(perceptron, 4), nn.RMSNorm(4), Mixture(normed), nn.Linear(4, 2)
    ),
    "gated, behind a layer norm": lambda: nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), Mixture(Gated), nn.Linear(4, 2)
    ),
    "low rank": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Mixture(low_rank), nn.Linear(4, 2)),
    "one map each": lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Mixture(linear), nn.Linear(4, 2)),
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = NETWORKS[name]().double()
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(0.6 * torch.randn_like(value))
    return model, torch.randn(6, 3, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_planted_elements_are_found_and_have_one_canonical_form(name: str) -> None:
    model, batch = made(name)
    symmetries, before = find_symmetries(model, batch), state_of(model)
    assert any(space.blocks for space in symmetries.spaces)
    after = planted(symmetries, 1).transform(before)
    assert equivalent(model, batch, before, after).equal
    assert distance(after, align(model, batch, after, before).transform(before)) < 1e-12
    if name == "a stream of two":
        return  # gains within experts: no canonical form, which `canonical` says
    assert distance(canonical(model, batch, before), canonical(model, batch, after)) < 1e-11
    one, other = fingerprint(model, batch, before), fingerprint(model, batch, after)
    assert all(torch.allclose(one[n], other[n], rtol=1e-9, atol=1e-12) for n in one)


@pytest.mark.parametrize(
    "name", ["perceptrons", pytest.param("gated, behind a layer norm", marks=pytest.mark.slow), "one map each"]
)
def test_what_does_not_move_along_is_named(name: str) -> None:
    """Experts in another order without their router, and one wrong expert, under a planted element."""
    model, batch = made(name)
    symmetries, before = find_symmetries(model, batch), state_of(model)
    after = planted(symmetries, 5).transform(before)
    (space,) = (s for s in symmetries.spaces if s.blocks)
    (router,) = (entry.parameter for entry in space.entries)
    turned = space.transform(after, torch.tensor([1, 2, 0])) | {router: after[router]}
    assert equivalent(model, batch, before, turned).tensors == (router,)
    wrong = space.blocks[1][0]
    broken = after | {wrong: after[wrong] + 0.1}
    found = equivalent(model, batch, before, broken)
    assert wrong in found.tensors
    assert set(found.tensors) <= {wrong, *found.unjudged}
    assert not found.equal


def test_what_moves_single_tensors_says_that_blocks_stay() -> None:
    """``permute`` and the maps for other tools leave them out, and say so."""
    model, batch = made("perceptrons")
    moved = permute(model, batch)
    assert moved.certificate.ok
    told = {str(refusal) for refusal in (*moved.refused, *permutation_spec(model, batch).refused)}
    assert len([text for text in told if "change places whole" in text]) == 2
    (space,) = (s for s in find_symmetries(model, batch).spaces if s.blocks)
    assert len(permute(model, batch, space=space.name, permutation=[1, 2, 0]).plan) == 0


def test_a_gauge_reads_one_tensor_of_all_blocks_or_of_none() -> None:
    """What is hidden in one expert of a stands elsewhere in b: a norm made level without it is not level alike."""
    model, batch = made("gated, behind a layer norm")
    network, before = Network.of(model, batch), state_of(model)
    after = planted(network.symmetries, 1).transform(before)
    for part in ("g", "u", "o"):
        hidden = {f"2.experts.1.{part}.{kind}" for kind in ("weight", "bias")}
        wrong = after | {f"2.experts.1.{part}.weight": after[f"2.experts.1.{part}.weight"] + 0.3}
        assert matched(network, wrong, before, hidden).off < 1e-9
