"""The null-space solver against dense linear algebra on random systems."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem

COEFFICIENTS = st.sampled_from([1, -1, 1, -1, 2, -2, 3, 0.5])


@st.composite
def systems(draw: st.DrawFn) -> tuple[int, list[tuple[list[float], list[int]]]]:
    size = draw(st.integers(2, 14))
    rows = draw(
        st.lists(st.lists(st.tuples(COEFFICIENTS, st.integers(0, size - 1)), min_size=1, max_size=4), max_size=18)
    )
    return size, [([c for c, _ in row], [v for _, v in row]) for row in rows]


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(system=systems())
def test_the_null_space_is_the_dense_one(system: tuple[int, list[tuple[list[float], list[int]]]]) -> None:
    size, rows = system
    constraints = ConstraintSystem()
    constraints.new(size - 1)
    dense = np.zeros((len(rows) + 1, size))
    dense[-1, 0] = 1.0  # variable 0 is the constant zero
    for position, (coefficients, variables) in enumerate(rows):
        constraints.add(coefficients, np.array([variables]))
        np.add.at(dense[position], variables, coefficients)
    basis = constraints.solve().matrix.toarray()
    assert np.abs(dense @ basis).max(initial=0.0) < 1e-12
    assert np.linalg.matrix_rank(basis) == basis.shape[1] == size - np.linalg.matrix_rank(dense)
