"""The paper's figures: right run in the right panel, and every run's errors in the table."""

from __future__ import annotations

import importlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuralmechanics.report.palette import INK, colours, padded
from neuralmechanics.report.paper import RUN_FIGURES, fig1, fig5, momentum, phase, save_paper_figure, schedules, sums
from neuralmechanics.report.paper.drawing.blocks import block_of_parameters, blocks
from neuralmechanics.report.paper.drawing.settings import distinct, error_table, setting
from neuralmechanics.report.paper.phase import velocity
from neuralmechanics.report.paper.sums import layer_sums

from ..conftest import LAWS, StandInFamily, StandInRun, make_run

epochs = importlib.import_module("neuralmechanics.report.paper.drawing.epochs")
# The package has functions of these names.
performance_figure = importlib.import_module("neuralmechanics.report.paper.performance")
CONFIG = {"model": "vgg16-bn", "optimizer": {"learning_rate": 0.1}}
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
    for name in RUN_FIGURES.keys() - {"performance"}:  # that one needs evaluations, which stand beside a run
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
    right = figure.axes[1]
    assert right.get_title(loc="left") == "4 charges of 1 layers"
    norms = runs[1].data.isel(charge=runs[1].data["kind"].values == "scale")["charge"].values
    assert np.allclose(sorted(line.get_ydata()[-1] for line in right.lines), sorted(norms[-1]))


def test_fig1_has_a_colour_a_block_and_all_layers() -> None:
    sizes = {"features.conv1": 4, "features.conv2": 4, "features.conv3": 8}
    families = tuple(StandInFamily("scale", f"scale: {name}", size, size) for name, size in sizes.items())
    run = make_run(families, records=20, weights=6)
    owners = [f"features.{name}.weight" for name in ("conv1", "norm1", "conv2", "conv3")]
    owners += ["classifier.linear1.weight", "classifier.head.bias"]
    run = replace(run, data=run.data.assign_coords({"weights-subset/parameter": ("weight", owners)}), config=CONFIG)
    found = blocks(run.data, "scale")
    assert [block.name for block in found] == ["conv1 to conv2", "conv3"]
    assert list(block_of_parameters(owners, found).values()) == [0, 0, 0, 1, 2, 2]
    figure, _ = fig1([run])
    left, right = figure.axes
    pens = colours(3)
    assert [line.get_color() for line in left.lines] == [pens[0]] * 3 + [pens[1]] + [pens[2]] * 2
    assert [line.get_color() for line in right.lines] == [pens[0]] * 8 + [pens[1]] * 8
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["conv1 to conv2", "conv3", "all other layers"]


def test_fig5_draws_the_papers_formula_on_every_measured_line(runs: list[StandInRun]) -> None:
    """Three charges of each family: the dashed formula, circles and crosses at steps of their own, bands of all."""
    figure, _ = fig5(runs[:4])
    for axes in figure.axes:
        wide = [line for line in axes.lines if line.get_linewidth() == 4.0]
        marks = {marker: [line for line in axes.lines if line.get_marker() == marker] for marker in ("o", "x")}
        assert len(wide) == len(marks["o"]) == len(marks["x"]) == 3
        assert len(axes.collections) == 3
        circles, crosses = (set(range(*marks[m][0].get_markevery()[:1], 20, 2)) for m in ("o", "x"))
        assert not circles & crosses
    run, family = runs[0], "last columns"
    axes = figure.axes[0]
    dashed = [line for line in axes.lines if line.get_color() == INK]
    part = run.data.isel(charge=run.data["family"].values == family)
    predicted = part["predicted"].sel(law="first_order").values
    for line in dashed:
        assert any(np.allclose(line.get_ydata(), column) for column in predicted.T)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 23])
def test_a_legend_is_whole_with_any_number_of_decays(count: int) -> None:
    many = [_run("vgg16-bn", 1e-4 * k, 0.9) for k in range(count)]
    figure, _ = momentum(many)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sum(text.startswith("measured, λ = ") for text in texts) == count
    assert any("oscillator" in text for text in texts)
    assert len({handle.get_color() for handle in figure.legends[0].get_lines()[:count]}) == count
    figure.savefig(io.BytesIO(), dpi=40)
    box, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert box.x0 >= whole.x0
    assert box.x1 <= whole.x1


def test_sums_are_sums(runs: list[StandInRun]) -> None:
    """Over a layer and over the network, of the charges and of what each law predicts."""
    run = make_run((*NORMED, StandInFamily("scale", "filters of conv3", 3, 3)), records=20)
    found = layer_sums(run.data, "scale")
    assert list(found) == ["filters of conv2", "filters of conv3"]
    mine = run.data.isel(charge=run.data["family"].values == "filters of conv2")
    assert np.allclose(found["filters of conv2"][:, 0], mine["charge"].values.sum(axis=1))
    assert np.allclose(found["filters of conv2"][:, 1:], mine["predicted"].values.sum(axis=2).T)
    # A run that recorded some of a layer's charges and their sum: the sum it is.
    family = np.where(
        run.data["family"].values == "filters of conv3", "filters of conv2 (sum)", run.data["family"].values
    )
    part = layer_sums(run.data.assign_coords(family=("charge", family)), "scale")
    assert list(part) == ["filters of conv2 (sum)"]
    figure, _ = sums(runs[:4])
    assert len(figure.axes) == 6


def test_epochs_come_from_evaluations() -> None:
    """Ends of epochs at 10, 20, 25 (a larger batch), and an evaluation after the last step."""
    steps = np.array([0.0, 5, 10, 20, 22.5, 25, 30])
    with mock.patch.object(epochs, "metrics_of", return_value=xr.Dataset(coords={"evaluation": [10, 20, 25, 27]})):
        time, word = epochs.time_axis(make_run(), steps)
    assert word == "epoch"
    assert time.tolist() == [0.0, 0.5, 1.0, 2.0, 2.5, 3.0, 4.0]
    with mock.patch.object(epochs, "metrics_of", return_value=None):
        assert epochs.time_axis(make_run(), steps)[1] == "step"


def test_performance_shows_losses_and_accuracies(runs: list[StandInRun]) -> None:
    names = ("loss", "top1", "top5")
    values = {f"performance/{name}": ("evaluation", np.linspace(0.1 * k, 1, 3)) for k, name in enumerate(names)}
    metrics = xr.Dataset(values, coords={"evaluation": [50, 100, 150]})
    with pytest.raises(ValueError, match="no run was evaluated"):
        performance_figure.performance(runs[:2])
    with mock.patch.object(performance_figure, "metrics_of", return_value=metrics):
        figure, _ = performance_figure.performance(runs[:2])
    assert len(figure.axes) == 4
    loss, accuracy = figure.axes[:2]
    assert np.array_equal(loss.lines[1].get_ydata(), metrics["performance/loss"].values)
    assert np.array_equal(accuracy.lines[0].get_ydata(), metrics["performance/top1"].values)
    assert np.array_equal(accuracy.lines[1].get_ydata(), metrics["performance/top5"].values)


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
