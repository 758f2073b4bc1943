"""What is measured of one family on one batch: sums that vanish for a symmetry, and what rounding leaves in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.diagnostics.checking.orbits import Drawn, transformed
from neuralmechanics.functional.derivatives.hessian_products import GradientGraph
from neuralmechanics.functional.pure_loss import Objective
from neuralmechanics.symmetry.families.family import Family

__all__ = [
    "Gradients", "Measure", "Reading", "bends_nothing", "gradient_readings", "hessian_readings", "hessian_share",
    "invariance_reading", "pool",
]  # fmt: skip

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

    def times(self, factor: float) -> Measure:
        """The same, larger by a factor."""
        return Measure(self.residual * factor, self.roundings * factor)


@dataclass(frozen=True)
class Reading:
    """One evaluation: the sum, the absolute sum and the root of squared terms, and the change under each jitter."""

    value: float
    size: float
    spread: float
    changes: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of several losses at one point of parameter space, stacked along a first dimension."""

    params: Tensors
    stacked: Tensors


def pool(readings: Sequence[Reading], rounding: float) -> Measure:
    """The worst reading; the noise is the root mean square over all of them."""
    if not readings:
        return Measure()
    changes = [c for r in readings for c in r.changes]
    # Over all readings: among the few jitters of one, chance may have left next to nothing.
    noise = math.sqrt(sum(c * c for c in changes) / len(changes)) if changes else 0.0
    measures = [_measure(r, noise, rounding) for r in readings]
    return Measure(max(m.residual for m in measures), max(m.roundings for m in measures))


def _measure(reading: Reading, noise: float, rounding: float) -> Measure:
    if not math.isfinite(reading.value):
        return Measure(math.inf, math.inf)
    # Noise over ε is the size of what cancelled on the way: a residual of rounding alone is held against that.
    size, expected = reading.size + noise / rounding, rounding * reading.spread + noise
    if expected <= 0:
        return Measure(0.0, 0.0) if reading.value == 0 else Measure(1.0, math.inf)
    return Measure(abs(reading.value) / size, abs(reading.value) / expected)


def invariance_reading(
    objective: Objective, drawn: Drawn, params: Tensors, loss: float, changes: tuple[float, ...]
) -> Reading:
    """L(ψ(θ)) - L(θ) under finite transformations, one after the other; ``changes`` of the loss under jitter."""
    return Reading(objective.value(transformed(drawn, params)) - loss, abs(loss), abs(loss), changes)


def gradient_readings(family: Family, weights: Tensor, points: Sequence[Gradients]) -> list[Reading]:
    """⟨g, ξ⟩ for every gradient at the first point; those at the others, a rounding away, say what rounding leaves.

    Each point after the first holds gradients of as many of the losses as are looked at there.
    """
    values, sizes, spreads = _terms(family, weights, points[0])
    near = [_values(family, weights, point) for point in points[1:]]
    return [
        Reading(value, size, spread, tuple(there[k] - value for there in near if k < len(there)))
        for k, (value, size, spread) in enumerate(zip(values, sizes, spreads, strict=True))
    ]


def _terms(family: Family, weights: Tensor, point: Gradients) -> tuple[list[float], list[float], list[float]]:
    """Σ g·ξ, Σ |g·ξ| and √Σ (g·ξ)² of every gradient."""
    sums = torch.zeros(3, len(next(iter(point.stacked.values()))), dtype=torch.float64)
    for name, step in _generator(family, weights, point).items():
        terms = (point.stacked[name].double() * step).flatten(1)
        sums += torch.stack([terms.sum(1), terms.abs().sum(1), terms.square().sum(1)]).to(sums.device)
    values, sizes, squares = sums
    return values.tolist(), sizes.tolist(), squares.sqrt().tolist()


def _values(family: Family, weights: Tensor, point: Gradients) -> list[float]:
    total = torch.zeros(len(next(iter(point.stacked.values()))), dtype=torch.float64)
    for name, step in _generator(family, weights, point).items():
        total += (point.stacked[name].double() * step).flatten(1).sum(1).to(total.device)
    return [float(value) for value in total]


def _generator(family: Family, weights: Tensor, point: Gradients) -> Tensors:
    """ξ in float64."""
    return family.generator({name: point.params[name].double() for name in _read(family, point.params)}, weights)


def hessian_readings(drawn: Drawn, graph: GradientGraph, jittered: GradientGraph) -> tuple[Reading, Reading]:
    """|Hξ + (∂ξ/∂θ)ᵀ g| over all parameters, and its part along the orbit, ξᵀHξ + ⟨g, (∂ξ/∂θ) ξ⟩, for ξ = Σ ξ_k.

    On the orbit of one family (∂ξ/∂θ) ξ is the second derivative ∂²ψ/∂t².
    """
    here, there = _bent(drawn, graph), _bent(drawn, jittered)
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


def hessian_share(family: Family, weights: Tensor, graph: GradientGraph) -> float:
    """The terms of the Hessian constraint that are known without a Hessian product: |H r|·|ξ| for a random direction r
    of length one, and |(∂ξ/∂θ)ᵀ g|.
    """
    xi, turned = _moved([(family, weights)], graph)
    return graph.gain * _norm(xi) + _norm(turned)


def bends_nothing(family: Family, weights: Tensor, graph: GradientGraph) -> bool:
    """Whether every term of the Hessian constraint is zero: H of the generator's entries with random factors, Hξ, and
    (∂ξ/∂θ)ᵀ g.
    """
    xi, turned = _moved([(family, weights)], graph)
    draw = torch.Generator().manual_seed(0)
    scattered = {n: x * torch.randn(x.shape, generator=draw, dtype=torch.float64).to(x) for n, x in xi.items()}
    return _norm(turned) == _norm(graph.product(scattered)) == _norm(graph.product(xi)) == 0


@dataclass(frozen=True, eq=False)
class _Bent:
    xi: Tensors
    constraint: Mapping[str, Tensor]
    terms: float
    bend: float
    bend_terms: float


def _bent(drawn: Drawn, graph: GradientGraph) -> _Bent:
    xi, turned = _moved(drawn, graph)
    product = graph.product(xi)
    total = {name: h.double() + turned[name].double() if name in turned else h.double() for name, h in product.items()}
    along = {name: step for name, step in xi.items() if name in turned}
    return _Bent(
        xi, total, _norm(product) + _norm(turned),
        _dot(product, xi) + _dot(turned, along), _size(product, xi) + _size(turned, along),
    )  # fmt: skip


def _moved(drawn: Drawn, graph: GradientGraph) -> tuple[Tensors, Tensors]:
    """ξ and (∂ξ/∂θ)ᵀ g, summed over the families."""
    leaves, gradients = graph.values
    xi: dict[str, Tensor] = {}
    turned: dict[str, Tensor] = {}
    for family, weights in drawn:
        for total, part in (
            (xi, family.generator(leaves, weights)),
            (turned, family.adjoint(gradients, weights, leaves)),
        ):
            for name, step in part.items():
                total[name] = total[name] + step if name in total else step
    return xi, turned


def _read(family: Family, params: Tensors) -> list[str]:
    return [name for name in dict.fromkeys((*family.parameters, *family.action.inputs)) if name in params]


def _dot(a: Tensors, b: Tensors) -> float:
    return sum(float((a[name].double() * step.double()).sum()) for name, step in b.items())


def _size(a: Tensors, b: Tensors) -> float:
    return sum(float((a[name].double() * step.double()).abs().sum()) for name, step in b.items())


def _norm(tensors: Tensors) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))
