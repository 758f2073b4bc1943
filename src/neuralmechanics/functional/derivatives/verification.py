"""Nested derivatives against differences of first derivatives: what no list of operations can know.

A part of the loss that is detached (stop-gradients, power iterations without gradients, straight-through rounding)
moves the gradient and enters no nested derivative. A handwritten backward pass may use tensors whose history is not
recorded. Neither raises anything, so it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.functional.derivatives.autograd_graph import handwritten
from neuralmechanics.functional.derivatives.higher_derivatives import NoDerivativeError, derivatives, record_gradient

__all__ = ["require_right_derivatives"]

Function = Callable[[Tensor], Tensor]

# Lengths of the way, relative to the point's own, along which first derivatives are taken; kinks call for short ones.
_FEW, _SHORT = 4, (1e-3, 1e-5, 1e-7)
_MANY, _LONG = 12, (1e-1, 1e-2, 1e-3, 1e-4)
_RELATIVE = 1e-4


def require_right_derivatives(function: Function, point: Float64[Tensor, " n"], order: int) -> None:
    """Refuses f where a nested derivative differs from what differences of its gradient say.

    Along one random direction v, from a generic point near ``point`` (at a kink there is no second derivative): the
    second derivative always, all up to ``order`` where a backward pass is handwritten. Costs 4 gradients, some dozens
    in the second case. Raises NoDerivativeError.
    """
    if order < 2:
        return
    generator = torch.Generator().manual_seed(0)
    aside, draw = (torch.randn(point.shape, generator=generator, dtype=torch.float64).to(point) for _ in range(2))
    length = 1 + float(point.norm())
    # Initial values are often special points: zero biases lie on kinks of ReLU, where differences would mislead.
    point = point.detach() + 1e-3 * length * aside / aside.norm()
    direction = draw * length / draw.norm()
    leaf = point.clone().requires_grad_(True)
    value, (slope,) = record_gradient(lambda: function(leaf), [leaf], order)
    names = handwritten(value)
    rise = abs(float(slope.detach().dot(direction)))
    nested = _nested(slope, leaf, direction, order if names else 2)
    error = _errors(function, point, direction, nested[:1], rise, _FEW, _SHORT)
    if names:
        first, *others = _errors(function, point, direction, nested, rise, _MANY, _LONG)
        error = [min(error[0], first), *others]
    for k, missed in enumerate(error):
        # Not `>=`: nan must be refused.
        if not missed < _RELATIVE:
            raise NoDerivativeError(_message(k + 2, missed, names))


def _message(order: int, missed: float, names: tuple[str, ...]) -> str:
    if names:
        return (
            f"the derivative of order {order} is off by {missed:.1e} of itself, or cannot be told from differences, "
            f"with {', '.join(names)} on the way: its backward pass is not differentiable as it is written"
        )
    return (
        f"the derivative of order {order} is off by {missed:.1e} of itself: the loss moves with the parameters in a "
        "way that autograd does not see (detached values, power iterations in training mode, rounding); what needs "
        "first derivatives only can still be had, such as a modified flow by route='map'"
    )


def _nested(slope: Tensor, leaf: Tensor, direction: Tensor, order: int) -> list[float]:
    """d^k/dt^k f(θ + tv) at 0 for k = 2 to ``order``."""
    found = []
    for k in range(2, order + 1):
        with torch.enable_grad():
            along = slope.dot(direction)
        (slope,) = derivatives(along, [leaf], graph=k < order)
        found.append(float(slope.detach().dot(direction)))
    return found


def _errors(
    function: Function, point: Tensor, direction: Tensor, nested: list[float], rise: float, nodes: int,
    lengths: tuple[float, ...],
) -> list[float]:  # fmt: skip
    """The smallest relative difference of each order over the lengths; ends with the first length that settles all."""
    best = [math.inf] * len(nested)
    for length in lengths:
        if all(error < _RELATIVE for error in best):
            break
        for k, found in enumerate(_differences(function, point, direction, length, nodes, len(nested))):
            # What rounding leaves in a quotient of differences, where it is small beside the first derivative.
            # The (k+1)-th quotient of differences of slopes divides their rounding by length^(k+1).
            floor = rise * min(1e2 * torch.finfo(torch.float64).eps / length ** (k + 1), 1e-6)
            size = max(abs(found), abs(nested[k]), 1e-300)
            best[k] = min(best[k], max(abs(found - nested[k]) - floor, 0.0) / size)
    return best


def _differences(
    function: Function, point: Tensor, direction: Tensor, length: float, nodes: int, count: int
) -> list[float]:
    """d^k/dt^k f(θ + tv) at 0 for ``count`` orders from 2, from first derivatives at Chebyshev nodes."""
    # Here interpolation converges for every analytic function; at equidistant nodes more can make it worse.
    places = ((2 * torch.arange(nodes, dtype=torch.float64) + 1) * (math.pi / (2 * nodes))).cos()
    slopes = []
    for place in places.tolist():
        leaf = (point + length * place * direction).requires_grad_(True)
        with torch.enable_grad():
            (slope,) = torch.autograd.grad(function(leaf), leaf, materialize_grads=True)
        slopes.append(float(slope.dot(direction)))
    powers = places[:, None] ** torch.arange(nodes, dtype=torch.float64)
    found = torch.linalg.solve(powers, torch.tensor(slopes, dtype=torch.float64))
    return [float(found[k]) * math.factorial(k) / length**k for k in range(1, count + 1)]
