"""Laws of one's own: followed, recorded, read and replayed beside the others; what is none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.laws import ChargeLaw, Drives, ExactLaw, Hyperparameters, replay


class Counting(ChargeLaw):
    """X ← X + 1, of which nothing but the number of steps is known."""

    name = "counting"

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        self._state.move(None, charge=self._state["charge"] + 1)


class Driven(ChargeLaw):
    """X ← (1 - 2ηλ) X + η² ⟨g,g⟩, the law of SGD without momentum but for (ηλ)², from the gradients' energy."""

    name = "driven"
    needs = ("gradient_energy",)

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        c = self._state.coefficients(hyper)
        kept = 1 - 2 * c.learning_rate * c.weight_decay
        gained = c.learning_rate.square() * self._state.energy("gradient_energy", drives)
        self._state.move(None, charge=kept * self._state["charge"] + gained)


def trained(laws: Any, store: Path | None = None, steps: int = 20, **options: Any) -> nm.monitor.Run:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    batch = torch.randn(16, 3)
    symmetries = nm.find_symmetries(model, batch)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, weight_decay=options.pop("weight_decay", 0.0))
    with nm.Monitor(model, optimizer, symmetries, store, every=5, laws=laws, strict=True, **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            (model(batch) - 1).square().mean().backward()
            optimizer.step()
    return monitor.run


def test_a_law_of_ones_own_is_recorded_beside_the_others(tmp_path: Path) -> None:
    trained(["exact", Counting], tmp_path / "run")
    run = nm.open_run(tmp_path / "run")
    data = run.data
    assert data["law"].values.tolist() == ["exact", "counting"]
    gained = data["predicted"].sel(law="counting").values - data["charge"].values[0]
    assert gained == pytest.approx(np.repeat(data["step"].values[:, None], gained.shape[1], 1), rel=1e-6)
    assert set(run.errors()["law"]) == {"exact", "counting"}


def test_it_is_fed_the_drives_that_it_needs() -> None:
    """The energy of the gradients at every step, without any other law that asks for it."""
    data = trained(["exact", Driven]).data
    exact, driven = (data["predicted"].sel(law=law).values for law in ("exact", "driven"))
    moved = np.abs(exact[-1] - exact[0])
    assert moved.max() > 1e-3
    assert np.abs(driven - exact).max() < 1e-6
    decayed = trained(["exact", Driven], weight_decay=0.1).data
    exact, driven = (decayed["predicted"].sel(law=law).values for law in ("exact", "driven"))
    off = np.abs(driven - exact).max() / np.abs(exact - exact[0]).max()
    assert 1e-6 < off < 1e-2  # what it leaves out, (ηλ)² and 2η²λ⟨θ,g⟩ = 0, is small and there


def test_it_goes_on_after_a_resume(tmp_path: Path) -> None:
    """What it remembers is stored with the run: 20 steps and 20 more count 40."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    symmetries = nm.find_symmetries(model, torch.randn(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for resume in (False, True):
        with nm.Monitor(model, optimizer, symmetries, tmp_path / "run", laws=[Counting], resume=resume):
            for _ in range(20):
                optimizer.zero_grad()
                model(torch.randn(16, 3)).square().mean().backward()
                optimizer.step()
    data = nm.open_run(tmp_path / "run").data
    gained = data["predicted"].sel(law="counting").values - data["charge"].values[0]
    assert gained[-1] == pytest.approx(np.full(gained.shape[1], 40.0), rel=1e-6)


def test_it_is_replayed_from_a_recorded_history() -> None:
    run = trained(["exact"], drives=True)
    history = run.drive_history()
    quadratic = torch.from_numpy(run.data["kind"].values != "translation")
    path = replay(Driven(quadratic), history)
    exact = replay(ExactLaw(quadratic), history)
    assert float((path - exact).abs().max()) < 1e-6


class Misshapen(Counting):
    name = "misshapen"

    def start(self, charge0: Tensor, companion0: Tensor | None = None) -> None:
        self._state.start(charge0[:1])

    def __init__(self, quadratic: Tensor | None = None) -> None:
        super().__init__(None)


def renamed(**entries: Any) -> type:
    return type("Mine", (Counting,), entries)


@pytest.mark.parametrize(
    ("laws", "text"),
    [
        (["nonsense"], "no law named 'nonsense'"),
        ("exact", "is one name; give a list"),
        ([3], "3 is no law"),
        ([object], "is no law"),
        ([Counting(None)], r"which is made already; give the class: laws=\[Counting\]"),
        ([renamed(name="exact")], "which is taken"),
        ([renamed(name="fallback")], "which is taken"),
        ([renamed(name="a/b")], "is no law"),
        ([renamed(needs=("energy",))], "needs 'energy', which is not measured; drives: decay,"),
        ([Misshapen], r"law 'misshapen' begins with values of shape \[1\]"),
    ],
)
def test_what_is_no_law_is_refused_in_one_line(laws: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as told:
        trained(laws)
    assert "\n" not in str(told.value)


def test_other_optimisers_have_other_settings() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    symmetries = nm.find_symmetries(model, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="the law 'counting' is fed the settings of SGD"):
        nm.Monitor(model, torch.optim.Adam(model.parameters()), symmetries, laws=[Counting])
