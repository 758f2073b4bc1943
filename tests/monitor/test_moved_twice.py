"""Parameters that a step moves twice, another precision, numbers set back, optimisers that change, inference mode."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.monitor.test_written_unseen import STEPS, adamw, backward, clear, error, follow, heavy_ball, sgd

Make = Callable[[Any], torch.optim.Optimizer]


def plain_loop(training: Any, optimizer: torch.optim.Optimizer) -> Callable[[int], None]:
    def loop(step: int) -> None:
        clear(optimizer)
        backward(training, step)
        optimizer.step()

    return loop


def alarms(said: list[str]) -> list[str]:
    return [text for text in said if not text.startswith("AdamW obeys no closed law")]


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
@pytest.mark.parametrize("how", ["listed twice", "one memory"])
@pytest.mark.parametrize("make", [heavy_ball, adamw])
def test_what_a_step_moves_twice_is_no_write_from_outside(training: Any, make: Make, how: str) -> None:
    """The identity and the budget hold, closed laws end where the parameter enters, with the reason."""
    model = training.model
    params = list(model.parameters())
    if how == "listed twice":
        params.append(model[2].weight)
        moved = "2.weight"
    else:  # two biases of one memory: of 6 units, and of 4 beside a part of it
        model[4].bias.data = model[2].bias.data[:4]
        moved = "2.bias"
    optimizer = make(params)
    monitor, said = follow(training, optimizer, plain_loop(training, optimizer))
    data, budget = monitor.run.data, monitor.run.budget()
    assert error(monitor, "identity") < 1e-13
    assert not data["outside"].values.any()
    rounding = budget["change"].sel(part="rounding").values
    assert np.abs(rounding).max() < 1e-13
    told = [text for text in said if "more than once" in text]
    assert len(alarms(said)) == len(told) == (make is heavy_ball)
    if make is heavy_ball:
        left = np.isnan(data["predicted"].sel(law="exact").values[-1])
        assert moved in told[0]
        assert 0 < left.sum() < left.size
        assert error(monitor, "exact") < 1e-13


@pytest.mark.parametrize(("before", "after"), [(torch.float64, torch.float32), (torch.float32, torch.bfloat16)])
def test_another_precision_is_said_once_and_allowed_for_from_there(
    make: Callable[..., Any], before: torch.dtype, after: torch.dtype
) -> None:
    """Casting moves every charge, once: the records after it are of the new precision and raise no alarm."""
    training = make(dtype=before)
    optimizer = sgd(training.model.parameters())

    def loop(step: int) -> None:
        if step == 9:
            clear(optimizer)
            training.model.to(after)
            training.dtype = after
        plain_loop(training, optimizer)(step)

    monitor, said = follow(training, optimizer, loop)
    assert [bool(re.search("fewer digits", text)) for text in said] == [True]
    outside = np.abs(monitor.run.data["outside"].values).max(axis=1)
    steps = monitor.run.data["step"].values
    assert outside[steps == 12].item() > 1e3 * outside[steps != 12].max()
    assert np.isfinite(monitor.run.data["predicted"].sel(law="exact").values).all()


@pytest.mark.parametrize("make", [sgd, heavy_ball, adamw])
def test_numbers_that_were_set_back_begin_the_laws_anew(training: Any, make: Make) -> None:
    """A step to nan, undone by loading the state before it, between two records: said, and followed again."""
    optimizer = make(training.model.parameters())
    kept: list[Any] = []

    def loop(step: int) -> None:
        clear(optimizer)
        backward(training, step)
        if step == 9:
            for p in training.model.parameters():
                p.grad.fill_(torch.nan)
        optimizer.step()
        if step == 9:
            training.model.load_state_dict(kept[0])
            optimizer.load_state_dict(kept[1])
        kept[:] = copy.deepcopy([training.model.state_dict(), optimizer.state_dict()])

    monitor, said = follow(training, optimizer, loop)
    data = monitor.run.data
    assert any("became nan or infinite, and something other than the optimiser set" in text for text in said)
    predicted = data["predicted"].sel(law="identity").values
    assert np.isfinite(predicted).all()
    assert error(monitor, "identity") < 1e-13
    set_back = data["step"].values == 12
    assert np.isposinf(data["outside"].values[set_back]).all()
    assert not data["outside"].values[~set_back].any()
    rounding = monitor.run.budget()["change"].sel(part="rounding").values
    assert np.isnan(rounding[2]).all()
    assert np.abs(np.delete(rounding, 2, axis=0)).max() < 1e-13


class Turning(torch.optim.SGD):
    """SGD for seven steps, then the signs of the gradient."""

    made = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.made += 1
        if self.made <= 7:
            return super().step(closure)
        for p in self.param_groups[0]["params"]:
            p.add_(p.grad.sign(), alpha=-1e-3)
        return None


def test_an_optimiser_that_ceases_to_be_sgd_is_tried_again(training: Any) -> None:
    """Its first steps were SGD's. What it does after them is seen at the next record, and closed laws end there."""
    optimizer = Turning(training.model.parameters(), lr=0.05, momentum=0.9)
    monitor, said = follow(training, optimizer, plain_loop(training, optimizer))
    assert any("at step 9 Turning obeys no closed law" in text for text in said)
    assert np.isnan(monitor.run.data["predicted"].sel(law="exact").values[-1]).all()
    assert error(monitor, "identity") < 1e-13


def test_a_gradient_that_no_optimiser_holds_leaves_the_residual_unknown(training: Any) -> None:
    """⟨g,ξ⟩ of a charge is not what those of its parameters have that one layer's optimiser moves."""
    optimizer = heavy_ball(training.model[2].parameters())

    def loop(step: int) -> None:
        training.model.zero_grad()
        backward(training, step)
        optimizer.step()

    monitor, _ = follow(training, optimizer, loop)
    data = monitor.run.data
    residual = data["residual"].values[1:]
    rescales = data["kind"].values == "rescale"
    assert np.isnan(residual[:, rescales]).all()
    assert error(monitor, "identity") < 1e-13


@pytest.mark.parametrize("make", [heavy_ball, adamw])
@pytest.mark.parametrize("options", [{}, {"exact_update": True}, {"drives": True}], ids=["told", "copied", "drives"])
def test_a_step_in_inference_mode_is_one_as_any(training: Any, make: Make, options: dict[str, bool]) -> None:
    """What is made inside of that mode cannot be written to outside of it: nothing that the monitor keeps is."""
    optimizer = make(training.model.parameters())

    def loop(step: int) -> None:
        clear(optimizer)
        backward(training, step)
        with torch.inference_mode(step % 4 == 2):
            optimizer.step()

    monitor, said = follow(training, optimizer, loop, every=5, **options)
    assert monitor.failure is None
    assert monitor.step == STEPS
    assert not alarms(said)
    assert error(monitor, "identity") < 1e-13
