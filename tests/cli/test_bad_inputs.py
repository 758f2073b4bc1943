"""Every bad input is one line that names what is wrong, and status 2: no traceback, no hang, no escape code."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.durability import damage, training

from neuralmechanics.cli import main
from neuralmechanics.cli.terminal.text import one_line, printable
from neuralmechanics.monitor.store.atomic import publish_json, read_json

from . import bad_inputs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    bad_inputs.make_files()
    return tmp_path


def refuse_all(commands: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    faults = []
    for words in commands:
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            status = main(words)
        seconds = time.process_time() - began  # what waits for ever meets the limit of the test
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        told = len(lines) == 1 and lines[0].startswith("neuralmechanics: error: ") and len(lines[0]) < 2000
        if status != 2 or not told or "(unexpected;" in captured.err or "\x1b" in captured.err or seconds > 20:
            faults.append((status, [word[:60] for word in words], captured.err[-300:], f"{seconds:.1f} s"))
    assert not faults, "\n".join(map(str, faults))


def test_runs_that_are_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = damage.make_run(here / "run")
    commands = list(bad_inputs.broken_runs(run.relative_to(here)))
    assert len(commands) > 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse_all(commands, capsys)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 1_000_000  # kB


def test_trainings_that_are_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = list(bad_inputs.bad_trainings())
    assert len(commands) > 90
    refuse_all(commands, capsys)
    assert not list(here.glob("out-*/segment-*"))  # nothing was begun
    assert os.listdir("mine") == ["thesis.tex"]


def test_sweeps_flows_and_looks_that_are_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refuse_all([*bad_inputs.bad_sweeps_and_flows(), *bad_inputs.bad_looks()], capsys)


def test_weights_that_are_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad_inputs.make_weights()
    before = set(os.listdir())
    commands = list(bad_inputs.bad_weights())
    assert len(commands) > 90
    refuse_all(commands, capsys)
    assert set(os.listdir()) == before  # nothing was written, and no code ran
    model = ["mlp-bn", "--input-shape", "3", "8", "8", "--classes", "4"]
    assert main(["rewrite", *model, "--fold", "--in", "stranger.safetensors", "--out", "new.safetensors"]) == 0
    assert "kept as it is: stranger, which the model does not have" in capsys.readouterr().out
    assert torch.equal(load_file("new.safetensors")["stranger"], torch.ones(3))


def test_control_characters_of_a_hostile_run_never_reach_the_terminal(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = damage.make_run(here / "run")
    content = read_json(run / "run.json")
    for family in content["symmetries"]["families"]:
        family["name"] = "\x1b[2J\x1b]0;owned\x07 \u202egnp\x9b31m\r" + family["name"]
    publish_json(run / "run.json", content)
    for words in (["errors", "run"], ["errors", "run", "--csv"], ["report", "run"]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a font has no picture of them
            assert main(words) == 0
        captured = capsys.readouterr()
        for text in (captured.out, captured.err):
            assert not set(text) & set("\x1b\x07\x9b\r\u202e")
    assert main(["errors", "run"]) == 0
    assert "\\x1b[2J\\x1b]0;owned\\x07 \\u202egnp" in capsys.readouterr().out


def test_printable_text_is_as_it_was() -> None:
    assert printable("η = 0.1\tλ\n─ → ∞ 模型") == "η = 0.1\tλ\n─ → ∞ 模型"
    assert printable("a\ud800b\x7fc\x85d\u2028e") == "a\\ud800b\\x7fc\\x85d\\u2028e"
    assert one_line("a\n\x1b\n b") == "a \\x1b b"


# It says so itself when it has started, from its first import: what comes before that is the interpreter's own.
STARTED = """
import sys, neuralmechanics.cli.entry as entry
class Start:
    def find_spec(self, name, path=None, target=None):
        if name == 'neuralmechanics.cli.commands': {started}
sys.meta_path.insert(0, Start())
sys.exit(entry.main())
"""
SAID = "print('up', flush=True)"
# An interrupt that falls into a destructor is one that Python drops.
SAID_IN_A_DESTRUCTOR = f"type('Dying', (), {{'__del__': lambda self: ({SAID}, sys.stdin.readline())}})()"


@pytest.mark.parametrize(
    ("started", "wait"), [(SAID, 0.0), (SAID, 0.6), (SAID_IN_A_DESTRUCTOR, 0.0)], ids=["0", "0.6", "in a destructor"]
)
def test_ctrl_c_is_130_and_one_line(tmp_path: Path, started: str, wait: float) -> None:
    """Also while the command still loads: `wait` seconds after its start; and wherever it falls."""
    command = [sys.executable, "-c", STARTED.format(started=started), "train", "--steps", "1000000", "--out", "run"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # In the background of a shell Ctrl-C is ignored.
    pipes |= {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == "up\n"
            time.sleep(wait)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=240)
        finally:
            process.kill()
    assert process.returncode == 130
    assert err == "neuralmechanics: error: interrupted\n"


@pytest.mark.parametrize("then", ["raise ImportError('an extension failed to load')", "pass"])
def test_ctrl_c_that_a_loading_module_makes_something_else_of(tmp_path: Path, then: str) -> None:
    """C extensions that are interrupted while they load say ImportError, and others go on without what they tried."""
    lines = f"import signal\ntry: signal.raise_signal(signal.SIGINT)\nexcept KeyboardInterrupt: {then}"
    command = [
        sys.executable,
        "-c",
        STARTED.format(started=f"exec({lines!r})"),
        "train",
        "--steps",
        "1",
        "--out",
        "run",
    ]
    ignored = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, **ignored)  # type: ignore[call-overload]
    assert (done.returncode, done.stderr) == (130, "neuralmechanics: error: interrupted\n")
    assert not (tmp_path / "run").exists()


HEARD_WHILE_AN_EXTENSION_LOADS = """
import signal, sys, time
from neuralmechanics.cli.terminal.interrupts import no_interrupt_lost

def hear(frame, event, function):
    if event == "c_call" and function.__name__ == where or event == "call" and frame.f_code.co_name == where:
        sys.setprofile(None)
        signal.getsignal(signal.SIGINT)(signal.SIGINT, frame)
        print("goes on", flush=True)

where, module = sys.argv[1:]
with no_interrupt_lost() as interrupts:
    sys.setprofile(hear)
    try:
        __import__(module)
        time.sleep(60)
    except KeyboardInterrupt:
        print("comes then" if module in sys.modules else "came at once", interrupts.came)
"""


@pytest.mark.parametrize(
    ("where", "module", "said"),
    [
        ("create_dynamic", "_multibytecodec", "goes on\ncomes then True\n"),
        ("exec_dynamic", "_multibytecodec", "goes on\ncomes then True\n"),
        ("_find_and_load", "_multibytecodec", "goes on\ncomes then True\n"),
        ("<module>", "colorsys", "came at once True\n"),
    ],
)
def test_no_interrupt_is_raised_where_an_extension_loads(where: str, module: str, said: str) -> None:
    """It would pass through C++, which may end the process with `SIGABRT`; it comes when the extension has loaded."""
    done = subprocess.run(
        [sys.executable, "-c", HEARD_WHILE_AN_EXTENSION_LOADS, where, module],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    training.session(tmp_path / "run", 0, 3)
    command = f"{sys.executable} -m neuralmechanics.cli errors run --csv | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"
    assert done.stderr == ""
