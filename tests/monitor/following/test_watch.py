"""The watch at every record, both ways: silent in loops where all is well, and a word for each planted fault."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.spread import by_turns
from torch import Tensor, nn
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

INPUTS, CLASSES, SAMPLES = 8, 5, 64
Loop = Callable[[nn.Module, torch.optim.Optimizer, Tensor, Tensor, int], None]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, CLASSES))


def deep() -> nn.Module:
    hidden = [layer for _ in range(8) for layer in (nn.ReLU(), nn.Linear(12, 12))]
    return nn.Sequential(nn.Linear(INPUTS, 12), *hidden, nn.ReLU(), nn.Linear(12, CLASSES))


def batch_norm() -> nn.Module:
    return nn.Sequential(
        nn.Linear(INPUTS, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.BatchNorm1d(12), nn.ReLU(),
        nn.Linear(12, CLASSES),
    )  # fmt: skip


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(INPUTS, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp, "deep": deep, "batch_norm": batch_norm, "layer_norm": layer_norm,
}  # fmt: skip
_SYMMETRIES: dict[str, nm.Symmetries] = {}


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]).to(torch.promote_types(batch[0].dtype, torch.float32)), batch[1])


def train(
    network: str,
    loop: Loop,
    dtype: torch.dtype = torch.float32,
    *,
    steps: int = 30,
    every: int = 5,
    monitor: dict[str, Any] | None = None,
    build: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    **options: Any,
) -> tuple[nm.Run, list[str]]:
    """The run, and everything the monitor said of a network trained by `loop`."""
    torch.manual_seed(0)
    model = NETWORKS[network]()
    x, y = torch.randn(SAMPLES, INPUTS), torch.randint(CLASSES, (SAMPLES,))
    if network not in _SYMMETRIES:
        _SYMMETRIES[network] = nm.find_symmetries(model, (x, y), cross_entropy)
    model = model.to(dtype)
    optimizer = build(model.parameters(), **{"lr": 0.1, **options})
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with nm.Monitor(model, optimizer, _SYMMETRIES[network], every=every, strict=True, **(monitor or {})) as watched:
            loop(model, optimizer, x.to(dtype), y, steps)
    assert not model._forward_pre_hooks
    return watched.run, [str(w.message) for w in said if issubclass(w.category, MonitorWarning)]


def plain(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    for _ in range(steps):
        chosen = torch.randint(SAMPLES, (32,))
        optimizer.zero_grad()
        cross_entropy(model, (x[chosen], y[chosen])).backward()
        optimizer.step()


def accumulated(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        for part in range(0, SAMPLES, 16):
            (cross_entropy(model, (x[part : part + 16], y[part : part + 16])) / 4).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()


def autocast(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = cross_entropy(model, (x, y))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()


def scaled(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    scaler = torch.amp.GradScaler("cpu")
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = cross_entropy(model, (x, y))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def scheduled(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        plain(model, optimizer, x, y, 1)
        schedule.step()


def evaluated(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    """Averages swapped in for an evaluation and out again, as schedule-free training does too."""
    for _ in range(steps):
        plain(model, optimizer, x, y, 1)
        kept = [p.detach().clone() for p in model.parameters()]
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(0.5)
            cross_entropy(model.eval(), (x, y))
            for p, old in zip(model.parameters(), kept, strict=True):
                p.copy_(old)
        model.train()


def closed(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    def closure() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(model, (x, y))
        loss.backward()
        return float(loss.detach())

    for _ in range(steps):
        optimizer.step(closure)


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"weight_decay": 1e-2},
    "heavy_ball": {"momentum": 0.9, "weight_decay": 1e-3},
    "dampened": {"momentum": 0.9, "dampening": 0.5},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
    "nesterov_foreach": {"momentum": 0.9, "nesterov": True, "foreach": True},
    "fused": {"momentum": 0.9, "weight_decay": 1e-3, "fused": True},
    "maximize": {"lr": 1e-3, "maximize": True},
    "tiny_rate": {"lr": 1e-7},
    "large_rate": {"lr": 0.8},
    "tensor_rate": {"lr": torch.tensor(0.05), "momentum": 0.5},
}
LOOPS: dict[str, Loop] = {
    "accumulated": accumulated, "autocast": autocast, "scaled": scaled, "scheduled": scheduled,
    "evaluated": evaluated, "closed": closed,
}  # fmt: skip


@pytest.mark.parametrize(("setting", "network"), by_turns(SETTINGS, NETWORKS))
def test_silent_under_every_setting(network: str, setting: str) -> None:
    run, said = train(network, plain, **SETTINGS[setting])
    assert said == []
    assert not run.data["outside"].values.any()
    assert np.isfinite(run.data["predicted"].sel(law="exact").values).all()


@pytest.mark.parametrize(("loop", "network"), by_turns(LOOPS, NETWORKS))
def test_silent_in_every_loop(network: str, loop: str) -> None:
    run, said = train(network, LOOPS[loop], momentum=0.9, weight_decay=1e-3)
    assert said == []
    assert not run.data["outside"].values.any()
    assert np.isfinite(run.data["predicted"].sel(law="exact").values).all()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_silent_in_every_precision(network: str, dtype: torch.dtype) -> None:
    for monitor in ({}, {"exact_update": True}, {"residuals": True}):
        _, said = train(network, plain, dtype, momentum=0.9, weight_decay=1e-3, monitor=monitor)
        assert said == []


@pytest.mark.parametrize("network", NETWORKS)
def test_adam_is_said_to_obey_no_law_and_nothing_else(network: str) -> None:
    run, said = train(network, plain, build=torch.optim.AdamW, lr=1e-2)
    assert len(said) == 1
    assert "AdamW obeys no closed law" in said[0]
    error = np.abs(run.data["predicted"].sel(law="identity") - run.data["charge"]) / run.data["scale"]
    assert float(error.max()) < 30 * torch.finfo(torch.float32).eps  # the updates are told, not their rounding
    run, _ = train(network, plain, build=torch.optim.AdamW, lr=1e-2, monitor={"exact_update": True})
    error = np.abs(run.data["predicted"].sel(law="identity") - run.data["charge"]) / run.data["scale"]
    assert float(error.max()) < 1e-13  # float32 parameters: their differences are taken in double precision


@pytest.mark.parametrize("network", ["mlp", "batch_norm"])
def test_silent_where_the_loss_has_gone_to_zero(network: str) -> None:
    """The gradient dies out, its rounding does not."""
    _, said = train(network, closed, steps=600, every=60, lr=0.3, momentum=0.9)
    assert said == []


def faulty(
    *,
    after: Callable[[nn.Module], None] | None = None,
    gradient: Callable[[nn.Module], None] | None = None,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    at: Callable[[int], bool] = lambda step: True,
    zero: bool = True,
) -> Loop:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
        for step in range(steps):
            if zero:
                optimizer.zero_grad()
            (loss(model, x, y) if loss is not None and at(step) else cross_entropy(model, (x, y))).backward()
            if gradient is not None and at(step):
                gradient(model)
            optimizer.step()
            if after is not None and at(step):
                with torch.no_grad():
                    after(model)

    return loop


def for_each(change: Callable[[Tensor], Any], part: slice = slice(None)) -> Callable[[nn.Module], None]:
    def apply(model: nn.Module) -> None:
        for parameter in list(model.parameters())[part]:
            change(parameter)

    return apply


def penalty(size: float, power: int) -> Callable[[nn.Module, Tensor, Tensor], Tensor]:
    def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(model, (x, y)) + size * sum(p.abs().pow(power).sum() for p in model.parameters())

    return loss


def grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def hooked(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    optimizer.register_step_post_hook(lambda *_: for_each(lambda p: p.data.clamp_(-0.2, 0.2))(model))
    closed(model, optimizer, x, y, steps)


def other_optimiser(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
    other = torch.optim.SGD(model.parameters(), lr=1e-2)
    for _ in range(steps):
        closed(model, optimizer, x, y, 1)
        other.step()


WRITES: dict[str, Loop] = {
    "projection through .data": faulty(after=for_each(lambda p: p.data.clamp_(-0.2, 0.2))),
    "one write": faulty(after=for_each(lambda p: p.data.mul_(1.001), slice(0, 1)), at=lambda step: step == 17),
    "one shift": faulty(after=for_each(lambda p: p.data.add_(1e-3), slice(0, 1)), at=lambda step: step == 17),
    "loaded weights": faulty(
        after=lambda m: void(m.load_state_dict({k: 1.01 * v for k, v in m.state_dict().items()})),
        at=lambda step: step == 12,
    ),
    "average left in": faulty(after=for_each(lambda p: p.mul_(0.99)), at=lambda step: step == 29),
    "decay by hand": faulty(after=for_each(lambda p: p.mul_(1 - 1e-4))),
    "hook after the monitor's": hooked,
    "another optimiser": other_optimiser,
}
BREAKS: dict[str, Loop] = {
    "clipping by value": faulty(gradient=for_each(lambda p: grad(p).clamp_(-0.01, 0.01))),
    "squares in the loss": faulty(loss=penalty(1e-3, 2)),
    "sizes in the loss": faulty(loss=penalty(1e-3, 1)),
    "a penalty between the records": faulty(loss=penalty(3e-2, 2), at=lambda step: step % 10 == 1),
    "another loss": faulty(loss=lambda m, x, y: functional.mse_loss(m(x), functional.one_hot(y, CLASSES).to(x.dtype))),
    "noise": faulty(gradient=for_each(lambda p: grad(p).add_(torch.randn_like(p), alpha=1e-2))),
    "signs": faulty(gradient=for_each(lambda p: grad(p).sign_().mul_(0.01))),
    "gradients kept": faulty(zero=False),
    "a masked gradient": faulty(gradient=for_each(lambda p: grad(p)[:2].zero_(), slice(-2, -1))),
    "a doubled layer": faulty(gradient=for_each(lambda p: grad(p).mul_(2), slice(-2, -1))),
}


FAULTY = ["mlp", "batch_norm", "layer_norm"]


def void(_: object) -> None:
    return None


@pytest.mark.parametrize(("fault", "network"), by_turns(WRITES, FAULTY))
def test_what_else_moves_the_parameters_is_said_measured_and_survived(network: str, fault: str) -> None:
    run, said = train(network, WRITES[fault], torch.float64, momentum=0.9, weight_decay=1e-3)
    assert [message for message in said if "something other than the optimiser moved" in message] == said != []
    data = run.data
    assert (np.abs(data["outside"]) / data["scale"]).values.max() > 1e-5
    exact = np.abs(data["predicted"].sel(law="exact") - data["charge"]) / data["scale"]
    sound = [f.exact for f in run.symmetries.charged for _ in range(f.charges)]
    assert float(exact.values[:, sound].max()) < 1e-12
    assert [note.message for note in run.warnings] == said


@pytest.mark.parametrize(("fault", "network"), by_turns(BREAKS, FAULTY))
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])
def test_a_broken_symmetry_is_said_and_its_closed_laws_withheld(network: str, fault: str, dtype: torch.dtype) -> None:
    run, said = train(network, BREAKS[fault], dtype, momentum=0.9)
    if fault == "a doubled layer" and network == "layer_norm":
        assert said == []  # ⟨g,1⟩ = 0 and ⟨g,θ⟩ = 0 of single tensors bear any factor
        return
    assert said != []
    assert all("does not obey the symmetry" in message for message in said)
    data = run.data
    exact = (np.abs(data["predicted"].sel(law="exact") - data["charge"]) / data["scale"]).values
    # Right, or withheld: half of the digits of the precision are what is told from rounding.
    sound = np.array([f.exact for f in run.symmetries.charged for _ in range(f.charges)])
    assert np.isnan(exact[-1]).any()
    assert np.nanmax(exact[:, sound]) < 20 * torch.finfo(dtype).eps ** 0.5
    identity = np.abs(data["predicted"].sel(law="identity") - data["charge"]) / data["scale"]
    assert float(identity.isel(step=-1).max()) < 1e3 * torch.finfo(dtype).eps


def test_a_norm_in_evaluation_mode_is_named() -> None:
    def frozen(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
        closed(model.eval(), optimizer, x, y, steps)

    run, said = train("batch_norm", frozen, momentum=0.9)
    assert len(said) == 1
    assert "'1' is in evaluation mode, the symmetry holds for batch statistics" in said[0]
    data = run.data
    withheld = np.isnan(data["predicted"].sel(law="exact").isel(step=-1).values)
    assert withheld[data["kind"].values == "scale"].all()
    assert not withheld[data["kind"].values == "rescale"].any()  # a norm with fixed statistics is linear


def test_numbers_that_are_none_are_named_with_their_step() -> None:
    def broken(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, steps: int) -> None:
        for step in range(steps):
            optimizer.zero_grad()
            (cross_entropy(model, (x, y)) * (float("nan") if step == 16 else 1.0)).backward()
            optimizer.step()

    run, said = train("mlp", broken)
    assert len(said) == 1
    assert "are no finite numbers any more, from step 17 on" in said[0]
    assert [(note.step, note.message) for note in run.warnings] == [(17, said[0])]
    assert np.isnan(run.data["charge"].sel(step=20)).all()
    assert not run.data["outside"].values.any()
