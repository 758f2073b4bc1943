"""A model as it will be after a rewrite, while something looks at it: parameters trainable, untied, constant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["constant", "separated", "trainable"]


@contextmanager
def trainable(model: nn.Module) -> Iterator[None]:
    """Frozen parameters take part."""
    frozen = [p for p in model.parameters() if not p.requires_grad and (p.is_floating_point() or p.is_complex())]
    try:
        for p in frozen:
            p.requires_grad_(True)
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


@contextmanager
def separated(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Parameters of the given names are tensors of their own."""
    kept = [(*_holder(model, name),) for name in names]
    own = [module._parameters[last] for module, last in kept]
    try:
        for (module, last), value in zip(kept, own, strict=True):
            if value is not None:
                module._parameters[last] = nn.Parameter(value.detach().clone())
        yield
    finally:
        for (module, last), value in zip(kept, own, strict=True):
            module._parameters[last] = value


@contextmanager
def constant(model: nn.Module, values: Mapping[str, float]) -> Iterator[None]:
    """Parameters of the given names are tensors of one number, made anew whenever they are read.

    For as long their modules are of a class of their own, of which they are properties.
    """
    found: dict[str, tuple[nn.Module, dict[str, float]]] = {}
    for name, value in values.items():
        module, last = _holder(model, name)
        if module._parameters.get(last) is not None and not isinstance(module, _ASKING):
            found.setdefault(name.rpartition(".")[0], (module, {}))[1][last] = value
    before = [(module, type(module), dict(module._parameters)) for module, _ in found.values()]
    try:
        for module, numbers in found.values():
            properties = {last: _filled(module._parameters.pop(last), value) for last, value in numbers.items()}
            module.__class__ = type(type(module).__name__, (type(module),), properties)
        yield
    finally:
        for module, kind, parameters in before:
            module.__class__ = kind
            module._parameters.clear()
            module._parameters.update(parameters)


def _filled(like: nn.Parameter | None, value: float) -> property:
    assert like is not None
    shape, dtype, device = like.shape, like.dtype, like.device
    return property(lambda _: torch.full(shape, value, dtype=dtype, device=device))


_ASKING = (nn.RNNBase,)  # modules that keep their parameters in lists of their own


def _holder(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, last = name.rpartition(".")
    return model.get_submodule(path), last
