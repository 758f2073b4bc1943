"""J_k = β^k J_0 of the heavy ball, measured; Nesterov, AdamW and Muon shown as violating it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning
from neuralmechanics.symmetry.families.actions import ComplexPairs

BETA, STEPS = 0.8, 12


class Linears(nn.Module):
    """Two linear layers in a row: GL(3) between them, three rotations."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 3, bias=False), nn.Linear(3, 5, bias=False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x)).tanh()
        return out


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 4, generator=generator, dtype=torch.float64), torch.randint(5, (16,), generator=generator)


def loss_fn(model: nn.Module, given: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(given[0]), given[1])


SYMMETRIES = nm.find_symmetries(Linears(), batch(0), loss_fn)


def angular_momenta(model: Linears, moment: Callable[[Tensor], Tensor]) -> list[float]:
    """⟨v, Mθ⟩ of the three M = E_ij - E_ji, written out: M W₁ for the first layer and W₂ Mᵀ for the second."""
    w1, w2 = model.first.weight.detach(), model.second.weight.detach()
    v1, v2 = moment(model.first.weight), moment(model.second.weight)
    out = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        m = torch.zeros(3, 3, dtype=torch.float64)
        m[i, j], m[j, i] = 1.0, -1.0
        out.append(float((v1 * (m @ w1)).sum() + (v2 * (w2 @ m.T)).sum()))
    return out


def train(
    model: Linears, optimizer: torch.optim.Optimizer, steps: range = range(STEPS), **options: Any
) -> tuple[nm.Run, list[list[float]]]:
    def moment(parameter: Tensor) -> Tensor:
        state = optimizer.state.get(parameter, {})
        found = state.get("momentum_buffer", state.get("exp_avg"))
        return torch.zeros_like(parameter) if found is None else found.detach()

    seen = [angular_momenta(model, moment)]
    settings = {"every": 1, "laws": ["exact", "rotation"], "strict": True} | options
    with nm.Monitor(model, optimizer, SYMMETRIES, **settings) as monitor:
        for step in steps:
            optimizer.zero_grad()
            loss_fn(model, batch(step)).backward()
            optimizer.step()
            seen.append(angular_momenta(model, moment))
    return monitor.run, seen


def turning(model: Linears, optimizer: torch.optim.SGD, seed: int = 3) -> None:
    """Give the buffers something to turn with."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        optimizer.state[parameter]["momentum_buffer"] = noise


def error(run: nm.Run) -> float:
    table = run.errors(by="kind").query("law == 'rotation'")
    assert list(table["kind"]) == ["rotation"]
    assert list(table["charges"]) == [3]
    return float(table["max_error"].iloc[0])


HEAVY: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "dampening": {"dampening": 0.4, "weight_decay": 0.1},
    "foreach": {"foreach": True},
}


@pytest.mark.parametrize("setting", list(HEAVY))
def test_the_heavy_ball_multiplies_angular_momentum_by_beta(setting: str) -> None:
    model = Linears()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA, **HEAVY[setting])
    turning(model, optimizer)
    run, seen = train(model, optimizer)
    measured = run.angular_momentum["measured"].values
    assert np.allclose(measured, seen, rtol=1e-13, atol=1e-14)
    law = np.array(seen[0]) * BETA ** np.arange(STEPS + 1)[:, None]
    assert np.allclose(measured, law, rtol=1e-9, atol=1e-13)
    assert np.allclose(run.angular_momentum["predicted"].values, law, rtol=1e-13, atol=1e-15)
    assert np.abs(seen[0]).min() > 0.01
    assert error(run) < 1e-14
    assert not run.warnings


def test_a_schedule_of_momentum_and_rate() -> None:
    model = Linears()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA)
    turning(model, optimizer)
    with nm.Monitor(model, optimizer, SYMMETRIES, every=1, laws=["rotation"], strict=True) as monitor:
        for step in range(6):
            optimizer.param_groups[0].update(lr=0.1 / (step + 1), momentum=BETA - 0.1 * step)
            optimizer.zero_grad()
            loss_fn(model, batch(step)).backward()
            optimizer.step()
    measured = monitor.run.angular_momentum["measured"].values
    product = np.prod([BETA - 0.1 * step for step in range(6)])
    assert np.allclose(measured[6], measured[0] * product, rtol=1e-10)
    assert error(monitor.run) < 1e-14


def test_a_fresh_buffer_never_turns() -> None:
    model = Linears()
    run, _ = train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA))
    assert (run.angular_momentum["predicted"].values == 0).all()
    assert np.abs(run.angular_momentum["measured"].values).max() < 1e-15
    assert error(run) < 1e-14


def test_rates_may_differ_and_momenta_may_not() -> None:
    for options, speaks in (({"lr": 0.03}, True), ({"weight_decay": 0.2}, True), ({"momentum": 0.5}, False)):
        model = Linears()
        groups = [{"params": [model.first.weight]}, {"params": [model.second.weight]} | options]
        optimizer = torch.optim.SGD(groups, lr=0.1, momentum=BETA)
        turning(model, optimizer)
        run, _ = train(model, optimizer, laws=["rotation"])
        predicted = run.angular_momentum["predicted"].values
        assert np.isfinite(predicted[0]).all()
        assert np.isnan(predicted[1:]).all() != speaks
        if speaks:
            assert error(run) < 1e-14


def test_a_layer_that_stands_still_ends_the_law() -> None:
    model = Linears()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA)
    turning(model, optimizer)
    model.second.weight.requires_grad_(False)
    run, _ = train(model, optimizer, laws=["rotation"])
    assert np.isnan(run.angular_momentum["predicted"].values[1:]).all()


VIOLATING: Mapping[str, tuple[Callable[[Any], torch.optim.Optimizer], str]] = {
    "nesterov": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=BETA, nesterov=True), "Nesterov's steps are along G"),
    "adamw": (lambda p: torch.optim.AdamW(p, lr=0.05, betas=(BETA, 0.9)), "AdamW does not step along its moment"),
    "muon": (lambda p: torch.optim.Muon(p, lr=0.05, momentum=BETA), "Muon does not step along its moment"),
}


@pytest.mark.parametrize("name", list(VIOLATING))
def test_nesterov_adamw_and_muon_violate_it_and_are_said_to(name: str) -> None:
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this version of torch has no Muon")
    build, reason = VIOLATING[name]
    model = Linears()
    laws = ["exact", "rotation"] if name == "nesterov" else ["rotation"]
    with pytest.warns(MonitorWarning, match=f"angular momentum of 3 rotations .*{reason}") as said:
        run, seen = train(model, build(model.parameters()), laws=laws)
    assert sum("angular momentum" in str(w.message) for w in said) == 1
    assert np.allclose(run.angular_momentum["measured"].values, seen, rtol=1e-12, atol=1e-13)
    assert (run.angular_momentum["predicted"].values == 0).all()
    assert np.abs(seen[-1]).max() > 1e-6
    assert error(run) > 1e-5


def test_rotary_pairs_turn() -> None:
    """Queries and keys under a rotary embedding: one rotation a pair of channels."""

    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.q, self.k, self.v = (nn.Linear(4, 4, bias=False) for _ in range(3))
            self.double()

        def forward(self, x: Tensor) -> Tensor:
            angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * torch.tensor([1.0, 0.1])
            cos, sin = (torch.cat([f(angles)] * 2, -1) for f in (torch.cos, torch.sin))

            def turned(y: Tensor) -> Tensor:
                return y * cos + torch.cat([-y[..., 2:], y[..., :2]], -1) * sin

            scores = (turned(self.q(x)) @ turned(self.k(x)).mT).softmax(-1)
            out: Tensor = (scores @ self.v(x)).tanh()
            return out

    def data(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        return torch.randn(3, 5, 4, generator=generator, dtype=torch.float64), torch.zeros(0)

    def energy(model: nn.Module, given: tuple[Tensor, Tensor]) -> Tensor:
        out: Tensor = (model(given[0]) - given[0].roll(1, 1)).square().mean()
        return out

    model = Rotary()
    found = nm.find_symmetries(model, data(0), energy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA, weight_decay=0.01)
    turning(model, optimizer)  # type: ignore[arg-type]
    with nm.Monitor(model, optimizer, found, every=1, laws=["rotation"], strict=True) as monitor:
        for step in range(6):
            optimizer.zero_grad()
            energy(model, data(step)).backward()
            optimizer.step()
    measured = monitor.run.angular_momentum["measured"].values
    rotary = {family.name for family in found if isinstance(family.action, ComplexPairs)}
    pairs = [k for k, name in enumerate(monitor.run.angular_momentum["family"].values) if name in rotary]
    assert len(pairs) == 2
    assert np.abs(measured[0, pairs]).min() > 1e-3
    assert np.allclose(measured[:, pairs], measured[0, pairs] * BETA ** np.arange(7)[:, None], rtol=1e-9)


def test_what_else_moves_the_buffer_begins_the_law_anew() -> None:
    model = Linears()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA)
    turning(model, optimizer)

    def train_and_write() -> nm.Run:
        with nm.Monitor(model, optimizer, SYMMETRIES, every=1, laws=["exact", "rotation"]) as monitor:
            for step in range(8):
                if step == 4:
                    for parameter in model.parameters():
                        optimizer.state[parameter]["momentum_buffer"].mul_(-3.0)
                optimizer.zero_grad()
                loss_fn(model, batch(step)).backward()
                optimizer.step()
        return monitor.run

    with pytest.warns(MonitorWarning, match="wrote the momentum") as said:
        run = train_and_write()
    assert len(said) == 1
    assert error(run) < 1e-13
    measured = run.angular_momentum["measured"].values
    assert np.allclose(measured[4], -3.0 * BETA * measured[3], rtol=1e-9)  # taken when step 5 begins
    assert np.allclose(measured[5], BETA * measured[4], rtol=1e-9)


def test_a_resumed_run_goes_on_with_the_law(tmp_path: Path) -> None:
    model = Linears()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA)
    turning(model, optimizer)
    train(model, optimizer, range(5), store=tmp_path / "run")
    train(model, optimizer, range(5, STEPS), store=tmp_path / "run", resume=True)
    other = Linears()
    undisturbed = torch.optim.SGD(other.parameters(), lr=0.1, momentum=BETA)
    turning(other, undisturbed)
    right, _ = train(other, undisturbed)
    run = nm.open_run(tmp_path / "run")
    assert run.verify()["sound"].all()
    for name in ("measured", "predicted", "size"):
        assert np.allclose(run.angular_momentum[name], right.angular_momentum[name], rtol=1e-13, atol=1e-15), name


def test_what_has_no_rotation_or_no_momentum_is_refused(training: Any) -> None:
    model = Linears()
    with pytest.raises(ValueError, match="hold no rotation"):
        nm.Monitor(training.model, training.sgd(momentum=0.9), training.symmetries, laws=["rotation"])
    with pytest.raises(ValueError, match="is about momentum"):
        nm.Monitor(model, torch.optim.SGD(model.parameters(), lr=0.1), SYMMETRIES, laws=["rotation"])
    with pytest.raises(ValueError, match=r"followed no rotations: give the monitor laws=\['rotation'\]"):
        _ = train(model, torch.optim.SGD(model.parameters(), lr=0.1), laws=["exact"])[0].angular_momentum


def test_training_is_the_same_to_the_bit() -> None:
    models = [Linears(), Linears()]
    for number, model in enumerate(models):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=BETA)
        if number:
            train(model, optimizer)
            continue
        for step in range(STEPS):
            optimizer.zero_grad()
            loss_fn(model, batch(step)).backward()
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True))
