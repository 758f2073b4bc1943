"""Networks that change something of themselves when they run: caches, counters, averages, hooks, parts built late."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

__all__ = ["MODELS"]


@functools.lru_cache
def remembered_mask(n: int) -> Tensor:
    return torch.tril(torch.ones(n, n))


GLOBAL_MASKS: dict[int, Tensor] = {}


class Net(nn.Module):
    """a, something that leaves a trace, tanh, b; a dropout that is alone in evaluation mode."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        self.a, self.still, self.b = nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 2)
        self.a.bias.requires_grad_(False)
        self.still.eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(torch.tanh(self.trace(self.still(self.a(x)))))
        return out

    def trace(self, y: Tensor) -> Tensor:
        return y


class MaskAttribute(Net):
    def __init__(self) -> None:
        super().__init__()
        self.mask: Tensor | None = None

    def trace(self, y: Tensor) -> Tensor:
        if self.mask is None:
            self.mask = torch.tril(torch.ones(len(y), len(y)))
        return self.mask.to(y) @ y


class MaskNewAttribute(Net):
    def trace(self, y: Tensor) -> Tensor:
        if not hasattr(self, "mask"):
            self.mask = torch.tril(torch.ones(len(y), len(y)))
        return self.mask.to(y) @ y


class LazyBuffer(Net):
    def trace(self, y: Tensor) -> Tensor:
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.tril(torch.ones(len(y), len(y))), persistent=False)
        return self.mask.to(y) @ y


class DictCache(Net):
    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, dict[int, Tensor]] = {"masks": {}}

    def trace(self, y: Tensor) -> Tensor:
        masks = self.cache["masks"]
        if len(y) not in masks:
            masks[len(y)] = torch.tril(torch.ones(len(y), len(y)))
        return masks[len(y)].to(y) @ y


class LruCache(Net):
    def trace(self, y: Tensor) -> Tensor:
        return remembered_mask(len(y)).to(y) @ y


class GlobalDict(Net):
    def trace(self, y: Tensor) -> Tensor:
        if len(y) not in GLOBAL_MASKS:
            GLOBAL_MASKS[len(y)] = torch.tril(torch.ones(len(y), len(y)))
        return GLOBAL_MASKS[len(y)].to(y) @ y


class LastOutput(Net):
    def trace(self, y: Tensor) -> Tensor:
        self.last = y
        return y


class Record(Net):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []
        self.sizes: set[int] = set()

    def trace(self, y: Tensor) -> Tensor:
        self.seen.append(y.detach())
        self.sizes.add(len(self.seen))
        return y


class AuxiliaryLoss(Net):
    def trace(self, y: Tensor) -> Tensor:
        self.auxiliary = {"loss": y.pow(2).mean()}
        return y


class Counter(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.calls = 0

    def trace(self, y: Tensor) -> Tensor:
        self.calls += 1
        type(self).count += 1
        self.steps += 1
        return y


class AverageInPlace(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.plain = torch.full((3,), torch.nan)

    def trace(self, y: Tensor) -> Tensor:
        self.mean.mul_(0.9).add_(y.detach().mean(0), alpha=0.1)
        self.plain.copy_(y.detach().mean(0))
        return y - self.mean


class AverageAssigned(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))

    def trace(self, y: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * y.detach().mean(0)
        return y - self.mean


class DataCopy(Net):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(3))
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)

    def trace(self, y: Tensor) -> Tensor:
        self.codes.data.copy_(y.detach().mean(0))
        self.frozen.data.copy_(y.detach().mean(0))
        return y


class Noise(Net):
    def __init__(self) -> None:
        super().__init__()
        self.own = torch.Generator().manual_seed(3)

    def trace(self, y: Tensor) -> Tensor:
        drawn = random.random() + float(np.random.rand()) + torch.rand((), generator=self.own)  # noqa: NPY002
        return y + 1e-3 * torch.randn_like(y) + 0.0 * drawn.to(y.dtype)


class FrozenNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        self.still = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))  # type: ignore[assignment]
        self.still[0].eval()


class SpectralNorm(Net):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.spectral_norm(self.a)


class OldWeightNorm(Net):
    """A weight that is an attribute, made anew before each run: it has a history, so torch refuses to copy it."""

    def __init__(self) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(3))
        self.register_forward_pre_hook(self._normalise)
        self._normalise(self, ())

    @staticmethod
    def _normalise(module: nn.Module, _: Any) -> None:
        v: Tensor = module.v  # type: ignore[assignment]
        module.__dict__["w"] = v / v.norm()

    def trace(self, y: Tensor) -> Tensor:
        weight: Tensor = self.w
        return y * weight


class Lazy(Net):
    def __init__(self) -> None:
        super().__init__()
        self.extra = nn.ModuleDict()

    def trace(self, y: Tensor) -> Tensor:
        if "gain" not in self.extra:
            self.extra["gain"] = nn.Identity()
        out: Tensor = self.extra["gain"](y)
        return out


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.twin = nn.Linear(2, 3)
        self.twin.weight = self.a.weight
        self.register_buffer("one", torch.zeros(2))
        self.register_buffer("two", self.one)

    def forward(self, x: Tensor) -> Tensor:
        self.one += 1
        out: Tensor = self.b(torch.tanh(self.a(x) + self.twin(x))) + self.two
        return out


class KeyCache(Net):
    def __init__(self) -> None:
        super().__init__()
        self.cache = torch.zeros(8, 3)

    def trace(self, y: Tensor) -> Tensor:
        self.cache = self.cache.to(y)
        self.cache[: len(y)] = y
        return self.cache[: len(y)]


class Store:
    def __init__(self) -> None:
        self.layers: list[Tensor] = []
        self.length = 0


class ObjectCache(Net):
    def __init__(self) -> None:
        super().__init__()
        self.store = Store()

    def trace(self, y: Tensor) -> Tensor:
        self.store.layers = [*self.store.layers, y]
        self.store.length += len(y)
        return y


class Forced(Net):
    """Weights normalised where they stand at each run in training mode, as in EDM2."""

    def trace(self, y: Tensor) -> Tensor:
        with torch.no_grad():
            self.b.weight.copy_(self.b.weight / self.b.weight.norm())
        return y


class ModeSwitcher(Net):
    def trace(self, y: Tensor) -> Tensor:
        self.still.train()
        self.a.requires_grad_(True)
        return y


def hooked() -> Net:
    model, calls = Net(), [0]
    model.seen = calls  # type: ignore[assignment]
    number = 0

    def count(*_: Any) -> None:
        nonlocal number
        number += 1
        calls[0] += 1

    def own_handle(module: nn.Module, *_: Any) -> None:
        module.register_forward_hook(lambda *_: None)

    model.a.register_forward_hook(count)
    model.b.register_forward_hook(own_handle)
    return model


def writing_hook() -> Net:
    model = Net()
    model.register_buffer("mean", torch.zeros(2))

    def write(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        module.mean.add_(args[0].detach().mean(0))

    model.register_forward_pre_hook(write)
    return model


def compiled() -> nn.Module:
    wrapped: nn.Module = torch.compile(Counter(), backend="eager")  # type: ignore[assignment]
    return wrapped


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mask attribute": MaskAttribute,
    "mask, new attribute": MaskNewAttribute,
    "late buffer": LazyBuffer,
    "dict cache": DictCache,
    "lru_cache": LruCache,
    "global dict": GlobalDict,
    "last output": LastOutput,
    "record": Record,
    "auxiliary loss": AuxiliaryLoss,
    "counters": Counter,
    "average in place": AverageInPlace,
    "average assigned": AverageAssigned,
    "data.copy_": DataCopy,
    "noise": Noise,
    "frozen norm": FrozenNorm,
    "spectral norm": SpectralNorm,
    "weight norm": OldWeightNorm,
    "late module": Lazy,
    "tied": Tied,
    "key cache": KeyCache,
    "object cache": ObjectCache,
    "forced weights": Forced,
    "mode switcher": ModeSwitcher,
    "counting hooks": hooked,
    "writing hook": writing_hook,
    "compiled": compiled,
}
