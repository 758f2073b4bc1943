"""The balanced point: the same function, zero charges, the least norm of the orbit, the same from anywhere on it."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.balancing.balancing import UnbalancedWarning, balance, balanced, pair_balance
from neuralmechanics.experiments import build_model
from neuralmechanics.symmetry import Symmetries
from neuralmechanics.symmetry.families.actions import ComplexPairs, LinearBlocks

Params = dict[str, Tensor]


def detached(model: nn.Module) -> Params:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def norm(params: Params) -> float:
    return float(sum(p.double().square().sum() for p in params.values()))


def unbalanced(symmetries: Symmetries, params: Params, seed: int = 0) -> Params:
    """A random point of the orbit, far from balance."""
    draw = torch.Generator().manual_seed(seed)
    for family in symmetries:
        if family.kind == "rescale":
            params = family.transform(params, torch.randn(family.charges, generator=draw, dtype=torch.float64).exp())
        elif isinstance(family.action, ComplexPairs):
            polar = torch.randn(family.generator_shape, generator=draw, dtype=torch.float64)
            params = family.transform(params, 0.5 * polar + torch.tensor([2.0, 0.0]))
        elif isinstance(family.action, LinearBlocks):
            noise = torch.randn(family.generator_shape, generator=draw, dtype=torch.float64)
            params = family.transform(params, torch.linalg.matrix_exp(0.3 * noise))
    return params


def imbalance(symmetries: Symmetries, params: Params) -> float:
    moved = symmetries.of_kind("rescale", "linear")
    size = moved.charge_scale(params)
    return float((moved.charge(params).abs() / size.clamp(min=1e-300)).max())


def llama() -> nn.Module:
    """Rotary, grouped queries, gated units, root-mean-square norms."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = {"hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    whole = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=7, use_cache=False, **sizes, **heads))
    return Logits(whole)


class Logits(nn.Module):
    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.whole(input_ids=tokens).logits
        return logits


@cache
def example(name: str) -> tuple[nn.Module, Tensor, Symmetries]:
    torch.manual_seed(1)
    if name == "llama":
        model, batch = llama().double(), torch.randint(7, (2, 5))
    elif name == "gpt":
        model, batch = build_model("gpt", input_shape=(6,), classes=7).double(), torch.randint(7, (3, 6))
    else:
        model, batch = build_model(name, input_shape=(3, 8, 8), classes=5).double(), torch.randn(3, 3, 8, 8).double()
    return model, batch, find_symmetries(model, batch)


@pytest.mark.parametrize("name", ["vgg-small", "gpt", "llama"])
def test_the_function_stays_and_every_charge_vanishes(name: str) -> None:
    model, batch, symmetries = example(name)
    start = unbalanced(symmetries, detached(model))
    result = balanced(symmetries, start)
    assert result.unattained == ()
    assert imbalance(symmetries, start) > 0.9
    assert imbalance(symmetries, result.params) < 1e-12
    before, after = functional_call(model, start, (batch,)), functional_call(model, result.params, (batch,))
    assert float((before - after).abs().max() / before.abs().max()) < 1e-12
    assert result.norm_after < result.norm_before
    assert norm(start) - norm(result.params) == pytest.approx(result.norm_before - result.norm_after, rel=1e-12)
    again = balanced(symmetries, result.params)
    assert again.norm_after == pytest.approx(result.norm_after, rel=1e-13)


def test_rescalings_have_one_balanced_point() -> None:
    model, _, symmetries = example("vgg-small")
    first = balance(symmetries, detached(model))
    for seed in (1, 2):
        second = balance(symmetries, unbalanced(symmetries, detached(model), seed))
        for name, value in first.items():
            torch.testing.assert_close(second[name], value, rtol=1e-10, atol=1e-12)


def test_every_other_point_of_the_orbit_is_longer() -> None:
    model, _, symmetries = example("gpt")
    least = balance(symmetries, detached(model))
    for seed in range(4):
        assert norm(unbalanced(symmetries, least, seed)) > norm(least)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_a_deep_linear_net_reaches_the_schatten_norm(depth: int) -> None:
    """min Σ|W_l|² over all factorisations W = W_L…W_1 is L Σ σ_i(W)^(2/L)."""
    torch.manual_seed(depth)
    model = nn.Sequential(*(nn.Linear(4, 4, bias=False) for _ in range(depth))).double()
    symmetries = find_symmetries(model, torch.randn(3, 4).double())
    assert symmetries.count()["linear"] == 10 * (depth - 1)
    result = balanced(symmetries, detached(model))
    whole = torch.eye(4).double()
    for p in model.parameters():
        whole = p.detach() @ whole
    expected = depth * float((torch.linalg.svdvals(whole) ** (2 / depth)).sum())
    assert result.unattained == ()
    assert result.norm_after == pytest.approx(expected, rel=1e-12)


def test_pair_balance_is_the_geometric_mean() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 5, 9).double()
    a = torch.linalg.matrix_exp(pair_balance(x @ x.mT, y @ y.mT))
    inverse = torch.linalg.inv(a)
    torch.testing.assert_close(a @ x @ x.mT @ a, inverse @ y @ y.mT @ inverse, rtol=1e-10, atol=1e-12)


class SquaredReLU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) ** 2


def test_weighted_rescalings_are_balanced_too() -> None:
    """Degree 2: |incoming|² = 2|outgoing|² at the least norm."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), SquaredReLU(), nn.Linear(4, 2)).double()
    batch = torch.randn(5, 3).double()
    after = balance(find_symmetries(model, batch), detached(model))
    incoming = after["0.weight"].square().sum(1) + after["0.bias"].square()
    torch.testing.assert_close(incoming, 2 * after["2.weight"].square().sum(0), rtol=1e-11, atol=0.0)
    torch.testing.assert_close(functional_call(model, after, (batch,)), model(batch), rtol=1e-12, atol=1e-13)


def test_a_zero_outgoing_slice_is_reported_and_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    start = detached(model)
    start["2.weight"][:, 1] = 0
    symmetries = find_symmetries(model, torch.randn(5, 3).double())
    with pytest.warns(UnbalancedWarning, match=r"1 directions .* 0\.weight\[1\]"):
        after = balance(symmetries, start)
    torch.testing.assert_close(after["0.weight"][1], start["0.weight"][1], rtol=0, atol=0)
    charges = symmetries.charge(after)
    assert float(charges[[0, 2, 3]].abs().max()) < 1e-12
    assert float(charges[1]) > 0.1


class Recurrent(nn.Module):
    """h ← relu(U h + W x), a linear read-out of the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 2, bias=False), nn.Linear(2, 2)
        self.stay = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.relu(self.enter(x[:, 0]))
        for k in range(1, x.shape[1]):
            state = torch.relu(self.stay(state) + self.enter(x[:, k]))
        return self.head(state)


def test_a_missing_side_behind_a_neutral_weight_is_found() -> None:
    """A recurrent unit that feeds itself alone: its own weight stands on both sides and hides that one is zero."""
    torch.manual_seed(0)
    model = Recurrent().double()
    symmetries = find_symmetries(model, torch.randn(2, 3, 3).double())
    assert symmetries.count()["rescale"] == 2
    start = detached(model)
    start["stay.weight"].copy_(torch.eye(2))
    start["head.weight"][:, 0] = 0
    result = balanced(symmetries, start)
    assert len(result.unattained) == 1
    assert result.imbalance < 1e-12


def test_a_block_without_a_closed_orbit_is_balanced_on_its_diagonal() -> None:
    """Ranks 3 and 2 in 5 channels: the least norm needs a singular matrix, but each channel can be balanced."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)).double()
    batch = torch.randn(4, 3).double()
    symmetries = find_symmetries(model, batch)
    result = balanced(symmetries, detached(model))
    assert len(result.unattained) == 1
    first, second = result.params["0.weight"], result.params["1.weight"]
    torch.testing.assert_close(first.square().sum(1), second.square().sum(0), rtol=1e-11, atol=0.0)
    torch.testing.assert_close(functional_call(model, result.params, (batch,)), model(batch), rtol=1e-12, atol=1e-13)


def test_a_closed_orbit_of_less_than_full_rank_is_found() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5, bias=False), nn.Linear(5, 3, bias=False)).double()
    result = balanced(find_symmetries(model, torch.randn(4, 3).double()), detached(model))
    whole = result.params["1.weight"] @ result.params["0.weight"]
    assert result.unattained == ()
    assert result.norm_after == pytest.approx(2 * float(torch.linalg.svdvals(whole).sum()), rel=1e-10)


def test_extreme_imbalance_and_single_precision() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    symmetries = find_symmetries(model, torch.randn(5, 3).double())
    far = symmetries.of_kind("rescale")[0].transform(detached(model), torch.tensor([1e5, 1e-5, 1e3, 1.0]))
    assert balanced(symmetries, far).imbalance < 1e-12
    single = {name: p.float() for name, p in detached(model).items()}
    after = balance(symmetries, single)
    assert {p.dtype for p in after.values()} == {torch.float32}
    assert imbalance(symmetries, after) < 1e-6


def test_scale_families_and_frozen_parameters_stay() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).double()
    batch = torch.randn(4, 2, 4, 4).double()
    symmetries = find_symmetries(model, batch)
    after = balance(symmetries, detached(model))
    assert symmetries.count()["scale"] == 3
    assert torch.equal(after["0.weight"], model[0].weight)
    assert not torch.equal(after["4.weight"], model[4].weight)
    model[4].weight.requires_grad_(False)
    frozen = balance(find_symmetries(model, batch), detached(model))
    assert all(torch.equal(frozen[name], p) for name, p in model.named_parameters())


def test_what_cannot_be_balanced_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    symmetries = find_symmetries(model, torch.randn(5, 3))
    params = detached(model)
    with pytest.raises(KeyError, match=r"2\.weight"):
        balance(symmetries, {name: p for name, p in params.items() if name != "2.weight"})
    with pytest.raises(ValueError, match="not finite"):
        balance(symmetries, params | {"0.bias": torch.full((4,), math.nan)})
    with pytest.raises(ValueError, match="meta"):
        balance(symmetries, {name: p.to("meta") for name, p in params.items()})


def test_gains_about_one_are_balanced_with_their_own_size() -> None:
    """(1 + w)² against the columns that read them; a family of plain rescalings shares the readers."""

    class Gains(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.up, self.down = nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 3)
            self.weight = nn.Parameter(torch.zeros(5))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.down(torch.relu(self.up(torch.tanh(self.first(x)) * (1 + self.weight))))
            return out

    torch.manual_seed(0)
    model, batch = Gains().double(), torch.randn(7, 4).double()
    symmetries = find_symmetries(model, batch)
    assert symmetries.count()["rescale"] == 11
    start = unbalanced(symmetries, detached(model))
    result = balanced(symmetries, start)
    assert imbalance(symmetries, start) > 0.9
    assert imbalance(symmetries, result.params) < 1e-12
    before, after = functional_call(model, start, (batch,)), functional_call(model, result.params, (batch,))
    assert float((before - after).abs().max()) < 1e-12
    sizes = (1 + result.params["weight"]).square() - result.params["up.weight"].square().sum(0)
    assert float(sizes.abs().max()) < 1e-12
    assert result.norm_after < result.norm_before
