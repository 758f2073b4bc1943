"""Smoothing, equalisation and centring: what they promise of sizes and means, with the function as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import rewrite
from neuralmechanics.rewrite.actions import equalising
from neuralmechanics.rewrite.actions.looking.centring_norms import centring_norms
from neuralmechanics.rewrite.actions.looking.subject import Subject

from .networks import GPT, WIDTH, ConvNet, Llama, change, disturbed, images, mlp, tokens, vectors


def _entering(model: nn.Module, params: Mapping[str, Tensor], batch: Tensor, name: str) -> Tensor:
    """max|x_j| of the inputs of one module."""
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        functional_call(model, dict(params), (batch,), tie_weights=False)
    handle.remove()
    return seen[0].abs().flatten(0, -2).amax(0)


@pytest.mark.parametrize("offset", [pytest.param(0.0, marks=pytest.mark.slow), 1.0], ids=["llama", "gemma"])
def test_smoothing_halves_the_range_on_the_logarithm(offset: float) -> None:
    """At α = ½ the greatest input and the greatest weight of each channel are equal."""
    model = disturbed(Llama(offset))
    smoothed = rewrite.smooth(model, tokens())
    assert change(model, smoothed.params, tokens()) < 1e-13
    for readers in (("q", "k", "v"), ("gate", "up"), ("down",), ("o",)):
        weights = torch.stack([smoothed.params[f"blocks.0.{r}.weight"].abs().amax(0) for r in readers]).amax(0)
        entering = _entering(model, smoothed.params, tokens(), f"blocks.0.{readers[0]}")
        if readers == ("o",):  # two heads of queries share the values of one group
            weights, entering = (t.view(2, 2, 4).amax(1).flatten() for t in (weights, entering))
        torch.testing.assert_close(entering, weights)


@pytest.mark.slow
def test_given_statistics_are_taken() -> None:
    model = disturbed(mlp())
    sizes = torch.tensor([2.0, 1.0, 0.0, 8.0, 1.0], dtype=torch.float64)
    smoothed = rewrite.smooth(model, vectors(), statistics={"4.weight": sizes}, alpha=1.0)
    factor = torch.where(sizes > 0, sizes, 1.0)
    torch.testing.assert_close(smoothed.params["4.weight"], model.get_parameter("4.weight") * factor)
    torch.testing.assert_close(smoothed.params["2.bias"], model.get_parameter("2.bias") / factor)
    assert "it is not known what enters it" in smoothed.refused[0].reason
    assert change(model, smoothed.params, vectors()) < 1e-13
    with pytest.raises(ValueError, match="alpha is the exponent of the activations, between 0 and 1; got 2"):
        rewrite.smooth(model, vectors(), alpha=2)


class Twice(nn.Module):
    """A layer that reads its input, and the same once more ten times as large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        out: Tensor = self.second(-10 * h) + self.second(h)
        return out


def test_sizes_are_the_greatest_over_all_calls() -> None:
    model, batch = disturbed(Twice()), torch.randn(5, 3, dtype=torch.float64)
    sizes = rewrite.input_sizes(model, batch)
    torch.testing.assert_close(sizes["first.weight"], batch.abs().amax(0))
    torch.testing.assert_close(sizes["second.weight"], 10 * model.first(batch).detach().abs().amax(0))


@pytest.mark.parametrize("shape", [(3, 3, 3), (2, 3, 3, 3)], ids=["one picture", "two pictures"])
def test_channels_of_pictures_are_not_their_columns(shape: tuple[int, ...]) -> None:
    """As many channels as rows and columns: of a single picture the channels stand first."""
    batch = torch.randn(shape, dtype=torch.float64)
    sizes = rewrite.input_sizes(nn.Conv2d(3, 2, 2).double(), batch)
    torch.testing.assert_close(sizes["weight"], batch.abs().amax((-1, -2)).reshape(-1, 3).amax(0))


def test_equalising_moves_no_channel_farther_than_it_may() -> None:
    """A row that is next to nothing is not blown up: factors stay between e^-10 and e^10."""
    model = disturbed(nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)))
    with torch.no_grad():
        model[0].weight[2] *= 1e-25
        model[2].weight[:, 4] *= 1e-25
    equalised = rewrite.equalise(model, vectors(), by="l2")
    factors = (equalised.params["0.weight"] / model[0].weight.detach())[:, 0].log()
    assert float(factors.abs().max()) <= 10 + 1e-9
    assert float(factors.max()) == pytest.approx(10)
    assert change(model, equalised.params, vectors()) < 1e-13


def test_sizes_that_end_less_alike_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    model = disturbed(nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)))
    solved = equalising._solved
    monkeypatch.setattr(equalising, "_solved", lambda *given: -solved(*given))
    assert equalising.equalise_pieces(Subject(model, vectors(), None, None)) == ([], [])


class Stream(nn.Module):
    """What writes a stream, a norm that reads it, and what else does."""

    def __init__(self, beside: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.enter, self.norm, self.head, self.beside = nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4), beside

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        out: Tensor = self.head(self.norm(h)) + self.beside(h)
        return out


@pytest.mark.parametrize(
    ("beside", "stops"),
    [
        (lambda h: 0 * h.shape[-1], ""),
        (lambda h: nn.functional.layer_norm(2 * h + 1, (4,)), ""),
        (lambda h: h, "add"),
        (lambda h: h * h, "mul"),
        (lambda h: h + h, "add"),
        (lambda h: nn.functional.rms_norm(h, (4,)), "rms_norm"),
        (lambda h: nn.functional.layer_norm(h[:, None], (1, 4))[:, 0], "layer_norm"),  # over a dimension more
    ],
    ids=["nothing", "another norm", "a sum", "a square", "twice", "a norm with a mean", "a norm over more"],
)
def test_a_stream_may_lose_its_mean_where_centring_norms_alone_read_it(
    beside: Callable[[Tensor], Tensor], stops: str
) -> None:
    subject = Subject(disturbed(Stream(beside)), vectors(), None, None)
    norm = centring_norms(subject.program)[0]
    assert set(norm.writers) == {("enter.weight", 0), ("enter.bias", 0)}
    assert stops in norm.reason
    assert bool(norm.reason) == bool(stops)
    assert "no norm that subtracts the mean, reads enter" in norm.reason or not stops


def test_two_layers_are_equalised_in_closed_form() -> None:
    """Nagel et al. 2019: s = √(r₁ r₂)/r₂; both ranges become √(r₁ r₂), up to one factor for all channels."""
    model = disturbed(nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 2)))
    equalised = rewrite.equalise(model, vectors(), by="range")
    assert change(model, equalised.params, vectors()) < 1e-13

    def ranges(params: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        first, second = params["0.weight"], params["2.weight"]
        return first.amax(1) - first.amin(1), second.amax(0) - second.amin(0)

    r1, r2 = ranges(model.state_dict())
    after1, after2 = ranges(equalised.params)
    ratio = after1 / (r1 * r2).sqrt()
    torch.testing.assert_close(ratio, ratio[0].expand(7), rtol=1e-6, atol=0)
    torch.testing.assert_close(after1 * after2, r1 * r2)


def _spread(params: Mapping[str, Tensor], axes: Mapping[str, int]) -> float:
    logs = (params[n].transpose(0, a).flatten(1).abs().amax(1).log() for n, a in axes.items())
    return float(sum(((x - x.mean()) ** 2).sum() for x in logs))


@pytest.mark.slow
def test_depthwise_kernels_are_solved_with_their_neighbours() -> None:
    """No small change of the factors of the chain wide → depthwise → narrow makes the sizes more alike."""
    model = disturbed(ConvNet())
    with torch.no_grad():
        for k in (1, 2, 3):
            model.get_parameter(f"norm{k}.weight").abs_()
        model.get_parameter("norm.weight").abs_()
    model.train()
    equalised = rewrite.equalise(model, images(), by="max")
    assert change(model, equalised.params, images()) < 1e-12
    axes = {"depthwise.weight": 0, "narrow.weight": 1}
    before, after = _spread(model.state_dict(), axes), _spread(equalised.params, axes)
    assert after < 0.6 * before


def test_planted_outliers_are_taken_back() -> None:
    """Channels of a ReLU layer scaled by up to 1000 and back: equalised, each weight is as even as it was."""
    model = disturbed(nn.Sequential(nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 2)))
    plain = rewrite.equalise(model, vectors(), by="l2").params
    factor = torch.logspace(0, 3, 7, dtype=torch.float64)
    planted = {name: value.clone() for name, value in model.state_dict().items()}
    planted["0.weight"] *= factor[:, None]
    planted["0.bias"] *= factor
    planted["2.weight"] /= factor
    found = rewrite.equalise(model, vectors(), by="l2", params=planted).params
    for name in ("0.weight", "2.weight", "4.weight"):
        ratio = found[name] / plain[name]
        torch.testing.assert_close(ratio, torch.full_like(ratio, ratio.flatten()[0]), rtol=1e-5, atol=0)


def test_centred_layer_norms_are_rms_norms() -> None:
    model = disturbed(GPT())
    centred = rewrite.centre(model, tokens())
    assert change(model, centred.params, tokens()) < 1e-13
    assert centred.refused == ()
    model.load_state_dict(dict(centred.params))
    with torch.no_grad():
        before = model(tokens())
        for place in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
            norm = model.get_submodule(place)
            parent, _, last = place.rpartition(".")
            setattr(model.get_submodule(parent), last, _RootMeanSquare(norm))  # type: ignore[arg-type]
        torch.testing.assert_close(model(tokens()), before)


class _RootMeanSquare(nn.Module):
    """The gain, the bias and the eps of a layer norm without its mean."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = nn.functional.rms_norm(x, (WIDTH,), self.norm.weight, self.norm.eps) + self.norm.bias
        return out


@pytest.mark.slow
def test_a_tied_embedding_is_centred_once_it_is_untied() -> None:
    model = disturbed(GPT(tied=True))
    stays = rewrite.centre(model, tokens())
    assert stays.plan.tensors == ()
    assert stays.refused[0].reason.endswith("reads embed.weight, which is also head.weight: untie first")
    centred = rewrite.centre(model, tokens(), prepare=True)
    assert change(model, centred.params, tokens()) < 1e-13
    assert float(centred.params["embed.weight"].mean(1).abs().max()) < 1e-15
    assert torch.equal(centred.params["head.weight"], model.get_parameter("embed.weight"))


@pytest.mark.slow
def test_an_rms_norm_has_no_mean_to_centre() -> None:
    refused = rewrite.centre(disturbed(Llama()), tokens()).refused
    assert [r.reason for r in refused] == ["no norm that subtracts a mean over channels was found"]


@pytest.mark.parametrize(
    ("action", "model", "batch", "place", "reason"),
    [
        ("rotate", mlp(), vectors(), "2.weight[0]", "aten.relu at 3 treats each of its channels alone"),
        (
            "rotate",
            Llama(1.0, tied=True),
            tokens(),
            "blocks.0.norm1.weight[0]",
            "aten.linear at head reads embed.weight, which is tied, through the gain norm.weight: untie and fold first "
            "(untie and fold opens it: prepare=True)",
        ),
        ("untie", mlp(), vectors(), "Sequential", "no parameter has a second name: there is nothing to untie"),
        (
            "fold",
            Llama(1.0, tied=True),
            tokens(),
            "norm.weight",
            "embed.weight, which reads what it multiplies, is tied to head.weight: untie first",
        ),
    ],
    ids=["relu", "tied", "untied", "tied fold"],
)
def test_why_not_says_what_stops_it(action: str, model: nn.Module, batch: Tensor, place: str, reason: str) -> None:
    assert {r.place: r.reason for r in rewrite.why_not(disturbed(model), batch, action)}[place] == reason


@pytest.mark.slow
def test_actions_in_turn_are_one_plan() -> None:
    model = disturbed(Llama(1.0, tied=True))
    steps = [("untie", {}), ("fold", {}), ("smooth", {}), ("rotate", {"matrix": "hadamard"}), ("permute", {"seed": 3})]
    whole = rewrite.in_turn(model, tokens(), steps)
    assert change(model, whole.params, tokens()) < 1e-13
    assert whole.certificate.ok
    moved = np.unique([c.kind for c in whole.plan]).tolist()
    assert moved == ["copy", "fill", "mix", "multiply", "permute"]
    with pytest.raises(ValueError, match="action must be one of untie, fold"):
        rewrite.in_turn(model, tokens(), [("fuse", {})])
