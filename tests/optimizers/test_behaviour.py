"""Optimisers with SGD's settings are read as SGD where their steps are SGD's, and as unknown from the first else."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

import neuralmechanics as nm
from neuralmechanics.optimizers import StepWatch, may_follow_sgd


class Own(Optimizer):
    """SGD as people write it; subclasses change one thing of it."""

    key = "momentum_buffer"

    def __init__(self, params: Any, lr: float = 0.1, momentum: float = 0.0, decay: float = 0.0, **more: Any) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": decay, "nesterov": False, **more})
        self.count = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.count += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, self.slope(p, group), group)

    def slope(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        assert p.grad is not None
        return p.grad + group["weight_decay"] * p

    def move(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        if group["momentum"] != 0:
            slope = self.velocity(p, slope, group)
        p.sub_(group["lr"] * slope)

    def velocity(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[p]
        if self.key not in state:
            state[self.key] = torch.zeros_like(p)
        state[self.key].mul_(group["momentum"]).add_(slope)
        velocity: Tensor = state[self.key]
        return velocity + 0


class Calls(SGD):
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return super().step(closure)


class KeepsGradients(Own):
    def slope(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        assert p.grad is not None
        return p.grad.add_(p, alpha=group["weight_decay"])  # as torch did once: p.grad is no gradient any more


class Elsewhere(Own):
    key = "v"


class Dampened(Own):
    def velocity(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> Tensor:
        return super().velocity(p, slope * (1 - group["dampening"]), group)  # the first as well


class DampenedInPart(Own):
    """The first momentum of one parameter is dampened, that of the others is torch's."""

    def velocity(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> Tensor:
        torches = p is not group["params"][0] and not self.state[p]
        return super().velocity(p, slope if torches else slope * (1 - group["dampening"]), group)


class Noisy(Own):
    def move(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        super().move(p, slope, group)
        p.add_(torch.randn_like(p), alpha=1e-6)


class Trusting(Own):
    def slope(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        slope = super().slope(p, group)
        return slope * p.norm() / slope.norm()  # LARS


class Signed(Own):
    def slope(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        return super().slope(p, group).sign()


class Decoupled(Own):
    def slope(self, p: Tensor, group: dict[str, Any]) -> Tensor:
        assert p.grad is not None
        p.mul_(1 - group["lr"] * group["weight_decay"])
        return p.grad + 0


class Late(Own):
    def move(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        super().move(p, slope, group)
        if self.count > 12:
            p.mul_(0.999)


class Uneven(Own):
    """SGD of all parameters but the last."""

    def move(self, p: Tensor, slope: Tensor, group: dict[str, Any]) -> None:
        super().move(p, 2 * slope if p is group["params"][-1] else slope, group)


RIGHT: dict[str, Callable[[Any], Optimizer]] = {
    "own": lambda params: Own(params, decay=1e-2),
    "own heavy ball": lambda params: Own(params, momentum=0.9, decay=1e-2),
    "own without a word of momentum": lambda params: Elsewhere(params),
    "super's": lambda params: Calls(params, lr=0.1, momentum=0.9, nesterov=True),
    "super's with decay": lambda params: Calls(params, lr=0.1, momentum=0.9, dampening=0.3, weight_decay=1e-2),
    "without decay": lambda params: KeepsGradients(params, momentum=0.9),
    "decoupled without momentum": lambda params: Decoupled(params, decay=0.5),
    "dampened from the first": lambda params: Dampened(params, momentum=0.9, dampening=0.3),
    "dampened from the first, with decay": lambda params: Dampened(params, momentum=0.9, dampening=0.9, decay=1e-2),
    "undampened": lambda params: Dampened(params, momentum=0.9, dampening=0.0),
}
WRONG: dict[str, Callable[[Any], Optimizer]] = {
    "gradients overwritten": lambda params: KeepsGradients(params, decay=1e-2),
    "momentum elsewhere": lambda params: Elsewhere(params, momentum=0.9),
    "dampened from the first, in part": lambda params: DampenedInPart(params, momentum=0.9, dampening=0.3),
    "noisy": lambda params: Noisy(params, momentum=0.9),
    "layer-wise": lambda params: Trusting(params),
    "signs": lambda params: Signed(params, momentum=0.9),
    "decoupled": lambda params: Decoupled(params, momentum=0.9, decay=0.5),
    "one tensor otherwise": lambda params: Uneven(params),
}


def followed(build: Callable[[Any], Optimizer], change: Callable[[int, Optimizer], None] | None = None) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4)).double()
    x, y = torch.randn(16, 5, dtype=torch.float64), torch.randint(4, (16,))

    def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    symmetries = nm.find_symmetries(model, (x, y), loss_fn)
    optimizer = build(model.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with nm.Monitor(model, optimizer, symmetries, every=5, residuals=True, strict=True) as monitor:
            for step in range(25):
                if change is not None:
                    change(step, optimizer)
                optimizer.zero_grad()
                loss_fn(model, (x, y)).backward()
                optimizer.step()
    return monitor, monitor.run


def errors(run: nm.Run, law: str) -> np.ndarray[Any, Any]:
    data = run.data
    error: np.ndarray[Any, Any] = (np.abs(data["predicted"].sel(law=law) - data["charge"]) / data["scale"]).values
    return error


@pytest.mark.parametrize("name", RIGHT)
def test_sgd_under_another_name_keeps_the_exact_law_and_is_copied_no_longer_than_it_is_tried(name: str) -> None:
    monitor, run = followed(RIGHT[name])
    assert errors(run, "exact").max() < 1e-12
    assert errors(run, "identity").max() < 1e-12
    assert not run.warnings
    assert not monitor._follower._watches[0]._copies


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_sgd_is_told_at_its_first_step(name: str) -> None:
    _, run = followed(WRONG[name])
    assert np.isnan(errors(run, "exact")[1:]).all()
    assert errors(run, "identity").max() < 1e-12
    (note,) = run.warnings
    assert note.step == 1
    assert "obeys no closed law" in note.message
    assert not run.data["outside"].values.any()


def test_a_mode_that_is_turned_on_later_is_tried_then() -> None:
    def momentum(step: int, optimizer: Optimizer) -> None:
        if step == 11:
            optimizer.param_groups[0]["momentum"] = 0.9

    _, run = followed(lambda params: Own(params, decay=1e-2), momentum)
    assert errors(run, "exact").max() < 1e-12
    _, run = followed(lambda params: Elsewhere(params, decay=1e-2), momentum)
    assert np.nanmax(errors(run, "exact")) < 1e-12
    assert np.isnan(errors(run, "exact")[-1]).all()
    (note,) = run.warnings
    assert note.step == 12


def test_a_first_momentum_is_tried_where_others_were_there_already() -> None:
    """Parameters without a gradient so far have no momentum yet: whether it is dampened shows at their first step."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(7, affine=False, eps=1e-30)
    model = nn.Sequential(nn.Linear(5, 7, bias=False), norm, nn.Linear(7, 4, bias=False)).double()
    x, y = torch.randn(16, 5, dtype=torch.float64), torch.randint(4, (16,))
    symmetries = nm.find_symmetries(model, (x, y), lambda m, batch: nn.functional.cross_entropy(m(batch[0]), batch[1]))
    assert {kind: n for kind, n in symmetries.count().items() if n} == {"translation": 7, "scale": 7}
    optimizer = Dampened(model.parameters(), momentum=0.9, dampening=0.3)

    def step(*, held: bool) -> None:
        model.zero_grad()
        model[2].requires_grad_(not held)
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        model[2].requires_grad_(True)

    for _ in range(4):
        step(held=True)
    with nm.Monitor(model, optimizer, symmetries, every=1) as monitor:
        for _ in range(8):
            step(held=False)
    assert errors(monitor.run, "exact").max() < 1e-12
    assert not monitor.run.data["outside"].values.any()


def test_what_changes_after_it_was_tried_is_measured_as_outside_until_it_is_tried_again() -> None:
    _, run = followed(lambda params: Late(params, momentum=0.9))
    assert np.nanmax(errors(run, "exact")) < 1e-12
    assert np.isnan(errors(run, "exact")[-1]).all()
    assert errors(run, "identity").max() < 1e-12
    outside = run.data["outside"].values.any(axis=1)
    assert outside.sum() == 1
    assert not outside[-1]
    moved, tried = run.warnings
    assert "something other than the optimiser moved" in moved.message
    assert "Late obeys no closed law" in tried.message


def test_adam_and_its_kin_are_not_tried() -> None:
    p = [nn.Parameter(torch.zeros(3, 3))]
    for name in ("Adam", "RMSprop", "Muon", "ASGD", "Rprop", "Adadelta"):
        assert not may_follow_sgd(getattr(torch.optim, name)(p))
        assert not StepWatch(getattr(torch.optim, name)(p), {"p": p[0]}).known
