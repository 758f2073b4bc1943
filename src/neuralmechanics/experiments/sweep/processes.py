"""Sweeps on one machine without Ray: several processes, each of which trains one run after another."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from neuralmechanics.configuration.build import config_to_dict
from neuralmechanics.experiments.sweep.grid import Point, Sweep
from neuralmechanics.experiments.sweep.worker import is_settled, record_failure, serve, train_point
from neuralmechanics.progress import Meter

ATTEMPTS = 4
# Seconds after which processes are looked at that neither answered nor closed their pipe: a process that was killed may
# have left children of its own that hold it open.
_LOOK = 1.0


@dataclass
class _Job:
    point: Point
    folder: Path
    attempts: int = 0


@dataclass
class _Worker:
    """A process, this side of its pipe, where it computes, and the run that it is training."""

    process: BaseProcess
    pipe: Connection
    device: str | None
    job: _Job | None = None
    reason: str = ""
    """why it ends, where it could say so"""

    def give(self, job: _Job) -> None:
        job.attempts += 1
        self.job = job
        with suppress(OSError):  # one that has died is seen where answers are read
            self.pipe.send((config_to_dict(job.point.config), str(job.folder.absolute())))

    def answered(self) -> bool:
        """Whether the process says that it has come to an end with its run; False where it ends, or is no more."""
        try:
            self.reason = self.pipe.recv() or ""
        except (EOFError, OSError):
            return False
        return not self.reason

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in the block do not hear Ctrl-C, which a terminal sends to all: this one ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first process that is started starts the tracker of shared resources before it, and that lifts the mask.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def run_in_processes(
    sweep: Sweep, points: Sequence[Point], workers: int, meter: Meter, devices: Sequence[str] = ()
) -> None:
    """Train `points`, `workers` at a time; a run whose process dies is begun again, at most four times in all.

    A process trains one run after another. Of several `devices` each takes the one that fewest others use; with none,
    what its run says. A run whose processes keep dying is recorded as failed, and the others go on. Processes are ended
    when this function is left, by an exception as well.
    """
    waiting = deque(_Job(point, sweep.folder(point)) for point in points)
    pool: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in pool):
            idle = [worker for worker in pool if worker.job is None]
            while waiting and (idle or len(pool) < workers):
                worker = idle.pop() if idle else _start(pool, devices)
                worker.give(waiting.popleft())
            for worker, lives in _ready(pool):
                job, worker.job = worker.job, None
                assert job is not None
                if not lives:
                    pool.remove(worker)
                    worker.process.join(_LOOK)
                    worker.end()
                if is_settled(job.folder):
                    meter.advance(1)
                elif job.attempts < ATTEMPTS:
                    waiting.append(job)
                else:
                    why = worker.reason or f"last status {worker.process.exitcode}"
                    record_failure(job.folder, ChildProcessError(f"its process died {ATTEMPTS} times ({why})"))
                    meter.advance(1)
    finally:
        for worker in pool:
            worker.end()


def _start(pool: list[_Worker], devices: Sequence[str]) -> _Worker:
    """A new process in the pool."""
    used = [worker.device for worker in pool]
    device = min(devices, key=used.count, default=None)
    ours, theirs = multiprocessing.Pipe()
    # A fork of a process that has threads or an accelerator open may never run.
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(theirs, train_point, os.getcwd(), device))
    worker = _Worker(process, ours, device)
    # An interrupt meanwhile is raised at the end of the block: the process is one of those to end by then.
    with _deaf_to_interrupts():
        process.start()
        pool.append(worker)
    theirs.close()  # so that the pipe ends where the process does
    return worker


def _ready(pool: Sequence[_Worker]) -> list[tuple[_Worker, bool]]:
    """Waits until processes have come to an end with their runs, or have ended themselves: which, and if they live."""
    busy = [worker for worker in pool if worker.job is not None]
    heard = wait([worker.pipe for worker in busy], _LOOK)
    found = [(worker, worker.answered()) for worker in busy if worker.pipe in heard]
    return found + [(w, False) for w in busy if w.pipe not in heard and not w.process.is_alive()]
