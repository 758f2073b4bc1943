"""Shears that a centring norm hides: the readers of its output move along the direction that it leaves empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors, accumulate, detached
from neuralmechanics.symmetry.families.actions.affine_shift import AffineShift
from neuralmechanics.symmetry.families.actions.mixing.solved import Solved, solved_from, solved_to
from neuralmechanics.symmetry.families.actions.shift import Shift, own_size, shifted
from neuralmechanics.symmetry.families.actions.terms.gain import (
    Dressing,
    adjoint_by_differentiation,
    dressing_from,
    dressing_to,
    gain_values,
)
from neuralmechanics.symmetry.families.actions.terms.slice_terms import slice_terms_from, slice_terms_to

__all__ = ["Shear", "ShearTerm"]


@dataclass(frozen=True, eq=False)
class ShearTerm:
    """A weight whose columns read n·γ + β, where Σ n = 0 over the channels: W + (S u)·(1/γ)ᵀ reads the same but for a
    constant S u·Σ β/γ. ``slices`` holds S, with one entry along the dimension ``inputs`` on which the columns lie;
    ``shifts`` names β, each with the gains since it entered.

    Or a weight of which gains γ multiply what it makes along the dimension ``inputs``, before something that does not
    see S u: a norm that removes the mean, of all channels or of each group of them. Then S may differ along it.
    """

    slices: SliceTerm
    inputs: int
    dressing: Dressing
    shifts: tuple[tuple[str, Dressing], ...] = ()

    @property
    def weight(self) -> str:
        """Its name."""
        return self.slices.view.parameter

    @property
    def alike(self) -> bool:
        """Whether S is the same along the dimension ``inputs``."""
        return self.inputs not in self.slices.view.kept

    def outputs(self, params: Mapping[str, Tensor], amounts: Tensor) -> Float64[Tensor, "*outputs"]:
        """S u, with one entry along the inputs where it is the same there; differentiable in u."""
        view, weight = self.slices.view, params[self.weight]
        total = self.sums(params, amounts)
        spread = total.reshape([n if d in view.kept else 1 for d, n in enumerate(view.shape)]).expand(view.shape)
        return spread.reshape([1 if d == self.inputs and self.alike else n for d, n in enumerate(weight.shape)])

    def sums(self, params: Mapping[str, Tensor], amounts: Tensor) -> Float64[Tensor, " slices"]:
        """S u, a number a slice."""
        device = params[self.weight].device
        places, charges, values = (torch.as_tensor(a, device=device) for a in self._entries)
        each = amounts.to(device).double()[charges] * values
        return torch.zeros(self.slices.view.size, dtype=torch.float64, device=device).index_add(0, places, each)

    @property
    def _entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.slices.slices, self.slices.charges, np.asarray(self.slices.coefficients, dtype=float)

    def columns(self, params: Mapping[str, Tensor]) -> Float64[Tensor, "*ones columns *ones"]:
        """1/γ, along the inputs of the weight; zeros where a gain is zero: then nothing moves."""
        weight = params[self.weight]
        gain = gain_values(self.dressing, params, weight)
        width = weight.shape[self.inputs]
        inverse = torch.ones(width, dtype=torch.float64, device=weight.device)
        if gain is not None:
            alive = (gain != 0).all()
            # Ones in the place of dead gains, so that derivatives there are zeros and not nan.
            inverse = torch.where(alive, 1 / torch.where(alive, gain, 1.0), 0.0)
        return inverse.reshape([width if d == self.inputs else 1 for d in range(weight.ndim)])

    def constant(self, params: Mapping[str, Tensor]) -> Float64[Tensor, ""]:
        """Σ β/γ."""
        weight, inverse = params[self.weight], self.columns(params).reshape(-1)
        total = torch.zeros((), dtype=torch.float64, device=weight.device)
        for name, since in self.shifts:
            value, later = params[name].double().reshape(-1), gain_values(since, params, weight)
            total = total + (inverse * (value if later is None else value * later)).sum()
        return total


@dataclass(frozen=True, eq=False)
class Shear(Action):
    """W → W + (S u)·(1/γ)ᵀ, and Σ β/γ times what ``answer`` does for u: the biases that take the constant back.

    One number u for each way in which the outputs of the weight may shift, and no charge. ``beside``: where the weight
    is read elsewhere, too (a table that embeds), shifts, one a column, that take back there what u/γ adds to the
    columns; then u is one number. ``solved``: where u is what a map must be given for a certain shift of its outputs.
    """

    linear: ClassVar[bool] = False
    additive: ClassVar[bool] = True
    term: ShearTerm
    answer: AffineShift
    beside: Shift | None = None
    solved: Solved | None = None

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number a shift of the outputs; where these are solved for, one a shift behind the map."""
        return self._shift.weights_shape if self.solved is None else self.solved.weights_shape

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        beside = () if self.beside is None else self.beside.parameters
        return tuple(dict.fromkeys((self.term.weight, *beside, *self.answer.parameters)))

    @property
    def anchors(self) -> tuple[str, ...]:
        """The weight, and the gains by which its columns are read."""
        return (self.term.weight, *(gain.parameter for gain, _ in self.term.dressing))

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the gains γ and shifts β, and of the maps that the constant passes."""
        return tuple(dict.fromkeys((*self._read, *self.answer.inputs)))

    @cached_property
    def _read(self) -> tuple[str, ...]:
        names = [gain.parameter for gain, _ in self.term.dressing]
        for name, since in self.term.shifts:
            names += [name, *(gain.parameter for gain, _ in since)]
        return tuple(dict.fromkeys([*names, *(self.solved.inputs if self.solved is not None else ())]))

    def footing(self, params: Mapping[str, Tensor]) -> tuple[tuple[SliceTerm, ...], Mapping[str, Tensor]]:
        """The mean over the columns of W·diag(γ), to which S u is added."""
        weight, inputs = self.term.weight, self.term.inputs
        columns = self.term.columns(params)
        along = torch.where(columns != 0, params[weight].double() / columns, 0.0)
        along = along.mean(inputs, keepdim=True) if self.term.alike else along
        return (self._steps(params),), {weight: along}

    def _steps(self, params: Mapping[str, Tensor]) -> SliceTerm:
        """S; where u is solved for, what each weight makes of it at θ."""
        if self.solved is None:
            return self.term.slices
        view = self.term.slices.view
        device = params[self.term.weight].device
        units = torch.eye(*self.weights_shape, dtype=torch.float64, device=device)
        steps = [self.term.sums(params, self.amounts(params, unit)) for unit in units]
        values = torch.stack(steps).detach().cpu().numpy()
        charges, places = np.indices(values.shape).reshape(2, -1)
        return SliceTerm(view, charges, places, values.reshape(-1))

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """S u ⊗ 1/γ for the weight, its shifts beside, Σ β/γ times the answers for biases."""
        own = detached(params, (*self.parameters, *self.inputs))
        out = self._turned(own, weights)
        total = self.term.constant(own)
        for name, step in self.answer.generator(own, weights).items():
            accumulate(out, name, total * step.double())
        return {name: step.to(params[name].dtype) for name, step in out.items()}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """θ + ξ: the generator does not depend on what moves."""
        return shifted(params, self.generator(params, element))

    def units(self, form: Form) -> Iterator[Tensor]:
        """One a shift; none is the gradient of a charge, for γ moves under training."""
        yield from torch.eye(*self.weights_shape, dtype=torch.float64) if form == "other" else ()

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal shifts."""
        yield "shift", amount * torch.randn(self.weights_shape, generator=generator, dtype=torch.float64)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The root mean square of the weight and the biases."""
        return own_size(params, self.parameters)

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """By differentiating ⟨g, ξ⟩, which depends on γ and β, and on the maps where Σ β/γ times an answer does."""
        own = detached(params, (*self.parameters, *self.inputs))
        answers = self.answer.generator(own, weights)
        met = sum(((gradients[n].double() * step).sum() for n, step in answers.items()), torch.zeros(()).double())

        def stepped(leaves: Tensors) -> Tensors:
            values = own | leaves
            return self._turned(values, weights) | {"": met * self.term.constant(values)}

        seen = {**gradients, "": torch.ones((), dtype=torch.float64)}
        out = adjoint_by_differentiation(stepped, (*self.parameters, *self._read), seen, own)
        total = self.term.constant(own)
        for other, step in self.answer.adjoint(gradients, weights, params).items():
            accumulate(out, other, total * step)
        return out

    def to_dict(self) -> dict[str, Any]:
        """The term and the answer, as a gauge; short where each output shifts by itself, and one bias answers."""
        term, biases = self.term, self.answer.terms
        rest: dict[str, Any] = {"inputs": term.inputs, "dressing": dressing_to(term.dressing)}
        rest["shifts"] = [[name, dressing_to(since)] for name, since in term.shifts]
        alone = not self.answer.answers and len(biases) < 2 and all(_is_each(t, -1.0, 1) for t in biases)
        beside = {} if self.beside is None else {"beside": self.beside.to_dict()}
        beside |= {} if self.solved is None else {"solved": solved_to(self.solved)}
        if alone and not beside and term.alike and _is_each(term.slices, 1.0, 2):
            absorber = biases[0].view.parameter if biases else None
            rest |= {"weight": term.weight, "outputs": 1 - term.inputs, "absorber": absorber}
            return {"gauge": {"type": "shear", "term": rest, "width": term.slices.view.size}}
        (slices,) = slice_terms_to([term.slices])
        return {"gauge": {"type": "shear", "term": {"slices": slices} | rest, "answer": self.answer.to_dict()} | beside}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Shear:
        """The action that was written."""
        gauge, term = data["gauge"], data["gauge"]["term"]
        shifts = tuple((name, dressing_from(since)) for name, since in term["shifts"])
        if "slices" in term:
            (slices,) = slice_terms_from([term["slices"]])
            answer = AffineShift.from_dict(gauge["answer"])
        else:
            width, outputs = gauge["width"], term["outputs"]
            shape = (width, 1) if outputs < term["inputs"] else (1, width)
            slices = _each(SliceView(term["weight"], shape, (outputs,)), 1.0)
            name = term["absorber"]
            answer = AffineShift(() if name is None else (_each(SliceView(name, (width,), (0,)), -1.0),), ())
        beside = Shift.from_dict(gauge["beside"]) if "beside" in gauge else None
        solved = solved_from(gauge["solved"]) if "solved" in gauge else None
        return cls(ShearTerm(slices, term["inputs"], dressing_from(term["dressing"]), shifts), answer, beside, solved)

    @cached_property
    def _shift(self) -> Shift:
        return Shift((self.term.slices,))

    def amounts(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensor:
        """u."""
        return weights if self.solved is None else self.solved.amounts(params, weights)

    def _turned(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """S u ⊗ 1/γ and the shifts beside, in float64, differentiable in γ."""
        name, columns = self.term.weight, self.term.columns(params)
        out = {name: self.term.outputs(params, self.amounts(params, weights)) * columns}
        if self.beside is not None:
            amounts = weights.to(columns.device).double() * columns.reshape(-1)
            out |= self.beside.generator({n: params[n].double() for n in self.beside.parameters}, amounts)
        return out


def _each(view: SliceView, value: float) -> SliceTerm:
    numbers = np.arange(view.size)
    return SliceTerm(view, numbers, numbers, np.full(view.size, value))


def _is_each(term: SliceTerm, value: float, rank: int) -> bool:
    """Whether each entry along the one wide dimension shifts by itself, times ``value``."""
    each = np.arange(term.view.size)
    alone = np.array_equal(term.charges, each) and np.array_equal(term.slices, each)
    return (
        alone and bool((term.coefficients == value).all()) and (len(term.view.shape), len(term.view.kept)) == (rank, 1)
    )
