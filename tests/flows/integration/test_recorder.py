"""One loop behind every trajectory: flows, sample paths and the optimiser meet the meter, ends and failures alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import GradientFlow, Path, StochasticFlow, StopReason, descend, integrate, simulate
from neuralmechanics.progress import Meter

from ..problems import point

TIMES = [0.0, 0.1, 0.2, 0.3, 0.4]


class _Meter:
    """Keeps what it hears; raises ``error`` at the step ``until``."""

    def __init__(self, until: int = 10**6, error: BaseException | None = None) -> None:
        self.until, self.error = until, error
        self.heard: list[tuple[str, object]] = []

    def start(self, total: int, title: str) -> None:
        self.heard.append(("start", total))

    def advance(self, steps: int, **scalars: float) -> None:
        self.heard.append(("advance", scalars))
        if self.error is not None and len(self.heard) > self.until:
            raise self.error

    def finish(self) -> None:
        self.heard.append(("finish", None))


def _loss(params: dict[str, Tensor]) -> Tensor:
    return 0.5 * params["x"].square().sum()


def _losses(params: dict[str, Tensor]) -> Tensor:
    return torch.stack([_loss(params), 2 * _loss(params)])


def _integrated(meter: Meter | None, loss: Callable[[dict[str, Tensor]], Tensor] = _loss) -> Path:
    return integrate(GradientFlow(loss), point(1.0, 2.0), TIMES, step=0.1, meter=meter)


def _adaptive(meter: Meter | None) -> Path:
    return integrate(GradientFlow(_loss), point(1.0, 2.0), TIMES, method="dopri5", meter=meter)


def _sampled(meter: Meter | None) -> Path:
    return simulate(StochasticFlow(_losses, learning_rate=0.1), point(1.0, 2.0), TIMES, meter=meter)


def _optimised(meter: Meter | None) -> Path:
    return descend(_loss, point(1.0, 2.0), lambda params: torch.optim.SGD(params, lr=0.1), 4, meter=meter)


TRAJECTORIES = pytest.mark.parametrize("run", [_integrated, _adaptive, _sampled, _optimised])


@TRAJECTORIES
def test_the_meter_hears_every_time_with_the_loss_there(run: Callable[[Meter | None], Path]) -> None:
    meter = _Meter()
    path = run(meter)
    assert path.completed
    assert path.times.tolist() == pytest.approx(TIMES)
    expected = [
        {"time": time, "loss": loss} for time, loss in zip(path.times.tolist(), path.losses.tolist(), strict=True)
    ][1:]
    assert [said for name, said in meter.heard if name == "advance"] == expected
    assert meter.heard[0][0] == "start"
    assert meter.heard[-1] == ("finish", None)
    assert path.losses.tolist() == run(None).losses.tolist()


@TRAJECTORIES
def test_a_meter_may_end_it_there(run: Callable[[Meter | None], Path]) -> None:
    meter = _Meter(2, StopIteration())
    path = run(meter)
    assert (path.reason, path.message) == (StopReason.STOPPED, "the meter asked to stop")
    assert path.times.tolist() == pytest.approx(TIMES[:3])
    assert meter.heard[-1] == ("finish", None)


@TRAJECTORIES
def test_any_other_error_passes_and_the_meter_is_finished(run: Callable[[Meter | None], Path]) -> None:
    meter = _Meter(1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run(meter)
    assert [name for name, _ in meter.heard] == ["start", "advance", "finish"]


def test_a_loss_that_stops_iterating_is_an_error_and_no_wish_to_stop() -> None:
    """Only the meter may ask to stop: the same exception out of the loss is a fault of the loss."""
    calls: list[int] = []

    def loss(params: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        if len(calls) > 5:
            raise StopIteration
        return _loss(params)

    with pytest.raises(RuntimeError, match="StopIteration"):
        _integrated(None, loss)


def test_the_optimiser_is_recorded_every_so_many_steps_and_the_meter_told_of_each() -> None:
    meter = _Meter()
    path = descend(_loss, point(1.0), lambda p: torch.optim.SGD(p, lr=0.5), 5, every=2, meter=meter)
    assert path.times.tolist() == [0.0, 1.0, 2.0, 2.5]
    assert path.message == "all steps taken"
    told = [said for name, said in meter.heard if name == "advance"]
    assert [sorted(said) for said in told] == [["time"], ["loss", "time"], ["time"], ["loss", "time"], ["loss", "time"]]
    assert meter.heard[0] == ("start", 5)
