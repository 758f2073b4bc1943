"""Schedules: the annealings keep what theory says they keep, and a training's course is what the formulas say."""

from __future__ import annotations

from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuralmechanics.experiments.config import OptimizerConfig, ScheduleConfig, TrainConfig
from neuralmechanics.experiments.data import Position, advance
from neuralmechanics.experiments.training.plan import Plan
from neuralmechanics.experiments.training.schedule import Hyper, Progress, hyper_at

START = Hyper(0.1, 0.9, 32)


def at(schedule, step=0, epoch=0.0, done=0.0, tick=0.0):
    return hyper_at(schedule, START, Progress(step, epoch, done, tick))


@given(st.floats(0.0, 0.999), st.floats(1e-4, 1.0))
def test_halving_keeps_the_time_step_and_doubling_doubles_it(momentum, rate):
    start = Hyper(rate, momentum, 32)
    now = Progress(0, 1.0, 0.5)
    halved = hyper_at(ScheduleConfig("halve", milestones=(1.0,)), start, now)
    doubled = hyper_at(ScheduleConfig("double-batch", milestones=(1.0,)), start, now)
    time = rate / (1 - momentum)
    assert halved.learning_rate / (1 - halved.momentum) == pytest.approx(time, rel=1e-9)
    assert doubled.learning_rate / (1 - doubled.momentum) == pytest.approx(2 * time, rel=1e-9)
    # The memory of v in examples, (1-β²) B, stays.
    assert (1 - doubled.momentum**2) * doubled.batch_size == pytest.approx((1 - momentum**2) * 32, rel=1e-9)


def test_annealings_repeat_at_each_milestone():
    twice = at(ScheduleConfig("double-batch", milestones=(1.0, 2.0)), epoch=2.0)
    first = sqrt((1 + 0.9**2) / 2)
    second = sqrt((1 + first**2) / 2)
    assert twice.momentum == pytest.approx(second)
    assert twice.batch_size == 128
    assert at(ScheduleConfig("linear-scaling", milestones=(1.0,)), epoch=1.5) == Hyper(0.2, 0.9, 64)
    assert at(ScheduleConfig("drops", milestones=(3,), unit="step"), step=2).learning_rate == 0.1
    assert at(ScheduleConfig("drops", milestones=(3,), unit="step"), step=3).learning_rate == pytest.approx(0.01)


def test_cosine_linear_and_warmup():
    cosine, linear = ScheduleConfig("cosine", factor=0.0), ScheduleConfig("linear", factor=0.5)
    assert [at(cosine, done=d).learning_rate for d in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.05, 0.0])
    assert [at(linear, done=d).learning_rate for d in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.075, 0.05])
    floor = ScheduleConfig("cosine", factor=0.2)  # down to a fifth, not to nothing
    assert [at(floor, done=d).learning_rate for d in (0.0, 0.5, 1.0)] == pytest.approx([0.1, 0.06, 0.02])
    warm = ScheduleConfig("constant", warmup=4.0, unit="step")
    rates = [at(warm, step=s).learning_rate for s in range(6)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])
    assert at(ScheduleConfig("constant", warmup=1.0), epoch=0.0, tick=0.25).learning_rate == pytest.approx(0.025)


def test_a_warm_up_in_epochs_counts_the_batch_about_to_be_made():
    """Four batches an epoch, two epochs of warm-up: an eighth of the rate at first, all of it at the eighth step."""
    schedule = ScheduleConfig("constant", warmup=2.0)
    plan = Plan(TrainConfig(batch_size=32, epochs=4, schedule=schedule), 128)
    places = [Position(0, 0, 0), Position(1, 0, 32), Position(4, 1, 0), Position(7, 1, 96), Position(9, 2, 32)]
    rates = [plan.hyper(place).learning_rate for place in places]
    assert rates == pytest.approx([0.1 / 8, 0.2 / 8, 0.5 / 8, 0.1, 0.1])


def test_plan_counts_the_published_steps_per_epoch():
    plan = Plan(TrainConfig(batch_size=256, epochs=1), 100_000)
    assert plan.total_steps() == 391
    doubling = TrainConfig(
        batch_size=32,
        epochs=2,
        schedule=ScheduleConfig("double-batch", milestones=(1.0,)),
        optimizer=OptimizerConfig(momentum=0.9),
    )
    assert Plan(doubling, 128).total_steps() == 4 + 2


@given(st.integers(1, 300), st.integers(1, 64))
def test_an_epoch_uses_every_example_but_a_lonely_last_one(examples, size):
    position = Position()
    used = 0
    while position.epoch == 0:
        used += min(size, examples - position.offset)
        position = advance(position, size, examples)
    assert examples - used == (1 if size > 1 and examples > 1 and examples % size == 1 else 0)
    assert position.offset == 0
