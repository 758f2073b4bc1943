"""Rotations, permutations and copies leave the function as it was; where there is none the reason is said."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import rewrite
from neuralmechanics.rewrite.actions.moving.matrices import hadamard

from .networks import GPT, WIDTH, ConvNet, Llama, change, disturbed, images, mlp, outputs, tokens, vectors


def _orthogonal(width: int, determinant: float) -> Tensor:
    noise = torch.randn(width, width, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    q: Tensor = torch.linalg.qr(noise)[0]
    if float(torch.linalg.det(q)) * determinant < 0:
        q[0] *= -1
    return q


@pytest.mark.slow
@pytest.mark.parametrize("determinant", [pytest.param(1.0, marks=pytest.mark.slow), -1.0])
@pytest.mark.parametrize("offset", [pytest.param(0.0, marks=pytest.mark.slow), 1.0], ids=["llama", "gemma"])
def test_a_given_matrix_turns_the_stream(offset: float, determinant: float) -> None:
    model, q = disturbed(Llama(offset)), _orthogonal(WIDTH, determinant)
    turned = rewrite.rotate(model, tokens(), matrix=q, space="stream")
    assert change(model, turned.params, tokens()) < 1e-13
    before = model.state_dict()
    torch.testing.assert_close(turned.params["embed.weight"], before["embed.weight"] @ q.T)
    torch.testing.assert_close(turned.params["blocks.0.down.weight"], q @ before["blocks.0.down.weight"])
    gain = before["norm.weight"] + offset
    expected = before["head.weight"] @ torch.diag(gain) @ q.T @ torch.diag(1 / gain)
    torch.testing.assert_close(turned.params["head.weight"], expected)


@pytest.mark.slow
def test_hadamard_turns_streams_and_heads() -> None:
    model = disturbed(Llama())
    turned = rewrite.rotate(model, tokens(), matrix="hadamard")
    assert change(model, turned.params, tokens()) < 1e-13
    before, h = model.state_dict()["blocks.0.v.weight"], hadamard(4)
    mixed = torch.block_diag(h, h) @ before @ torch.diag(model.state_dict()["blocks.0.norm1.weight"])
    gain = model.state_dict()["blocks.0.norm1.weight"]
    torch.testing.assert_close(turned.params["blocks.0.v.weight"], mixed @ hadamard(WIDTH).T @ torch.diag(1 / gain))


def test_prepared_a_tied_model_turns() -> None:
    model = disturbed(Llama(1.0, tied=True))
    plain = rewrite.rotate(model, tokens(), space="stream")
    assert plain.plan.tensors == ()
    reasons = {r.place: r.reason for r in plain.refused}
    reason = "aten.linear at head reads embed.weight, which is tied, through the gain norm.weight: untie and fold first"
    assert reasons["blocks.0.norm1.weight[0]"] == reason
    turned = rewrite.rotate(model, tokens(), space="stream", matrix="hadamard", prepare=True)
    assert change(model, turned.params, tokens()) < 1e-13
    assert turned.plan.untied == ("head.weight",)
    assert "head.weight is no longer tied to embed.weight" in turned.certificate.requires
    torch.testing.assert_close(turned.params["embed.weight"], model.state_dict()["embed.weight"] @ hadamard(WIDTH).T)
    assert bool((turned.params["norm.weight"] == 0).all())


@pytest.mark.slow
def test_between_layer_norms_the_ones_stay() -> None:
    model = disturbed(GPT())
    turned = rewrite.rotate(model, tokens(), space="stream")
    assert change(model, turned.params, tokens()) < 1e-13
    assert not torch.allclose(turned.params["embed.weight"], model.state_dict()["embed.weight"])
    torch.testing.assert_close(turned.params["embed.weight"].sum(1), model.state_dict()["embed.weight"].sum(1))
    refused = rewrite.rotate(model, tokens(), space="stream", matrix="hadamard").refused
    assert "only matrices with Q·1 = 1" in refused[0].reason


def test_rotary_pairs_turn() -> None:
    model = disturbed(Llama())
    turned = rewrite.rotate(model, tokens(), space="pair")
    assert change(model, turned.params, tokens()) < 1e-13
    assert set(turned.plan.tensors) == {f"blocks.{k}.{n}.weight" for k in (0,) for n in "qk"}
    quarter = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    turned = rewrite.rotate(model, tokens(), space="pair", matrix=quarter)
    key, before = turned.params["blocks.0.k.weight"][:4], model.state_dict()["blocks.0.k.weight"][:4]
    torch.testing.assert_close(key, torch.cat([-before[2:], before[:2]]))
    assert change(model, turned.params, tokens()) < 1e-13


@pytest.mark.slow
def test_a_zero_gain_lets_nothing_through() -> None:
    model = disturbed(Llama())
    with torch.no_grad():
        model.get_parameter("norm.weight")[1] = 0.0
    turned = rewrite.rotate(model, tokens(), space="stream")
    assert turned.plan.tensors == ()
    assert "the gain norm.weight has a zero entry" in turned.refused[0].reason
    assert change(model, rewrite.rotate(model, tokens(), prepare=True).params, tokens()) < 1e-13


@pytest.mark.slow
def test_a_gain_on_what_is_written_stops_the_stream() -> None:
    model = disturbed(Llama(1.0, after=True))
    turned = rewrite.rotate(model, tokens(), space="stream", prepare=True)
    reasons = {r.place: r.reason for r in turned.refused}
    assert "at aten.add at blocks.0 what the gain blocks.0.after1.weight multiplies" in reasons["embed.weight[1]"]


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (mlp(), vectors()),
        (ConvNet(), images()),
        pytest.param(GPT(), tokens(), marks=pytest.mark.slow),
        pytest.param(GPT(tied=True), tokens(), marks=pytest.mark.slow),
        pytest.param(Llama(1.0), tokens(), marks=pytest.mark.slow),
    ],
    ids=["mlp", "convolutions", "gpt", "tied", "gemma"],
)
def test_all_spaces_are_permuted(model: nn.Module, batch: Tensor) -> None:
    model = disturbed(model)
    permuted = rewrite.permute(model, batch)
    assert change(model, permuted.params, batch) < 1e-13
    assert permuted.certificate.ok
    moved = [n for n, v in permuted.params.items() if not torch.equal(v, model.state_dict()[n])]
    assert set(permuted.plan.tensors) <= {permuted.plan.aliases.get(n, n) for n in moved}


@pytest.mark.slow
def test_untied_tensors_are_equal_and_apart() -> None:
    model = disturbed(GPT(tied=True))
    untied = rewrite.untie(model, tokens())
    assert untied.params["head.weight"] is not untied.params["embed.weight"]
    assert torch.equal(untied.params["head.weight"], untied.params["embed.weight"])
    assert rewrite.untie(disturbed(GPT()), tokens()).refused[0].reason.startswith("no parameter has a second name")


@pytest.mark.slow
def test_a_state_dict_is_rewritten_in_place_of_the_models() -> None:
    model, other = disturbed(Llama()), disturbed(Llama())
    params = {n: 2 * v if v.ndim > 1 else v for n, v in other.state_dict().items()}
    turned = rewrite.rotate(model, tokens(), params=params)
    before, after = (outputs(model, p, tokens()) for p in (params, turned.params))
    torch.testing.assert_close(before, after)
    with pytest.raises(KeyError, match=r"params has no 'norm\.weight'"):
        rewrite.rotate(model, tokens(), params={n: v for n, v in params.items() if n != "norm.weight"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"matrix": "haddamard"}, 'matrix must be "random", "hadamard" or an orthogonal matrix'),
        ({"matrix": torch.ones(8, 8, dtype=torch.float64)}, "matrix is off by 8.0e\\+00 from QᵀQ = 1"),
        ({"matrix": torch.eye(3, dtype=torch.float64)}, "a matrix of width 3 fits no space"),
        ({"space": "streams"}, "no space 'streams' with this action"),
        ({"matrix": -torch.eye(3, dtype=torch.float64), "space": "pair"}, "of shape \\(2, 2\\) with determinant 1"),
    ],
)
def test_what_is_no_rotation_is_an_error(given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rewrite.rotate(disturbed(Llama(blocks=1)), tokens(), **given)  # type: ignore[arg-type]


def test_a_bias_that_writes_the_stream_turns_with_it() -> None:
    """(QU, Qu, VQᵀ, v): the bias before the norm is written into the stream, that behind it is not."""
    model, q = nn.Sequential(nn.Linear(3, WIDTH), nn.RMSNorm(WIDTH), nn.Linear(WIDTH, 2)).double(), hadamard(WIDTH)
    x = torch.randn(5, 3, dtype=torch.float64)
    before, turned = model.state_dict(), rewrite.rotate(model, x, matrix=q)
    assert turned.plan.tensors == ("0.weight", "0.bias", "2.weight")
    expected = {
        "0.weight": q @ before["0.weight"],
        "0.bias": q @ before["0.bias"],
        "2.weight": before["2.weight"] @ q.T,
    }
    for name, value in (before | expected).items():
        torch.testing.assert_close(turned.params[name], value)
    assert change(model, turned.params, x) < 1e-13
