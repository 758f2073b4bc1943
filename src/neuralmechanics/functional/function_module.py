"""A function of named tensors as a module, so that it can be captured like one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["FunctionModule", "PlainFunction", "as_module"]

PlainFunction = Callable[[dict[str, Tensor], Any], Any]


class FunctionModule(nn.Module):
    """``function(params, batch)`` with the tensors of ``params`` as the module's parameters, under their own names."""

    def __init__(self, function: Callable[[dict[str, Tensor], Any], Any], params: Mapping[str, Tensor]) -> None:
        super().__init__()
        _require_tensors(params)
        self._function = function
        self._names = tuple(params)
        for name, value in params.items():
            *path, last = name.split(".")
            holder: nn.Module = self
            for part in path:
                if part not in holder._modules:
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            # A plain tensor cannot say whether it is trained: it is. A frozen nn.Parameter stays frozen.
            wanted = not isinstance(value, nn.Parameter) or value.requires_grad
            holder.register_parameter(last, nn.Parameter(value.detach(), requires_grad=wanted))

    def forward(self, batch: Any) -> Any:
        return self._function({name: self._held(name) for name in self._names}, batch)

    def _held(self, name: str) -> Tensor:
        """The tensor in a parameter's place, which inside a transformation is no parameter."""
        path, _, last = name.rpartition(".")
        tensor: Tensor = getattr(self.get_submodule(path), last)
        return tensor


def _require_tensors(params: Mapping[str, Tensor]) -> None:
    """A ``TypeError`` where the parameters are not tensors by name."""
    if not isinstance(params, Mapping):
        raise TypeError(f"params is a {type(params).__name__}; give a mapping from name to tensor")
    for name, value in params.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeError(
                f"params[{name!r}] is a {type(value).__name__}; give tensors by name, nested ones as 'outer.inner'"
            )


def as_module(model: Any, params: Mapping[str, Tensor] | None) -> nn.Module:
    """The model itself, or a plain function with its parameters as a module; a ``TypeError`` where neither is given."""
    if isinstance(model, nn.Module):
        if params is not None:
            raise TypeError(
                f"params is for plain functions; {type(model).__name__} brings its own parameters: leave it out"
            )
        return model
    if not callable(model):
        raise TypeError(f"a module or a function of (params, batch) is needed, got {type(model).__name__}")
    if params is None:
        name = getattr(model, "__name__", type(model).__name__)
        raise TypeError(
            f"{name} is a plain function of (params, batch): pass its named tensors too, by params={{'name': tensor}}"
        )
    return FunctionModule(model, params)
