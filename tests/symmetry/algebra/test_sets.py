"""Sets of numbers as NumPy has them, whatever the range, the order and the shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.algebra.sets import distinct, without

NARROW, WIDE = st.integers(-3, 12), st.integers(-(2**31), 2**31 - 1)
NUMBERS = st.sampled_from([np.int32, np.int64]).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=2, min_side=0), elements=NARROW | WIDE)
)


@given(NUMBERS)
def test_distinct_numbers(numbers):
    before, found = numbers.copy(), distinct(numbers)
    np.testing.assert_array_equal(found, np.unique(numbers))
    assert found.dtype == numbers.dtype
    found[:] = 0  # the set is the caller's own
    np.testing.assert_array_equal(numbers, before)


@given(NUMBERS, NUMBERS)
def test_numbers_without_others(numbers, others):
    np.testing.assert_array_equal(without(numbers, others), np.setdiff1d(numbers, others))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_zeros_are_passed_over_and_the_rest_is_resolved(share):
    """Large arrays that are mostly zero take another way than full ones; chains are followed on both."""
    draw = np.random.default_rng(0)
    system = ConstraintSystem()
    ids = system.new(9_000)
    system.add([1, -1], np.stack([ids[1:3_000], ids[:2_999]], axis=1))
    system.add([1], ids[5_000:6_000, None])
    asked = np.where(draw.random((3, 5, 600)) < share, draw.choice(ids, (3, 5, 600)), 0).astype(np.int32)
    one_by_one = [system.resolve(np.array([k]))[0] for k in asked.reshape(-1)]
    np.testing.assert_array_equal(system.resolve(asked), np.reshape(one_by_one, asked.shape))
    assert share == 0.0 or len(np.unique(one_by_one)) > 2
