"""The parts of a budget against their definitions from copies, and against the measured change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.monitor.conftest import Training, make_training
from tests.monitor.explaining.reference import sgd_books, values
from torch import nn

import neuralmechanics as nm
from neuralmechanics.monitor.store.layout import shard_name

STEPS = range(24)
PARTS = ("finite_step", "weight_decay", "momentum_memory", "broken_symmetry", "preconditioning", "outside", "rounding")


def total(monitor: nm.Monitor, part: str) -> np.ndarray[Any, Any]:
    return monitor.run.budget()["change"].sel(part=part).sum("step").to_numpy()


def two_groups(training: Training, one: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """Matrices with `one`, biases with `other`."""
    named = list(training.model.named_parameters())
    return [
        {"params": [p for _, p in named if p.dim() > 1], **one},
        {"params": [p for _, p in named if p.dim() == 1], **other},
    ]


SGD: dict[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "heavy ball": {"momentum": 0.9, "weight_decay": 0.02},
    "dampening": {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05},
    "nesterov": {"momentum": 0.9, "weight_decay": 0.02, "nesterov": True},
    "maximize": {"momentum": 0.5, "weight_decay": 0.02, "maximize": True, "lr": 0.01},
    "strong decay": {"momentum": 0.2, "weight_decay": 14.0, "lr": 0.1},
    "exact update": {"momentum": 0.9, "weight_decay": 0.02, "exact": True},
}
GROUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "no decay on biases": ({"weight_decay": 0.1}, {"weight_decay": 0.0}),
    "two learning rates": ({"lr": 0.1, "weight_decay": 0.1}, {"lr": 0.03, "weight_decay": 0.02}),
    "two momenta": ({"momentum": 0.9}, {"momentum": 0.5, "weight_decay": 0.05}),
    "nesterov on matrices": ({"nesterov": True}, {"weight_decay": 0.05}),
}


def assert_parts_are_their_definitions(
    training: Training, optimizers: list[Any], *, exact: bool = False, every: int = 5, **hooks: Any
) -> nm.Monitor:
    """Every part is its formula, and together they are the measured change."""
    start = training.symmetries.charge(values(training))
    with nm.Monitor(training.model, optimizers, training.symmetries, every=every, exact_update=exact) as monitor:
        books = sgd_books(training, optimizers, STEPS, **hooks)
    size = np.maximum(training.symmetries.charge_scale(values(training)).numpy(), 1e-3)
    gross = size + sum(value.abs().numpy() for value in books.sums.values())
    for part, right in books.sums.items():
        error = np.abs(total(monitor, part) - right.numpy()) / gross
        assert error.max() < 1e-12, (part, error.max())
    assert np.abs(total(monitor, "preconditioning")).max() == 0
    budget = monitor.run.budget()
    end = training.symmetries.charge(values(training))
    assert np.allclose(budget["measured"].sum("step"), (end - start).numpy(), rtol=0, atol=1e-13 * gross.max())
    assert np.abs((budget["change"].sum("part") - budget["measured"]).to_numpy()).max() <= 1e-15 * gross.max()
    return monitor


@pytest.mark.parametrize("name", SGD)
def test_the_parts_of_sgd(name: str) -> None:
    training = make_training()
    options = dict(SGD[name])
    exact = options.pop("exact", False)
    monitor = assert_parts_are_their_definitions(training, [training.sgd(**options)], exact=exact)
    rounding = np.abs(total(monitor, "rounding"))
    assert rounding.max() < 1e-12
    if options.get("weight_decay"):
        assert np.abs(total(monitor, "weight_decay")).max() > 1e-3
    if options.get("momentum"):
        assert np.abs(total(monitor, "momentum_memory")).max() > 1e-3


@pytest.mark.parametrize("name", GROUPS)
def test_the_parts_of_groups_that_differ(name: str) -> None:
    training = make_training()
    groups = two_groups(training, *GROUPS[name])
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.8)
    assert_parts_are_their_definitions(training, [optimizer])


def test_two_optimisers_in_one_iteration() -> None:
    training = make_training()
    first, second = training.model[0], nn.ModuleList(list(training.model)[1:])
    pair = [
        torch.optim.SGD(first.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01),
        torch.optim.SGD(second.parameters(), lr=0.05, momentum=0.5),
    ]
    assert_parts_are_their_definitions(training, pair)


def test_schedules_freezing_clipping_and_a_penalty() -> None:
    """A learning rate that is zero for a while, a bias frozen for a while, clipped and disturbed gradients."""
    training = make_training()
    optimizer = training.sgd(momentum=0.9, weight_decay=0.02)
    bias = training.model[2].bias

    def before(step: int) -> None:
        optimizer.param_groups[0]["lr"] = 0.1 * (1 + np.cos(step / 4)) / 2
        optimizer.param_groups[0]["momentum"] = 0.9 if step < 15 else 0.7
        if step % 3 == 0:
            nn.utils.clip_grad_norm_(training.model.parameters(), 0.1)
        if 6 <= step < 12:
            bias.grad = None
        if step > 16:
            training.model[0].weight.grad.add_(training.model[0].weight.detach(), alpha=0.3)

    monitor = assert_parts_are_their_definitions(training, [optimizer], before_step=before)
    assert np.abs(total(monitor, "broken_symmetry")).max() > 1e-3


def test_without_momentum_for_a_while_the_old_buffer_is_met_again() -> None:
    training = make_training()
    optimizer = training.sgd(momentum=0.9, weight_decay=0.02)

    def before(step: int) -> None:
        optimizer.param_groups[0]["momentum"] = 0.0 if 7 <= step < 13 else 0.9

    assert_parts_are_their_definitions(training, [optimizer], before_step=before)


@pytest.mark.parametrize("counted", [True, False])
def test_what_something_else_writes_is_a_part_of_its_own(*, counted: bool) -> None:
    """From the first write on where torch counts it; where not (.data), no symmetry is said to be broken by it."""
    training = make_training()
    optimizer = training.sgd(momentum=0.9, weight_decay=0.02)
    written = torch.zeros(training.symmetries.charges, dtype=torch.float64)

    def after(step: int) -> None:
        nonlocal written
        before = training.symmetries.charge(values(training))
        weight = training.model[0].weight
        (weight.detach() if counted else weight.data).mul_(0.99)
        written = written + training.symmetries.charge(values(training)) - before

    with nm.Monitor(training.model, optimizer, training.symmetries, every=4) as monitor:
        books = sgd_books(training, [optimizer], STEPS, after_step=after)
    moved = written.numpy() != 0
    assert moved.any()
    assert not moved.all()
    assert np.abs(total(monitor, "outside") - written.numpy())[moved].max() < 1e-12
    for part in ("rounding", "broken_symmetry"):
        assert np.abs(total(monitor, part)).max() < 1e-12
    for part, right in books.sums.items():
        if counted or part == "finite_step":
            assert np.abs(total(monitor, part) - right.numpy()).max() < 1e-12, part


@pytest.mark.parametrize("every", [1, 7])
def test_the_parts_do_not_depend_on_how_often_is_recorded(every: int) -> None:
    training = make_training()
    optimizer = training.sgd(momentum=0.9, weight_decay=0.02)
    assert_parts_are_their_definitions(training, [optimizer], every=every)


def test_bf16_rounds_and_the_other_parts_are_those_of_the_formula() -> None:
    """At a small learning rate most updates vanish: the intended parts stay, rounding takes them back."""
    training = make_training(dtype=torch.bfloat16)
    optimizer = training.sgd(lr=1e-4, momentum=0.9, weight_decay=0.5)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=6) as monitor:
        books = sgd_books(training, [optimizer], STEPS)
    quadratic = training.symmetries.quadratic.numpy()
    for part in ("weight_decay", "momentum_memory"):
        right = books.sums[part].numpy()
        assert np.abs(right).max() > 1e-4
        assert np.abs(total(monitor, part) - right).max() < 1e-10
    rounding, change = total(monitor, "rounding")[quadratic], monitor.run.budget()["measured"].sum("step")
    intended = sum(total(monitor, part) for part in PARTS if part != "rounding")[quadratic]
    assert np.allclose(change.to_numpy()[quadratic], intended + rounding)
    assert np.abs(rounding).max() > 0.5 * np.abs(intended).max()


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum, decoupled decay."""

    def __init__(self, params: Any, lr: float = 1e-2, betas: Any = (0.9, 0.99), weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.sub_((m * group["betas"][0] + p.grad * (1 - group["betas"][0])).sign(), alpha=group["lr"])
                m.lerp_(p.grad, 1 - group["betas"][1])


class Whitened(torch.optim.Optimizer):
    """Shampoo-like: each matrix gradient between the inverse fourth roots of its sums of squares; coupled decay."""

    def __init__(self, params: Any, lr: float = 1e-2, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                g = (p.grad + group["weight_decay"] * p).reshape(p.shape[0], -1)
                left = self.state[p].setdefault("left", torch.eye(len(g), dtype=p.dtype)).add_(g @ g.T)
                values_, vectors = torch.linalg.eigh(left)
                p.sub_((vectors * values_**-0.25 @ vectors.T @ g).reshape(p.shape), alpha=group["lr"])


class ScheduleFree(torch.optim.Optimizer):
    """SGD at y = (1-β)z + βx, averages x of z."""

    def __init__(self, params: Any, lr: float = 1e-1, beta: float = 0.9, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                z = state.setdefault("z", p.clone())
                x = state.setdefault("x", p.clone())
                state["k"] = state.get("k", 0) + 1
                z.sub_(p.grad + group["weight_decay"] * p, alpha=group["lr"])
                x.lerp_(z, 1 / state["k"])
                p.copy_(z.lerp(x, group["beta"]))


def others() -> dict[str, tuple[Callable[[Any], torch.optim.Optimizer], bool]]:
    """Each optimiser, and whether its decay is apart from its update."""
    o = torch.optim
    made: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], bool]] = {
        "adamw": (lambda p: o.AdamW(p, lr=0.01, weight_decay=0.3), True),
        "adamw foreach": (lambda p: o.AdamW(p, lr=0.01, weight_decay=0.3, foreach=True, amsgrad=True), True),
        "adam": (lambda p: o.Adam(p, lr=0.01, weight_decay=0.3), False),
        "adam apart": (lambda p: o.Adam(p, lr=0.01, weight_decay=0.3, decoupled_weight_decay=True), True),
        "rmsprop": (lambda p: o.RMSprop(p, lr=0.01, weight_decay=0.1, momentum=0.5), False),
        "adagrad": (lambda p: o.Adagrad(p, lr=0.05, weight_decay=0.1), False),
        "nadam": (lambda p: o.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True), True),
        "nadam coupled": (lambda p: o.NAdam(p, lr=0.01, weight_decay=0.1), False),
        "radam": (lambda p: o.RAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True), True),
        "adamax": (lambda p: o.Adamax(p, lr=0.01, weight_decay=0.1), False),
        "lion": (lambda p: Lion(p, weight_decay=0.3), True),
        "shampoo-like": (lambda p: Whitened(p, weight_decay=0.3), False),
        "schedule-free": (lambda p: ScheduleFree(p, weight_decay=0.1), False),
    }
    return made


FAST = ("adamw", "adam", "lion")


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in others()])
@pytest.mark.parametrize("split", [False, True])
def test_the_parts_of_other_optimisers(name: str, *, split: bool) -> None:
    """Decoupled decay is ((1-ηλ)² - 1)|θ|² by its own λ, what comes after it is a finite step and the rest."""
    make, apart = others()[name]
    training = make_training()
    groups: Any = list(training.model.parameters())
    if split:
        groups = two_groups(training, {}, {"weight_decay": 0.0})
    optimizer = make(groups)
    assert_decay_and_step(training, [optimizer], apart=apart)


@pytest.mark.slow
def test_muon_beside_adamw() -> None:
    training = make_training()
    named = list(training.model.named_parameters())
    pair = [
        torch.optim.Muon([p for _, p in named if p.dim() == 2], lr=0.02, weight_decay=0.3),
        torch.optim.AdamW([p for _, p in named if p.dim() == 1], lr=0.01, weight_decay=0.0),
    ]
    assert_decay_and_step(training, pair, apart=True)


def assert_decay_and_step(training: Training, optimizers: list[Any], *, apart: bool) -> None:
    found, named = training.symmetries, dict(training.model.named_parameters())
    rate = {
        n: g["lr"] * g["weight_decay"] * apart
        for n, p in named.items()
        for o in optimizers
        for g in o.param_groups
        if any(p is q for q in g["params"])
    }
    decay = energy = rest = torch.zeros(found.charges, dtype=torch.float64)
    with nm.Monitor(training.model, optimizers, found, every=5) as monitor:
        for step in STEPS:
            training.model.zero_grad()
            nn.functional.cross_entropy(training.model(training.batch(step)[0]), training.batch(step)[1]).backward()
            nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
            before = values(training)
            for optimizer in optimizers:
                optimizer.step()
            shrunk = {n: t * (1 - rate[n]) for n, t in before.items()}
            u = {n: t - shrunk[n] for n, t in values(training).items()}
            pulled = {n: t - before[n] for n, t in shrunk.items()}
            shorter = found.charge(shrunk) - found.charge(before)
            decay = decay + torch.where(found.quadratic, shorter, found.pair(pulled, before))
            energy = energy + torch.where(found.quadratic, found.pair(u, u), 0.0)
            rest = rest + torch.where(found.quadratic, 2.0, 1.0) * found.pair(u, shrunk)
    for part, right in (("finite_step", energy), ("weight_decay", decay), ("preconditioning", rest)):
        scale = (energy.abs() + rest.abs() + decay.abs()).numpy() + 1e-3
        error = np.abs(total(monitor, part) - right.numpy()) / scale
        assert error.max() < 1e-12, (part, error.max())
    assert (np.abs(total(monitor, "weight_decay")).max() > 1e-3) == apart
    assert np.abs(total(monitor, "rounding")).max() < 1e-12


def test_a_resumed_run_has_every_interval_once(tmp_path: Path) -> None:
    """Parts and changes of both segments are those of the run that was never interrupted, interval by interval."""
    kept: dict[str, Any] = {"every": 5, "strict": True}

    def run(folder: Path, ends: tuple[int, ...]) -> nm.Run:
        training = make_training()
        optimizer = training.sgd(momentum=0.9, weight_decay=0.02)
        for begin, end in pairwise((0, *ends)):
            with nm.Monitor(training.model, optimizer, training.symmetries, folder, resume=begin > 0, **kept):
                training.run(optimizer, range(begin, end))
        return nm.open_run(folder)

    whole, parted = (run(tmp_path / name, ends).budget() for name, ends in (("a", (20,)), ("b", (10, 20))))
    assert parted["step"].to_numpy().tolist() == [5, 10, 15, 20]
    for name in ("measured", "change"):
        assert np.allclose(parted[name], whole[name], rtol=0, atol=1e-14)
    assert np.abs(parted["measured"]).min("charge").min() > 0


def test_where_a_record_is_lost_its_interval_has_a_change_and_no_parts(tmp_path: Path) -> None:
    training = make_training()
    optimizer = training.sgd(momentum=0.9, weight_decay=0.02)
    with nm.Monitor(training.model, optimizer, training.symmetries, tmp_path / "run", every=1):
        training.run(optimizer, range(6))
    whole = nm.open_run(tmp_path / "run").budget()
    (tmp_path / "run" / "segment-0000" / shard_name(3, 3)).unlink()
    lost = nm.open_run(tmp_path / "run", skip_damaged=True).budget()
    assert lost["step"].to_numpy().tolist() == [1, 2, 4, 5, 6]
    assert np.allclose(lost["measured"].sel(step=4), whole["measured"].sel(step=[3, 4]).sum("step"), rtol=0, atol=1e-15)
    assert lost["change"].sel(step=4).isnull().all()
    others = [1, 2, 5, 6]
    assert lost["change"].sel(step=others).equals(whole["change"].sel(step=others))
