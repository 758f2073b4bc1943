"""Named parameters as one flat float64 vector, and back: what every integrator works on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The fixed order in which named tensors are laid end to end.

    >>> layout = Layout.of({"weight": torch.ones(2, 3), "bias": torch.zeros(2)})
    >>> layout.size, layout.flatten({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}).sum().item()
    (8, 6.0)
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @staticmethod
    def of(params: Mapping[str, Tensor]) -> Layout:
        """Layout of ``params``; refuses an empty mapping and tensors that are not real numbers."""
        if not isinstance(params, Mapping):
            raise TypeError(
                f"the parameters are a {type(params).__name__}; give a mapping from name to tensor, such as "
                "module_loss(…).theta0"
            )
        if not params:
            raise ValueError("params is empty: give a mapping from parameter name to tensor")
        for name, value in params.items():
            if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
                kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
                raise TypeError(f"params[{name!r}] is {kind}; a flow needs tensors of real numbers")
        return Layout(tuple(params), tuple(value.shape for value in params.values()))

    @property
    def size(self) -> int:
        """Number of scalar parameters."""
        return sum(shape.numel() for shape in self.shapes)

    def flatten(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " parameters"]:
        """Detached float64 copy of ``params`` as one vector."""
        if set(params) != set(self.names):
            difference = sorted(set(params) ^ set(self.names))
            raise ValueError(f"params do not match the layout: {difference} are on one side only")
        for name, shape in zip(self.names, self.shapes, strict=True):
            if params[name].shape != shape:
                raise ValueError(f"params[{name!r}] has shape {tuple(params[name].shape)}, expected {tuple(shape)}")
        # In double precision, so that what is seen is the error of a model and not that of float32.
        return torch.cat([params[name].detach().to(torch.float64).reshape(-1) for name in self.names])

    def unflatten(self, vector: Float64[Tensor, " parameters"]) -> dict[str, Tensor]:
        """Views of ``vector`` under their names; differentiable."""
        parts = torch.split(vector, [shape.numel() for shape in self.shapes])
        return {name: part.reshape(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
