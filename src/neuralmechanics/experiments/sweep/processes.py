"""Sweeps on one machine without Ray: one process a run, several at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path

from neuralmechanics.configuration.build import config_to_dict
from neuralmechanics.experiments.sweep.grid import Point, Sweep
from neuralmechanics.experiments.sweep.worker import is_settled, train_point
from neuralmechanics.progress import Meter

ATTEMPTS = 4
_POLL = 0.05


@dataclass
class _Job:
    point: Point
    folder: Path
    attempts: int = 0
    process: BaseProcess | None = None
    device: str | None = None


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
    """Train `points`, `workers` at a time; a process that dies is started again, at most four times in all.

    Of several `devices` each new process takes the one that fewest others use; with none, what its run says.

    Raises `ChildProcessError` if one keeps dying. Processes are ended if this function is left by an exception.
    """
    # A fork of a process that has threads or an accelerator open may never run.
    context = multiprocessing.get_context("spawn")
    waiting = deque(_Job(point, sweep.folder(point)) for point in points)
    running: list[_Job] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.popleft()
                job.attempts += 1
                used = [other.device for other in running]
                job.device = min(devices, key=used.count, default=None)
                arguments = (config_to_dict(job.point.config), str(job.folder.absolute()), os.getcwd(), job.device)
                job.process = context.Process(target=train_point, args=arguments)
                # An interrupt meanwhile is raised at the end of the block: the process is one of those to end by then.
                with _deaf_to_interrupts():
                    job.process.start()
                    running.append(job)
            time.sleep(_POLL)
            for job in [job for job in running if job.process is not None and not job.process.is_alive()]:
                running.remove(job)
                if is_settled(job.folder):
                    meter.advance(1)
                elif job.attempts < ATTEMPTS:
                    waiting.append(job)
                else:
                    code = job.process.exitcode if job.process is not None else None
                    raise ChildProcessError(
                        f"the process of run {job.point.name} died {ATTEMPTS} times (last status {code})"
                    )
    finally:
        for job in running:
            if job.process is not None:
                job.process.terminate()
                job.process.join()
