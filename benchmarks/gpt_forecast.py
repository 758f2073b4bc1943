"""A GPT on real text, AdamW with warm-up and cosine: norms and rotation from the first fifth against the end.

    python benchmarks/gpt_forecast.py                                    # a small one, minutes on two cores
    python benchmarks/gpt_forecast.py --width 256 --depth 4 --steps 4000 # a few million parameters

The text is Python's own language reference, which the standard library ships. Queries and keys are normalised, so that
their projections are scale-free, a group a head. Printed for these groups: the error of the forecast's norm at the last
step and of its rotation half way, the part of the norms inside the interval, and how far the growth of their gradients
over the last half is that of 1/|θ| (the gradient of a scale-free loss is what it is at unit norm, over |θ|).
"""

from __future__ import annotations

import argparse
import math
import time
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import neuralmechanics as nm

Batch = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Causal attention with queries and keys of unit length, times a gain."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gain = nn.Parameter(torch.full((), 4.0))
        self.heads = heads

    def forward(self, inputs: Tensor) -> Tensor:
        batch, length, width = inputs.shape
        shape = (batch, length, self.heads, width // self.heads)
        query, key, value = (p(inputs).reshape(shape).transpose(1, 2) for p in (self.query, self.key, self.value))
        query, key = (functional.rms_norm(x, (x.shape[-1],), eps=1e-12) for x in (query, key))
        mixed = functional.scaled_dot_product_attention(query * self.gain, key, value, is_causal=True)
        result: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return result


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs + self.attention(self.norm1(inputs))
        result: Tensor = inputs + self.mlp(self.norm2(inputs))
        return result


class GPT(nn.Module):
    """Bytes in, logits of the next byte out."""

    def __init__(self, width: int, depth: int, heads: int, length: int) -> None:
        super().__init__()
        self.token = nn.Embedding(256, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.token(tokens) + self.position
        result: Tensor = self.head(self.norm(self.blocks(hidden)))
        return result


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of the next byte."""
    return functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())


def batches(text: Tensor, size: int, length: int) -> Batch:
    """Random windows of the text, and the same one byte on."""
    starts = torch.randint(len(text) - length - 1, (size,))
    window = text[starts[:, None] + torch.arange(length + 1)]
    return window[:, :-1], window[:, 1:]


def schedule(step: int, steps: int, warmup: int) -> float:
    """A linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"width": 48, "depth": 2, "heads": 4, "length": 48, "batch": 16, "steps": 1500, "every": 10, "seed": 0}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=0.5)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    run, gradients = trained(options)
    report(run, gradients, options.steps)


def trained(options: Any) -> tuple[nm.Run, dict[int, Tensor]]:
    """The run, and |g| of the scale-free tensors at its records."""
    text = torch.tensor(list("\n".join(topics.values()).encode()), dtype=torch.long)
    model = GPT(options.width, options.depth, options.heads, options.length)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(text):,} bytes of text")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.lr, weight_decay=options.weight_decay, betas=(0.9, 0.95)
    )
    symmetries = nm.find_symmetries(model, batches(text, 2, options.length), loss_of).of_kind("scale")
    names = list(dict.fromkeys(name for family in symmetries for name in family.parameters))
    tensors, gradients, begun = dict(model.named_parameters()), {}, time.process_time()
    with nm.Monitor(model, optimizer, symmetries, every=options.every) as monitor:
        for step in range(options.steps):
            for group in optimizer.param_groups:
                group["lr"] = options.lr * schedule(step, options.steps, options.steps // 20)
            optimizer.zero_grad()
            loss = loss_of(model, batches(text, options.batch, options.length))
            loss.backward()
            gradients[step] = torch.stack([tensors[name].grad.norm() for name in names])  # type: ignore[union-attr]
            optimizer.step()
            monitor.log(loss=loss.detach())
    print(f"loss {float(loss):.3f}, {time.process_time() - begun:.0f} s of processor time")
    return monitor.run, gradients


def report(run: nm.Run, gradients: dict[int, Tensor], steps: int) -> None:
    """Print forecast against end, and what the norms explain of the gradients' growth."""
    data = run.data
    told = run.forecast(learned_until=steps // 5)
    at = {str(label): k for k, label in enumerate(data["label"].values)}
    mine = [at[str(label)] for label in told.scales["label"]]
    end = np.sqrt(data["charge"].to_numpy()[-1, mine])
    away = np.abs(told.scales["norm_at_end"].to_numpy() / end - 1)
    inside = ((told.scales["low"] <= end) & (end <= told.scales["high"])).mean()
    print(
        f"norms of {len(end)} groups: median error {np.median(away):.1%}, worst {away.max():.1%}, inside {inside:.0%}"
    )
    # The rotation dies with the learning rate: it is compared where the cosine has fallen by half.
    half = run.forecast(to=steps // 2, learned_until=steps // 5)
    turned = run.turning()["rotation"].to_numpy()
    rows = np.abs(run.turning()["step"].to_numpy() - steps // 2) <= steps // 20
    measured = np.sqrt(np.mean(turned[rows] ** 2, axis=0))
    angle = np.abs(half.scales["rotation_at_end"].to_numpy() / measured - 1)
    print(f"rotation at half way: median error {np.median(angle):.1%}, worst {angle.max():.1%}")
    late = {k: g for k, g in gradients.items() if k >= steps // 2}
    size = torch.stack(list(late.values())).double()
    window = max(1, len(size) // 10)
    grown = torch.log(size[-window:].mean(0) / size[:window].mean(0)).mean()
    norms = np.sqrt(data["charge"].to_numpy()[:, mine])
    middle = int(np.searchsorted(data["step"].to_numpy(), steps // 2))
    shrunk = float(np.log(norms[middle] / norms[-1]).mean())
    print(f"gradients over the last half: ×{math.exp(grown):.3f}; 1/|θ| alone: ×{math.exp(shrunk):.3f}")
    print(f"  of the growth in logarithms, |θ| explains {shrunk / float(grown):.0%}")


if __name__ == "__main__":
    main()
