"""Comparing checkpoints modulo symmetry, counted: planted elements, mistakes, networks trained apart, barriers.

Run as `python benchmarks/comparing.py planted|mistakes|apart|barrier`; the tables stand in docs/comparing.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.rewrite.comparing.conversions import MISTAKES
from tests.rewrite.comparing.planting import distance as gap
from tests.rewrite.comparing.planting import planted, state_of
from tests.symmetry.zoo import FULL, SMALL

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing import align, distance, equivalent
from neuralmechanics.rewrite.comparing.align import aligned
from neuralmechanics.rewrite.comparing.checkpoints import read
from neuralmechanics.rewrite.comparing.parts.network import Network

State = dict[str, Tensor]


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


def digits(flat: bool) -> tuple[Tensor, Tensor]:
    """Handwritten digits of scikit-learn, as rows or as images."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float64) / 16
    return (x if flat else x.reshape(-1, 1, 8, 8)), torch.tensor(labels)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).double()


def small_vgg() -> nn.Module:
    convolutions = (
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
    )
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10)).double()


def trained(make: Callable[[], nn.Module], x: Tensor, y: Tensor, seed: int, steps: int) -> tuple[nn.Module, State]:
    torch.manual_seed(seed)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        chosen = torch.randint(len(x), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
        optimizer.step()
    return model, state_of(model)


def barrier(model: nn.Module, x: Tensor, y: Tensor, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """max over t of L((1 - t) a + t b) - ((1 - t) L(a) + t L(b))."""

    def loss(params: State) -> float:
        with torch.no_grad():
            return float(nn.functional.cross_entropy(functional_call(model, params, (x,)), y))

    ends = loss(dict(a)), loss(dict(b))
    heights = (
        loss({n: (1 - t) * a[n] + t * b[n] for n in a}) - (1 - t) * ends[0] - t * ends[1]
        for t in torch.linspace(0, 1, 11).tolist()
    )
    return max(heights)


def permuted(network: Network, a: State, b: State) -> State:
    """b after permutations alone, by coordinate descent on Σ (a - g b)² (git re-basin's weight matching)."""
    from scipy.optimize import linear_sum_assignment

    out = dict(b)
    for _ in range(30):
        before = gap(a, out)
        for space in network.symmetries.spaces:
            costs = torch.zeros(space.width, space.width, dtype=torch.float64)
            for entry in space.entries:
                index = torch.as_tensor(entry.place.positions().reshape(-1))
                rows = [
                    t[entry.parameter].index_select(entry.axis, index).movedim(entry.axis, 0).reshape(space.width, -1)
                    for t in (a, out)
                ]
                costs -= rows[0] @ rows[1].mT
            out = space.transform(out, torch.as_tensor(linear_sum_assignment(costs.numpy())[1]))
        if not gap(a, out) < before:
            break
    return out


def measure_barriers(seeds: tuple[int, ...] = (0, 1, 2)) -> None:
    """Between two trainings from different seeds: as they are, by permutations alone, by all symmetries."""
    for name, make, flat, steps in (("perceptron", perceptron, True, 600), ("small VGG", small_vgg, False, 400)):
        x, y = digits(flat)
        for seed in seeds:
            model, a = trained(make, x, y, 2 * seed, steps)
            _, b = trained(make, x, y, 2 * seed + 1, steps)
            network = Network.of(model, (x[:8],))
            whole = align(model, (x[:64],), a, b).transform(b)
            found = [barrier(model, x, y, a, moved) for moved in (b, permuted(network, a, b), whole)]
            apart = distance(model, (x[:8],), a, b)
            heights = ", ".join(f"{height:.3f}" for height in found)
            pair = f"{name} {2 * seed}/{2 * seed + 1}"
            print(f"{pair}: barrier as it is, permuted, aligned: {heights}; {apart:.2f} apart", flush=True)


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
    tasks = {"planted": count_planted, "mistakes": count_mistakes, "apart": count_apart, "barrier": measure_barriers}
    tasks[sys.argv[1]]()
