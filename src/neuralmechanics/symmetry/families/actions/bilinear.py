"""One symmetric matrix a parameter: a charge ⟨θ, Mθ⟩ of one's own, with the flow exp(tM) that it generates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.slices import widened
from neuralmechanics.symmetry.families.actions.action import Action, Form, Tensors
from neuralmechanics.symmetry.families.actions.charge_terms import ChargeTerms

__all__ = ["Bilinear", "Entries"]


@dataclass(frozen=True, eq=False)
class Entries:
    """The nonzero entries of a symmetric matrix over all elements of one parameter, as coordinates."""

    parameter: str
    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def times(self, x: Tensor, absolute: bool = False) -> Tensor:
        """M x, or |M| x, in double precision and in the shape of x."""
        rows, columns = (torch.as_tensor(k, device=x.device) for k in (self.rows, self.columns))
        values = torch.as_tensor(np.abs(self.values) if absolute else self.values, device=x.device)
        flat = widened(x).reshape(-1)
        return torch.zeros_like(flat).index_add_(0, rows, values * flat[columns]).reshape(x.shape)

    def exponential(self, x: Tensor, time: float) -> Tensor:
        """exp(tM) x, without the exponential itself."""
        from scipy.sparse import coo_array
        from scipy.sparse.linalg import expm_multiply

        count = x.numel()
        matrix = coo_array((time * self.values, (self.rows, self.columns)), shape=(count, count)).tocsr()
        flat = widened(x.detach()).reshape(-1).cpu().numpy()
        moved = expm_multiply(matrix, flat, traceA=float(matrix.trace()))
        return torch.from_numpy(np.ascontiguousarray(moved)).to(x.device).reshape(x.shape)


@dataclass(frozen=True)
class EntriesShare:
    """⟨a, M b⟩ of one parameter, where the charge stands."""

    entries: Entries
    offset: int

    @property
    def parameter(self) -> str:
        """Name of the parameter."""
        return self.entries.parameter

    def add_(self, out: Float64[Tensor, " charges"], a: Tensor, b: Tensor) -> None:
        """Adds ⟨a, M b⟩ at the charge's place."""
        out[self.offset] += (widened(a) * self.entries.times(b)).sum()


@dataclass(frozen=True, eq=False)
class Bilinear(Action):
    """θ → exp(tM) θ with M symmetric in each parameter, and the charge ⟨θ, Mθ⟩.

    Two entries that are turned into each other, x y' + y x' = 0: the hyperbolas x² - y² = const are its orbits.

    >>> m = Entries("w", np.array([0, 1]), np.array([1, 0]), np.ones(2))
    >>> action, params = Bilinear((m,)), {"w": torch.tensor([3.0, 5.0], dtype=torch.float64)}
    >>> moved = action.transform(params, torch.tensor([0.7], dtype=torch.float64))["w"]
    >>> bool(torch.isclose(moved[1] ** 2 - moved[0] ** 2, torch.tensor(16.0, dtype=torch.float64)))
    True
    >>> action.charge(params).tolist()
    [30.0]
    """

    linear: ClassVar[bool] = True
    stretches: ClassVar[bool] = False
    matrices: tuple[Entries, ...]

    @property
    def charges(self) -> int:
        """One."""
        return 1

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """One number: the time."""
        return (1,)

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        return tuple(m.parameter for m in self.matrices)

    def generator(self, params: Mapping[str, Tensor], weights: Tensor) -> Tensors:
        """w Mθ."""
        moved = ((m.parameter, weights * m.times(params[m.parameter]).reshape(-1)) for m in self.matrices)
        return {name: step.reshape(params[name].shape).to(params[name].dtype) for name, step in moved}

    def transform(self, params: Mapping[str, Tensor], element: Tensor) -> Tensors:
        """exp(tM) θ."""
        if element.is_meta:  # there are shapes alone
            return dict(params) | {name: torch.empty_like(params[name]) for name in self.parameters}
        time = float(element)
        moved = {m.parameter: m.exponential(params[m.parameter], time) for m in self.matrices}
        return dict(params) | {name: value.to(params[name].dtype) for name, value in moved.items()}

    def units(self, form: Form) -> Iterator[Tensor]:
        """One; twice its charge's, as E_ij + E_ji of a linear block moves twice what the entry (i, j) belongs to."""
        if form == "symmetric":
            yield torch.full((1,), 2.0, dtype=torch.float64)

    def random_elements(self, amount: float, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
        """Normal times, in units of the largest entry's."""
        largest = max(float(np.abs(m.values).max()) for m in self.matrices)
        yield "flow", amount / largest * torch.randn(1, generator=generator, dtype=torch.float64)

    def reach(self, params: Mapping[str, Tensor]) -> float:
        """A half, in units of the largest entry's."""
        return 0.5 / max(float(np.abs(m.values).max()) for m in self.matrices)

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨a, M b⟩."""
        parts = [(widened(a[m.parameter]) * m.times(b[m.parameter])).sum() for m in self.matrices]
        return torch.stack(parts).sum().reshape(1)

    def scale(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨|a|, |M| |b|⟩."""
        parts = [
            (widened(a[m.parameter]).abs() * m.times(b[m.parameter].abs(), absolute=True)).sum() for m in self.matrices
        ]
        return torch.stack(parts).sum().reshape(1)

    def charge_terms(self, offset: int) -> ChargeTerms:
        """A part for each parameter."""
        return ChargeTerms(shares=tuple(EntriesShare(m, offset) for m in self.matrices))

    def adjoint(self, gradients: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """w M g."""
        return self.generator(gradients, weights)

    def second_derivative(self, xi: Mapping[str, Tensor], weights: Tensor, params: Mapping[str, Tensor]) -> Tensors:
        """w M ξ."""
        return self.generator(xi, weights)

    def to_dict(self) -> dict[str, Any]:
        """The entries, as a gauge."""
        fields = ("rows", "columns", "values")
        matrices = [{"parameter": m.parameter} | {n: getattr(m, n).tolist() for n in fields} for m in self.matrices]
        return {"gauge": {"type": "bilinear", "matrices": matrices}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Bilinear:
        """The action that was written."""
        return cls(
            tuple(
                Entries(
                    m["parameter"],
                    np.asarray(m["rows"], dtype=np.int64),
                    np.asarray(m["columns"], dtype=np.int64),
                    np.asarray(m["values"], dtype=float),
                )
                for m in data["gauge"]["matrices"]
            )
        )
