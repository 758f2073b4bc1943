"""A network about which the engine may claim something: how it is built, fed and trained, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..network import prepared

Loss = Callable[[Any, Any], Tensor]
Draw = Callable[[torch.Generator], Any]


@dataclass(frozen=True, eq=False)
class Claim:
    """A module factory, a draw of batches and a loss (None: the whole output must stay unchanged).

    ``counts`` are the counts by kind that a complete search gives, where they are known by hand.
    """

    name: str
    factory: Callable[[], nn.Module]
    draw: Draw
    loss: Loss | None = None
    counts: Mapping[str, int] | None = None

    def build(self) -> nn.Module:
        """The same float64 module each time, in training mode but for norms that the factory froze."""
        torch.manual_seed(0)
        module = self.factory()
        frozen = [part for part in module.modules() if getattr(part, "stays_frozen", False)]
        prepared(module)
        for part in frozen:
            part.eval()
        return module

    def batch(self, seed: int = 0) -> Any:
        return self.draw(torch.Generator().manual_seed(seed))


CLAIMS: dict[str, Claim] = {}


class Branched(nn.Module):
    """The same module behind a question that only data can answer, so that it can be captured by tracing alone."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any) -> Any:
        if inputs[0].sum() < -1e12:
            inputs = tuple(-x for x in inputs)
        return self.inner(*inputs)


def normal(*shapes: tuple[int, ...]) -> Draw:
    """Batches of normal tensors of the given shapes."""
    return lambda g: tuple(torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)


def register(
    name: str,
    draw: Draw,
    loss: Loss | None = None,
    branched: bool = False,
    counts: Mapping[str, int] | None = None,
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Adds a module factory under ``name``; ``branched`` adds it once more where only tracing can capture it."""

    def add(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        variants = {name: factory}
        if branched:
            variants[f"{name} (branched)"] = lambda: Branched(factory())
        for key, make in variants.items():
            if key in CLAIMS:
                raise ValueError(f"two networks are called {key!r}")
            CLAIMS[key] = Claim(key, make, draw, loss, counts)
        return factory

    return add


def frozen(norm: nn.Module) -> nn.Module:
    """A norm kept in evaluation mode inside a model that trains, with running statistics that are not trivial."""
    with torch.no_grad():
        for name, buffer in norm.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + (0.5 if "var" in name else -0.5))
    norm.stays_frozen = True  # type: ignore[assignment]
    return norm
