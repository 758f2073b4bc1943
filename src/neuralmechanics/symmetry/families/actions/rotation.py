"""Gauge transformations without a charge: rotations of a space of channels, and shears that a centring norm hides.

Both are one-parameter groups whose generators have no gradient form, so that they constrain gradients and conserve
nothing: a rotation's matrix is antisymmetric, and a gain between a norm and its readers turns up inverted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = [
    "Dressing",
    "Gain",
    "Gauge",
    "Shear",
    "ShearTerm",
    "Turn",
    "TurnTerm",
    "gain_values",
    "gauge_from_dict",
    "gauge_to_dict",
]

Group = Literal["orthogonal", "centred", "general", "blind"]


@dataclass(frozen=True, order=True)
class Gain:
    """A vector factor·γ + offset that multiplies channels, γ a parameter."""

    parameter: str
    factor: float = 1.0
    offset: float = 0.0


Dressing = tuple[tuple[Gain, float], ...]


def gain_values(dressing: Dressing, params: Mapping[str, Tensor], like: Tensor) -> Float64[Tensor, " width"] | None:
    """The diagonal of D = Π gain^power; None for the identity. Even roots are taken of sizes."""
    total: Tensor | None = None
    for gain, power in dressing:
        value = gain.factor * params[gain.parameter].double().reshape(-1).to(like.device) + gain.offset
        value = value**power if float(power).is_integer() else value.abs() ** power
        total = value if total is None else total * value
    return total


@dataclass(frozen=True)
class TurnTerm:
    """A dimension of a parameter that transforms with D A D⁻¹, or with D A⁻ᵀ D⁻¹ where ``dual`` is set."""

    parameter: str
    dim: int
    dual: bool = False
    dressing: Dressing = ()


@dataclass(frozen=True)
class Turn:
    """One matrix A = exp(M) for all channels of a space.

    ``group``: "orthogonal", M antisymmetric; "centred", those with M·1 = 0; "general", M with a zero diagonal (the
    diagonal ones are rescalings); "blind", M = 1·vᵀ, which a centring norm removes.
    """

    terms: tuple[TurnTerm, ...]
    width: int
    group: Group = "orthogonal"

    @property
    def size(self) -> int:
        """Number of generators."""
        n = self.width
        sizes = {"orthogonal": n * (n - 1) // 2, "centred": (n - 1) * (n - 2) // 2, "general": n * (n - 1), "blind": n}
        return sizes[self.group]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return tuple(dict.fromkeys(t.parameter for t in self.terms))

    @property
    def gains(self) -> tuple[str, ...]:
        """Names of the parameters that only enter."""
        return tuple(dict.fromkeys(gain.parameter for t in self.terms for gain, _ in t.dressing))

    def matrix(self, weights: Float64[Tensor, " size"]) -> Float64[Tensor, "width width"]:
        """M of the weights.

        >>> Turn((), 2).matrix(torch.tensor([1.0], dtype=torch.float64)).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
        """
        n = self.width
        if self.group == "blind":
            return weights.expand(n, n)
        if self.group == "general":
            out = weights.new_zeros(n, n)
            out[~torch.eye(n, dtype=torch.bool, device=weights.device)] = weights
            return out
        if self.group == "orthogonal":
            return _antisymmetric(weights, n)
        basis = _without_ones(n).to(weights.device)
        return basis @ _antisymmetric(weights, n - 1) @ basis.mT

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        """d/dε of the transformation by exp(ε M)."""
        matrix = self.matrix(weights)
        out: dict[str, Tensor] = {}
        for term in self.terms:
            moved = _along(term, params, -matrix.mT if term.dual else matrix)
            out[term.parameter] = out[term.parameter] + moved if term.parameter in out else moved
        return out

    def transform(self, params: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        """The transformation by exp(M), in float64, of the parameters that move."""
        forward = torch.linalg.matrix_exp(self.matrix(weights))
        backward = torch.linalg.inv(forward).mT if any(t.dual for t in self.terms) else forward
        out = dict(params)
        for term in self.terms:
            out[term.parameter] = _along(term, out, backward if term.dual else forward)
        return {name: out[name] for name in self.parameters}


@dataclass(frozen=True)
class ShearTerm:
    """A weight whose columns read n·γ + β, where Σ n = 0 over the channels: W + u·(1/γ)ᵀ reads the same but for a
    constant u·Σ β/γ, which the bias ``absorber`` takes back. ``shifts`` names β, each with the gains since it entered.
    """

    weight: str
    outputs: int
    inputs: int
    dressing: Dressing
    shifts: tuple[tuple[str, Dressing], ...] = ()
    absorber: str | None = None


@dataclass(frozen=True)
class Shear:
    """Rows of a weight move along the direction that a centring norm leaves empty."""

    term: ShearTerm
    width: int

    @property
    def size(self) -> int:
        """Number of generators: the weight's outputs."""
        return self.width

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return (self.term.weight,) if self.term.absorber is None else (self.term.weight, self.term.absorber)

    @property
    def gains(self) -> tuple[str, ...]:
        """Names of the parameters that only enter."""
        names = [gain.parameter for gain, _ in self.term.dressing]
        return tuple(dict.fromkeys(names + [name for name, _ in self.term.shifts]))

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        """u ⊗ 1/γ for the weight, -u·Σ β/γ for the bias."""
        term, weight = self.term, params[self.term.weight]
        gain = gain_values(term.dressing, params, weight)
        inverse = weights.new_ones(weight.shape[term.inputs]) if gain is None else 1 / gain
        step = torch.outer(weights, inverse)
        out = {term.weight: step if term.outputs < term.inputs else step.mT}
        if term.absorber is not None:
            total = weights.new_zeros(())
            for name, since in term.shifts:
                value, later = params[name].double().reshape(-1), gain_values(since, params, weight)
                total = total + (inverse * (value if later is None else value * later)).sum()
            out[term.absorber] = (-total * weights).reshape(params[term.absorber].shape)
        return out

    def transform(self, params: Mapping[str, Tensor], weights: Tensor) -> dict[str, Tensor]:
        """θ + ξ: the generator does not depend on what moves."""
        return {name: params[name].double() + step for name, step in self.generator(params, weights).items()}


Gauge = Turn | Shear


def gauge_to_dict(gauge: Gauge) -> dict[str, Any]:
    """Plain data (JSON); ``gauge_from_dict`` is its inverse."""
    return {"type": "turn" if isinstance(gauge, Turn) else "shear"} | asdict(gauge)


def gauge_from_dict(data: Mapping[str, Any]) -> Gauge:
    """The gauge that was written."""
    if data["type"] == "turn":
        terms = (TurnTerm(t["parameter"], t["dim"], t["dual"], _dressing(t["dressing"])) for t in data["terms"])
        return Turn(tuple(terms), data["width"], data["group"])
    given = dict(data["term"]) | {"dressing": _dressing(data["term"]["dressing"])}
    given["shifts"] = tuple((name, _dressing(since)) for name, since in given["shifts"])
    return Shear(ShearTerm(**given), data["width"])


def _dressing(data: Iterable[Any]) -> Dressing:
    return tuple((Gain(**gain), float(power)) for gain, power in data)


def _antisymmetric(weights: Tensor, n: int) -> Tensor:
    rows, columns = torch.triu_indices(n, n, 1, device=weights.device)
    out = weights.new_zeros(n, n)
    out[rows, columns] = weights
    return out - out.mT


def _without_ones(n: int) -> Float64[Tensor, "n rest"]:
    """An orthonormal basis of what is orthogonal to the all-ones vector (Helmert's)."""
    k = torch.arange(1, n, dtype=torch.float64)
    above = torch.arange(n)[:, None] < k
    basis = above.double() - torch.where(torch.arange(n)[:, None] == k, k, 0.0)
    return basis / (k * (k + 1)).sqrt()


def _along(term: TurnTerm, params: Mapping[str, Tensor], matrix: Tensor) -> Tensor:
    """The parameter with its dimension multiplied by D·matrix·D⁻¹, in float64."""
    value = params[term.parameter].double()
    gain = gain_values(term.dressing, params, value)
    if gain is not None:
        matrix = gain[:, None] * matrix / gain
    return torch.movedim(torch.tensordot(matrix, value, dims=([1], [term.dim])), 0, term.dim)
