"""What is known of a value by the way it is made: the one number that fills it, and that it is never negative."""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import ONE_HOT
from neuralmechanics.symmetry.program.value import Value

__all__ = ["is_nonnegative", "number_of"]


def number_of(primitive: p.Primitive, xs: Sequence[Value]) -> float | None:
    """The number that every entry of the result equals, where the operands show it."""
    if isinstance(primitive, p.Constant):
        return primitive.number
    if isinstance(primitive, (p.Multiply, p.Contract)):
        # Zero alone carries over: products with zeros are zero, whatever the other factor is.
        return 0.0 if any(x.number == 0 for x in xs) else None
    if isinstance(primitive, _KEEPING):
        numbers = {x.number for x in xs}
        return numbers.pop() if len(numbers) == 1 else None
    x = xs[0].number if xs else None
    if isinstance(primitive, p.Scale) and primitive.factor == 0:
        return 0.0
    if isinstance(primitive, p.Add) and primitive.scale == -1 and xs[0] is xs[1]:
        return 0.0
    if isinstance(primitive, p.Softmax) and primitive.function is None and xs[0].shape[primitive.dim] == 1:
        return 0.0 if primitive.log else 1.0
    if isinstance(primitive, p.Normalise) and primitive.center and _one_entry(xs[0].shape, primitive.dims):
        return 0.0
    if x is None:
        return None
    if isinstance(primitive, p.Scale):
        return x * primitive.factor
    if isinstance(primitive, p.AddNumber):
        return x + primitive.number
    # Of zero a power may be infinite, of a negative number it may be none.
    if isinstance(primitive, p.Power) and primitive.function is None and x > 0:
        return float(x**primitive.exponent)
    return None


def _one_entry(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return all(shape[dim] == 1 for dim in dims)


# Padding is not among them: it puts zeros beside the number.
_KEEPING = (p.Rearrange, p.Concatenate, p.Gather, p.Spread, p.Order)


def is_nonnegative(primitive: p.Primitive, xs: Sequence[Value]) -> bool:
    """Whether no entry of the result can be negative, whatever the data and the parameters are."""
    if isinstance(primitive, p.Constant):
        ones = primitive.function is not None and primitive.function.name == ONE_HOT
        return primitive.nonnegative or ones or (primitive.number is not None and primitive.number >= 0)
    if isinstance(primitive, (p.Homogeneous, p.Nonlinear)):
        return primitive.nonnegative
    if isinstance(primitive, p.Power):
        even = primitive.exponent % 2 == 0 and primitive.function is None  # a sign scales as the power 0
        return even or xs[0].nonnegative
    if isinstance(primitive, p.Softmax):
        return not primitive.log
    if isinstance(primitive, p.Exponential):
        return True
    if isinstance(primitive, p.Deviation):
        return True
    if isinstance(primitive, p.Multiply) and xs[0] is xs[1]:
        return True
    if isinstance(primitive, p.Maximum) and primitive.largest:
        return any(x.nonnegative for x in xs)
    # From here on: sums, products and selections of entries that are never negative.
    if not xs or not all(x.nonnegative for x in xs):
        return False
    if isinstance(primitive, p.Add):
        return primitive.scale >= 0
    if isinstance(primitive, p.Scale):
        return primitive.factor >= 0
    if isinstance(primitive, p.AddNumber):
        return primitive.number >= 0
    if isinstance(primitive, p.Mask):
        return primitive.number >= 0
    if isinstance(primitive, p.Pool):
        return not primitive.signed
    return isinstance(primitive, _OF_ENTRIES)


_OF_ENTRIES = (
    p.Rearrange, p.Concatenate, p.Pad, p.Gather, p.Spread, p.Scatter, p.Resize, p.Select, p.Noise, p.Restrict,
    p.Multiply, p.Contract, p.Reduce, p.Extremum, p.Maximum, p.Order,
)  # fmt: skip
