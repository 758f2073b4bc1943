"""The steps of Adam and its kin, told from their state, are the differences of the parameters; nothing is copied."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.optimizers import StepWatch, Update
from neuralmechanics.optimizers.hyperparameters.setting import Setting, read_setting
from neuralmechanics.optimizers.updates.adaptive import Quotient, adaptive_formula

Build = Callable[[Any], Optimizer]
optim = torch.optim
COUPLED: dict[str, Any] = {"lr": 1e-2, "weight_decay": 0.1}
# Read from the state.
TOLD: dict[str, Build] = {
    "Adam": partial(optim.Adam, **COUPLED),
    "Adam amsgrad": partial(optim.Adam, **COUPLED, amsgrad=True),
    "Adam maximize": partial(optim.Adam, lr=1e-2, maximize=True),
    "AdamW": partial(optim.AdamW, **COUPLED),
    "AdamW without decay": partial(optim.AdamW, lr=1e-2, weight_decay=0.0, eps=1e-2),
    "AdamW strong": partial(optim.AdamW, lr=0.1, weight_decay=4.0, betas=(0.0, 0.5)),
    "Adamax": partial(optim.Adamax, **COUPLED),
    "NAdam": partial(optim.NAdam, lr=1e-2, maximize=True),
    "NAdam decoupled": partial(optim.NAdam, **COUPLED, decoupled_weight_decay=True),
    "RAdam": partial(optim.RAdam, **COUPLED),
    "RAdam decoupled": partial(optim.RAdam, **COUPLED, decoupled_weight_decay=True),
    "RMSprop": partial(optim.RMSprop, lr=1e-2),
    "RMSprop maximize": partial(optim.RMSprop, lr=1e-2, maximize=True),
    "RMSprop momentum": partial(optim.RMSprop, **COUPLED, momentum=0.9, centered=True),
    "Adagrad": partial(optim.Adagrad, lr=1e-2, lr_decay=0.1, initial_accumulator_value=0.1),
}
# Read from copies: the state does not hold the step exactly.
COPIED: dict[str, Build] = {
    "NAdam coupled": partial(optim.NAdam, **COUPLED),
    "RMSprop coupled": partial(optim.RMSprop, **COUPLED),
    "RMSprop centered": partial(optim.RMSprop, lr=1e-2, centered=True),
    "Adagrad coupled": partial(optim.Adagrad, **COUPLED),
    "Adadelta": partial(optim.Adadelta, lr=0.5),
    "Adafactor": partial(optim.Adafactor, lr=1e-2),
    "Rprop": partial(optim.Rprop, lr=1e-3),
    "ASGD": partial(optim.ASGD, lr=1e-2),
    "AdamW beyond": partial(optim.AdamW, lr=0.1, weight_decay=12.0),
    "Adam with a tensor": lambda params: optim.Adam(params, lr=torch.tensor(1e-2), foreach=False),
    "Adam of one's own": lambda params: Own(params, lr=1e-2),
}


class Own(optim.Adam):
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        super().step(closure)
        with torch.no_grad():
            self.param_groups[0]["params"][0].mul_(0.99)


def steps(build: Build, dtype: torch.dtype, *, count: int = 12) -> tuple[float, StepWatch]:
    """The largest difference between d as it was told and as it happened, relative to the parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
    unused = nn.Parameter(torch.ones(3, dtype=dtype))  # gets no gradient
    params = dict(model.named_parameters()) | {"unused": unused}
    optimizer = build(list(params.values()))
    watch, worst = StepWatch(optimizer, params), 0.0
    for step in range(count):
        optimizer.zero_grad()
        model(torch.randn(8, 4, dtype=dtype)).square().mean().backward()
        if step == 5:
            optimizer.param_groups[0]["lr"] *= 0.5
        before = {name: p.detach().clone() for name, p in params.items()}
        watch.before_step()
        optimizer.step()
        for name, update in watch.updates():
            happened = params[name].detach().double() - before[name].double()
            if update is None or name == "unused":
                assert name == "unused"
                assert not happened.any()
                continue
            size = float(before[name].abs().max()) + 1e-3
            worst = max(worst, float((update.difference - happened).abs().max()) / size)
            parts = _combined(update.difference_parts(), update.tensor)
            assert (parts - update.difference).abs().max() <= torch.finfo(dtype).eps * size
        watch.finish()
    return worst, watch


def _combined(parts: Any, tensor: Callable[[Any], Any]) -> Tensor:
    total: Tensor = torch.zeros((), dtype=torch.float64)
    for part, coefficient in parts.items():
        found = tensor(part)
        if part == "moved":
            found = found[0].double() - found[1].double()
        total = total + coefficient * (found if isinstance(found, Tensor) else found.whole()).double()
    return total


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TOLD)
def test_the_state_tells_the_step(name: str, dtype: torch.dtype, foreach: bool) -> None:
    worst, watch = steps(partial(TOLD[name], foreach=foreach), dtype)
    assert not watch._copies
    assert not watch.copies
    assert worst <= 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", COPIED)
def test_what_the_state_does_not_tell_is_measured(name: str) -> None:
    worst, watch = steps(COPIED[name], torch.float64)
    assert set(watch._copies) >= {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert worst == 0.0


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adagrad"])
def test_fused_steps_are_told_as_well(name: str) -> None:
    worst, watch = steps(partial(TOLD[name], fused=True, foreach=None), torch.float64)
    assert not watch._copies
    assert worst <= 4 * torch.finfo(torch.float64).eps


@pytest.mark.parametrize(
    "options",
    [{"capturable": True}, {"differentiable": True}, {"lr": torch.tensor(0.1)}, {"betas": (0.9, torch.tensor(0.99))}],
    ids=["capturable", "differentiable", "a tensor as rate", "a tensor as beta"],
)
def test_torch_computes_otherwise_where_numbers_are_tensors(options: dict[str, Any]) -> None:
    parameter = nn.Parameter(torch.ones(3))
    optimizer = optim.AdamW([parameter], lr=0.1)
    formula, group = adaptive_formula(optimizer), optimizer.param_groups[0]
    assert formula is not None
    assert formula.applies(group, read_setting(optimizer, group), parameter)
    assert not formula.applies({**group, **options}, read_setting(optimizer, group), parameter)
    spinning = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    assert not formula.applies(group, read_setting(optimizer, group), spinning)


@pytest.mark.parametrize("decay", [0.0, 2.0])
def test_what_the_formula_claims_is_of_the_parameters_before_the_step(decay: float) -> None:
    """θ_{k+1} = (1 - ηλ) θ_k + s: measured as a difference, claimed as s - ηλ θ_k, told as s after the decay."""
    before, after = torch.tensor([2.0, -1.0]).double(), torch.tensor([1.5, 0.5]).double()
    term = Quotient(torch.tensor([0.3, -0.2]).double(), torch.tensor([4.0, 9.0]).double(), -0.1, 1.0, 0.0)
    setting = Setting(0.1, decay, decoupled=True)
    step = term.whole()
    claimed = Update(after, setting, copied=before, claims=True, terms=(term,))
    parts = claimed.claimed_parts()
    assert parts is not None
    assert torch.allclose(_combined(parts, claimed.tensor), step - 0.1 * decay * before, rtol=1e-14)
    told = Update((1 - 0.1 * decay) * before + step, setting, terms=(term,))
    for found in (_combined(told.difference_parts(), told.tensor), told.difference, told.after - told.before()):
        assert torch.allclose(found, step - 0.1 * decay * before, rtol=1e-13)


def test_a_setting_that_the_state_stops_telling_is_copied_from_then_on() -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = optim.RMSprop([parameter], lr=1e-2)
    watch = StepWatch(optimizer, {"p": parameter})
    for decay in (0.0, 0.1, 0.0):
        optimizer.param_groups[0]["weight_decay"] = decay
        parameter.grad = torch.full_like(parameter, 0.5)
        watch.before_step()
        before = parameter.detach().clone()
        optimizer.step()
        ((_, update),) = watch.updates()
        assert update is not None
        assert update.measured == (decay > 0)
        assert torch.allclose(update.difference, parameter.detach() - before, rtol=1e-14, atol=1e-16)
        watch.finish()
