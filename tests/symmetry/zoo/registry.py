"""Where the hand-picked networks are collected, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..network import Network, prepared

SMALL: dict[str, Callable[[], Network]] = {}  # small enough for the oracle
SLOW: set[str] = set()  # those of them, and those traps, that are more of a kind: looked at with the slow tests


def small(
    name: str, shape: tuple[int, ...], head: str = "cross_entropy", tokens: int = 0, slow: bool = False
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Registers a module factory under `name` with random inputs of `shape` (token numbers when `tokens`)."""
    SLOW.update([name] if slow else [])

    def inputs(generator: torch.Generator) -> tuple[Any, ...]:
        if tokens:
            return (torch.randint(tokens, shape, generator=generator),)
        return (torch.randn(shape, generator=generator, dtype=torch.float64),)

    def register(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        if name in SMALL:
            raise ValueError(f"two zoo networks are called {name!r}")
        SMALL[name] = lambda: Network(name, prepared(factory()), inputs, head)
        return factory

    return register
