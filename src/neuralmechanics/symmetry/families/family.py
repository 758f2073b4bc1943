"""A family of symmetries: the parameters it moves, its generators, its charges, its finite transformations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceMix, SliceTerm, widened
from neuralmechanics.symmetry.families.actions.affine_shift import AffineTerm
from neuralmechanics.symmetry.families.actions.linear_blocks import GramTerm, act, complex_matrices, gram, infinitesimal
from neuralmechanics.symmetry.families.actions.rotation import Gauge

__all__ = ["KINDS", "Breaking", "Family", "Kind"]

Kind = Literal["translation", "scale", "rescale", "linear", "affine"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class Breaking:
    """A constant that breaks a symmetry: its name, its value, and the operation (with its place) that holds it."""

    constant: str
    value: float
    where: str

    def __str__(self) -> str:
        return f"{self.constant}={self.value:g} of {self.where}"


@dataclass(frozen=True, eq=False)
class Family:
    """Symmetries of one kind that share tensors (all channels of one layer).

    ``terms`` hold the diagonal symmetries: exponents for scale and rescale, unit shifts for translation. ``grams`` hold
    linear blocks of ``width`` channels, which are only scaled and rotated (pairs of channels as one complex number)
    where ``complex`` is set; ``affine`` says what later biases absorb of the shifts in ``terms``. ``gauge`` stands
    alone: rotations and shears, which have no charge. ``requires`` names what the family holds for (training mode, the
    captured branch…).
    """

    kind: Kind
    name: str
    labels: Sequence[str]
    terms: tuple[SliceTerm, ...] = ()
    grams: tuple[GramTerm, ...] = ()
    blocks: int = 0
    affine: tuple[AffineTerm, ...] = ()
    complex: bool = False
    gauge: Gauge | None = None
    broken_by: tuple[Breaking, ...] = ()
    requires: tuple[str, ...] = ()
    layer: str = field(default="")

    @property
    def charges(self) -> int:
        """Number of conserved quantities (an affine symmetry is a constraint and has none)."""
        return len(self.labels) if self.kind != "affine" else 0

    @cached_property
    def size(self) -> int:
        """Number of generators."""
        return math.prod(self.generator_shape)

    @cached_property
    def generator_shape(self) -> tuple[int, ...]:
        """Shape of the weights that pick a generator: a number each, or a matrix or (real, imaginary) a block."""
        if self.gauge is not None:
            return (self.gauge.size,)
        if self.complex:
            return (self.blocks, 2)
        return (self.blocks, self.width, self.width) if self.grams else (len(self.labels),)

    @property
    def exact(self) -> bool:
        """Whether no constant breaks the symmetry."""
        return not self.broken_by

    @property
    def width(self) -> int:
        """Channels of a linear block, 0 where the family has none."""
        return int(self.grams[0].slices.shape[1]) if self.grams else 0

    @property
    def quadratic(self) -> bool:
        """Whether the charges are quadratic in the parameters (all but shifts)."""
        return self.kind not in ("translation", "affine")

    @cached_property
    def mix(self) -> SliceMix:
        """The sparse matrix from slice sums to the family's diagonal charges."""
        return SliceMix(len(self.labels), self.terms)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that the family moves."""
        if self.gauge is not None:
            return self.gauge.parameters
        names = [t.view.parameter for t in self.terms] + [t.view.parameter for t in self.grams]
        names += [t.absorber for t in self.affine]
        return tuple(dict.fromkeys(names))

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨a, M b⟩ of every charge (symmetrised), or ⟨a, 1_A⟩ for translations.

        ``pair(θ, θ)`` is the charge, ``pair(g, θ)`` the residual.
        """
        if self.kind == "affine" or self.gauge is not None:
            return torch.zeros(0, dtype=torch.float64)
        if self.grams:
            return self.entries(gram(self.grams, self.blocks, a, b))
        return self.mix.products(a, b) if self.quadratic else self.mix.sums(a)

    def entries(self, matrices: Float64[Tensor, "blocks width width"]) -> Float64[Tensor, " charges"]:
        """The independent charges in the charge matrices: the upper triangle, or the trace of a complex pair."""
        if self.complex:
            return matrices.diagonal(dim1=1, dim2=2).sum(-1)
        rows, columns = torch.triu_indices(self.width, self.width, device=matrices.device)
        return matrices[:, rows, columns].reshape(-1)

    def charge(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The conserved quantities at ``params``, in float64 (no factor ½)."""
        return self.pair(params, params)

    def charge_matrix(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "blocks width width"]:
        """The symmetric charge matrices Σ ± A Aᵀ of a linear family."""
        if not self.grams:
            raise ValueError(f"family {self.name!r} is of kind {self.kind}: only linear blocks have a charge matrix")
        return gram(self.grams, self.blocks, params, params)

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        """ξ(θ) = ∂ψ/∂a at the identity, weighted over the family's generators, in the parameters' dtype.

        ``weights`` has one entry a generator, shape [size], by default ones; for linear blocks it has shape
        [blocks, width, width], by default the identity matrices.
        Parameters that the family does not move are absent.
        """
        if self.gauge is not None:
            given = self._weights(weights, params[self.parameters[0]].device, 1.0)
            steps = self.gauge.generator(_detached(params, (*self.parameters, *self.gauge.gains)), given)
            return {name: step.to(params[name].dtype) for name, step in steps.items()}
        if self.grams:
            matrices = self._matrices(params, weights)
            out: dict[str, Tensor] = {}
            for term in self.grams:
                name = term.view.parameter
                moved = infinitesimal(term, params[name], matrices).to(params[name].dtype)
                out[name] = out[name] + moved if name in out else moved
            return out
        device = params[self.parameters[0]].device
        weights = self._weights(weights, device, 1.0)
        out = {}
        for name in self.mix.parameters:
            value = params[name].detach()
            exponents = self.mix.exponents(name, weights, value.shape)
            out[name] = (widened(value) * exponents if self.quadratic else exponents).to(value.dtype)
        for answer in self.affine:
            answer.add_generator_(out, params, weights)
        return out

    def transform(self, params: Mapping[str, Tensor], a: float | Tensor) -> dict[str, Tensor]:
        """ψ(θ, a): the finite transformation, as a new mapping with every parameter of ``params``.

        ``a`` is a number or a tensor [size]: what is added, for translation and affine (identity 0); the positive
        factor, for scale and rescale (identity 1), raised to each element's exponent. For linear blocks it is A, of
        shape [blocks, width, width] or [width, width], or a factor; for complex pairs (real, imaginary) of a factor;
        for rotations and shears the weights [size] of the generator that is followed for unit time (identity 0).
        """
        out = dict(params)
        if self.gauge is not None:
            given = self._weights(a, params[self.parameters[0]].device, 1.0)
            turned = self.gauge.transform(_detached(params, (*self.parameters, *self.gauge.gains)), given)
            return out | {name: value.to(params[name].dtype) for name, value in turned.items()}
        if self.grams:
            matrices = self._matrices(params, torch.as_tensor(a, dtype=torch.float64))
            for term in self.grams:
                name = term.view.parameter
                out[name] = act(term, out[name], matrices).to(params[name].dtype)
            return out
        device = params[self.parameters[0]].device
        values = self._weights(a, device, 1.0)
        if not self.quadratic:
            steps = self.generator(params, values)
            return out | {name: (params[name].detach().double() + step).to(step.dtype) for name, step in steps.items()}
        if not bool((values > 0).all()):
            raise ValueError(
                f"family {self.name!r}: a {self.kind} factor must be positive, got {float(values.min()):g}; use a > 0"
            )
        for name in self.mix.parameters:
            value = params[name].detach()
            exponents = self.mix.exponents(name, values.log(), value.shape)
            out[name] = (widened(value) * exponents.exp()).to(value.dtype)
        return out

    def _weights(self, weights: float | Tensor | None, device: torch.device, default: float) -> Tensor:
        given = torch.as_tensor(default if weights is None else weights, dtype=torch.float64, device=device)
        count = self.gauge.size if self.gauge is not None else len(self.labels)
        if given.ndim == 0:
            return given.expand(count)
        if given.shape != (count,):
            raise ValueError(
                f"family {self.name!r}: weights of shape {tuple(given.shape)} given, one number for each "
                f"of its {count} generators is needed"
            )
        return given

    def _matrices(self, params: Mapping[str, Tensor], given: Tensor | None) -> Tensor:
        device = params[self.parameters[0]].device
        if self.complex and given is not None and given.ndim:
            if given.shape != (self.blocks, 2):
                raise ValueError(
                    f"family {self.name!r}: factors of shape {tuple(given.shape)} given, ({self.blocks}, 2) is needed: "
                    "real and imaginary part of each pair's factor"
                )
            return complex_matrices(given.to(device))
        unit = torch.eye(self.width, dtype=torch.float64, device=device)
        full = (self.blocks, self.width, self.width)
        if given is None:
            return unit.expand(full)
        matrices = given.to(device=device, dtype=torch.float64)
        if matrices.ndim == 0:
            matrices = unit * matrices
        if matrices.shape not in (full, full[1:]):
            raise ValueError(
                f"family {self.name!r}: matrices of shape {tuple(matrices.shape)} given, {full} or {full[1:]} is needed"
            )
        return matrices.expand(full)

    def __repr__(self) -> str:
        how = "exact" if self.exact else "broken by " + ", ".join(map(str, self.broken_by))
        return f"Family({self.kind}, {self.name!r}, {self.charges} charges, {self.size} generators, {how})"


def _detached(params: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    return {name: params[name].detach() for name in names}
