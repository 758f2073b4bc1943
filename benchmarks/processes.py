"""Many small tasks, each in a process of its own and within a time limit: one that hangs or dies costs itself alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

__all__ = ["answers"]

Answer = dict[str, Any]


@dataclass(frozen=True, eq=False)
class _Running:
    case: Any
    process: Any
    until: float


def answers(
    task: Callable[..., Answer], cases: Sequence[Any], limit: float, workers: int
) -> Iterator[tuple[Any, Answer]]:
    """``task(*case)`` of every case as they come, at most ``workers`` at a time.

    A task that raises, dies or takes longer than ``limit`` seconds gives ``state`` and ``reason``.
    """
    context = multiprocessing.get_context("fork")
    waiting = list(reversed(cases))
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and len(running) < max(1, workers):
                case = waiting.pop()
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_into, args=(theirs, task, case), daemon=True)
                process.start()
                theirs.close()
                running[mine] = _Running(case, process, time.monotonic() + limit)
            soonest = min(run.until for run in running.values())
            for pipe in wait(list(running), timeout=max(0.0, soonest - time.monotonic())):
                assert isinstance(pipe, Connection)
                yield running[pipe].case, _received(pipe)
                _end(pipe, running)
            for pipe in [pipe for pipe, run in running.items() if run.until <= time.monotonic()]:
                yield running[pipe].case, {"state": "too slow", "reason": f"more than {limit:.0f} s"}
                _end(pipe, running)
    finally:
        for pipe in list(running):
            _end(pipe, running)


def _into(pipe: Connection, task: Callable[..., Answer], case: Any) -> None:
    try:
        pipe.send(task(*case))
    except BaseException as error:  # noqa: BLE001 - a process must answer
        pipe.send({"state": "exception", "reason": f"{type(error).__name__}: {error}"[:300]})


def _received(pipe: Connection) -> Answer:
    try:
        answer: Answer = pipe.recv()
    except EOFError:
        answer = {"state": "exception", "reason": "the process died"}
    return answer


def _end(pipe: Connection, running: dict[Connection, _Running]) -> None:
    run = running.pop(pipe)
    pipe.close()
    run.process.kill()
    run.process.join()
