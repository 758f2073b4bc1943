"""Folding leaves norms without gains and biases, and the function as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import rewrite

from .networks import GPT, ConvNet, Llama, change, disturbed, images, mlp, tokens, vectors

GAINS = (".norm1.weight", ".norm2.weight", "norm.weight")


def _gains(params: dict[str, Tensor]) -> list[Tensor]:
    return [value for name, value in params.items() if name.endswith(GAINS) or name == "norm.weight"]


@pytest.mark.parametrize("offset", [pytest.param(0.0, marks=pytest.mark.slow), 1.0], ids=["llama", "gemma"])
def test_gains_of_rms_norms_become_one(offset: float) -> None:
    """About half of them are negative."""
    model = disturbed(Llama(offset))
    folded = rewrite.fold(model, tokens())
    params = dict(folded.params)
    assert change(model, params, tokens()) < 1e-14
    assert len(_gains(params)) == 3
    assert all(bool((gain + offset == 1).all()) for gain in _gains(params))
    assert folded.refused == ()
    w, gain = model.state_dict()["blocks.0.k.weight"], model.state_dict()["blocks.0.norm1.weight"]
    assert torch.equal(params["blocks.0.k.weight"], w * (gain + offset))


def test_biases_of_layer_norms_are_taken_up() -> None:
    model = disturbed(GPT())
    folded = rewrite.fold(model, tokens())
    assert change(model, folded.params, tokens()) < 1e-14
    assert folded.refused == ()
    for name in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        assert bool((folded.params[f"{name}.weight"] == 1).all())
        assert bool((folded.params[f"{name}.bias"] == 0).all())
    before = model.state_dict()
    expected = before["head.bias"] + before["head.weight"] @ before["norm.bias"]
    torch.testing.assert_close(folded.params["head.bias"], expected)


@pytest.mark.slow
def test_a_zero_gain_is_folded() -> None:
    model = disturbed(GPT())
    with torch.no_grad():
        model.get_parameter("norm.weight")[3] = 0.0
    folded = rewrite.fold(model, tokens())
    assert change(model, folded.params, tokens()) < 1e-14
    assert bool((folded.params["norm.weight"] == 1).all())


def test_through_a_relu_signs_stay() -> None:
    """A batch norm before a ReLU: only the size of its gain can be moved; its bias scales along."""
    model = disturbed(ConvNet())
    folded = rewrite.fold(model, images())
    assert change(model, folded.params, images()) < 1e-13
    gain = model.get_parameter("norm1.weight")
    assert torch.equal(folded.params["norm1.weight"], gain.sign())
    torch.testing.assert_close(folded.params["norm1.bias"], model.get_parameter("norm1.bias") / gain.abs())


@pytest.mark.slow
def test_where_a_bias_is_divided_a_zero_gain_stays() -> None:
    model = disturbed(ConvNet())
    with torch.no_grad():
        model.get_parameter("norm1.weight")[2] = 0.0
    folded = rewrite.fold(model, images())
    assert change(model, folded.params, images()) < 1e-13
    reasons = {r.place: r.reason for r in folded.refused}
    assert reasons["norm1.weight"] == "an entry is zero, and norm1.bias would be divided by it"


def test_a_tied_head_keeps_the_last_gain() -> None:
    model = disturbed(GPT(tied=True))
    folded = rewrite.fold(model, tokens())
    assert change(model, folded.params, tokens()) < 1e-14
    reasons = {r.place: r.reason for r in folded.refused}
    assert reasons["norm.weight"] == "embed.weight, which reads what it multiplies, is tied to head.weight: untie first"
    assert reasons["norm.bias"].startswith("not every reader can take up W·β")
    assert torch.equal(folded.params["norm.weight"], model.get_parameter("norm.weight"))


@pytest.mark.slow
def test_a_gain_that_writes_the_stream_stays_with_its_reason() -> None:
    model = disturbed(Llama(1.0, after=True))
    folded = rewrite.fold(model, tokens())
    assert change(model, folded.params, tokens()) < 1e-14
    reasons = {r.place: r.reason for r in folded.refused}
    assert set(reasons) == {f"blocks.0.after{j}.weight" for j in (1, 2)}
    assert "goes on to aten.square at blocks.0.norm2" in reasons["blocks.0.after1.weight"]


class LayerScale(nn.Module):
    """Gains behind the weights that write a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.inside = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 6)
        self.scale, self.last = nn.Parameter(torch.ones(6)), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        out: Tensor = self.last(torch.tanh(h + self.scale * self.inside(self.norm(h))))
        return out


@pytest.mark.slow
def test_a_gain_behind_its_weight_is_folded_backwards() -> None:
    model = disturbed(LayerScale())
    folded = rewrite.fold(model, vectors())
    assert change(model, folded.params, vectors()) < 1e-14
    assert bool((folded.params["scale"] == 1).all())
    before = model.state_dict()
    torch.testing.assert_close(
        folded.params["inside.bias"],
        before["scale"] * (before["inside.bias"] + before["inside.weight"] @ before["norm.bias"]),
    )


@pytest.mark.slow
def test_the_model_is_left_alone() -> None:
    model = disturbed(mlp())
    model.get_parameter("4.weight").requires_grad_(False)
    before = {name: (value, value.clone()) for name, value in model.state_dict(keep_vars=True).items()}
    rewrite.fold(model, vectors())
    for name, value in model.state_dict(keep_vars=True).items():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["4.weight"]


@pytest.mark.slow
def test_a_model_without_weights_has_a_plan() -> None:
    with torch.device("meta"):
        hollow = Llama()
    folded = rewrite.fold(hollow, torch.zeros(2, 5, dtype=torch.int64, device="meta"))
    model = disturbed(Llama())
    assert not folded.certificate.ok
    assert dict(folded.params) == {}
    assert str(folded.plan) == str(rewrite.fold(model, tokens()).plan)
    assert change(model, folded.plan.apply(model.state_dict()), tokens()) < 1e-14


class Gained(nn.Module):
    """x ↦ V relu((1 + w) ∘ n(Ux) + b): what is stored of the gain is w, and b is divided by the gain."""

    def __init__(self, w: list[float]) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, len(w)), nn.Linear(len(w), 2)
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.randn(len(w)))

    def forward(self, x: Tensor) -> Tensor:
        normal = nn.functional.layer_norm(self.first(x), self.w.shape)
        out: Tensor = self.last(torch.relu(normal * (1 + self.w) + self.b))
        return out


@pytest.mark.parametrize(("stored", "folded"), [(0.0, True), (-1.0, False)])
def test_a_gain_is_zero_where_what_is_stored_is_minus_one(stored: float, folded: bool) -> None:
    model, x = Gained([0.5, stored, -1.5, 2.0]).double(), torch.randn(5, 3, dtype=torch.float64)
    found = rewrite.fold(model, x)
    assert change(model, found.params, x) < 1e-13
    assert found.params["w"].tolist() == ([0.0, 0.0, -2.0, 0.0] if folded else model.w.tolist())
    reasons = {r.place: r.reason for r in found.refused}
    assert reasons.get("w", "") == ("" if folded else "an entry is zero, and b would be divided by it")


class Shared(nn.Module):
    """x ↦ V(n(Ux) ∘ w + share · b) + c: what V reads of b is so many times b."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.first, self.last, self.share = nn.Linear(3, 4), nn.Linear(4, 2), share
        self.w, self.b = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        normal = nn.functional.layer_norm(self.first(x), self.w.shape) * self.w
        out: Tensor = self.last(normal + self.share * self.b)
        return out


@pytest.mark.parametrize("share", [1.0, -2.0, 0.5])
def test_a_bias_is_taken_up_by_the_share_with_which_it_is_added(share: float) -> None:
    model, x = Shared(share).double(), torch.randn(5, 3, dtype=torch.float64)
    before, folded = model.state_dict(), rewrite.fold(model, x)
    assert change(model, folded.params, x) < 1e-13
    assert not folded.params["b"].any()
    torch.testing.assert_close(
        folded.params["last.bias"], before["last.bias"] + share * before["last.weight"] @ before["b"]
    )
