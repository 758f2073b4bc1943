"""Steps that make up a group element: one space's permutation, factors or matrix; one family's amount."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from neuralmechanics.symmetry import Element as SpaceElement
from neuralmechanics.symmetry import Family, Space

__all__ = ["FamilyStep", "SpaceStep", "Step", "space_steps"]

_STILL = 1e-12  # what counts as no change in a description


class Step(Protocol):
    """An invertible transformation of the parameters that leaves the model's function as it is."""

    @property
    def where(self) -> str: ...

    @property
    def parameters(self) -> tuple[str, ...]: ...

    def transform(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]: ...

    def inverse(self) -> tuple[Step, ...]: ...

    def described(self) -> str:
        """What it does in a few words, empty for the identity."""


@dataclass(frozen=True, eq=False)
class SpaceStep:
    """A permutation, or factors, or a matrix of one space: never two of them, so that its inverse is one again."""

    space: Space
    element: SpaceElement

    @property
    def where(self) -> str:
        """The space."""
        return f"space {self.space.name}"

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the tensors that move."""
        return self.space.parameters

    def transform(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """g·θ."""
        return self.space.transform(params, self.element)

    def inverse(self) -> tuple[Step, ...]:
        """The inverse permutation, factors or matrix."""
        if self.element.permutation is not None:
            back = SpaceElement(self.element.permutation.argsort(-1))
        elif self.element.factors is not None:
            back = SpaceElement(factors=1 / self.element.factors)
        else:
            back = SpaceElement(matrix=torch.linalg.inv(_given(self.element.matrix)))
        return (SpaceStep(self.space, back),)

    def described(self) -> str:
        """How many channels change places or signs, or how far a matrix is from the identity."""
        return _described(self.space, self.element)


@dataclass(frozen=True, eq=False)
class FamilyStep:
    """A finite transformation of one family: what is added, factors, complex factors or a matrix."""

    family: Family
    amount: Tensor

    @property
    def where(self) -> str:
        """The family."""
        return self.family.name

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the tensors that move."""
        return self.family.parameters

    def transform(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """g·θ."""
        return self.family.transform(params, self.amount)

    def inverse(self) -> tuple[Step, ...]:
        """The amount that takes it back."""
        return (FamilyStep(self.family, self.family.action.inverse(self.amount)),)

    def described(self) -> str:
        """The kind, and how large the amount is."""
        action = self.family.action
        if action.additive:
            size = float(self.amount.abs().max())
            return f"shifted by up to {size:.3g}" if size > _STILL else ""
        if action.factor_terms:
            low, high = float(self.amount.abs().min()), float(self.amount.abs().max())
            flips = int((self.amount < 0).sum())
            if max(abs(low - 1), abs(high - 1)) <= _STILL and not flips:
                return ""
            return f"factors between {low:.3g} and {high:.3g}" + (f", {flips} negative" if flips else "")
        return "turned" if self.amount.ndim < 2 else "mixed by a matrix"


def space_steps(space: Space, element: SpaceElement) -> tuple[SpaceStep, ...]:
    """An element of a space as steps in its own order: permutation, factors, matrix."""
    parts = (
        SpaceElement(permutation=element.permutation) if element.permutation is not None else None,
        SpaceElement(factors=element.factors) if element.factors is not None else None,
        SpaceElement(matrix=element.matrix) if element.matrix is not None else None,
    )
    return tuple(SpaceStep(space, part) for part in parts if part is not None)


def _given(matrix: Tensor | None) -> Tensor:
    if matrix is None:
        raise AssertionError("a step without a permutation, factors or a matrix")
    return matrix


def _described(space: Space, element: SpaceElement) -> str:
    if element.permutation is not None:
        moved = int((element.permutation != torch.arange(space.width)).sum())
        return f"{moved} of {element.permutation.numel()} channels change places" if moved else ""
    if element.factors is not None:
        flips, low, high = int((element.factors < 0).sum()), *_range(element.factors.abs())
        texts = [f"{flips} signs"] if flips else []
        texts += [f"factors between {low:.3g} and {high:.3g}"] if max(abs(low - 1), abs(high - 1)) > _STILL else []
        return ", ".join(texts)
    matrix = _given(element.matrix)
    off = float((matrix - torch.eye(space.width, dtype=matrix.dtype)).abs().max())
    return f"a {space.group} matrix, {off:.3g} from the identity" if off > _STILL else ""


def _range(values: Tensor) -> tuple[float, float]:
    return float(values.min()), float(values.max())
