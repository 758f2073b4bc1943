"""The null-space solver against dense linear algebra on random systems."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from neuralmechanics.symmetry.algebra.elimination import narrowed
from neuralmechanics.symmetry.algebra.independence import independent_columns
from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem

COEFFICIENTS = st.sampled_from([1, -1, 1, -1, 2, -2, 3, 0.5])


def _rank(matrix: np.ndarray) -> int:
    """Its rank, also of a matrix without columns, which older numpy does not take."""
    return int(np.linalg.matrix_rank(matrix)) if matrix.size else 0


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
    assert _rank(basis) == basis.shape[1] == size - _rank(dense)


def _collected(size: int, rows: list[tuple[list[float], list[int]]]) -> ConstraintSystem:
    constraints = ConstraintSystem()
    constraints.new(size - 1)
    for coefficients, variables in rows:
        constraints.add(coefficients, np.array([variables]))
    return constraints


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(system=systems())
def test_variables_called_equal_have_equal_coordinates(system: tuple[int, list[tuple[list[float], list[int]]]]) -> None:
    size, rows = system
    space = _collected(size, rows).solve()
    basis = space.matrix.toarray()
    for one in range(size):
        for other in range(size):
            if space.equal(np.array([one]), np.array([other])):
                assert (basis[one] == basis[other]).all()


def test_a_difference_and_its_opposite_are_not_equal() -> None:
    """d = a - b and e = -d, whose coordinates add up to zero both."""
    constraints = ConstraintSystem()
    a, b, d, e = constraints.new(4)
    constraints.add([1, -1, -1], np.array([[a, b, d]]))
    constraints.add([1, 1], np.array([[d, e]]))
    space = constraints.solve()
    assert not space.equal(np.array([d]), np.array([e]))


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(system=systems(), draw=st.data())
def test_what_is_asked_of_some_variables_is_what_the_whole_null_space_says_of_them(
    system: tuple[int, list[tuple[list[float], list[int]]]], draw: st.DataObject
) -> None:
    """The projection of the null space on the variables asked for, with independent vectors."""
    size, rows = system
    asked = np.array(draw.draw(st.lists(st.integers(1, size - 1), min_size=1, unique=True)))
    whole = _collected(size, rows).solve().matrix.toarray()[asked]
    part = _collected(size, rows).solve([asked]).matrix.toarray()[asked]
    rank = _rank(whole)
    assert part.shape[1] == rank
    assert _rank(np.hstack([whole, part])) == rank
    if rank:
        assert _rank(part) == rank


def test_a_chain_of_partial_sums_folds_up_without_long_rows() -> None:
    """s_k = s_(k-1) + b_k with s_k zero at the end: one row, whose terms are the summands; s_k equal: b_k zero."""
    length = 50
    chain = [{k: 1, 100 + k: 1, 101 + k: -1} for k in range(1, length)]
    (row,) = narrowed([*chain, {100 + length: 1}], set(range(100, 101 + length)) - {101})
    assert row == dict.fromkeys([101, *range(1, length)], 1)
    assert narrowed(chain, set(range(100, 101 + length)) - {101}) == []


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(
    columns=st.lists(
        st.lists(st.sampled_from([0, 0, 0, 1, -1, 2, 0.5]), min_size=6, max_size=6), min_size=1, max_size=12
    )
)
def test_independent_columns_are_those_that_raise_the_rank(columns: list[list[float]]) -> None:
    matrix = np.array(columns).T
    ranks = [0, *(_rank(matrix[:, : k + 1]) for k in range(matrix.shape[1]))]
    expected = [k for k in range(matrix.shape[1]) if ranks[k + 1] > ranks[k]]
    assert independent_columns(sparse.csr_matrix(matrix)).tolist() == expected
