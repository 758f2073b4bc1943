"""One sweep of alignment between two networks of Stable Diffusion's shape: time and memory.

    python benchmarks/aligning_large.py                     # 860 million parameters, random weights
    python benchmarks/aligning_large.py --width 64 --json   # the same shape, smaller

The second network is the first with every space's channels permuted (and noise on every entry), so that what is found
can be held against what was planted.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.rewrite.comparing.elements.steps import space_steps
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.matching import Solver, distance_between
from neuralmechanics.symmetry import Element

NOISE = 0.1  # of an entry's size


class Attention(nn.Module):
    """Heads of tokens over a context."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = nn.Linear(context, width, bias=False), nn.Linear(context, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (self.q(x), self.k(context), self.v(context))
        )
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))


class Gated(nn.Module):
    """Two branches of one product, one of them through a GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.up(x).chunk(2, -1)
        return self.down(value * functional.gelu(gate))


class Transformer(nn.Module):
    """Self-attention, attention to the text, and a gated network, on the pixels of an image."""

    def __init__(self, width: int, context: int, heads: int) -> None:
        super().__init__()
        self.norm, self.into, self.out = nn.GroupNorm(32, width), nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own, self.other = Attention(width, width, heads), Attention(width, context, heads)
        self.inner = Gated(width)

    def forward(self, image: Tensor, context: Tensor) -> Tensor:
        x = self.into(self.norm(image)).flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        x = x + self.own(y, y)
        x = x + self.other(self.norms[1](x), context)
        x = x + self.inner(self.norms[2](x))
        return image + self.out(x.transpose(1, 2).unflatten(2, image.shape[2:]))


class Residual(nn.Module):
    """Two convolutions, with the embedding of time added between them."""

    def __init__(self, inputs: int, outputs: int, time_width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(32, inputs), nn.GroupNorm(32, outputs)])
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_width, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, moment: Tensor) -> Tensor:
        y = self.first(functional.silu(self.norms[0](x))) + self.time(functional.silu(moment))[:, :, None, None]
        return self.skip(x) + self.second(functional.silu(self.norms[1](y)))


class UNet(nn.Module):
    """Stable Diffusion's first: four levels of widths 1, 2, 4, 4, attention on the upper three; 860e6 at width 320."""

    def __init__(self, width: int, context: int, heads: int = 8) -> None:
        super().__init__()
        time_width, widths = 4 * width, [width * m for m in (1, 2, 4, 4)]
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.enter = nn.Conv2d(4, width, 3, padding=1)
        self.down, self.middle, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        kept, now = [width], width
        for level, size in enumerate(widths):
            for _ in range(2):
                parts: list[nn.Module] = [Residual(now, size, time_width)]
                parts += [Transformer(size, context, heads)] if level < 3 else []
                self.down.append(nn.ModuleList(parts))
                now = size
                kept.append(now)
            if level < 3:
                self.down.append(nn.ModuleList([nn.Conv2d(now, now, 3, stride=2, padding=1)]))
                kept.append(now)
        self.middle.extend(
            [Residual(now, now, time_width), Transformer(now, context, heads), Residual(now, now, time_width)]
        )
        for level, size in reversed(list(enumerate(widths))):
            for number in range(3):
                parts = [Residual(now + kept.pop(), size, time_width)]
                parts += [Transformer(size, context, heads)] if level < 3 else []
                parts += [nn.Conv2d(size, size, 3, padding=1)] if level and number == 2 else []
                self.up.append(nn.ModuleList(parts))
                now = size
        self.norm, self.leave = nn.GroupNorm(32, width), nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, image: Tensor, moment: Tensor, context: Tensor) -> Tensor:
        moment = self.time(moment)
        x = self.enter(image)
        kept = [x]
        for parts in self.down:
            for part in parts:
                x = self._through(part, x, moment, context)
            kept.append(x)
        for part in self.middle:
            x = self._through(part, x, moment, context)
        for parts in self.up:
            x = torch.cat([x, kept.pop()], 1)
            for part in parts:
                if isinstance(part, nn.Conv2d):
                    x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
                x = self._through(part, x, moment, context)
        answer: Tensor = self.leave(functional.silu(self.norm(x)))
        return answer

    def _through(self, part: nn.Module, x: Tensor, moment: Tensor, context: Tensor) -> Tensor:
        given = {Residual: (moment,), Transformer: (context,)}.get(type(part), ())
        found: Tensor = part(x, *given)
        return found


def hollow(width: int, context: int) -> tuple[nn.Module, Any]:
    """The network without weights, and a batch for it."""
    with torch.device("meta"):
        model = UNet(width, context)
        batch = (torch.zeros(1, 4, 16, 16), torch.zeros(1, width), torch.zeros(1, 7, context))
    return model.eval(), batch


def planted(network: Network, a: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every space's channels in another order, and noise on every entry."""
    draw = torch.Generator().manual_seed(1)
    b = dict(a)
    for space in network.symmetries.spaces:
        order = space.random_element(draw).permutation
        if order is not None:
            for step in space_steps(space, Element(permutation=order)):
                b = step.transform(b)
    return {n: v + NOISE * v.std() * torch.randn(v.shape, generator=draw) if v.numel() > 1 else v for n, v in b.items()}


def measured(width: int, context: int) -> dict[str, Any]:
    """Seconds of the clock and of the processor for the search and for one sweep, memory, and what was found."""
    model, batch = hollow(width, context)
    clock, worked = time.monotonic(), time.process_time()
    network = Network.of(model, batch, exact=False)
    search = {"search_seconds": time.monotonic() - clock, "search_processor_seconds": time.process_time() - worked}
    draw = torch.Generator().manual_seed(0)
    shapes = {name: p.shape for name, p in model.named_parameters()}
    a = {n: torch.randn(s, generator=draw).double() / max(s[1:].numel(), 1) ** 0.5 for n, s in shapes.items()}
    b = planted(network, a)
    clock, worked = time.monotonic(), time.process_time()
    solver = Solver(network, frozenset(), a, b, free=False)
    del b
    solver.known = set(network.late)
    before = distance_between(solver.a, solver.b)
    solver.in_turn()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "spaces": len(network.symmetries.spaces),
        **search,
        "seconds": time.monotonic() - clock,
        "processor_seconds": time.process_time() - worked,
        "threads": torch.get_num_threads(),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "distance_before": before,
        "distance_after": distance_between(solver.a, solver.b),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=320, help="of the first level, a multiple of 32")
    parser.add_argument("--context", type=int, default=768, help="width of the text's tokens")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    given = parser.parse_args()
    found = measured(given.width, given.context)
    if given.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:>26}  {value:,.4g}" if isinstance(value, float) else f"{key:>26}  {value:,}")


if __name__ == "__main__":
    main()
