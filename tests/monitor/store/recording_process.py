"""A process that records: for each path on its standard input it forks a training, and says what is safe.

Forking after the imports makes each of many kills cost milliseconds. Output lines: `pid N`, `safe STEP`, `dead`.
"""

from __future__ import annotations

import os
import sys

import safetensors.numpy  # noqa: F401 - loaded before the forks, like the packages below
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.symmetry import Symmetries


def say(line: str) -> None:
    os.write(1, (line + "\n").encode())


def build() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    return model, torch.randn(8, 3, dtype=torch.float64), torch.randint(2, (8,))


def train(path: str | None, symmetries: Symmetries, steps: int) -> nm.Run:
    model, x, y = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(model, optimizer, symmetries, path, every=1, strict=True) as monitor:
        said = None
        for _ in range(steps):
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.log(loss=loss)
            if path is not None and monitor.recorded_step != said:
                said = monitor.recorded_step
                say(f"safe {said}")
    return monitor.run


def find() -> Symmetries:
    model, x, y = build()
    return nm.find_symmetries(model, (x, y), lambda m, batch: nn.functional.cross_entropy(m(batch[0]), batch[1]))


def main() -> None:
    torch.set_num_threads(1)
    symmetries = find()
    _ = nm.Monitor  # resolved once, so that no child imports anything
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            train(line.strip(), symmetries, 100_000)
            os._exit(0)
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("dead")


if __name__ == "__main__":
    main()
