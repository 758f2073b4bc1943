"""A process that forks a job for each line it is given: after the imports each of many kills costs milliseconds.

`Forge` is the side that gives the lines. A job says `pid N`, then `safe STEP` for what it acknowledges, then what it
has to say; the process says `dead STATUS` when the job has ended.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Ended:
    """How a job ended: its status, the last step it acknowledged (-1 for none), and what else it said."""

    status: int
    safe: int = -1
    said: list[str] = field(default_factory=list)


class Forge:
    """Jobs in processes of their own, one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def run(self, job: dict[str, Any], each: Callable[[int, int], None] = lambda process, safe: None) -> Ended:
        """Run one job to its end; `each` is called with its process and what is safe, at the start and after each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        process, safe, said = 0, -1, []
        for line in self._process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "dead":
                return Ended(int(rest), safe, said)
            if word == "pid":
                process = int(rest)
            elif word == "safe":
                safe = int(rest)
            else:
                said.append(line.strip())
                continue
            each(process, safe)
        raise AssertionError("the forge has ended")

    def close(self) -> None:
        """End the forge and the job in it."""
        self._process.kill()
        self._process.communicate()


def send_after(how: signal.Signals, records: int, seconds: float) -> Callable[[int, int], None]:
    """For `Forge.run`: a signal some time after a number of acknowledged records."""
    state = {"sent": False}

    def each(process: int, safe: int) -> None:
        if safe >= records - 1 and not state["sent"]:
            state["sent"] = True
            time.sleep(seconds)
            os.kill(process, how)

    return each


def _say(line: str) -> None:
    os.write(1, (line + "\n").encode())


def _job(job: dict[str, Any]) -> None:
    from tests.durability import faults, training

    from neuralmechanics.monitor.store import merging

    merging.MERGED = job.get("merged", merging.MERGED)
    if "kill" in job:
        faults.install(faults.KillAt(*job["kill"]))

    def safe(step: int) -> None:
        _say(f"safe {step}")
        time.sleep(job.get("pause", 0.0))

    if job["kind"] == "session":
        training.session(Path(job["path"]), job["first"], job["count"], safe)
        return
    _, _, monitor = training.train(job["path"], job["steps"], safe=safe, every=job.get("every", 1), strict=False)
    assert monitor is not None
    if monitor.failure is not None:
        _say(f"failure {monitor.failure}")


def main() -> None:
    import warnings

    import safetensors.numpy  # noqa: F401 - loaded before the forks
    import torch
    from tests.durability import training

    from neuralmechanics.cli.terminal.interrupts import no_interrupt_lost

    torch.set_num_threads(1)
    training.train(None, 2)  # everything a job needs is loaded once
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            warnings.simplefilter("ignore")
            # Where the tests run in the background of a shell, Ctrl-C is ignored from the start.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdin.close()
            try:
                with no_interrupt_lost():  # one that falls into a destructor would be, and the job would go on
                    _say(f"pid {os.getpid()}")
                    _job(json.loads(line))
            except KeyboardInterrupt:
                os._exit(130)
            except Exception as error:  # noqa: BLE001 - whatever a job raises is what its test looks at
                _say(f"raised {type(error).__name__}: {error}")
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        _say(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
