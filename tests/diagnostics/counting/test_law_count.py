"""Certificates with the symmetries that the engine finds, what the result says, and bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.counting.counting import count_laws
from neuralmechanics.diagnostics.counting.rank import Gap, Span, matrix_rank
from neuralmechanics.diagnostics.counting.report import LawCount

from .networks import Attention, SwiGLU, cross_entropy, feed_forward, linear_network, one, relu_network
from .stand_ins import LinearPair


@pytest.mark.parametrize(
    ("model", "batch", "loss_fn", "laws"),
    [
        (relu_network([3, 4, 3, 2], True), one(3), None, 7),
        (SwiGLU(3, 4), one(3), None, 4),
        (feed_forward(3, 4, nn.GELU()), one(3), None, 0),
        (linear_network(3, 2, 2), one(3), None, 3),
        (linear_network(3, 4, 2, 4), one(3), None, 13),
        (Attention(4, 2, 2), torch.zeros(1, 3, 4), None, 12),
        (Attention(4, 1, 2, rotary=True), torch.zeros(1, 3, 4), None, 4),
        (nn.Linear(4, 3), (torch.zeros(3, 4), torch.tensor([0, 1, 2])), cross_entropy, 5),
    ],
    ids=["relu", "swiglu", "gelu", "linear", "deep linear", "attention", "rotary", "softmax"],
)
def test_found_symmetries_certify_the_count(model: nn.Module, batch: Any, loss_fn: Any, laws: int) -> None:
    count = count_laws(model, batch, loss_fn)
    assert (count.lower, count.upper) == (laws, laws)
    assert count.certified
    assert count.unexplained == ()
    assert count.verdict == f"exactly {laws}"


def test_a_false_symmetry_gives_no_law() -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.GELU(), nn.Linear(2, 2, bias=False))
    count = count_laws(model, one(3), symmetries=[LinearPair("0.weight", "2.weight", 2)])
    assert (count.lower, count.generators, count.upper) == (0, 0, 0)


def test_frozen_parameters_do_not_move() -> None:
    model = linear_network(2, 2, 2)
    model[1].weight.requires_grad_(False)
    count = count_laws(model, one(2), symmetries=[LinearPair("0.weight", "1.weight", 2)])
    # W₂ is a constant invertible matrix: every entry of W₁ is seen
    assert (count.parameters, count.lower, count.upper) == (4, 0, 0)


def test_tied_parameters_count_once() -> None:
    model = linear_network(2, 2, 2)
    model[1].weight = model[0].weight
    count = count_laws(model, one(2), symmetries=())
    assert count.parameters == 4
    assert count.upper == 0


def test_random_layers_are_frozen_in_one_draw() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2))
    state = torch.get_rng_state()
    assert count_laws(model, torch.zeros(16, 3), symmetries=()).upper == 4
    assert torch.equal(state, torch.get_rng_state())


def test_same_seed_same_count_and_model_untouched() -> None:
    model = feed_forward(3, 4, nn.ReLU())
    before = [p.clone() for p in model.parameters()]
    assert repr(count_laws(model, one(3), symmetries=(), seed=3)) == repr(
        count_laws(model, one(3), symmetries=(), seed=3)
    )
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert next(model.parameters()).dtype == torch.float32


def test_a_dead_unit_keeps_its_parameters() -> None:
    model = feed_forward(2, 2, nn.ReLU())
    with torch.no_grad():
        model[0].weight[0] = 0.0
        model[0].bias[0] = -1.0
    dead = count_laws(model, one(2), symmetries=(), point="model")
    assert dead.upper == 1 + 5
    assert count_laws(model, one(2), symmetries=()).upper == 2


def _count(**changes: Any) -> LawCount:
    values: dict[str, Any] = {
        "lower": 2, "upper": 2, "fibre": 2, "generators": 2, "gaps": (Gap(1e-3, 1e-16, "gradients"),),
        "parameters": 9, "phase_dimension": 9, "levels": 1, "optimizer": "GradientFlow()",
    }  # fmt: skip
    return LawCount(**(values | changes))


def test_verdicts() -> None:
    assert _count().verdict == "exactly 2"
    assert _count(upper=3).verdict == "between 2 and 3"
    assert _count(upper=1).verdict.startswith("contradiction")
    close = _count(gaps=(Gap(1e-3, 1e-16, "a"), Gap(1e-8, 1e-9, "b")))
    assert not close.certified
    assert close.worst_gap.where == "b"
    assert close.verdict == "2, but one rank is not clear of rounding"


def test_table_and_plain_data() -> None:
    text = repr(_count())
    assert "conservation laws" in text
    assert "exactly 2" in text
    assert "gradients: kept 1.0e-03, dropped 1.0e-16" in text
    data = json.loads(json.dumps(_count().to_dict()))
    assert (data["lower"], data["certified"], data["gaps"][0]["kept"]) == (2, True, 1e-3)


def test_progress_is_told() -> None:
    said: list[str] = []
    count_laws(linear_network(2, 2, 2), one(2), symmetries=(), progress=said.append)
    assert any("point 2" in text for text in said)
    assert any("level 1" in text for text in said)


class _Integers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.scale).argmax(-1)


@pytest.mark.parametrize(
    ("model", "settings", "error", "message"),
    [
        (linear_network(2, 2), {"point": "here"}, ValueError, "point='here'; use 'generic' or 'model'"),
        (linear_network(2, 2), {"max_parameters": 3}, ValueError, "4 trainable parameters, more than max_parameters=3"),
        (linear_network(2, 2), {"data": []}, ValueError, "data is empty"),
        (nn.Identity(), {}, ValueError, "no trainable parameter"),
        (_Integers(), {}, TypeError, "without a floating tensor; pass loss_fn"),
    ],
)
def test_bad_input(model: nn.Module, settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        count_laws(model, one(2), symmetries=(), **settings)


def test_infinite_output_is_refused() -> None:
    class Infinite(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) / 0.0

    with pytest.raises(ValueError, match="the output is not finite"):
        count_laws(Infinite(2, 2), one(2), symmetries=())


def test_absorbing_equals_extending() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 4, generator=generator, dtype=torch.float64) @ torch.randn(
        4, 9, generator=generator, dtype=torch.float64
    )
    start = matrix_rank(rows[:2], 1e-9)[1]
    absorbing, extending = Span(start, 1e-9), Span(start, 1e-9)
    assert absorbing.absorb(rows)[0] == 2
    assert extending.extend(rows)[0] == 2
    assert torch.linalg.matrix_norm(absorbing.residual(extending.basis.mT)) < 1e-13
    assert absorbing.absorb(rows)[0] == 0


def test_rank_of_nothing() -> None:
    assert matrix_rank(torch.zeros(0, 3, dtype=torch.float64), 1e-9)[0] == 0
    assert matrix_rank(torch.zeros(2, 3, dtype=torch.float64), 1e-9)[0] == 0


@pytest.mark.parametrize("optimizer", ["gradient_flow", "heavy_ball"])
def test_a_batch_without_examples_is_refused(optimizer: str) -> None:
    """An empty output has no entries to count with, and the mean loss over no examples is no number."""
    model, labels = nn.Linear(3, 2), torch.zeros(0, dtype=torch.long)
    with pytest.raises(ValueError, match="the output on the batch has no entries; give a batch with at least one"):
        count_laws(model, torch.zeros(0, 3), optimizer=optimizer)
    with pytest.raises(ValueError, match="the output is not finite at a random input"):
        count_laws(model, (torch.zeros(0, 3), labels), cross_entropy, optimizer=optimizer)
    with pytest.raises(ValueError, match="no entries"):
        count_laws(model, torch.zeros(2, 3), optimizer=optimizer, data=[torch.zeros(0, 3)])
