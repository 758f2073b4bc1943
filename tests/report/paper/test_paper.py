"""The paper's figures: right run in the right panel, and every run's errors in the table."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuralmechanics.report.palette import padded
from neuralmechanics.report.paper import RUN_FIGURES, fig1, fig5, momentum, phase, save_paper_figure, schedules
from neuralmechanics.report.paper.phase import velocity
from neuralmechanics.report.paper.settings import distinct, error_table, setting

from ..conftest import LAWS, StandInFamily, StandInRun, make_run

DECAYS = (0.0, 1e-4, 1e-3)
MOMENTA = (0.8, 0.9)
PLAIN = (StandInFamily("rescale", "conv5 against conv4", 5, 5), StandInFamily("translation", "last columns", 6, 6))
NORMED = (*PLAIN, StandInFamily("scale", "filters of conv2", 4, 4))


def _run(model: str, decay: float, beta: float) -> StandInRun:
    optimizer = {"learning_rate": 0.1, "weight_decay": decay, "momentum": beta, "dampening": 0.0}
    config = {"model": model, "data": "digits", "optimizer": optimizer, "schedule": {"name": "drops"}}
    return replace(make_run(NORMED if model.endswith("bn") else PLAIN, records=20), config=config)


@pytest.fixture(scope="module")
def runs() -> list[StandInRun]:
    return [_run(model, decay, beta) for beta in MOMENTA for decay in DECAYS for model in ("vgg16", "vgg16-bn")]


def test_every_figure_has_a_picture_and_every_error(runs: list[StandInRun], tmp_path: Path) -> None:
    for name in RUN_FIGURES:
        picture, table = save_paper_figure(name, runs[:4], tmp_path / "figures", dpi=30)
        assert picture.read_bytes().startswith(b"\x89PNG")
        read = pd.read_csv(table)
        assert len(read) == sum(len(run.errors()) for run in runs[:4])
        assert set(read["law"]) == set(LAWS)
        assert {"weight_decay", "momentum", "dampening", "model"} <= set(read.columns)


def test_fig5_shows_norms_on_the_normed_network_and_the_rest_without(runs: list[StandInRun]) -> None:
    figure, _ = fig5(runs)
    titles = np.array([axes.get_title(loc="left") for axes in figure.axes]).reshape(3, len(DECAYS))
    assert [title.split(":")[0] for title in titles[0]] == ["λ = 0", "λ = 0.0001", "λ = 0.001"]
    assert set(titles[1]) == {"vgg16-bn"}
    assert set(titles[2]) == {"vgg16"}


def test_fig5_prefers_the_families_it_is_told(runs: list[StandInRun]) -> None:
    families = (StandInFamily("scale", "filters of conv1", 4, 4), StandInFamily("scale", "filters of conv2", 4, 4))
    run = replace(make_run(families, records=20), config=runs[0].config)
    run.data["charge"].values[:, 4:] *= 1e-3
    for wanted, size in (("conv2", 1e-2), ("conv1", 10.0)):
        figure, _ = fig5([run], {"scale": (wanted,)})
        assert max(map(abs, figure.axes[1].get_ylim())) < size


def test_momentum_has_a_row_for_each_momentum_and_a_colour_for_each_decay(runs: list[StandInRun]) -> None:
    figure, errors = momentum(runs)
    assert len(figure.axes) == len(MOMENTA) * 3
    # One measured line and two laws for each weight decay.
    assert all(len(axes.lines) == 3 * len(DECAYS) for axes in figure.axes)
    assert set(errors["momentum"]) == set(MOMENTA)


def test_momentum_frames_what_was_measured(runs: list[StandInRun]) -> None:
    figure, _ = momentum(runs)
    for axes in figure.axes:
        low, high = axes.get_ylim()
        for measured in axes.lines[::3]:
            assert low < measured.get_ydata().min()
            assert measured.get_ydata().max() < high


def test_rounding_is_not_drawn_as_motion() -> None:
    low, high = padded([np.array([1.0, 1.0 + 1e-7, np.nan])])
    assert high - low == pytest.approx(0.04, rel=1e-3)
    assert padded([np.array([np.inf])]) == (-0.02, 0.02)


def test_phase_shows_the_runs_with_norms(runs: list[StandInRun]) -> None:
    figure, _ = phase(runs)
    drawn = [axes for axes in figure.axes if axes.axison and axes.get_xlabel()]  # not the colour bar
    assert len(drawn) == len(runs) // 2


def test_velocity_is_exact_for_a_parabola() -> None:
    step = np.array([0.0, 1.0, 4.0, 9.0, 10.0])
    assert np.allclose(velocity(step[:, None] ** 2, step)[:, 0], 2 * step, atol=1e-12)
    assert velocity(np.ones((1, 3)), np.zeros(1)).tolist() == [[0.0, 0.0, 0.0]]


def test_schedules_show_the_time_step(runs: list[StandInRun]) -> None:
    figure, _ = schedules(runs[:2])
    top = figure.axes[0].lines[0].get_ydata()
    assert top[0] == pytest.approx(0.1)
    assert top[-1] == pytest.approx(0.01)


def test_fig1_takes_the_run_with_norms(runs: list[StandInRun]) -> None:
    figure, _ = fig1(runs[:2])
    assert "4 charges of filters of conv2" in figure.axes[1].get_title(loc="left")


def test_wrong_use_is_told(runs: list[StandInRun], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no figure 'fig9' is drawn from runs; those that are: fig1, fig5"):
        save_paper_figure("fig9", runs, tmp_path)
    with pytest.raises(ValueError, match="no run was given"):
        error_table([])


def test_settings_come_from_the_training_beside_the_run(tmp_path: Path, runs: list[StandInRun]) -> None:
    @dataclass(frozen=True)
    class Stored(StandInRun):
        path: str = ""

    (tmp_path / ".train.json").write_text(json.dumps({"model": "resnet18", "optimizer": {"weight_decay": 5e-4}}))
    stored = Stored(runs[0].data, runs[0].symmetries, {"model": "ResNet"}, str(tmp_path))
    assert setting(stored, "model") == "resnet18"
    assert setting(stored, "weight_decay") == 5e-4
    assert setting(stored, "momentum") is None
    assert distinct([stored, runs[0]], "momentum") == [(None,), (0.8,)]
