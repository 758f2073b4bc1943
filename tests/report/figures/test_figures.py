"""Figures show what the run holds: every law in its own line, values as recorded, names as they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex

from neuralmechanics.report import figures
from neuralmechanics.report.palette import LAW_STYLES, MEASURED, in_reading_order, law_styles, shortened
from neuralmechanics.report.scores import largest_error, relative_errors, typical_error
from neuralmechanics.report.source import spread, telling_family, thinned

from ..conftest import ERROR_OF_LAW, LAWS, StandInFamily, StandInRun, make_run


def test_parameters_stand_left_and_charges_right(run: StandInRun) -> None:
    left, right = figures.parameters_and_charges(run).axes
    assert "80 raw parameters" in left.get_title(loc="left")
    assert "16 charges of scale of features.0" in right.get_title(loc="left")
    drawn = np.stack([line.get_ydata() for line in right.lines])
    measured = run.data["charge"].values[:, :16].T
    assert all(any(np.array_equal(one, line) for line in measured) for one in drawn)


def test_every_law_is_drawn_over_the_measured_charge(run: StandInRun) -> None:
    figure = figures.charges_and_laws(run)
    assert len(figure.axes) == 3
    for axes in figure.axes:
        colours = {to_hex(line.get_color()) for line in axes.lines}
        assert colours == {MEASURED, *(LAW_STYLES[law].colour for law in LAWS)}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["measured", *(LAW_STYLES[law].label for law in LAWS)]


def test_one_law_may_be_drawn_alone(run: StandInRun) -> None:
    axes = figures.charges_and_laws(run, families=["columns of classifier"], only=["exact"], charges=3).axes
    assert len(axes) == 1
    assert len(axes[0].lines) == 2 * 3


def test_a_law_that_leaves_does_not_set_the_axis() -> None:
    run = make_run()
    predicted = run.data["predicted"].values
    predicted[LAWS.index("gradient_flow"), -1] = 1e30
    for axes in figures.charges_and_laws(run).axes:
        assert max(map(abs, axes.get_ylim())) < 10


def test_errors_are_drawn_as_they_are(run: StandInRun) -> None:
    axes = figures.errors_over_time(run).axes[0]
    assert axes.get_yscale() == "log"
    for law, line in zip(LAWS, axes.lines, strict=True):
        expected = ERROR_OF_LAW[law] or 2.0**-54
        assert line.get_ydata()[-1] == pytest.approx(expected, rel=1e-6)


def test_errors_over_time_end_in_the_table(run: StandInRun) -> None:
    errors = run.errors().set_index(["family", "law"])["max_error"]
    relative = relative_errors(run.data)
    for law in LAWS:
        for family in run.symmetries:
            mine = run.data["family"].values == family.name
            largest = np.nanmax(np.append(largest_error(relative.sel(law=law).values[:, mine]), 0.0))
            assert largest == errors[family.name, law]


def test_laws_that_speak_of_some_charges_are_scored_on_those() -> None:
    errors = np.array([[0.0, 0.0, np.nan], [3.0, 4.0, np.nan], [np.nan, np.nan, np.nan]])
    assert np.array_equal(largest_error(errors), [np.nan, 4.0, np.nan], equal_nan=True)
    assert np.array_equal(typical_error(errors), [np.nan, np.sqrt(12.5), np.nan], equal_nan=True)


def test_all_figures_are_saved(run: StandInRun, tmp_path: Path) -> None:
    paths = figures.save_figures(run, tmp_path / "new", suffix="svg", dpi=60)
    names = ["parameters_and_charges.svg", "charges_and_laws.svg", "errors_over_time.svg"]
    assert [path.name for path in paths] == names
    assert all(path.stat().st_size > 1000 for path in paths)


def test_without_raw_weights_two_figures_remain(tmp_path: Path) -> None:
    run = make_run()
    bare = StandInRun(run.data.drop_vars("parameter"), run.symmetries)
    assert len(figures.save_figures(bare, tmp_path, dpi=40)) == 2
    with pytest.raises(ValueError, match="weights-subset"):
        figures.parameters_and_charges(bare)


def test_wrong_names_are_told(run: StandInRun) -> None:
    with pytest.raises(ValueError, match="no law 'exakt'; it has: exact"):
        figures.charges_and_laws(run, only=["exakt"])
    with pytest.raises(ValueError, match=r"no charges of a family 'conv9'; it has: scale of features\.0"):
        figures.parameters_and_charges(run, family="conv9")


def test_names_with_mathematics_are_drawn_literally(tmp_path: Path) -> None:
    hostile = make_run((StandInFamily("scale", r"$\frac{1$ of _x^{", 4, 4),))
    assert len(figures.save_figures(hostile, tmp_path, dpi=40)) == 3


def test_an_empty_run_is_refused() -> None:
    run = make_run()
    empty = StandInRun(run.data.isel(step=slice(0)), run.symmetries)
    with pytest.raises(ValueError, match="holds no record"):
        figures.charges_and_laws(empty, families=[run.symmetries[0].name])


def test_drawing_leaves_pyplot_alone() -> None:
    code = "import sys, neuralmechanics.report.figures; print('matplotlib.pyplot' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_telling_family_has_the_largest_charges() -> None:
    families = (StandInFamily("translation", "bias", 30, 30), StandInFamily("translation", "columns", 5, 5))
    run = make_run(families)
    run.data["charge"].values[:, :30] *= 1e-6
    assert telling_family(run.data, "translation") == "columns"


def test_spread_and_thinned_keep_the_ends() -> None:
    values = np.random.default_rng(0).permutation(100).astype(float)
    assert values[spread(values, 5)][[0, -1]].tolist() == [0.0, 99.0]
    assert thinned(10_000, 300)[[0, -1]].tolist() == [0, 9999]
    assert len(thinned(10_000, 300)) == 300


def test_unknown_laws_have_a_style_and_stand_last() -> None:
    names = ["third_order", "exact"]
    assert in_reading_order(names) == ["exact", "third_order"]
    assert law_styles(names)["third_order"].label == "third order"


def test_shortening_keeps_both_ends() -> None:
    text = shortened("transformer.h.11.mlp.c_fc.weight → transformer.h.11.mlp.c_proj.weight", 30)
    assert len(text) == 30
    assert text.startswith("transformer.h.")
    assert text.endswith("c_proj.weight")
