"""Where nothing could have shown, nothing is said to be exact; where the loss is no number, nothing is said at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.checking.asserting import assert_symmetric
from neuralmechanics.diagnostics.checking.checking import check_symmetries
from neuralmechanics.symmetry import find_symmetries


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def batch(examples: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(examples, 3), torch.randint(2, (examples,))


def perceptron() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def zeros(model: nn.Sequential) -> None:
    for parameter in model.parameters():
        parameter.zero_()


def dead(model: nn.Sequential) -> None:
    model.get_parameter("0.bias").fill_(-100.0)


def closed(model: nn.Sequential) -> None:
    model.get_parameter("2.weight").zero_()


@pytest.mark.parametrize(
    ("kill", "untested"),
    [(zeros, {"rescale"}), (dead, {"rescale", "translation: 2.weight"}), (closed, set())],
)
def test_what_nothing_reaches_is_untested(kill: Callable[[nn.Sequential], None], untested: set[str]) -> None:
    """All zeros: the reader's shift still moves a gradient. Zero readers: second derivatives reach what they read."""
    model, one = perceptron(), batch()
    found = find_symmetries(model, one, cross_entropy)
    with torch.no_grad():
        kill(model)
    report = check_symmetries(found, model, cross_entropy, [one])
    told = {f.kind if f.kind == "rescale" else f.family for f in report.families if f.verdict == "untested"}
    assert told >= untested
    assert ("rescale" in told) == bool(untested)
    assert report.ok
    assert report.count().get("untested", 0) == len([f for f in report.families if f.verdict == "untested"])
    assert all("nothing reaches" in f.reason for f in report.families if f.verdict == "untested")
    # Without second derivatives the zero readers leave the layer before them untouched.
    assert "untested" in check_symmetries(found, model, cross_entropy, [one], hessian=False).count()
    # One batch that reaches it is enough to be tested.
    with torch.no_grad():
        live = perceptron()
    assert "untested" not in check_symmetries(found, live, cross_entropy, [one]).count()


def test_a_suite_is_told_that_nothing_was_tested() -> None:
    """Zero readers without second derivatives, which alone would reach what they read."""
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    with torch.no_grad():
        zeros(model)
    with pytest.raises(AssertionError, match="nothing was tested: nothing reaches"):
        assert_symmetric(model, cross_entropy, [batch()], hessian=False)
    assert assert_symmetric(model, cross_entropy, [batch()], expect={}, hessian=False).ok


@pytest.mark.parametrize("spoil", ["no examples", "nan", "infinite"])
def test_a_loss_that_is_no_number_is_refused(spoil: str) -> None:
    model = perceptron()
    found = find_symmetries(model, batch(), cross_entropy)
    with torch.no_grad():
        if spoil != "no examples":
            model.get_parameter("2.bias")[0] = float("nan" if spoil == "nan" else "inf")
    with pytest.raises(ValueError, match=r"the loss of batches\[0\] is (nan|inf), of which nothing can be told"):
        check_symmetries(found, model, cross_entropy, [batch(0 if spoil == "no examples" else 8)])
