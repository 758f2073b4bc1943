"""Sums of products without dimensions of one entry that were put in for the form's sake.

A convolution whose kernel has one tap is a product with a matrix, and so is a batch of one product, a product of
columns that were made of vectors, and a product with a matrix that was repeated for every member of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.symmetry.passes.normal_forms.tape import Tape
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction, Window
from neuralmechanics.symmetry.program.attributes.views import Expand, Reshape
from neuralmechanics.symmetry.program.program import Instruction, Location
from neuralmechanics.symmetry.program.value import Value

__all__ = ["kept_dimensions", "of_parameter", "plain_product"]

Shape = tuple[int, ...]


def plain_product(tape: Tape, held: Instruction) -> Value | None:
    """The sum of products in its plain form; None where it has it already."""
    primitive, result = held.primitive, held.result
    if not isinstance(primitive, p.Contract) or primitive.function is not None or result is None:
        return None
    how, (x, y) = primitive.how, held.operands
    # Kernels in groups are products for each group already, and known as such by their windows.
    grouped = set(how.x) & set(how.y) & set(how.out)
    single = [w for w in how.windows if not grouped and _is_one_tap(w) and y.shape[how.y.index(w.kernel)] == 1]
    rest = tuple(w for w in how.windows if w not in single)
    names = {w.x: w.out for w in single}
    left, right = "".join(names.get(letter, letter) for letter in how.x), how.y
    bound = {letter for w in rest for letter in (w.x, w.kernel, w.out)}
    before = (x, left), (y, right)
    (x, left), (y, right) = _peeled(tape, x, left, right, bound), _peeled(tape, y, right, left, bound)
    ones = {w.kernel for w in single} | _shared_ones(how, x, left, y, right)
    x, left = _without(tape, held.cause, x, left, ones)
    y, right = _without(tape, held.cause, y, right, ones)
    if ((x, left), (y, right)) == before or not left or not right:
        return None
    out = "".join(letter for letter in how.out if letter in left + right or letter in bound)
    if any(n > 1 for n, letter in zip(result.shape, how.out, strict=True) if letter not in out):
        return None
    made = tape.new(held.cause, p.Contract(Contraction(left, right, out, rest)), x, y)
    return made if made.shape == result.shape else tape.new(held.cause, p.Rearrange(Reshape(result.shape)), made)


def _is_one_tap(window: Window) -> bool:
    """Whether each output sees the input in its own place, if the kernel has one tap."""
    geometry = window.geometry
    # Not transposed, stride one, no padding: then the only tap meets each place once, whatever the dilation.
    return isinstance(geometry, tuple) and len(geometry) == 5 and geometry[:3] == (False, 1, 0)


def _shared_ones(how: Contraction, x: Value, left: str, y: Value, right: str) -> set[str]:
    """A first dimension of one entry that both factors and the result have."""
    letter = how.out[:1]
    plain = letter and not how.windows and left[:1] == letter == right[:1] and min(len(left), len(right)) > 1
    return {letter} if plain and x.shape[0] == 1 == y.shape[0] and len(how.out) > 1 else set()


def _without(tape: Tape, cause: Location, x: Value, letters: str, ones: set[str]) -> tuple[Value, str]:
    """x without these dimensions of one entry."""
    kept = [d for d, letter in enumerate(letters) if letter not in ones]
    if len(kept) == len(letters):
        return x, letters
    shape = tuple(x.shape[d] for d in kept)
    return tape.new(cause, p.Rearrange(Reshape(shape)), x), "".join(letters[d] for d in kept)


def _peeled(tape: Tape, x: Value, letters: str, other: str, bound: set[str]) -> tuple[Value, str]:
    """What x was before dimensions of one entry were put in, or a parameter was repeated along those of the other."""
    while (maker := tape.made.get(x.index)) is not None and isinstance(maker.primitive, p.Rearrange):
        view, before = maker.primitive.view, maker.operands[0]
        if isinstance(view, Reshape):
            kept = kept_dimensions(before.shape, x.shape)
        elif isinstance(view, Expand) and of_parameter(tape, before):
            front = len(x.shape) - len(before.shape)
            repeated = [d for d, n in enumerate(x.shape) if d < front or before.shape[d - front] != n]
            kept = list(range(front, len(x.shape))) if all(letters[d] in other for d in repeated) else None
        else:
            kept = None
        lost = set(letters) - {letters[d] for d in kept or ()}
        # Dimensions of a window stay: their letters say which entries of input, kernel and output meet.
        if not kept or lost & bound or len(kept) != len(before.shape):
            break
        x, letters = before, "".join(letters[d] for d in kept)
    return x, letters


def kept_dimensions(before: Sequence[int], after: Sequence[int]) -> list[int] | None:
    """Which dimensions are those before, where a reshape only puts in some of one entry; None where it does more.

    >>> kept_dimensions((2, 3), (2, 1, 3))
    [0, 2]
    """
    kept: list[int] = []
    for d, n in enumerate(after):
        if len(kept) < len(before) and before[len(kept)] == n:
            kept.append(d)
        elif n != 1:
            return None
    return kept if len(kept) == len(before) < len(after) else None


def of_parameter(tape: Tape, x: Value) -> bool:
    """Whether a value is a parameter, rearranged or not."""
    while (maker := tape.made.get(x.index)) is not None and isinstance(maker.primitive, p.Rearrange):
        x = maker.operands[0]
    return maker is not None and isinstance(maker.primitive, p.Parameter)
