"""Comparing checkpoints modulo symmetry, counted: planted elements, mistakes, networks trained apart.

Run as `python benchmarks/comparing.py planted|mistakes|apart`; what they print stands in docs/comparing.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.rewrite.comparing.conversions import MISTAKES
from tests.rewrite.comparing.planting import distance as gap
from tests.rewrite.comparing.planting import planted, state_of
from tests.symmetry.zoo import FULL, SMALL

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing import distance, equivalent
from neuralmechanics.rewrite.comparing.align import aligned
from neuralmechanics.rewrite.comparing.checkpoints import read
from neuralmechanics.rewrite.comparing.parts.network import Network


def networks() -> dict[str, Callable[[], tuple[nn.Module, Any, Any]]]:
    """The networks of the tests: small ones, and whole architectures."""

    def small(name: str) -> tuple[nn.Module, Any, Any]:
        network = SMALL[name]()
        return network.module, network.batch(), network.loss_fn

    return {**{name: lambda name=name: small(name) for name in SMALL}, **FULL}


def count_planted(seed: int = 0) -> None:
    """`equivalent`'s solver on a random element of the whole group of every network, and its distance afterwards."""
    found, total = 0, 0
    for name, make in networks().items():
        model, batch, loss_fn = make()
        network = Network.of(model, batch, loss_fn)
        if not len(network.symmetries) and not network.symmetries.spaces:
            continue
        try:
            before = read(state_of(model), [n for n in network.tensors if n in state_of(model)])
        except ValueError as error:
            print(f"{name:40} refused: {error}", flush=True)
            continue
        after = planted(network.symmetries, seed).transform(before)
        start = time.process_time()
        answer = aligned(network, after, before, starts=1)
        left = gap(after, answer.element.transform(before))
        total, found = total + 1, found + (left <= 1e-6)
        print(
            f"{name:40} planted {gap(before, after):.1e} left {left:.1e} {time.process_time() - start:.1f} s",
            flush=True,
        )
    print(f"{found} of {total} found")


def count_mistakes(seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Every mistake named, no alarm on the exact conversion below it."""
    named, quiet, total = 0, 0, 0
    for name, mistake in MISTAKES.items():
        for seed in seeds:
            model, batch, before, exact, spoilt = mistake.build(seed)
            answer = equivalent(model, batch, before, spoilt)
            right = frozenset(answer.tensors) in mistake.wrong
            silent = equivalent(model, batch, before, exact).equal
            named, quiet, total = named + right, quiet + silent, total + 1
            print(f"{name:40} {seed} {' and '.join(answer.tensors)} {'right' if right else 'WRONG'}", flush=True)
    print(f"{named} of {total} named, {total - quiet} alarms on {total} exact conversions")


def count_apart() -> None:
    """Distances between networks with different random weights: the least of them."""
    least = float("inf")
    for name, make in networks().items():
        model, batch, loss_fn = make()
        if not find_symmetries(model, batch, loss_fn).spaces:
            continue
        a, draw = state_of(model), torch.Generator().manual_seed(1)
        noise = {n: v.std(correction=0) * torch.randn(v.shape, generator=draw, dtype=v.dtype) for n, v in a.items()}
        b = {n: v + noise[n] / 2 for n, v in a.items()}
        apart = distance(model, batch, a, b, loss_fn)
        least = min(least, apart)
        print(f"{name:40} {apart:.3f}", flush=True)
    print(f"least {least:.3f}")


if __name__ == "__main__":
    tasks = {"planted": count_planted, "mistakes": count_mistakes, "apart": count_apart}
    tasks[sys.argv[1]]()
