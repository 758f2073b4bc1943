"""Former spellings in both dialects of TOML: the same configuration, and a warning with the new word and the line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from neuralmechanics.cli.runs import Train
from neuralmechanics.cli.terminal.parsing import parse
from neuralmechanics.configuration.former_names import Origin, in_todays_words
from neuralmechanics.experiments import OptimizerConfig, TrainConfig, config_from_dict, load_config
from neuralmechanics.experiments.sweep import load_sweep
from neuralmechanics.flows import FlowConfig, read_config

START = 'model = "mine"\ninput_shape = [3]\nclasses = 2\n'
ADAM = OptimizerConfig("adam", epsilon=0.5)


def _write(folder: Path, text: str) -> Path:
    path = folder / "file.toml"
    path.write_text(text)
    return path


def test_a_flow_file_of_before(tmp_path: Path) -> None:
    path = _write(tmp_path, START + 'loss = "cross_entropy"\n[optimizer]\nname = "adam"\n# eps\neps = 0.5\n')
    with pytest.warns(FutureWarning) as told:
        config = read_config(path)
    assert config == FlowConfig("mine", (3,), 2, optimizer=ADAM)
    assert [str(warning.message).removeprefix(str(path)) for warning in told] == [
        ", line 4: loss = 'cross_entropy' is now written loss = 'cross-entropy'; the former word will go",
        ", line 8: optimizer.eps is now written optimizer.epsilon; the former word will go",
    ]


@pytest.mark.parametrize(
    "text",
    [
        'loss = "cross-entropy"\n[optimizer]\nname = "adam"\nepsilon = 0.5\n',
        'loss = "cross-entropy"\noptimizer = {name = "adam", epsilon = 0.5}\n',
    ],
)
def test_both_dialects_read_todays_words(tmp_path: Path, text: str) -> None:
    """No warning (warnings are errors here), and the same optimiser in both."""
    assert read_config(_write(tmp_path, START + text)).optimizer == ADAM
    assert load_config(_write(tmp_path, text), TrainConfig) == TrainConfig(optimizer=ADAM)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[optimizer]\nname = "adam"\neps = 0.5\n', 3),
        ('optimizer.name = "adam"\noptimizer.eps = 0.5\n', 2),
        ('\noptimizer = {name = "adam", eps = 0.5}\n', 2),
        ('restore = """\neps = 1\n"""\n[optimizer]\n  "eps"= 0.5\nname = "adam"', 5),
        ('steps = 3\r\n[optimizer]\r\nname = "adam"\r\neps=0.5', 4),
    ],
)
def test_a_training_file_of_the_other_dialect(tmp_path: Path, text: str, line: int) -> None:
    with pytest.warns(FutureWarning, match=rf"file.toml, line {line}: optimizer\.eps is now"):
        assert load_config(_write(tmp_path, text), TrainConfig).optimizer == ADAM


@pytest.mark.parametrize(
    ("grid", "line"),
    [
        ("optimizer.eps = [0.5, 0.25]", 4),
        ('"optimizer.eps" = [0.5, 0.25]', 4),
        ("seed = [\n1,\n2]\noptimizer.eps = [0.5,\n0.25]", 7),
    ],
)
def test_the_grid_of_a_sweep(tmp_path: Path, grid: str, line: int) -> None:
    path = _write(tmp_path, f'[base]\noptimizer.name = "adam"\n[grid]\n{grid}\n')
    with pytest.warns(FutureWarning, match=rf"line {line}: grid\.optimizer\.eps"):
        points = load_sweep(path).points
    assert {point.config.optimizer.epsilon for point in points} == {0.5, 0.25}


def test_a_value_in_a_list_over_several_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, '[grid]\nloss = [\n  "mse",\n  "cross_entropy",\n]\n')
    with pytest.warns(FutureWarning, match=r"line 4: grid\.loss = 'cross_entropy' is now"):
        assert [point.config.loss for point in load_sweep(path).points] == ["mse", "cross-entropy"]


def test_dictionaries_values_and_flags() -> None:
    with pytest.warns(FutureWarning, match="^optimizer.eps is now written optimizer.epsilon"):
        assert config_from_dict({"optimizer": {"name": "adam", "eps": 0.5}}, TrainConfig).optimizer == ADAM
    with pytest.warns(FutureWarning, match="^loss = 'cross_entropy' is now"):
        assert TrainConfig(loss="cross_entropy") == TrainConfig()  # type: ignore[arg-type]
    with pytest.warns(FutureWarning, match="^loss = 'cross_entropy' is now"):
        assert FlowConfig("mine", (3,), 2, loss="cross_entropy").loss == "cross-entropy"  # type: ignore[arg-type]
    words = ["--loss", "cross_entropy", "--optimizer.name=adam", "--optimizer.eps=0.5"]
    with pytest.warns(FutureWarning) as told:
        assert parse(Train, words).training == TrainConfig(optimizer=ADAM)
    assert len(told) == 2


@pytest.mark.filterwarnings("ignore:.*is now written")
def test_two_words_for_one_setting_are_refused() -> None:
    for values in ({"eps": 1.0, "epsilon": 1.0}, {"epsilon": 1.0, "eps": 1.0}):
        with pytest.raises(ValueError, match="'eps' and 'epsilon' are two words for one setting; give 'epsilon' alone"):
            in_todays_words({"optimizer": values})


def test_other_things_of_the_same_name_are_left_alone() -> None:
    values = {"eps": 1.0, "model": {"eps": 2}, "note": "cross_entropy", "losses": ["cross_entropy"], "loss": "mse"}
    assert in_todays_words(values) == values


def test_no_line_where_none_can_be_told() -> None:
    text = '[optimizer]\n"\\u0065ps" = 1.0\n'
    assert Origin("file", text).line(("optimizer", "eps"), "eps") is None


def test_the_line_is_found_among_many_and_not_looked_for_without_end() -> None:
    key = "[optimizer]\neps = 0.5\n"
    assert Origin("file", "# eps\n" * 300 + key).line(("optimizer", "eps"), "eps") == 302
    assert Origin("file", "note = [\n" + "'eps',\n" * 100 + "]\n" + key).line(("optimizer", "eps"), "eps") in (
        104,
        None,
    )
    long = "note = [\n" + "'eps',\n" * 120_000 + "]\n" + key
    began = time.process_time()
    assert Origin("file", long).line(("optimizer", "eps"), "eps") is None
    assert Origin("file", long[-30_000:].replace("]", "")).line(("optimizer", "eps"), "eps") is None
    assert time.process_time() - began < 10
