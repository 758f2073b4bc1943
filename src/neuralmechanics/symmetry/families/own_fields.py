"""A vector field over named parameters, given as a function: called with care, and looked at near a point and far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions import Field

__all__ = ["Probes", "called", "require_differentiable"]

Params = dict[str, Tensor]


def called(function: Callable[[Params], Mapping[str, Tensor]], params: Params, name: str) -> Params:
    """What the function gives for the parameters; ValueError in one line where that is no field over them."""
    # torch counts the writes into a tensor: one would move the very point at which the field is looked at.
    versions = {key: p._version for key, p in params.items()}
    try:
        given = function(dict(params))
    except (RuntimeError, KeyError, IndexError, TypeError, AttributeError) as error:
        text = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"symmetry {name!r} does not run on the parameters in float64: {type(error).__name__}: {text}"
        ) from error
    if any(p._version != versions[key] for key, p in params.items()):
        raise ValueError(f"symmetry {name!r} writes into the parameters; return new tensors")
    if not isinstance(given, Mapping) or not all(isinstance(value, Tensor) for value in given.values()):
        raise ValueError(f"symmetry {name!r} gives {type(given).__name__}; return tensors by the names of parameters")
    for key, value in given.items():
        if key not in params:
            raise ValueError(f"symmetry {name!r} moves {key!r}, which is no parameter; names: {', '.join(params)}")
        if value.shape != params[key].shape:
            raise ValueError(
                f"symmetry {name!r} gives shape {tuple(value.shape)} for {key!r}, whose shape is "
                f"{tuple(params[key].shape)}"
            )
    return {key: value.to(params[key]) for key, value in given.items()}


class Probes:
    """Points at which fields are compared: near the given parameters with their signs, and anywhere."""

    def __init__(self, params: Mapping[str, Tensor], name: str) -> None:
        if not params:
            raise ValueError(f"symmetry {name!r} needs named parameters; pass the model or dict(named_parameters())")
        wrong = next((key for key, p in params.items() if not p.is_floating_point()), None)
        if wrong is not None:
            raise ValueError(
                f"symmetry {name!r}: parameter {wrong!r} holds {params[wrong].dtype}, real numbers are needed"
            )
        self.name = name
        self.params = {
            key: p.detach().double() if not p.is_meta else torch.ones(p.shape, dtype=torch.float64)
            for key, p in params.items()
        }
        self.device = next(iter(self.params.values())).device
        self._draw = torch.Generator().manual_seed(0)

    @cached_property
    def near(self) -> tuple[Params, ...]:
        """The parameters moved by a third of themselves, and by a little where they are zero."""
        return tuple(
            {
                # Between 0.7 and 1.3 times the entry, so that its sign stays.
                key: p * (1 + 0.3 * self._noise(p).tanh()) + 0.05 * self._noise(p) * (p == 0)
                for key, p in self.params.items()
            }
            for _ in range(3)
        )

    @cached_property
    def far(self) -> tuple[Params, ...]:
        """Normal numbers."""
        return tuple({key: self._noise(p) for key, p in self.params.items()} for _ in range(3))

    def _noise(self, p: Tensor) -> Tensor:
        return torch.randn(p.shape, generator=self._draw, dtype=torch.float64).to(p.device)

    def names(self, field: Field) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The parameters that move, and the others that decide how; ValueError where nothing moves, or nowhere."""
        steps = [dict(field(point)) for point in self.near]
        if not all(bool(step.isfinite().all()) for each in steps for step in each.values()):
            raise ValueError(f"symmetry {self.name!r} is not finite near the given parameters")
        moved = tuple(key for key in self.params if any(key in s and bool((s[key] != 0).any()) for s in steps))
        if not moved:
            raise ValueError(f"symmetry {self.name!r} moves nothing near the given parameters")
        here, others = self.near[0], self.near[1]
        before = dict(field(here))
        read = []
        for key in (key for key in self.params if key not in moved):
            after = dict(field(here | {key: others[key]}))
            if any(not torch.equal(before.get(n, here[n] * 0), after.get(n, here[n] * 0)) for n in moved):
                read.append(key)
        return moved, tuple(read)

    def distance(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
        """The largest difference of two sets of tensors, what is absent counting as zero."""
        names = dict.fromkeys((*a, *b))
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        return max(float((a.get(n, zero) - b.get(n, zero)).detach().abs().max()) for n in names)

    def size(self, point: Mapping[str, Tensor]) -> float:
        """The largest entry, at least 1e-3."""
        return max(1e-3, self.distance(point, {}))


def require_differentiable(field: Field, probes: Probes, names: tuple[str, ...]) -> None:
    """ValueError where the derivative that torch has of the field is not that of its values."""
    point, along = probes.near[0], {key: probes.near[1][key] - probes.near[0][key] for key in names}
    draw = torch.Generator().manual_seed(1)
    weights = {key: torch.randn(p.shape, generator=draw, dtype=torch.float64).to(p.device) for key, p in point.items()}

    def value(p: Params) -> Tensor:
        return torch.stack([(weights[n] * step).sum() for n, step in field(p).items()]).sum()

    def moved(amount: float) -> Params:
        return point | {key: point[key] + amount * along[key] for key in names}

    leaves = {key: p.clone().requires_grad_(key in names) for key, p in point.items()}
    with torch.enable_grad():
        total = value(leaves)
        given = [leaves[key] for key in names]
        slopes = (
            torch.autograd.grad(total, given, allow_unused=True, materialize_grads=True)
            if total.requires_grad
            else [torch.zeros_like(x) for x in given]
        )
    true = sum(float((slope * along[key]).sum()) for key, slope in zip(names, slopes, strict=True))
    with torch.no_grad():
        ahead, behind = (float(value(moved(amount))) for amount in (1e-5, -1e-5))
    found, size = (ahead - behind) / 2e-5, abs(ahead) + abs(behind)
    # A central difference is off by the square of its step, and by roundings over its step, both near 1e-10: a
    # factor that torch does not see shows far above that.
    if abs(found - true) > 1e-4 * (abs(found) + abs(true)) + 1e-7 * size:
        raise ValueError(
            f"symmetry {probes.name!r} is not differentiated by torch as its values move ({true:.3g} for {found:.3g}); "
            "write it in torch operations, without detach, item or numpy"
        )
