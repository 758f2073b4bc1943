"""Sums of coefficients that must be constant along dimensions: the few rows written say what all rows would."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.domains.shift.constraints import ShiftConstraints
from neuralmechanics.symmetry.domains.shift.variation import ChangeTerm

VARIABLES = 7


@pytest.mark.parametrize("seed", range(40))
def test_sums_are_constant_in_as_many_ways_as_by_all_rows(seed: int) -> None:
    draw = np.random.default_rng(seed)
    dims = frozenset({0, 1}) if seed % 2 else frozenset({1})
    factors = [1.0, -2.0, 3.0][: 1 + seed % 3]
    constraints = ShiftConstraints(lenient=False)
    variables = np.append(constraints.system.new(VARIABLES), 0)
    sizes = [[n if draw.random() < 0.7 else 1 for n in (3, 4, 2)] for _ in factors]
    arrays = [variables[draw.integers(len(variables), size=(*s, 1))] for s in sizes]
    terms = [ChangeTerm(("constant",), ids, (), factor) for ids, factor in zip(arrays, factors, strict=True)]
    constraints._constant(terms, dims)
    assert _projector(constraints.system) == pytest.approx(_projector(_all_rows(arrays, factors, dims)), abs=1e-9)


def _all_rows(arrays: list[np.ndarray], factors: list[float], dims: frozenset[int]) -> ConstraintSystem:
    """One row for each entry of the sum: it equals the first one along the dimensions."""
    system = ConstraintSystem()
    system.new(VARIABLES)
    sizes = np.broadcast_shapes(*(ids.shape for ids in arrays))
    for place in product(*(range(n) for n in sizes)):
        first = tuple(0 if d in dims else k for d, k in enumerate(place))
        full = [np.broadcast_to(ids, sizes) for ids in arrays]
        row = np.array([[ids[at] for ids in full for at in (place, first)]])
        system.add([sign * factor for factor in factors for sign in (1, -1)], row)
    return system


def _projector(system: ConstraintSystem) -> np.ndarray:
    """The orthogonal projector on the solutions, in the first variables."""
    basis = system.solve().matrix.toarray()[: VARIABLES + 1]
    left, singular, _ = np.linalg.svd(basis, full_matrices=False)
    kept = left[:, singular > 1e-9]
    return np.asarray(kept @ kept.T)
