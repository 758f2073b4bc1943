"""Shears that a centring norm hides: the readers of its output move along the direction that it leaves empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors, detached
from neuralmechanics.symmetry.families.actions.shift import own_size, shifted
from neuralmechanics.symmetry.families.actions.terms.gain import (
    Dressing,
    adjoint_by_differentiation,
    dressing_from,
    dressing_to,
    gain_values,
)

__all__ = ["Shear", "ShearTerm"]


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
class Shear(Action):
    """W → W + u·(1/γ)ᵀ, b → b - u·Σ β/γ: one number u for each of ``width`` outputs, and no charge."""

    linear: ClassVar[bool] = False
    additive: ClassVar[bool] = True
    term: ShearTerm
    width: int

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number an output of the weight."""
        return (self.width,)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return (self.term.weight,) if self.term.absorber is None else (self.term.weight, self.term.absorber)

    @property
    def anchors(self) -> tuple[str, ...]:
        """The weight, and the gains by which its columns are read."""
        return (self.term.weight, *(gain.parameter for gain, _ in self.term.dressing))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the gains γ and shifts β."""
        names = [gain.parameter for gain, _ in self.term.dressing]
        for name, since in self.term.shifts:
            names += [name, *(gain.parameter for gain, _ in since)]
        return tuple(dict.fromkeys(names))

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """u ⊗ 1/γ for the weight, -u·Σ β/γ for the bias."""
        steps = self._steps(detached(params, (*self.parameters, *self.inputs)), weights)
        return {name: step.to(params[name].dtype) for name, step in steps.items()}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """θ + ξ: the generator does not depend on what moves."""
        return shifted(params, self._steps(detached(params, (*self.parameters, *self.inputs)), element))

    def units(self, form: Form) -> Iterator[Tensor]:
        """One an output; none is the gradient of a charge, for γ moves under training."""
        yield from torch.eye(self.width, dtype=torch.float64) if form == "other" else ()

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal shifts."""
        yield "shift", amount * torch.randn(self.width, generator=generator, dtype=torch.float64)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The root mean square of the weight and the bias."""
        return own_size(params, self.parameters)

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """By differentiating ⟨g, ξ⟩, which depends on γ and β."""
        names = (*self.parameters, *self.inputs)
        return adjoint_by_differentiation(lambda p: self._steps(p, weights), names, gradients, params)

    def to_dict(self) -> dict[str, Any]:
        """The term and the width, as a gauge."""
        term = asdict(self.term) | {
            "dressing": dressing_to(self.term.dressing),
            "shifts": [[name, dressing_to(since)] for name, since in self.term.shifts],
        }
        return {"gauge": {"type": "shear", "term": term, "width": self.width}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shear:
        """The action that was written."""
        term = dict(data["gauge"]["term"])
        term["dressing"] = dressing_from(term["dressing"])
        term["shifts"] = tuple((name, dressing_from(since)) for name, since in term["shifts"])
        return cls(ShearTerm(**term), data["gauge"]["width"])

    def _steps(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """The generator in float64, differentiable in θ."""
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
