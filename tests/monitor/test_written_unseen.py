"""What loops do beside a step that no counter of torch tells of: the records are right, or what is unknown is said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

STEPS = 18
SLOW = pytest.mark.slow
Make = Callable[[Any], Optimizer]


def backward(training: Any, step: int, *, broken: bool = False) -> None:
    x, y = training.batch(step)
    loss = functional.cross_entropy(training.model(x), y)
    (loss + 0.1 * training.model[0].weight.sum() if broken else loss).backward()


def charges(training: Any) -> np.ndarray[Any, Any]:
    params = {name: p.detach().double() for name, p in training.model.named_parameters()}
    found: np.ndarray[Any, Any] = training.symmetries.charge(params).numpy()
    return found


def follow(
    training: Any, optimizers: Any, loop: Callable[[int], None], steps: int = STEPS, **options: Any
) -> tuple[nm.Monitor, list[str]]:
    """Each step of the loop under a monitor whose records are the true charges, and what was said."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        given = {"every": 4, "residuals": True} | options
        with nm.Monitor(training.model, optimizers, training.symmetries, **given) as monitor:
            truth = [charges(training)]
            for step in range(steps):
                loop(step)
                truth.append(charges(training))
    data = monitor.run.data
    assert np.allclose(data["charge"].values, np.array(truth)[data["step"].values], rtol=0, atol=1e-13)
    return monitor, [str(w.message) for w in said if issubclass(w.category, MonitorWarning)]


def error(monitor: nm.Monitor, law: str) -> float:
    data = monitor.run.data
    off = np.abs(data["predicted"].sel(law=law) - data["charge"]) / data["scale"]
    assert np.isfinite(off).any()
    return float(np.nanmax(off))


def sgd(params: Any) -> Optimizer:
    return torch.optim.SGD(params, lr=0.1, weight_decay=1e-3)


def heavy_ball(params: Any) -> Optimizer:
    return torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-3)


def nesterov(params: Any) -> Optimizer:
    return torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True)


def adamw(params: Any) -> Optimizer:
    return torch.optim.AdamW(params, lr=1e-2, weight_decay=0.05)


def rmsprop(params: Any) -> Optimizer:
    return torch.optim.RMSprop(params, lr=1e-2)


def rate(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= 0.9
        group["weight_decay"] *= 1.1


def zero(optimizer: Optimizer) -> None:
    optimizer.zero_grad(set_to_none=False)


def clear(optimizer: Optimizer) -> None:
    optimizer.zero_grad()


def halve(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.grad.mul_(0.5)


def hooks(optimizer: Optimizer, kind: str, work: Callable[[Optimizer], None]) -> None:
    def hook(own: Optimizer, args: Any, kwargs: Any) -> None:
        work(own)

    (optimizer.register_step_pre_hook if kind == "pre" else optimizer.register_step_post_hook)(hook)


HOOKS = [("pre", rate), ("pre", halve), ("post", rate), ("post", zero), ("post", clear), ("post", halve)]
CASES = [(m, *h, w) for m in (sgd, heavy_ball, nesterov, adamw, rmsprop) for h in HOOKS for w in ("before", "after")]
FEW = {(heavy_ball, "pre", rate, "after"), (adamw, "pre", rate, "after"), (adamw, "post", rate, "before"),
       (sgd, "post", clear, "before"), (heavy_ball, "post", zero, "before")}  # fmt: skip


@pytest.mark.parametrize(
    ("make", "kind", "work", "when"), [case if case in FEW else pytest.param(*case, marks=SLOW) for case in CASES]
)
def test_hooks_of_others_lie_outside_of_the_step(
    training: Any, make: Make, kind: str, work: Callable[[Optimizer], None], when: str
) -> None:
    """A schedule, clipping, or zeroing in a step hook, registered before the monitor's or after."""
    optimizer = make(training.model.parameters())
    if when == "before":
        hooks(optimizer, kind, work)
    used: list[float] = []

    def loop(step: int) -> None:
        if step == 2 and when == "after":
            hooks(optimizer, kind, work)
        optimizer.zero_grad()
        backward(training, step, broken=True)
        used.append(optimizer.param_groups[0]["lr"] * (0.9 if (kind, work) == ("pre", rate) and used_now(step) else 1))
        optimizer.step()

    def used_now(step: int) -> bool:
        return when == "before" or step >= 2

    monitor, said = follow(training, optimizer, loop)
    assert not any("other than the optimiser" in text or "had left" in text for text in said)
    data = monitor.run.data
    assert not data["outside"].values.any()
    assert error(monitor, "identity") < 1e-13
    assert np.abs(data["residual"].values[1:-1]).max() > 1e-3  # that of the penalty, not of what became of g
    recorded = data["learning_rate"].values[1:, 0]
    assert np.allclose(recorded, np.array(used)[data["step"].values[1:] - 1])


class Pruned(nn.Module):
    """A mask on a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(7, 5, dtype=torch.float64))

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


@pytest.mark.parametrize("how", ["layer", "weight", "assigned", "parametrised"])
@pytest.mark.parametrize("kept", [True, pytest.param(False, marks=SLOW)])
def test_a_parameter_that_is_replaced_ends_the_monitoring(training: Any, how: str, kept: bool) -> None:
    """The charges of a tensor that the model no longer has are not the model's."""
    model: nn.Sequential = training.model
    optimizer = heavy_ball(model.parameters())

    def loop(step: int) -> None:
        if step == 9:
            if how == "layer":
                model[0] = nn.Linear(5, 7).double()
            elif how == "weight":
                model[0].weight = nn.Parameter(model[0].weight.detach() * 2)
            elif how == "assigned":
                model.load_state_dict({n: v.clone() for n, v in model.state_dict().items()}, assign=True)
            else:
                nn.utils.parametrize.register_parametrization(model[0], "weight", Pruned())
            if kept:
                optimizer.param_groups[0]["params"] = list(model.parameters())
        optimizer.zero_grad()
        backward(training, step)
        optimizer.step()

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with nm.Monitor(model, optimizer, training.symmetries, every=4, residuals=True) as monitor:
            for step in range(STEPS):
                loop(step)
    assert list(monitor.run.data["step"].values) == [0, 4, 8]
    assert error(monitor, "exact") < 1e-13
    text = str(said[-1].message)
    assert "the monitor stopped at step 12" in text
    assert "readable up to step 8" in text
    assert ("has no parameter '0.weight'" if how == "parametrised" else "is another tensor") in text
    assert "\n" not in text


@pytest.mark.parametrize("make", [heavy_ball, nesterov])
@pytest.mark.parametrize("every", [1, 4])
def test_momentum_that_is_written_through_data_is_said(training: Any, make: Make, every: int) -> None:
    optimizer = make(training.model.parameters())

    def loop(step: int) -> None:
        optimizer.zero_grad()
        backward(training, step)
        optimizer.step()
        if step % 6 == 5:
            for state in optimizer.state.values():
                state["momentum_buffer"].data.zero_()

    monitor, said = follow(training, optimizer, loop, every=every)
    assert ["the identity had left" in text and "through .data" in text for text in said] == [True]
    assert error(monitor, "exact") < 1e-13
    assert error(monitor, "identity") < 1e-13
    assert np.isfinite(monitor.run.data["predicted"].sel(law="exact")).all()
    assert np.nanmax(np.abs(monitor.run.data["residual"])) < 1e-14


@pytest.mark.parametrize("make", [sgd, heavy_ball, adamw])
def test_a_parameter_of_two_optimisers_leaves_the_closed_laws(training: Any, make: Make) -> None:
    middle = list(training.model[2].parameters())
    pair = [make([*training.model[0].parameters(), *middle]), heavy_ball([*middle, *training.model[4].parameters()])]

    def loop(step: int) -> None:
        training.model.zero_grad()
        backward(training, step)
        for optimizer in pair:
            optimizer.step()

    monitor, said = follow(training, pair, loop)
    data, rescaled = monitor.run.data, np.array(training.symmetries.kinds) == "rescale"
    assert np.isnan(data["predicted"].sel(law="exact").values[-1])[rescaled].all()
    assert np.isnan(data["residual"].values[1:, rescaled]).all()
    assert error(monitor, "identity") < 1e-13
    expected = "AdamW obeys no closed law" if make is adamw else "two optimisers moved '2.bias' in one iteration"
    assert sum(expected in text for text in said) == 1


class Zeroing(torch.optim.SGD):
    """Leaves nothing to be cleared by the loop."""

    keep = True

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        self.zero_grad(set_to_none=not self.keep)


@pytest.mark.parametrize("keep", [True, False])
def test_a_residual_is_not_known_where_the_step_removes_the_gradient(training: Any, keep: bool) -> None:
    optimizer = Zeroing(training.model.parameters(), lr=0.1, momentum=0.9)
    optimizer.keep = keep

    def loop(step: int) -> None:
        backward(training, step, broken=True)
        optimizer.step()

    monitor, said = follow(training, optimizer, loop)
    assert np.isnan(monitor.run.data["residual"].values).all()
    assert error(monitor, "identity") < 1e-13
    assert ["Zeroing obeys no closed law" in text for text in said] == [True]


def test_a_residual_is_not_known_where_the_step_takes_gradients_elsewhere(training: Any) -> None:
    """LBFGS leaves the gradient of the last place that it tried, which was put down to a norm's eps."""
    optimizer = torch.optim.LBFGS(training.model.parameters(), lr=0.3, max_iter=4)

    def loop(step: int) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = functional.cross_entropy(training.model(x), y)
            loss.backward()
            return loss

        x, y = training.batch(0)
        optimizer.step(closure)

    monitor, _ = follow(training, optimizer, loop)
    assert np.isnan(monitor.run.data["residual"].values).all()
    assert error(monitor, "identity") < 1e-12


def after_adam(optimizer: Optimizer, kind: str) -> None:
    if kind == "schedule":
        rate(optimizer)
    for state in optimizer.state.values():
        if kind == "zeroed":
            state["exp_avg"].zero_()
            state["step"].zero_()
    if kind == "cleared":
        optimizer.state.clear()


@pytest.mark.parametrize("kind", ["schedule", "zeroed", "cleared"])
def test_the_last_residual_is_not_told_from_a_state_of_later(training: Any, kind: str) -> None:
    """The last record is taken when the loop has ended: what the update was told from may be another by then."""
    optimizer = adamw(training.model.parameters())

    def loop(step: int) -> None:
        optimizer.zero_grad()
        backward(training, step)
        optimizer.step()
        after_adam(optimizer, kind)

    monitor, _ = follow(training, optimizer, loop)
    assert monitor.failure is None
    assert list(monitor.run.data["step"].values) == [0, 4, 8, 12, 16, 18]
    residual = monitor.run.data["residual"].values
    assert np.abs(residual[1:-1]).max() < 1e-14
    assert np.isnan(residual[-1]).all()


@pytest.mark.parametrize("residuals", [True, False])
def test_gradients_that_are_zeroed_through_data_are_not_those_of_the_last_step(training: Any, residuals: bool) -> None:
    optimizer = heavy_ball(training.model.parameters())
    schedule = ExponentialLR(optimizer, 0.9)

    def loop(step: int) -> None:
        backward(training, step, broken=True)
        optimizer.step()
        schedule.step()
        for p in training.model.parameters():
            p.grad.data.zero_()

    monitor, _ = follow(training, optimizer, loop, residuals=residuals)
    residual = np.abs(monitor.run.data["residual"].values)
    assert residual[1:-1].max() > 1e-3
    assert residual[-1].max() > 1e-3 if residuals else np.isnan(residual[-1]).all()


@pytest.mark.parametrize("make", [heavy_ball, pytest.param(adamw, marks=SLOW)])
def test_a_default_device_of_the_loop_is_not_the_monitors(training: Any, make: Make) -> None:
    """As `torch.set_default_device("cuda")` leaves it; a device without memory shows every tensor that follows it."""
    optimizer = make([{"params": [p]} for p in training.model.parameters()])
    optimizer.param_groups[0]["lr"] *= 0.5

    def loop(step: int) -> None:
        optimizer.zero_grad()
        backward(training, step)
        with torch.device("meta"):
            optimizer.step()

    with torch.device("meta"):
        monitor = nm.Monitor(training.model, optimizer, training.symmetries, every=4, residuals=True, strict=True)
        monitor.__enter__()
    for step in range(STEPS):
        loop(step)
    with torch.device("meta"):
        assert monitor.predictions["identity"].device.type == "cpu"
        monitor.close()
    assert monitor.step == STEPS
    assert error(monitor, "identity") < 1e-13
    assert np.allclose(monitor.run.data["charge"].values[-1], charges(training), rtol=0, atol=1e-13)


def test_few_parameters_of_few_digits_leave_the_identity_those_of_the_others(make: Callable[..., Any]) -> None:
    """The body in bfloat16, a head in float32: what is stored of the body is rounded, and the identity knows it."""
    training = make("mlp", torch.float32)
    training.model[0].bfloat16()
    optimizer = torch.optim.SGD(training.model.parameters(), lr=0.05, momentum=0.9)

    def loop(step: int) -> None:
        optimizer.zero_grad()
        x, y = training.batch(step)
        hidden = training.model[0](x.bfloat16()).float()
        functional.cross_entropy(training.model[1:](hidden), y).backward()
        optimizer.step()

    monitor, said = follow(training, optimizer, loop, strict=True)
    assert said == []
    assert error(monitor, "identity") < 1e-6
