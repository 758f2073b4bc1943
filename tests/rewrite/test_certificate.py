"""The certificate measures what it says, and stops what is no symmetry."""

from __future__ import annotations

import pytest
import torch

from neuralmechanics import rewrite
from neuralmechanics.rewrite.actions.certificate import (
    Certificate,
    Comparison,
    Evaluation,
    Piece,
    RewriteError,
    certified,
)
from neuralmechanics.rewrite.plan import Change, Factor, Fill, Multiply, Place, Plan

from .networks import WIDTH, Llama, change, disturbed, tokens


@pytest.mark.slow
def test_casts_inside_the_model_are_widened() -> None:
    """The model rounds to float32 inside, and the rewrite is still shown to 1e-10."""
    model = disturbed(Llama(precision=torch.float32))
    certificate = rewrite.rotate(model, tokens()).certificate
    assert {c.because for c in certificate.comparisons} == {"no narrower type inside"}
    assert [c.point for c in certificate.comparisons] == ["given", "random"]
    assert 1e-9 < change(model, rewrite.rotate(model, tokens()).params, tokens()) < 1e-6
    evaluation = Evaluation(model, tokens(), None)
    assert evaluation.coarsest(model.state_dict()) == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_the_own_precision_is_held_to_its_rounding(dtype: torch.dtype) -> None:
    model = disturbed(Llama(precision=torch.float32)).to(dtype)
    rewritten = rewrite.rotate(model, tokens(), matrix="hadamard", prepare=True)
    own = rewritten.certificate.comparisons[-1]
    assert own.precision == str(dtype).removeprefix("torch.")
    assert own.change > torch.finfo(dtype).eps / 64
    assert own.bound < 400 * torch.finfo(dtype).eps
    assert own.ok
    assert all(value.dtype == dtype for value in rewritten.params.values())


def test_what_changes_the_function_is_named() -> None:
    """A gain folded without its offset into one of its three readers."""
    model = disturbed(Llama(1.0))
    state = model.state_dict()

    def piece(name: str, offset: float) -> Piece:
        by = Factor.of("norm.weight", WIDTH, offset=offset)
        changes: tuple[Change, ...] = (Multiply(name, Place.whole(1, WIDTH), by), Fill("norm.weight", 1.0, 1.0))
        return Piece("fold", changes)

    right, wrong = piece("head.weight", 1.0), piece("head.weight", 0.0)
    evaluation = Evaluation(model, tokens(), None)
    assert certified([right], Plan(right.changes), state, evaluation).ok
    with pytest.raises(
        RewriteError, match=r"head.weight, norm.weight \(fold\): given parameters in float64: .* > 1.0e-10"
    ):
        certified([wrong], Plan(wrong.changes), state, evaluation)


def test_a_change_that_only_shows_elsewhere_is_found() -> None:
    """At the given parameters the gain is 1, and what forgets it changes nothing."""
    model = Llama().double().eval()
    forgets = Piece("forget", (Fill("norm.weight", 1.0),))
    with pytest.raises(RewriteError, match="random parameters"):
        certified([forgets], Plan(forgets.changes), model.state_dict(), Evaluation(model, tokens(), None))


@pytest.mark.slow
def test_an_output_that_is_no_number_certifies_nothing() -> None:
    model = disturbed(Llama(blocks=1))
    with torch.no_grad():
        model.get_parameter("head.weight")[0] = torch.nan
    with pytest.raises(RewriteError, match="not a number before any change"):
        rewrite.fold(model, tokens())


@pytest.mark.parametrize(
    ("change", "holds"), [(0.0, True), (1e-10, True), (1.1e-10, False), (float("inf"), False), (float("nan"), False)]
)
def test_what_is_not_seen_to_be_small_is_not_certified(change: float, holds: bool) -> None:
    right, other = (Comparison("given", "float64", c, 1e-10, "no narrower type inside") for c in (0.0, change))
    assert other.ok is holds
    assert Certificate(("fold",), (right, other)).ok is holds
    assert not Certificate(("fold",)).ok  # nothing was compared
