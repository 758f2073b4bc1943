"""How time and memory grow with a network: exponents of the search, and of what is asked of a model afterwards.

    python benchmarks/growth.py                        # every case, each size in a process of its own
    python benchmarks/growth.py --case search/branches # one case
    python benchmarks/growth.py --longest 4            # four doublings instead of three

Each case is run at sizes that double. The exponent is the slope of the regression of log processor time, and of log
peak memory beyond what was resident before, on log size: 1 is linear. Time that does not depend on the size (the first
export) is paid beforehand; what is left of it makes small exponents smaller, so times are printed too.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Task = Callable[[], object]  # what is measured; everything before it is preparation


class Stream(nn.Module):
    """A stream to which each layer adds what it makes of its norm."""

    def __init__(self, layers: int, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        out: Tensor = self.head(self.norm(x))
        return out


class Branches(nn.Module):
    """A sum of networks of one input."""

    def __init__(self, count: int, width: int = 16) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(count)
        )
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        total = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        out: Tensor = self.head(torch.relu(total))
        return out


class Experts(nn.Module):
    """Stacked experts, weighed by a gate."""

    def __init__(self, count: int, width: int = 32, hidden: int = 64) -> None:
        super().__init__()
        self.gate, self.head = nn.Linear(width, count), nn.Linear(width, 4)
        self.entry = nn.Parameter(torch.randn(count, width, hidden) / width**0.5)
        self.exit = nn.Parameter(torch.randn(count, hidden, width) / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(torch.einsum("bd,edh->beh", x, self.entry))
        made = torch.einsum("beh,ehd->bed", hidden, self.exit)
        out: Tensor = self.head((self.gate(x).softmax(-1)[..., None] * made).sum(1))
        return out


class Head(nn.Module):
    """One head of attention of some width."""

    def __init__(self, width: int, stream: int = 16) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(stream, width) for _ in range(3))
        self.exit = nn.Linear(width, stream)

    def forward(self, x: Tensor) -> Tensor:
        parts = (part(x).unsqueeze(1) for part in (self.query, self.key, self.value))
        out: Tensor = self.exit(nn.functional.scaled_dot_product_attention(*parts).squeeze(1))
        return out


def perceptron(layers: int, width: int) -> nn.Module:
    """Linear maps with ReLU between them."""
    inside = [part for _ in range(layers) for part in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*inside, nn.Linear(width, 4))


def searched(build: Callable[[], nn.Module], shape: Sequence[int]) -> Task:
    """The search for symmetries in a model without content."""
    from neuralmechanics import find_symmetries

    with torch.device("meta"):
        model, batch = build(), torch.zeros(*shape)
    return lambda: find_symmetries(model, batch)


def asked(kind: str, layers: int) -> Task:
    """What is asked of a stream of some layers whose symmetries are known."""
    from neuralmechanics import find_symmetries
    from neuralmechanics.diagnostics.balancing.balancing import balance
    from neuralmechanics.diagnostics.checking.checking import check_symmetries
    from neuralmechanics.diagnostics.probing.probing import probe_symmetries

    model = Stream(layers) if kind != "balance" else perceptron(layers, 16)
    batch = torch.randn(8, 16), torch.randint(4, (8,))
    if kind == "probe":
        return lambda: probe_symmetries(model, cross_entropy, [batch])
    symmetries = find_symmetries(model, batch, cross_entropy)
    if kind == "balance":
        return lambda: balance(symmetries, dict(model.named_parameters()))
    return lambda: check_symmetries(symmetries, model, cross_entropy, [batch])


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The mean loss of a batch (inputs, classes)."""
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


@dataclass(frozen=True)
class Case:
    """A family of networks by size, and the first size."""

    first: int
    task: Callable[[int], Task]


CASES = {
    "search/layers": Case(32, lambda n: searched(lambda: perceptron(n, 16), (5, 16))),
    "search/layers of width 256": Case(8, lambda n: searched(lambda: Stream(n, 256), (5, 256))),
    "search/stream": Case(32, lambda n: searched(lambda: Stream(n), (5, 16))),
    "search/branches": Case(32, lambda n: searched(lambda: Branches(n), (5, 16))),
    "search/experts": Case(32, lambda n: searched(lambda: Experts(n), (5, 32))),
    "search/width": Case(256, lambda n: searched(lambda: Stream(4, n), (5, n))),
    "search/head width": Case(512, lambda n: searched(lambda: Head(n), (2, 5, 16))),
    "check_symmetries/layers": Case(16, lambda n: asked("check", n)),
    "probe/layers": Case(1, lambda n: asked("probe", n)),
    "balance/layers": Case(16, lambda n: asked("balance", n)),
}


def megabytes() -> float:
    """The greatest resident memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def measure(name: str, size: int) -> dict[str, float]:
    """Processor seconds and additional megabytes of one task, after what only the first call pays."""
    from neuralmechanics import find_symmetries

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    find_symmetries(nn.Linear(2, 2), torch.zeros(1, 2))
    task = CASES[name].task(size)
    before, start = megabytes(), time.process_time()
    task()
    return {"seconds": time.process_time() - start, "megabytes": megabytes() - before}


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The slope of log value on log size.

    >>> exponent([1, 2, 4], [3.0, 6.0, 12.0])
    1.0
    """
    x, y = [math.log(size) for size in sizes], [math.log(max(value, 1e-9)) for value in values]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True))
    return round(above / sum((a - middle) ** 2 for a in x), 2)


def run(name: str, doublings: int) -> dict[str, Any]:
    """One case at every size, each in a process of its own."""
    sizes = [CASES[name].first << k for k in range(doublings + 1)]
    rows = []
    for size in sizes:
        command = [sys.executable, __file__, "--case", name, "--size", str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    return {"sizes": sizes} | {unit: [row[unit] for row in rows] for unit in ("seconds", "megabytes")}


def main() -> None:
    """Prints one line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=tuple(CASES), help="one case only")
    parser.add_argument("--size", type=int, help="one size only; its numbers as JSON")
    parser.add_argument("--longest", type=int, default=3, metavar="DOUBLINGS")
    options = parser.parse_args()
    if options.case and options.size:
        print(json.dumps(measure(options.case, options.size)))
        return
    print(f"{'case':<28} {'sizes':<18} {'time':>5} {'memory':>7}  seconds; megabytes")
    for name in [options.case] if options.case else CASES:
        found = run(name, options.longest)
        sizes, spent, held = found["sizes"], found["seconds"], found["megabytes"]
        shown = " ".join(f"{value:.2f}" for value in spent) + "; " + " ".join(f"{value:.0f}" for value in held)
        print(
            f"{name:<28} {f'{sizes[0]} … {sizes[-1]}':<18} {exponent(sizes, spent):>5.2f} {exponent(sizes, held):>7.2f}"
            f"  {shown}",
            flush=True,
        )


if __name__ == "__main__":
    main()
