"""The layers of a model by name: whose weight a parameter is, which names share one tensor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.as_found.copying import plain_module
from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.looking.seeing import trainable
from neuralmechanics.symmetry import Symmetries, find_symmetries

__all__ = ["Layers", "looked_at"]

# Layers of two dimensions whose weight is stored as [inputs, outputs].
_TRANSPOSED = ("Conv1D",)


@dataclass(frozen=True, eq=False)
class Layers:
    """A model, asked about its names."""

    model: nn.Module

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All modules, in the model's order, each under its first name."""
        return tuple(name for name, _ in self.model.named_modules())

    @cached_property
    def class_names(self) -> frozenset[str]:
        """The names of all classes of modules and of those that they are made from."""
        return frozenset(kind.__name__ for module in self.model.modules() for kind in type(module).__mro__)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers, under every name that they have."""
        parameters = dict(self.model.named_parameters(remove_duplicate=False))
        return parameters | dict(self.model.named_buffers(remove_duplicate=False))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    @cached_property
    def aliases(self) -> dict[str, tuple[str, ...]]:
        """For each tensor with several names, the first of them and then the others."""
        found: dict[int, list[str]] = {}
        for name, tensor in self.tensors.items():
            found.setdefault(id(tensor), []).append(name)
        return {names[0]: tuple(names[1:]) for names in found.values() if len(names) > 1}

    def module(self, name: str) -> nn.Module:
        """The module of that name."""
        return self.model.get_submodule(name)

    def class_of(self, name: str) -> str:
        """The name of a module's class."""
        return type(self.module(name)).__name__

    def owner(self, parameter: str) -> tuple[str, str]:
        """The module that holds a parameter, and what the parameter is called in it."""
        module, _, leaf = parameter.rpartition(".")
        return module, leaf

    def tensor_of(self, module: str, leaf: str) -> str | None:
        """The full name of a module's own tensor; None where it has none or it is None."""
        name = f"{module}.{leaf}" if module else leaf
        return name if name in self.tensors else None

    def is_transposed(self, module: str) -> bool:
        """Whether a layer keeps its weight as [inputs, outputs]."""
        return self.class_of(module) in _TRANSPOSED

    def all_names(self, tensor: str) -> Iterator[str]:
        """The tensor's names."""
        yield tensor
        yield from self.aliases.get(tensor, ())


def looked_at(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None, symmetries: Symmetries | None
) -> tuple[Layers, Symmetries]:
    """The layers of a model and its symmetries, given or found now; frozen parameters are looked at like others."""
    model = plain_module(model)
    if symmetries is None:
        with trainable(model):
            symmetries = find_symmetries(model, batch, loss_fn)
    return Layers(model), symmetries
