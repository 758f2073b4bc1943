"""What a monitor costs a step: a small VGG-like network trained with and without it.

    python benchmarks/monitor.py --steps 60 --batch 64 --device cpu

Interleaves blocks of steps with each setting, so that a busy machine slows all of them alike, and prints the median.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

import neuralmechanics as nm

SETTINGS: dict[str, dict[str, Any] | None] = {
    "no monitor": None,
    "exact law": {"laws": ["exact"]},
    "all laws": {},
    "all laws, residuals": {"residuals": True},
    "all laws, every drive": {"drives": True},
    "all laws, copies": {"exact_update": True},
}


def vgg_like(width: int) -> nn.Module:
    """Six convolutions with batch norm, two linear layers, 3x32x32 in, 10 classes out."""
    layers: list[nn.Module] = []
    before = 3
    for channels in (width, width, 2 * width, 2 * width, 4 * width, 4 * width):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()]
        if before == channels:
            layers.append(nn.MaxPool2d(2))
        before = channels
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * 16, 8 * width), nn.ReLU(), nn.Linear(8 * width, 10))


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def block(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor], steps: int) -> float:
    """Seconds a step."""
    wait = torch.cuda.synchronize if batch[0].is_cuda else (lambda: None)
    # On a processor its own time, which other programs hardly change; on an accelerator the time that passes.
    clock = time.perf_counter if batch[0].is_cuda else time.process_time
    wait()
    begun = clock()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn(model, batch).backward()
        optimizer.step()
    wait()
    return (clock() - begun) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="steps a block")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.manual_seed(0)
    batch = torch.randn(options.batch, 3, 32, 32), torch.randint(10, (options.batch,))
    symmetries = nm.find_symmetries(vgg_like(options.width), batch, loss_fn)
    batch = batch[0].to(options.device), batch[1].to(options.device)
    times: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for repeat in range(options.blocks + 1):
        for name, setting in SETTINGS.items():
            model = vgg_like(options.width).to(options.device)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
            monitor = (
                nullcontext()
                if setting is None
                else nm.Monitor(model, optimizer, symmetries, every=10_000, strict=True, **setting)
            )
            with monitor:
                block(model, optimizer, batch, 2)
                seconds = block(model, optimizer, batch, options.steps)
            if repeat:  # the first round warms the caches
                times[name].append(seconds)
    bare = statistics.median(times["no monitor"])
    parameters = sum(p.numel() for p in vgg_like(options.width).parameters())
    print(f"{parameters:,} parameters, {len(symmetries.labels)} charges, batch {options.batch}, {options.device}")
    for name, seconds in times.items():
        middle = statistics.median(seconds)
        print(f"{name:24s} {1e3 * middle:8.2f} ms a step   {100 * (middle / bare - 1):+6.1f} %")


if __name__ == "__main__":
    main()
