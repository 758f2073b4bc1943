"""What is measured of one family on one batch: sums that vanish for a symmetry, and what rounding leaves in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.functional.hessian_products import GradientGraph
from neuralmechanics.functional.pure_loss import Objective
from neuralmechanics.symmetry.families.family import Family

__all__ = ["Measure", "Point", "Reading", "gradient_reading", "hessian_readings", "invariance_reading", "pool"]

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Measure:
    """Size of a residual: relative to the terms that cancel in it, and in roundings expected of it.

    One rounding is ε times the root of the summed squares of the terms, plus what the residual changes by when every
    parameter moves by up to ε of itself. NaN: not measured.
    """

    residual: float = math.nan
    roundings: float = math.nan

    @property
    def known(self) -> bool:
        """Whether it was measured."""
        return not math.isnan(self.roundings)


@dataclass(frozen=True)
class Reading:
    """One evaluation: the sum, the absolute sum and the root of squared terms, and the change under each jitter."""

    value: float
    size: float
    spread: float
    changes: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Point:
    """Loss and gradient at one point of parameter space."""

    params: Tensors
    loss: float
    gradient: Tensors


def pool(readings: Sequence[Reading], rounding: float) -> Measure:
    """The worst reading; the noise is the root mean square over all of them."""
    if not readings:
        return Measure()
    changes = [c for r in readings for c in r.changes]
    noise = math.sqrt(sum(c * c for c in changes) / len(changes)) if changes else 0.0
    measures = [_measure(r, noise, rounding) for r in readings]
    return Measure(max(m.residual for m in measures), max(m.roundings for m in measures))


def _measure(reading: Reading, noise: float, rounding: float) -> Measure:
    if not math.isfinite(reading.value):
        return Measure(math.inf, math.inf)
    size, expected = reading.size + noise / rounding, rounding * reading.spread + noise
    if expected <= 0:
        return Measure(0.0, 0.0) if reading.value == 0 else Measure(1.0, math.inf)
    return Measure(abs(reading.value) / size, abs(reading.value) / expected)


def invariance_reading(
    objective: Objective, family: Family, params: Tensors, loss: float, changes: tuple[float, ...], weights: Tensor
) -> Reading:
    """L(ψ(θ)) - L(θ) under a finite transformation; ``changes`` of the loss under jitter."""
    moved = family.flow(params, weights, family.action.reach(params))
    return Reading(objective.value(moved) - loss, abs(loss), abs(loss), changes)


def gradient_reading(family: Family, here: Point, jittered: Sequence[Point], weights: Tensor) -> Reading:
    """⟨g, ξ⟩."""
    value, size, spread = _along(family, here, weights)
    return Reading(value, size, spread, tuple(_along(family, point, weights)[0] - value for point in jittered))


def hessian_readings(
    family: Family, graph: GradientGraph, jittered: GradientGraph, weights: Tensor
) -> tuple[Reading, Reading]:
    """|Hξ + (∂ξ/∂θ)ᵀ g| over all parameters, and ξᵀHξ + ⟨g, ∂²ψ/∂t²⟩ along the orbit."""
    here, there = _bent(family, graph, weights), _bent(family, jittered, weights)
    # The terms that cancel in Hξ: what H makes of the same elements with random factors, and of any direction of that
    # size. A bias before a norm leaves nothing but rounding under every factor, and its jitter as good as none.
    draw = torch.Generator().manual_seed(0)
    scattered = {n: x * torch.randn(x.shape, generator=draw, dtype=torch.float64).to(x) for n, x in here.xi.items()}
    product = graph.product(scattered)
    terms, bend_terms = (
        here.terms + _norm(product) + graph.gain * _norm(here.xi),
        here.bend_terms + _size(product, here.xi),
    )
    change = {name: there.constraint[name] - here.constraint[name] for name in here.constraint}
    # What the rounding of Hξ can add up to in ξᵀHξ at most: one jitter alone may meet an accidental zero.
    noise = max(abs(there.bend - here.bend), _norm({n: change[n] for n in here.xi}) * _norm(here.xi))
    vector = Reading(_norm(here.constraint), terms, terms, (_norm(change),))
    return vector, Reading(here.bend, bend_terms, bend_terms, (noise,))


@dataclass(frozen=True, eq=False)
class _Bent:
    xi: Tensors
    constraint: Mapping[str, Tensor]
    terms: float
    bend: float
    bend_terms: float


def _bent(family: Family, graph: GradientGraph, weights: Tensor) -> _Bent:
    gradients = _detached(graph.gradients)
    leaves = _detached(graph.leaves)
    xi = family.generator(leaves, weights)
    product = graph.product(xi)
    turned = family.adjoint(gradients, weights, leaves)
    bend = family.second_derivative(xi, weights, leaves)
    total = {name: h.double() + turned[name].double() if name in turned else h.double() for name, h in product.items()}
    return _Bent(
        xi, total, _norm(product) + _norm(turned),
        _dot(product, xi) + _dot(gradients, bend), _size(product, xi) + _size(gradients, bend),
    )  # fmt: skip


def _along(family: Family, point: Point, weights: Tensor) -> tuple[float, float, float]:
    wide = {name: point.params[name].double() for name in _read(family, point.params)}
    xi = family.generator(wide, weights)
    terms = torch.cat([(point.gradient[name].double() * step).reshape(-1) for name, step in xi.items()])
    return float(terms.sum()), float(terms.abs().sum()), float(terms.square().sum().sqrt())


def _read(family: Family, params: Tensors) -> list[str]:
    return [name for name in dict.fromkeys((*family.parameters, *family.action.inputs)) if name in params]


def _detached(tensors: Tensors) -> dict[str, Tensor]:
    return {name: t.detach() for name, t in tensors.items()}


def _dot(a: Tensors, b: Tensors) -> float:
    return sum(float((a[name].double() * step.double()).sum()) for name, step in b.items())


def _size(a: Tensors, b: Tensors) -> float:
    return sum(float((a[name].double() * step.double()).abs().sum()) for name, step in b.items())


def _norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))
