"""A GPT on real text, AdamW with warm-up and cosine: norms and rotation from the first fifth against the end.

    python benchmarks/gpt_forecast.py                          # a small one, minutes on two cores
    python benchmarks/gpt_forecast.py --width 192 --depth 6 --heads 6 --length 64 --steps 3000 --every 6 --lr 2e-3 \\
        --text torch --json gpt.json               # 2.8 million parameters, some 40 minutes on one quiet core
    python benchmarks/gpt_forecast.py --device cuda --width 256 --depth 6 --heads 8 --length 256 --batch 64 \\
        --steps 6000 --lr 2e-3 --text torch --json gpt.json    # five million parameters, minutes on an accelerator

The text is what packages ship: `--text topics`, the half million bytes of Python's own language reference, or `torch`,
some forty million bytes of the installed torch's sources, which a larger model does not learn by heart. Queries and
keys are normalised, so that their projections are scale-free, a group a head; so is all that is added to the stream.

Told of these groups: the error of the forecast's norm at the last step and of its rotation half way, the part of the
norms inside the interval, and the growth of their gradients over the last half, split into the factors of
`diagnostics.gradient_energy`: 1/|θ|, which decay and rate set (Defazio, 2025), the Gauss-Newton matrix at unit norm, by
labels that the model draws, the mean gradient, and what these leave, over the same `--still` batches half way and at
the end. What they leave is split further, by two losses more: gradients of all bytes of a batch with random
signs, whose square is the sum of the squares of each byte's own (what a batch has beyond it, bytes of one window
share), and gradients for drawn bytes, each weighted by the length of the residual |p - y| that the true one has, over
what the model expects of it. The last is known from the outputs alone; the remainder is what nothing here explains.
`--decay-follows-rate` multiplies the decay by the schedule's factor, which holds the norms where they are: what then is
left of the growth is not of the norms.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import neuralmechanics as nm

Batch = tuple[Tensor, Tensor]
Numbers = dict[str, Any]


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


def text_of(source: str) -> Tensor:
    """Bytes that a package ships."""
    if source == "topics":
        data = "\n".join(topics.values()).encode()
    else:
        files = sorted(Path(torch.__file__).parent.rglob("*.py"))
        data = b"\n".join(file.read_bytes() for file in files)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def batches(text: Tensor, size: int, length: int) -> Batch:
    """Random windows of the text, and the same one byte on; drawn where the text lies."""
    starts = torch.randint(len(text) - length - 1, (size, 1), device=text.device)
    window = text[starts + torch.arange(length + 1, device=text.device)].long()
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
    parser.add_argument("--text", choices=("topics", "torch"), default="topics")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--autocast", action="store_true", help="compute in bfloat16")
    parser.add_argument("--decay-follows-rate", action="store_true")
    parser.add_argument("--fork", type=int, help="from the first fifth on, draw batches with this seed")
    parser.add_argument("--still", type=int, default=64, help="batches that gradients are measured with, 0: not at all")
    parser.add_argument("--store", type=Path, help="keep the run there")
    parser.add_argument("--json", type=Path, help="write all numbers there, with the series of every group")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    run, points, known = trained(options)
    found = known | forecasts(run, options.steps) | growth(points)
    for name, value in found.items():
        if not isinstance(value, list | dict):
            print(f"{name:38s} {value}")
    if options.json:
        found["options"] = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
        options.json.write_text(json.dumps(found))


def trained(options: Any) -> tuple[nm.Run, list[Point], Numbers]:
    """The run, what makes |g| of its scale-free groups half way and at the end, and what was trained."""
    text = text_of(options.text).to(options.device)
    model = GPT(options.width, options.depth, options.heads, options.length).to(options.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.lr, weight_decay=options.weight_decay, betas=(0.9, 0.95)
    )
    symmetries = nm.find_symmetries(model, batches(text, 2, options.length), loss_of).of_kind("scale")
    # Losses stay on the device until the training is over: nothing waits for it between records.
    losses, begun = [], time.perf_counter()
    points: list[Point] = []
    held_out = fixed_batches(text, options)
    kind = torch.device(options.device).type
    with nm.Monitor(model, optimizer, symmetries, store=options.store, every=options.every) as monitor:
        for step in range(options.steps):
            if options.fork is not None and step == options.steps // 5:
                torch.manual_seed(options.fork)
            factor = schedule(step, options.steps, options.steps // 20)
            for group in optimizer.param_groups:
                group["lr"] = options.lr * factor
                if options.decay_follows_rate:
                    group["weight_decay"] = options.weight_decay * factor
            optimizer.zero_grad()
            with torch.autocast(kind, torch.bfloat16) if options.autocast else nullcontext():
                loss = loss_of(model, batches(text, options.batch, options.length))
            loss.backward()  # type: ignore[no-untyped-call]
            if (step + 1) % options.every == 0:
                losses.append(loss.detach())
            optimizer.step()
            if options.still and step + 1 in (options.steps // 2, options.steps):
                points.append(point_of(model, held_out, symmetries))
    seconds = time.perf_counter() - begun
    known: Numbers = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "bytes of text": len(text),
        "seconds": round(seconds, 1),
        "loss at the end": float(torch.stack(losses)[-max(1, len(losses) // 20) :].mean()),
        "losses": torch.stack(losses).tolist(),
    }
    return monitor.run, points, known


def fixed_batches(text: Tensor, options: Any) -> list[Batch]:
    """The same at every point: what then differs between two points is the network's."""
    state = torch.get_rng_state()
    torch.manual_seed(10_000 + options.seed)
    found = [batches(text, options.batch, options.length) for _ in range(options.still)]
    torch.set_rng_state(state)
    return found


def drawn(model: nn.Module, batch: Batch) -> Batch:
    """The windows with next bytes that the model draws."""
    logits = model(batch[0])
    return batch[0], torch.multinomial(logits.flatten(0, 1).softmax(-1), 1).view_as(batch[1])


def own(model: nn.Module, batch: Batch) -> Tensor:
    """The loss with a random sign a byte: E|g|² over signs is the sum of the squares of every byte's own gradient."""
    losses = functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten(), reduction="none")
    return (losses * (2.0 * torch.randint(0, 2, losses.shape, device=losses.device) - 1)).mean()


def residual(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of drawn bytes, weighted by |p - y| of the true ones over its root mean square √(1 - |p|²)."""
    logits, true = model(batch[0]).flatten(0, 1), batch[1].flatten()
    p = logits.detach().softmax(-1)
    square = p.square().sum(-1)
    weights = ((1 - 2 * p.gather(-1, true[:, None])[:, 0] + square) / (1 - square)).sqrt()
    losses = functional.cross_entropy(logits, torch.multinomial(p, 1)[:, 0], reduction="none")
    return (losses * weights).mean()


@dataclass(frozen=True)
class Point:
    """Energies at one point: of batches and drawn bytes, of bytes alone, of drawn bytes with the true residuals."""

    whole: nm.diagnostics.GradientEnergy
    own: nm.diagnostics.GradientEnergy
    residual: nm.diagnostics.GradientEnergy


def point_of(model: nn.Module, still: list[Batch], symmetries: nm.Symmetries) -> Point:
    """What makes |g| of every scale-free group, over the same batches."""
    energy = nm.diagnostics.gradient_energy
    # Other seeds than the drawn bytes' of the first, so that no two of the three share random numbers.
    return Point(
        energy(model, loss_of, still, symmetries, draw=drawn),
        energy(model, own, still, symmetries, seed=1 << 20),
        energy(model, residual, still, symmetries, seed=2 << 20),
    )


def forecasts(run: nm.Run, steps: int) -> Numbers:
    """Norms at the end and rotation half way, from the first fifth."""
    data = run.data
    told = run.forecast(learned_until=steps // 5)
    at = {str(label): k for k, label in enumerate(data["label"].values)}
    mine = [at[str(label)] for label in told.scales["label"]]
    end = np.sqrt(data["charge"].to_numpy()[-1, mine])
    norm = told.scales["norm_at_end"].to_numpy() / end - 1
    inside = (told.scales["low"] <= end) & (end <= told.scales["high"])
    # The rotation dies with the learning rate: it is compared where the cosine has fallen by half.
    half = run.forecast(to=steps // 2, learned_until=steps // 5)
    turned = run.turning()
    rows = np.abs(turned["step"].to_numpy() - steps // 2) <= steps // 20
    measured = np.sqrt(np.mean(turned["rotation"].to_numpy()[rows] ** 2, axis=0))
    angle = half.scales["rotation_at_end"].to_numpy() / measured - 1
    return {
        "groups": len(end),
        "norm, median error": f"{np.median(np.abs(norm)):.1%}",
        "norm, worst error": f"{np.abs(norm).max():.1%}",
        "norms inside the interval": f"{inside.mean():.0%}",
        "rotation half way, median error": f"{np.median(np.abs(angle)):.1%}",
        "rotation half way, worst error": f"{np.abs(angle).max():.1%}",
        "labels": [str(label) for label in told.scales["label"]],
        "norm errors": norm.tolist(),
        "rotation errors": angle.tolist(),
        "rotations": turned["rotation"].to_numpy().tolist(),
        "norms": np.sqrt(data["charge"].to_numpy()[:, mine]).tolist(),
        "steps": data["step"].to_numpy().tolist(),
        "rates": np.nanmax(data["learning_rate"].to_numpy(), axis=1).tolist(),
    }


def growth(points: list[Point]) -> Numbers:
    """How the gradients grew from half way to the end, and what of it has which cause."""
    if len(points) < 2:
        return {}
    half, end = points
    found = end.whole.growth_since(half.whole)
    share = [float(each.whole.mean.sum() / each.whole.batch.sum()) for each in points]
    grown = np.log(found.gradient).mean()
    # Of √(noise/E|g'|²), which is what the three factors leave.
    parts = {
        "shared by the bytes of a window": [(e.whole.batch - e.whole.mean) / e.own.batch for e in points],
        "residuals at the outputs": [e.residual.batch / e.whole.curvature for e in points],
        "left by all": [e.own.batch / e.residual.batch for e in points],
    }
    logs = {name: float(0.5 * np.log(after / before).mean()) for name, (before, after) in parts.items()}
    return {
        "gradients, last half": str(found).replace("\n", " "),
        "part of the growth that 1/|θ| is": f"{found.explained_by_norm:.0%}",
        "explained by the three": f"{found.explained:.1%}",
        **{name: f"×{math.exp(log):.3f}" for name, log in logs.items()},
        "explained by all five": f"{1 - abs(logs['left by all'] / grown):.1%}",
        "mean gradient's part of |g|²": f"{share[0]:.0%} half way, {share[1]:.0%} at the end",
        "growths": found.to_frame().to_dict("list"),
        "energies": [each.whole.to_frame().to_dict("list") for each in points],
    }


if __name__ == "__main__":
    main()
