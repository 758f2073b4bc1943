"""Times the counting campaigns: known counts of linear and ReLU networks, blocks, heavy ball.

Run ``python benchmarks/counting.py [--processes 2] [--known]``. Without ``--known`` no symmetry is given: the counts
come from brackets alone. Exits with 1 where a count differs from the known one.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing import get_context

import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.counting.counting import count_laws
from neuralmechanics.diagnostics.counting.optimizer_fields import HeavyBall


@dataclass(frozen=True)
class Task:
    """A network by its widths, and the number of laws it must have."""

    name: str
    widths: tuple[int, ...]
    laws: int
    relu: bool = False
    bias: bool = False
    friction: str | float | None = None


@dataclass(frozen=True)
class Outcome:
    """What was counted, how clear it was, and the processor time it took."""

    task: Task
    upper: int
    certified: bool
    gap: float
    seconds: float


def linear_campaign() -> list[Task]:
    """Two-layer n × r · r × m networks and deep linear ones."""
    two = {(2, 2, 1): 1, (2, 3, 2): 3, (3, 3, 3): 6, (4, 4, 4): 10, (2, 2, 4): 10, (2, 1, 2): 3}
    deep = {(5, 3, 2): 6, (3, 4, 2, 4): 13, (5, 4, 2, 3): 13, (4, 4, 4, 4): 20}
    return [Task(f"linear (n, m, r) = {k}", (k[0], k[2], k[1]), laws) for k, laws in two.items()] + [
        Task(f"deep linear {list(k)}", k, laws) for k, laws in deep.items()
    ]


def relu_campaign(count: int = 50) -> list[Task]:
    """Random ReLU networks of depth 2 to 4 and widths 2 to 9, every second one with biases."""
    tasks = []
    for index in range(count):
        chooser = random.Random(index)
        depth = chooser.randint(2, 4)
        widths = tuple(chooser.randint(2, 9) for _ in range(depth + 1))
        bias = bool(index % 2)
        name = f"relu {list(widths)}{' with bias' if bias else ''}"
        tasks.append(Task(name, widths, sum(widths[1:-1]), relu=True, bias=bias))
    return tasks


def heavy_ball_campaign() -> list[Task]:
    """Rotations of the middle layer, with three frictions."""
    known = {(2, 2, 2): 1, (2, 1, 3): 3, (1, 1, 1): 0}
    return [
        Task(f"heavy ball (n, m, r) = {k}, friction {friction}", (k[0], k[2], k[1]), laws, friction=friction)
        for k, laws in known.items()
        for friction in (0.0, 0.3, "3/t")
    ]


def three_over_t(time: Tensor) -> Tensor:
    """The friction of Nesterov's equation."""
    return 3 / time


def run(task: Task, known: bool) -> Outcome:
    """Counts the laws of one task."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(task.widths):
        layers += [nn.Linear(a, b, bias=task.bias), nn.ReLU() if task.relu else nn.Identity()]
    model = nn.Sequential(*layers[:-1])
    optimizer = "gradient_flow" if task.friction is None else HeavyBall(_friction(task.friction))
    start = time.process_time()
    count = count_laws(model, torch.zeros(1, task.widths[0]), None, optimizer, symmetries=None if known else ())
    return Outcome(task, count.upper, count.certified, count.worst_gap.ratio, time.process_time() - start)


def _friction(given: str | float) -> float | Callable[[Tensor], Tensor]:
    return three_over_t if isinstance(given, str) else given


def report(title: str, tasks: Sequence[Task], processes: int, known: bool) -> bool:
    """Runs a campaign and prints its table; whether every count was right."""
    start = time.perf_counter()
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(partial(run, known=known), tasks))
    wall = time.perf_counter() - start
    for outcome in outcomes:
        verdict = "ok" if outcome.upper == outcome.task.laws else f"WRONG, {outcome.task.laws} expected"
        mark = "certified" if outcome.certified else f"gap {outcome.gap:.0e}"
        print(f"  {outcome.task.name:<45} {outcome.upper:>3}  {mark:<10} {outcome.seconds:6.2f} s  {verdict}")
    right = sum(o.upper == o.task.laws for o in outcomes)
    busy = sum(o.seconds for o in outcomes)
    narrowest = min(o.gap for o in outcomes)
    print(
        f"{title}: {right} of {len(tasks)} right, {wall:.1f} s wall on {processes} processes (start included), "
        f"{busy:.1f} s of processor time, narrowest gap {narrowest:.0e}"
    )
    return right == len(tasks)


def main() -> int:
    """Runs the three campaigns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--known", action="store_true", help="find the symmetries first and certify")
    arguments = parser.parse_args()
    campaigns = {"linear": linear_campaign(), "ReLU": relu_campaign(), "heavy ball": heavy_ball_campaign()}
    results = [report(title, tasks, arguments.processes, arguments.known) for title, tasks in campaigns.items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
