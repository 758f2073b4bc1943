"""The model and its loss as one module of the batch, and the names of the parameters in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from neuralmechanics.functional.function_module import FunctionModule

__all__ = ["LossFunction", "Names", "NoLossError", "Whole", "names_of", "require_separate", "unwrapped"]

LossFunction = Callable[[Any, Any], Tensor]


class NoLossError(TypeError):
    """A loss function that returns nothing that could be followed back to the parameters."""


class Whole(nn.Module):
    """The model and the loss as one module: every floating-point tensor of the result for a batch."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction | None) -> None:
        super().__init__()
        self.model = model
        self.training = model.training  # of the wrapper alone: each submodule keeps the mode it is in
        self._loss_fn = loss_fn

    def forward(self, batch: Any) -> tuple[Tensor, ...]:
        if self._loss_fn is None:
            return tuple(_floating(_call(self.model, batch)))
        result = self._loss_fn(self.model, batch)
        found = tuple(_floating(result))
        if not found:
            raise NoLossError(
                f"loss_fn returned {_told(result)}; it must return a floating-point tensor, the loss itself: not None "
                "(a forgotten return), nor what .item() makes of it"
            )
        return found


def _told(result: Any) -> str:
    return f"a tensor of {result.dtype}" if isinstance(result, Tensor) else f"a {type(result).__name__}"


def _call(model: nn.Module, batch: Any) -> Any:
    if isinstance(model, FunctionModule):
        return model(batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def _floating(result: Any) -> Iterable[Tensor]:
    """Every floating-point tensor of a nested output; caches of keys and values are memory, not output."""
    if isinstance(result, Tensor):
        if result.is_floating_point() or result.is_complex():
            yield result
    elif isinstance(result, Mapping):
        for key, value in result.items():
            if key not in ("past_key_values", "cache_params"):
                yield from _floating(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from _floating(value)
    elif dataclasses.is_dataclass(result):
        for entry in dataclasses.fields(result):
            yield from _floating(getattr(result, entry.name))


def unwrapped(model: nn.Module) -> nn.Module:
    """The module behind ``torch.compile`` and data-parallel wrappers."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def require_separate(model: nn.Module) -> None:
    """Raises ValueError where two parameters hold the same numbers in memory without being one parameter.

    Training moves each of them by its own gradient, and so both: what leaves the loss unchanged is then another
    question than for separate or for tied parameters.
    """
    spans = [(*_span(p), name) for name, p in model.named_parameters() if p.numel() and not p.is_meta]
    # Sorted by storage and first byte, an overlap with any tensor is one with the next: n log n, and not every pair.
    spans.sort()
    for (storage, _, end, name), (other, start, _, second) in pairwise(spans):
        if storage == other and start < end:
            raise ValueError(
                f"parameters {name!r} and {second!r} share memory without being one parameter; tie them by assigning "
                "the same nn.Parameter to both, or give one of them a copy"
            )


def _span(parameter: Tensor) -> tuple[int, int, int]:
    """The storage of a parameter, and the first and last byte in it, the last excluded; none for what has no memory."""
    if type(parameter.data) is not Tensor or parameter.layout != torch.strided:
        # What has no memory that could be compared is given a span that no other tensor has.
        return id(parameter), 0, 1
    size, first = parameter.element_size(), int(parameter.storage_offset())
    last = (
        first + 1 + sum((int(n) - 1) * int(step) for n, step in zip(parameter.shape, parameter.stride(), strict=True))
    )
    return parameter.untyped_storage().data_ptr(), first * size, last * size


@dataclass(frozen=True)
class Names:
    """Alias → canonical name, shapes of the trainable parameters, the frozen and the complex ones, and ties."""

    canonical: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    frozen: tuple[str, ...]
    tied: Mapping[str, str]
    complex: frozenset[str]


def names_of(whole: Whole) -> Names:
    """The names of the model's parameters, without the wrapper's prefix."""
    canonical: dict[str, str] = {}
    first: dict[int, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    frozen: list[str] = []
    tied: dict[str, str] = {}
    for alias, parameter in whole.model.named_parameters(remove_duplicate=False):
        name = first.setdefault(id(parameter), alias)
        canonical[alias] = name
        if name != alias:
            tied[alias] = name
        elif parameter.requires_grad and (parameter.is_floating_point() or parameter.is_complex()):
            shapes[name] = tuple(parameter.shape)
        else:
            frozen.append(name)
    many = frozenset(name for name, p in whole.model.named_parameters() if p.is_complex())
    return Names(canonical, shapes, tuple(frozen), tied, many)
