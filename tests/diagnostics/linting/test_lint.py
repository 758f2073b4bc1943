"""Every code of the lint on the smallest model that has it, and none of them on one that has not."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.linting.linting import CODES, Finding, LintReport, lint
from neuralmechanics.diagnostics.linting.rates import Rates
from neuralmechanics.experiments import build_model
from neuralmechanics.experiments.config import OptimizerConfig
from neuralmechanics.functional.derivatives.gradients import gradients_once
from neuralmechanics.symmetry import Symmetries

Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    logits = model(batch[0])
    return nn.functional.cross_entropy(logits.flatten(0, -2), batch[1].flatten())


@cache
def normed() -> tuple[nn.Module, Batch, Symmetries]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    batch = torch.randn(16, 5), torch.randint(3, (16,))
    return model, batch, find_symmetries(model, batch, loss_fn)


@cache
def gpt() -> tuple[nn.Module, Batch, Symmetries]:
    model = build_model("gpt", input_shape=(6,), classes=7).double()
    batch = torch.randint(7, (3, 6)), torch.randint(7, (3, 6))
    return model, batch, find_symmetries(model, batch, loss_fn)


def linted(example: tuple[nn.Module, Batch, Symmetries], optimizer: object = None, **options: float) -> LintReport:
    model, batch, symmetries = example
    return lint(model, batch, loss_fn, optimizer, symmetries=symmetries, **options)


def test_dead_elements_are_exactly_those_without_gradient() -> None:
    """On a GPT: the key biases, element for element the ones whose measured gradient is rounding."""
    report = linted(gpt())
    found = {f.parameters[0]: f.elements for f in report.of_code("zero-gradient")}
    model, batch, _ = gpt()
    _, gradients = gradients_once(model, loss_fn, batch)
    largest = max(float(g.abs().max()) for g in gradients.values())
    dead = {name: int((g.abs() < 1e-14 * largest).sum()) for name, g in gradients.items() if name.endswith("bias")}
    assert found == {name: count for name, count in dead.items() if count}
    assert set(found) == {f"blocks.{k}.attention.key.bias" for k in range(2)}
    assert "keys" in report.of_code("zero-gradient")[0].why


def test_a_bias_before_a_norm_is_dead_and_the_norm_is_named() -> None:
    (finding,) = linted(normed()).of_code("zero-gradient")
    assert (finding.parameters, finding.elements, finding.severity) == (("0.bias",), 4, "warning")
    assert "all 4 elements" in finding.why
    assert "norm that follows (1)" in finding.why


@pytest.mark.parametrize("decay", [0.0, 1e-2])
def test_scale_free_weights_with_and_without_decay(decay: float) -> None:
    model = normed()[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=decay)
    report = linted(normed(), optimizer)
    (finding,) = report.of_code("scale-free-with-decay" if decay else "scale-free-without-decay")
    assert finding.parameters == ("0.weight", "0.bias")
    assert finding.elements == 24
    assert not report.of_code("uneven-decay")
    if decay:
        assert f"{math.sqrt(2 * 0.1 * 1e-2 / 1.9):.3g} a step" in finding.why


def test_decay_on_weights_alone_is_uneven_inside_families() -> None:
    model = normed()[0]
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0, "lr": 0.2}]
    report = linted(normed(), torch.optim.SGD(groups, lr=0.1))
    (decay,), (rate,) = report.of_code("uneven-decay"), report.of_code("uneven-learning-rate")
    assert {"0.weight", "0.bias", "1.weight", "1.bias", "3.weight"} == set(decay.parameters)
    assert "0, 0.1 inside 2 families" in decay.why
    assert "0.1, 0.2" in rate.why


def test_mappings_patterns_and_configurations_say_the_same_as_the_optimizer() -> None:
    model = normed()[0]
    real = linted(normed(), torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1))
    mapping = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.1, "betas": (0.9, 0.999)}
    assert linted(normed(), mapping) == real
    assert linted(normed(), OptimizerConfig(name="adamw", learning_rate=1e-3, weight_decay=0.1)) == real
    grouped = {
        "lr": 0.1,
        "param_groups": [{"params": "*.bias", "weight_decay": 0.0}, {"params": ["*"], "weight_decay": 1.0}],
    }
    assert linted(normed(), grouped).of_code("uneven-decay")


def test_rotation_in_equilibrium() -> None:
    assert Rates(0.1, 1e-2, 0.9).rotation == pytest.approx(math.sqrt(2 * 0.1 * 1e-2 / 1.9))
    assert Rates(0.1, 1e-2, 0.9, 0.5).rotation == pytest.approx(math.sqrt(2 * 0.05 * 1e-2 / 1.9))
    assert Rates(1e-3, 0.1, 0.9, decoupled=True, adaptive=True).rotation == pytest.approx(math.sqrt(2e-4 * 0.1 / 1.9))
    assert Rates(0.1, 0.0).rotation is None
    assert Rates(0.1, 0.1, 0.9, adaptive=True).rotation is None


def test_a_constant_is_reported_where_it_matters() -> None:
    assert not linted(normed()).of_code("broken-symmetry")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4, eps=0.5), nn.Tanh(), nn.Linear(4, 3))
    batch = normed()[1]
    report = lint(model, batch, loss_fn)
    (finding,) = report.of_code("broken-symmetry")
    assert finding.parameters == ("0.weight", "0.bias")
    assert finding.why.startswith("eps=0.5 of 1, up to ")
    assert not lint(model, batch, loss_fn, noticeable=1.0).of_code("broken-symmetry")


class Odd(nn.Module):
    """An operation without a rule, a parameter that nothing reads, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)
        self.spare = nn.Parameter(torch.ones(2))
        self.last.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.special.i0e(self.first(x)))


def test_unknown_unused_frozen_and_left_out() -> None:
    model = Odd()
    optimizer = torch.optim.SGD(model.first.parameters(), lr=0.1)
    report = lint(model, normed()[1], loss_fn, optimizer)
    (unknown,), (frozen,) = (report.of_code(c) for c in ("unknown-operation", "frozen"))
    assert "i0e" in unknown.why
    assert "first.weight" in unknown.parameters
    about_spare = {f.code: f.elements for f in report if f.parameters == ("spare",)}
    assert about_spare in ({"unused": 2}, {"zero-gradient": 2})
    assert (frozen.parameters, frozen.severity) == (("last.bias",), "note")
    (left,) = report.of_code("not-optimised")
    assert set(left.parameters) == {"last.weight", "spare"}
    assert not report.ok


def test_a_model_without_weights_is_linted_but_not_measured() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
        batch = torch.zeros(16, 5), torch.zeros(16, dtype=torch.long)
    report = lint(model, batch, loss_fn)
    assert [f.code for f in report] == ["zero-gradient"]
    assert "meta device" in report.remarks[0]


def test_nothing_to_say() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    report = lint(model, normed()[1], loss_fn, {"lr": 0.1, "weight_decay": 1e-4})
    assert report.ok
    assert len(report) == 0
    assert repr(report) == "no findings"


def test_the_report_is_a_table_a_frame_and_plain_data() -> None:
    report = linted(normed(), {"name": "sgd", "lr": 0.1})
    frame = report.to_frame()
    assert list(frame.columns) == ["code", "severity", "parameters", "elements", "why", "remedy"]
    assert len(frame) == len(report) == 2
    data = json.loads(json.dumps(report.to_dict()))
    assert [f["code"] for f in data["findings"]] == list(frame.code) == ["zero-gradient", "scale-free-without-decay"]
    assert "1 warning, 1 note" in repr(report)
    assert all(f.why in repr(report) and f.remedy in repr(report) for f in report)


def test_wrong_settings_are_refused() -> None:
    model, batch, symmetries = normed()
    with pytest.raises(ValueError, match="no entry 'weight_decy'"):
        lint(model, batch, loss_fn, {"weight_decy": 1.0}, symmetries=symmetries)
    with pytest.raises(TypeError, match="optimizer is a float"):
        lint(model, batch, loss_fn, 0.1, symmetries=symmetries)
    with pytest.raises(ValueError, match="none of the model's parameters"):
        lint(model, batch, loss_fn, torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1), symmetries=symmetries)
    with pytest.raises(ValueError, match="noticeable is 0"):
        lint(model, batch, loss_fn, symmetries=symmetries, noticeable=0)
    with pytest.raises(ValueError, match="no lint code"):
        Finding("no-such", "note", (), 0, "", "")
    with pytest.raises(ValueError, match="no lint code"):
        LintReport(()).of_code("no-such")
    assert len(CODES) == 11


def test_a_parameter_with_a_gradient_is_never_called_unused() -> None:
    """Whatever the graph shows: before ``lint`` says that the output does not depend on it, the gradient is asked."""

    class Spare(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 3)
            self.spare = nn.Linear(2, 2)

    model, x = Spare(), torch.randn(5, 4)
    found = find_symmetries(model, x)
    blind = replace(found, coverage=tuple(replace(c, status="unused") for c in found.coverage))
    report = lint(model, x, symmetries=blind)
    (outside,), (unused,) = report.of_code("outside-graph"), report.of_code("unused")
    assert outside.parameters == ("weight", "bias")
    assert unused.parameters == ("spare.weight", "spare.bias")


class AboutOne(nn.Module):
    """The gain 1 + w stands before a norm: 1 + w is scale-free, and w, which decay pulls to zero, is not."""

    def __init__(self, offset: float) -> None:
        super().__init__()
        self.w, self.last, self.offset = nn.Parameter(torch.randn(4)), nn.Linear(4, 3), offset

    def forward(self, x: Tensor) -> Tensor:
        size = x * (self.offset + self.w) if self.offset else x * self.w
        out: Tensor = self.last(size / size.norm(dim=-1, keepdim=True))
        return out


@pytest.mark.parametrize(("offset", "said"), [(0.0, [("w",)]), (1.0, [])])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_gain_about_one_is_not_called_scale_free(offset: float, said: list[tuple[str, ...]], decay: float) -> None:
    model, batch = AboutOne(offset).double(), (torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3)
    symmetries = find_symmetries(model, batch, loss_fn)
    assert symmetries.count()["scale"] == 1
    report = linted((model, batch, symmetries), torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay))
    assert [f.parameters for f in report if f.code.startswith("scale-free")] == said
