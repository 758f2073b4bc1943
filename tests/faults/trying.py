"""The tests of one fault, run against the source that has it: in a child that finds the libraries loaded."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.faults.fault import Fault
from tests.faults.planting import PACKAGE, ROOT

__all__ = ["Outcome", "preload", "tried"]

_LONGEST = 900  # seconds of processor time
# What most tests load, each of them a part of a second.
_LIBRARIES = (
    "pytest",
    "scipy.sparse.linalg",
    "pandas",
    "xarray",
    "torch._dynamo",
    "torch.export",
    "torch.func",
)


@dataclass(frozen=True)
class Outcome:
    """Whether a test failed, which one (or what else is known), and the processor time of all that were run."""

    caught: bool
    said: str
    seconds: float


def preload() -> None:
    """Load what children would load one after the other; the package itself must not be among it."""
    for name in _LIBRARIES:
        importlib.import_module(name)
    loaded = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    if loaded:
        raise RuntimeError(f"{loaded[0]} is loaded already, from a source without faults; start python -m tests.faults")


def tried(fault: Fault, source: Path) -> Outcome:
    """What the fault's tests say of a source in which it is planted."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            _run(fault, source, said.fileno())
        _, status, usage = os.wait4(child, 0)
        said.seek(0)
        text = said.read()
    seconds = usage.ru_utime + usage.ru_stime
    if os.WIFSIGNALED(status):
        # Work without end, or a crash; a kill from outside says nothing.
        ended = signal.Signals(os.WTERMSIG(status))
        if ended in (signal.SIGXCPU, signal.SIGSEGV, signal.SIGABRT):
            return Outcome(True, f"caught: the tests were ended by {ended.name}", seconds)
        return Outcome(False, f"nothing is known: something ended the tests by {ended.name}", seconds)
    return _outcome(os.waitstatus_to_exitcode(status), text, seconds)


def _outcome(status: int, text: str, seconds: float) -> Outcome:
    if status == 0:
        return Outcome(False, "survived", seconds)
    told = [line for line in text.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    named = [line.partition(" ")[2].partition(" - ")[0] for line in told]
    failed = [name for name in named if ".py" in name or "::" in name]  # what a logger calls an error names no test
    if status == 1 and failed:
        return Outcome(True, f"caught by {failed[0].removeprefix('tests/')}", seconds)
    # A file that cannot be loaded need not be so for the fault: it is no test of it.
    if status == 2 and failed:
        return Outcome(False, f"nothing is known: {failed[0].removeprefix('tests/')} cannot be loaded", seconds)
    return Outcome(False, f"nothing is known: pytest ended with {status}: {' '.join(text.split())[-300:]}", seconds)


def _run(fault: Fault, source: Path, said: int) -> None:
    """The child: never returns."""
    status = 70
    try:
        os.setsid()  # tests end and stop whole groups of processes
        os.dup2(said, 1)
        os.dup2(said, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (_LONGEST, _LONGEST + 10))
        os.environ |= {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        sys.path[:0] = [str(source), str(ROOT)]
        os.chdir(ROOT)
        pytest = importlib.import_module("pytest")
        # Doctests lie in the copy: its place must not make pytest look for its settings above both. With duplicates:
        # a function before its file, or a file before its folder, would else wait there for its turn.
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--keep-duplicates"]
        options += ["-o", f"timeout={_LONGEST}"]
        options += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
        planted = source / PACKAGE / fault.file
        # A module of rules must not be loaded twice, as pytest does for doctests; without an example there are none.
        examples = [str(planted)] if ">>>" in planted.read_text() else []
        status = int(pytest.main([*options, *examples, *fault.tests]))
        package = sys.modules.get(PACKAGE)
        if package is None or not str(package.__file__).startswith(str(source)):
            print(f"{PACKAGE} was not loaded from {source}")
            status = 71
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
