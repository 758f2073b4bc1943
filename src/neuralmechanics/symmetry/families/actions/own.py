"""A symmetry of one's own whose generator has no form that charges and laws are known for: followed as a field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.functional.derivatives.higher_derivatives import directional_derivative
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors
from neuralmechanics.symmetry.families.actions.shift import own_size
from neuralmechanics.symmetry.families.actions.terms.gain import adjoint_by_differentiation

__all__ = ["Field", "Finite", "Own"]

Field = Callable[[Tensors], Mapping[str, Tensor]]
Finite = Callable[[Tensors, Tensor], Mapping[str, Tensor]]
_ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class Own(Action):
    """θ' = w ξ(θ) for a field ξ given as a function; no charge.

    ``field``: ξ of named tensors in float64, of which it returns those that move. ``finite``: ψ(θ, t) with
    ψ(·, s + t) = ψ(ψ(·, s), t), where it is known; else the field is integrated. ``why``: there is no charge that a
    law could follow. The functions are not written to plain data: what is read back says what it was, and
    refuses to move anything.
    """

    linear: ClassVar[bool] = False
    moved: tuple[str, ...]
    read: tuple[str, ...]
    form: Form
    why: str
    field: Field | None = None
    finite: Finite | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return self.moved

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the parameters that the field reads and does not move."""
        return self.read

    @property
    def unfollowed(self) -> str:
        """Why there is no charge."""
        return self.why

    @property
    def accuracy(self) -> float:
        """That of the integration, with room for what it is applied to."""
        return 0.0 if self.finite is not None else 10 * _ROUNDING

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number: the time."""
        return (1,)

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """w ξ(θ)."""
        steps = self._steps(self._point(params), weights)
        return {name: step.detach().to(params[name].dtype) for name, step in steps.items()}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """ψ(θ, t), or the solution of θ' = ξ(θ) at time t."""
        if element.is_meta:  # there are shapes alone
            return dict(params) | {name: torch.empty_like(params[name]) for name in self.moved}
        point = self._point(params)
        with torch.no_grad():
            moved = self._integrated(point, float(element)) if self.finite is None else self.finite(point, element[0])
        return dict(params) | {name: moved[name].detach().to(params[name].dtype) for name in self.moved}

    def units(self, form: Form) -> Iterator[Tensor]:
        """One."""
        yield from torch.ones(1, 1, dtype=torch.float64) if form == self.form else ()

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal times."""
        yield "flow", amount * torch.randn(1, generator=generator, dtype=torch.float64)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """The size of what moves over that of the field, at most one."""
        speed = own_size(self.generator(params, torch.ones(1, dtype=torch.float64)), self.moved)
        return min(1.0, own_size(params, self.moved) / speed)

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """By differentiating ⟨g, ξ⟩."""
        names = (*self.moved, *self.read)
        return adjoint_by_differentiation(lambda p: self._steps(p, weights), names, gradients, params)

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """(∂ξ/∂θ) ξ, by differentiating ⟨(∂ξ/∂θ)ᵀ u, ξ⟩ by u."""
        point = self._point(params)
        leaves = tuple(point[name] for name in self.moved)
        along = tuple(xi[name].detach().double() for name in self.moved)

        def steps(*values: Tensor) -> tuple[Tensor, ...]:
            given = self._steps(point | dict(zip(self.moved, values, strict=True)), weights)
            return tuple(given[name] for name in self.moved)

        turned = directional_derivative(steps, leaves, along, graph=False)
        return {name: t.to(params[name].dtype) for name, t in zip(self.moved, turned, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """What it is, without the functions."""
        told = {"moved": list(self.moved), "read": list(self.read), "form": self.form, "why": self.why}
        return {"gauge": {"type": "own"} | told}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Own:
        """The description that was written; it cannot move anything."""
        told = data["gauge"]
        return cls(tuple(told["moved"]), tuple(told["read"]), told["form"], told["why"])

    def _point(self, params: Mapping[str, Tensor]) -> Tensors:
        return {name: params[name].detach().double() for name in (*self.moved, *self.read)}

    def _steps(self, point: Tensors, weights: Tensor) -> Tensors:
        if self.field is None:
            raise ValueError(
                f"the symmetry of {', '.join(self.moved)} is a function of the program that recorded it, which is not "
                "stored; give it again by from_generator or from_transformation"
            )
        steps = self.field(point)
        return {name: weights[0].to(p) * steps.get(name, torch.zeros_like(p)) for name, p in self._moving(point)}

    def _moving(self, point: Tensors) -> Iterator[tuple[str, Tensor]]:
        yield from ((name, point[name]) for name in self.moved)

    def _integrated(self, point: Tensors, time: float) -> Tensors:
        """By Runge and Kutta's method of order 8, to rounding."""
        from scipy.integrate import solve_ivp

        sizes = [point[name].numel() for name in self.moved]
        cuts = np.cumsum(sizes)[:-1]
        weights = torch.ones(1, dtype=torch.float64)

        def spread(flat: np.ndarray) -> Tensors:
            parts = zip(self.moved, np.split(flat, cuts), strict=True)
            return {n: torch.from_numpy(part.copy()).to(point[n].device).reshape(point[n].shape) for n, part in parts}

        def slope(_: float, flat: np.ndarray) -> np.ndarray:
            steps = self._steps(point | spread(flat), weights)
            return np.concatenate([steps[name].reshape(-1).cpu().numpy() for name in self.moved])

        start = np.concatenate([point[name].reshape(-1).cpu().numpy() for name in self.moved])
        size = float(np.abs(start).max()) or 1.0
        slope(0.0, start)
        found = solve_ivp(slope, (0.0, time), start, "DOP853", rtol=_ROUNDING, atol=_ROUNDING * size)
        if not found.success:
            raise ValueError(f"the field cannot be followed to time {time:g}: {found.message}; use a smaller amount")
        return spread(found.y[:, -1])
