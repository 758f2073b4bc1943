"""Barriers between two networks trained apart: as they are, by permutations alone, by all symmetries.

    python benchmarks/barriers.py [perceptron|vgg|transformer ...] [--seeds 3] [--json FILE] [--page FILE]

Two trainings of one small network on scikit-learn's digits from different seeds; the barrier is the greatest rise of
the cross entropy on digits that neither saw, above the straight line between the two ends, over 25 points of the way.
Permutations alone are git re-basin's weight matching (Ainsworth, Hayase & Srinivasa 2023), written out below for
each network by hand: of several orders of descent the nearest is kept, heads are matched at the best that the order
of their channels allows. ``align`` sees 512 of the digits that were trained on, with
their labels. A pair takes at most a minute.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from neuralmechanics.rewrite.comparing import align, distance

State = dict[str, Tensor]
Spec = dict[str, tuple[str | None, ...]]
"""For each tensor the permutation along each of its dimensions, by name; None where nothing moves."""

HELD_OUT, SEEN, POINTS, ORDERS = 497, 512, 25, 4
WIDTH, HEADS, BLOCKS = 32, 4, 2


class Attention(nn.Module):
    """Attention over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for m in (self.q, self.k, self.v))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A pre-norm block: RMS norms, attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm1, self.norm2 = Attention(), nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        out: Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return out


class Transformer(nn.Module):
    """Sixteen patches of an image as tokens, two blocks, the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(4, WIDTH), nn.Parameter(0.5 * torch.randn(16, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm, self.head = nn.RMSNorm(WIDTH, eps=1e-6), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.reshape(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        h = self.blocks(self.embed(patches) + self.places)
        out: Tensor = self.head(self.norm(h).mean(1))
        return out


def perceptron() -> nn.Module:
    """Two hidden layers."""
    layers = (nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(nn.Flatten(), *layers)


def vgg() -> nn.Module:
    """Six convolutions in three stages, each of which halves the image, and a hidden layer."""

    def stage(inputs: int, width: int) -> tuple[nn.Module, ...]:
        first, second = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        return first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2)

    dense = (nn.Flatten(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
    return nn.Sequential(nn.Unflatten(1, (1, 8)), *stage(1, 16), *stage(16, 32), *stage(32, 32), *dense)


def chained(*layers: str) -> Spec:
    """Permutations of the outputs of each layer but the last."""
    spec: Spec = {}
    for number, name in enumerate(layers):
        outputs = None if name == layers[-1] else f"p{number}"
        spec[f"{name}.weight"] = (outputs, f"p{number - 1}" if number else None)
        spec[f"{name}.bias"] = (outputs,)
    return spec


def transformed() -> Spec:
    """The stream, the hidden layers, and in each block the heads."""
    spec: Spec = {"embed.weight": ("stream", None), "embed.bias": ("stream",), "places": (None, "stream")}
    for k in range(BLOCKS):
        block = f"blocks.{k}"
        spec |= {f"{block}.attention.{name}.weight": (f"heads{k}", "stream") for name in "qkv"}
        spec |= {f"{block}.attention.o.weight": ("stream", f"heads{k}")}
        spec |= {f"{block}.norm{n}.weight": ("stream",) for n in (1, 2)}
        spec |= {f"{block}.up.weight": (f"hidden{k}", "stream"), f"{block}.up.bias": (f"hidden{k}",)}
        spec |= {f"{block}.down.weight": ("stream", f"hidden{k}"), f"{block}.down.bias": ("stream",)}
    return spec | {"norm.weight": ("stream",), "head.weight": (None, "stream"), "head.bias": (None,)}


@dataclass(frozen=True)
class Network:
    """What is trained, for how many steps, and where permutations act."""

    make: Callable[[], nn.Module]
    steps: int
    spec: Spec


NETWORKS = {
    "perceptron": Network(perceptron, 600, chained("1", "3", "5")),
    "vgg": Network(vgg, 500, chained("1", "3", "6", "8", "11", "13", "17", "19")),
    "transformer": Network(Transformer, 800, transformed()),
}


def digits() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Handwritten digits: those to train on, those held out."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    x, y = (torch.tensor(images, dtype=torch.float64) / 16).reshape(-1, 8, 8)[order], torch.tensor(labels)[order]
    return (x[HELD_OUT:], y[HELD_OUT:]), (x[:HELD_OUT], y[:HELD_OUT])


def trained(network: Network, data: tuple[Tensor, Tensor], seed: int) -> State:
    """After AdamW whose rate falls to zero, in float64 at the end."""
    x, y = data[0].float(), data[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network.make()
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, network.steps)
        for _ in range(network.steps):
            chosen = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimizer.step()
            schedule.step()
    return {name: value.detach().double() for name, value in model.state_dict().items()}


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean over a batch."""
    return functional.cross_entropy(model(batch[0]), batch[1])


def loss(model: nn.Module, params: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> float:
    """The mean cross entropy."""
    with torch.no_grad():
        return float(functional.cross_entropy(functional_call(model, dict(params), (data[0],)), data[1]))


def barrier(model: nn.Module, a: State, b: State, data: tuple[Tensor, Tensor]) -> float:
    """max over t of L((1 - t) a + t b) - ((1 - t) L(a) + t L(b))."""
    ends = loss(model, a, data), loss(model, b, data)
    heights = (
        loss(model, {n: (1 - t) * a[n] + t * b[n] for n in a}, data) - (1 - t) * ends[0] - t * ends[1]
        for t in torch.linspace(0, 1, POINTS).tolist()
    )
    return max(heights)


def rows(value: Tensor, spec: tuple[str | None, ...], name: str) -> Tensor:
    """One row for each of the things that the permutation moves."""
    return value.movedim(spec.index(name), 0).flatten(1) if value.ndim > 1 else value[:, None]


def overlaps(spec: Spec, a: State, b: State, name: str) -> tuple[Tensor, Tensor]:
    """Sums of a_i · b_j over all tensors with the permutation; of heads what scores and what is mixed apart."""
    parts = [torch.zeros(()), torch.zeros(())]
    for tensor, axes in spec.items():
        if name in axes:
            mixed = ".v." in tensor or ".o." in tensor
            parts[mixed] = parts[mixed] + rows(a[tensor], axes, name) @ rows(b[tensor], axes, name).mT
    return parts[0], parts[1]


def assigned(gains: Tensor) -> Tensor:
    """The permutation of the greatest total."""
    return torch.as_tensor(linear_sum_assignment(gains.numpy(), maximize=True)[1])


def heads_assigned(parts: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Heads in the best order, the channels of each in the best order for what scores and for what is mixed."""
    size = WIDTH // HEADS
    blocks = [part.reshape(HEADS, size, HEADS, size).transpose(1, 2) for part in parts]
    inner = [[[assigned(part[i, j]) for j in range(HEADS)] for i in range(HEADS)] for part in blocks]
    columns = torch.arange(size)
    gains = torch.zeros(HEADS, HEADS, dtype=torch.float64)
    for p, o in zip(blocks, inner, strict=True):
        for i, j in itertools.product(range(HEADS), repeat=2):
            gains[i, j] += p[i, j][columns, o[i][j]].sum()
    order = assigned(gains)
    whole = [torch.cat([int(order[i]) * size + o[i][int(order[i])] for i in range(HEADS)]) for o in inner]
    return whole[0], whole[1]


def moved(spec: Spec, b: State, name: str, order: tuple[Tensor, Tensor]) -> State:
    """b with one permutation applied; of heads the second is that of values and outputs."""
    out = dict(b)
    for tensor, axes in spec.items():
        if name in axes:
            mixed = ".v." in tensor or ".o." in tensor
            out[tensor] = b[tensor].index_select(axes.index(name), order[mixed])
    return out


def permuted(spec: Spec, a: State, b: State) -> State:
    """Weight matching: one permutation after another at its best, the others held, until nothing falls."""
    names = sorted({name for axes in spec.values() for name in axes if name is not None})
    found = []
    for number in range(ORDERS):
        out, draw = dict(b), torch.Generator().manual_seed(number)
        before, after = float("inf"), gap(a, out)
        while after < before - 1e-12:
            for name in (names[k] for k in torch.randperm(len(names), generator=draw)):
                parts = overlaps(spec, a, out, name)
                heads = name.startswith("heads")
                order = heads_assigned(parts) if heads else (assigned(parts[0] + parts[1]),) * 2
                out = moved(spec, out, name, order)
            before, after = after, gap(a, out)
        found.append((after, number, out))
    return min(found)[2]


def gap(a: State, b: State) -> float:
    """Σ (a - b)²."""
    return sum(float((value - b[name]).square().sum()) for name, value in a.items())


def measured(name: str, seed: int) -> dict[str, Any]:
    """One pair of trainings."""
    network = NETWORKS[name]
    train, test = digits()
    model = network.make().double()
    a, b = (trained(network, train, 2 * seed + k) for k in (0, 1))
    begun = time.process_time()
    seen = (train[0][:SEEN], train[1][:SEEN])
    whole = align(model, seen, a, b, cross_entropy).transform(b)
    seconds = time.process_time() - begun
    ways = {"as they are": b, "permutations": permuted(network.spec, a, b), "align": whole}
    return {
        "network": name,
        "seeds": [2 * seed, 2 * seed + 1],
        "loss": [loss(model, state, test) for state in (a, b)],
        "held out": {way: barrier(model, a, state, test) for way, state in ways.items()},
        "trained on": {way: barrier(model, a, state, train) for way, state in ways.items()},
        "distance": distance(model, seen, a, b, cross_entropy),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Prints one line a pair."""
    from barriers_page import page
    from conditions import conditions

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3, help="pairs of each network")
    parser.add_argument("--json", type=Path, help="write the numbers to this file too")
    parser.add_argument("--page", type=Path, help="write the table in Markdown to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {**conditions(), "pairs": []}
    for name in arguments.networks:
        for seed in range(arguments.seeds):
            pair = measured(name, seed)
            found["pairs"].append(pair)
            told = ", ".join(f"{way} {height:.3f}" for way, height in pair["held out"].items())
            told += f", distance {pair['distance']:.3f}"
            print(f"{name} {2 * seed}/{2 * seed + 1}: {told}; {pair['seconds']} s", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.page:
        arguments.page.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
