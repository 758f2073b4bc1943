"""Pictures and page of a run that was really trained and recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig, train
from neuralmechanics.monitor import Run, open_run
from neuralmechanics.report import errors_by_law, save_figures, write_report
from neuralmechanics.report.paper import RUN_FIGURES, save_paper_figure
from neuralmechanics.report.paper.drawing.settings import setting
from neuralmechanics.report.scores import largest_error, relative_errors
from neuralmechanics.report.source import laws, raw_weights, scalars


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = TrainConfig(
        model="mlp-bn",
        steps=20,
        optimizer=OptimizerConfig(learning_rate=0.05, momentum=0.9, weight_decay=1e-3),
        record=RecordConfig(every=2, residuals=True, metrics=("weights-subset",), subset=4),
    )
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(config, folder)
    return open_run(folder)


def test_pictures_and_page_are_made(recorded: Run, tmp_path: Path) -> None:
    assert len(save_figures(recorded, tmp_path, dpi=40)) == 3
    page = write_report(recorded, tmp_path / "run.html").read_text()
    assert "<h1>mlp-bn on digits</h1>" in page
    for family in recorded.symmetries:
        assert family.name in page.replace("&gt;", ">")


def test_the_papers_figures_are_made(recorded: Run, tmp_path: Path) -> None:
    for name in RUN_FIGURES:
        assert len(save_paper_figure(name, [recorded], tmp_path, dpi=30)) == 2


def test_drawn_errors_are_those_of_the_table(recorded: Run) -> None:
    table = errors_by_law(recorded.errors(by="kind")).set_index("kind")
    relative, kinds = relative_errors(recorded.data), recorded.data["kind"].values.astype(str)
    for law in laws(recorded.data):
        for kind in np.unique(kinds):
            drawn = np.nanmax(largest_error(relative.sel(law=law).values[:, kinds == kind]))
            assert drawn == table.loc[kind, law]


def test_weights_settings_and_hyperparameters_are_found(recorded: Run) -> None:
    raw = raw_weights(recorded)
    assert raw is not None
    assert raw.values.shape == (len(raw.step), len(raw.names))
    assert setting(recorded, "weight_decay") == 1e-3
    assert np.allclose(scalars(recorded.data)["learning_rate"][1:], 0.05)
