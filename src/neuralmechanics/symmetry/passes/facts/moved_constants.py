"""How a constant added to a value shows in what is linear in it, and where a constant in a result may come from.

Constants are arrays with as many dimensions as the value, one entry along each where they do not differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import islice, product

import numpy as np

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, squeezed
from neuralmechanics.symmetry.program.program import Instruction
from neuralmechanics.symmetry.program.value import Value

__all__ = ["Held", "Moves", "added_constant", "before", "before_sum", "combinations", "shown"]

Held = Callable[[Value], np.ndarray | None]  # the entries of a value that is made of the model's own numbers alone
Moves = dict[int, np.ndarray]  # constants by the number of the operand that they are added to
_WAYS = 16  # combinations of operands that are tried for one concatenation
_ROUNDING = 1e-12


def added_constant(instruction: Instruction, held: Held) -> tuple[int, float, np.ndarray] | None:
    """For a sum of a value and a constant: which operand moves, its factor in the sum, and the constant."""
    primitive, xs, result = instruction.primitive, instruction.operands, instruction.result
    if result is None or not result.depends:
        return None
    # An eps stays where it is: what it breaks is told by its size, which a parameter that holds it would hide.
    if isinstance(primitive, p.AddNumber) and primitive.broken_by is None:
        return 0, 1.0, np.full((1,) * len(result.shape), primitive.number)
    if not isinstance(primitive, p.Add) or primitive.scale == 0:
        return None
    for place, other in ((0, 1), (1, 0)):
        if xs[place].depends and not xs[other].depends:
            number = xs[other].number
            constant = np.array(float(number)) if number is not None else held(xs[other])
            factors = (1.0, primitive.scale)
            if constant is None:
                return None
            return place, factors[place], factors[other] * _aligned(constant, len(result.shape))
    return None


def shown(instruction: Instruction, moves: Moves, held: Held) -> np.ndarray | None:
    """What is added to the result where the constants are added to the operands; None where it is no constant."""
    primitive, xs, result = instruction.primitive, instruction.operands, instruction.result
    if result is None:
        return None
    rank = len(result.shape)
    if isinstance(primitive, p.Add):
        factors = (1.0, primitive.scale)
        return reduce(np.add, (factors[k] * _aligned(c, rank) for k, c in moves.items()))
    # (x + a)(y + b) - xy holds ay + bx, which is no constant.
    if len(moves) > 1 and not isinstance(primitive, p.Concatenate):
        return None
    (place, constant), *_ = moves.items()
    x = xs[place]
    if isinstance(primitive, p.Scale):
        return constant * primitive.factor
    if isinstance(primitive, p.AddNumber):
        return constant
    if isinstance(primitive, p.Rearrange):
        return primitive.view.apply(constant, x.shape)
    if isinstance(primitive, p.Multiply) and primitive.function is None:
        factor = _factor(xs, place, held)
        return None if factor is None else np.multiply(_aligned(constant, rank), _aligned(factor, rank))
    # Which rows are picked is data: only a constant that all rows share is known behind the index.
    if isinstance(primitive, p.Gather) and constant.shape[primitive.dim] == 1:
        inside = (1,) * len(primitive.index_shape)
        return constant.reshape((*constant.shape[: primitive.dim], *inside, *constant.shape[primitive.dim + 1 :]))
    if isinstance(primitive, p.Reduce) and primitive.function is None:
        return _reduced(primitive, constant, x)
    if isinstance(primitive, p.Concatenate):
        return _concatenated(primitive, xs, moves)
    return None


def before_sum(instruction: Instruction, place: int, wanted: np.ndarray) -> np.ndarray | None:
    """A constant on one operand of a sum that shows as ``wanted``; None where the operand is narrower than that."""
    result = instruction.result
    if result is None:
        return None
    return _before_view(Expand(result.shape), squeezed(wanted), instruction.operands[place].shape)


def before(instruction: Instruction, wanted: np.ndarray, held: Held) -> Iterator[Moves]:
    """Constants on operands that show as ``wanted`` in the result, where ``shown`` confirms it."""
    primitive, xs, result = instruction.primitive, instruction.operands, instruction.result
    if result is None:
        return
    wanted = squeezed(wanted)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # a mask's lowest number, divided
        guesses = [moves for moves in _guesses(primitive, xs, result, wanted, held) if moves]
    for moves in guesses:
        finite = all(bool(np.isfinite(constant).all()) for constant in moves.values())
        found = shown(instruction, moves, held) if finite else None
        if found is not None and np.allclose(found, wanted, rtol=_ROUNDING, atol=0):
            yield moves


def _guesses(
    primitive: p.Primitive, xs: Sequence[Value], result: Value, wanted: np.ndarray, held: Held
) -> Iterator[Moves]:
    if isinstance(primitive, p.Add) and primitive.scale != 0:
        factors = (1.0, primitive.scale)
        for k in (1, 0):
            part = _before_view(Expand(result.shape), wanted, xs[k].shape) if xs[k].depends else None
            if part is not None:
                yield {k: part / factors[k]}
    elif isinstance(primitive, p.Scale) and primitive.factor != 0:
        yield {0: wanted / primitive.factor}
    elif isinstance(primitive, p.AddNumber) and primitive.broken_by is None:
        yield {0: wanted}
    elif isinstance(primitive, p.Rearrange):
        part = _before_view(primitive.view, wanted, xs[0].shape)
        if part is not None:
            yield {0: part}
    elif isinstance(primitive, p.Multiply) and primitive.function is None:
        place = 0 if xs[0].depends else 1
        factor = _factor(xs, place, held)
        # Where the factor is zero, no constant before it shows behind it.
        if factor is not None and xs[place].shape == result.shape and factor.all():
            yield {place: squeezed(wanted / _aligned(factor, len(result.shape)))}
    elif isinstance(primitive, p.Gather):
        dim, count = primitive.dim, len(primitive.index_shape)
        if all(n == 1 for n in wanted.shape[dim : dim + count]):
            yield {0: wanted.reshape((*wanted.shape[:dim], 1, *wanted.shape[dim + count :]))}
    elif isinstance(primitive, p.Reduce) and primitive.function is None:
        bound = _bound(primitive, xs[0])
        size = float(np.prod([xs[0].shape[d] for d in bound])) or 1.0
        kept = iter(
            wanted.shape if not primitive.keepdim else [n for d, n in enumerate(wanted.shape) if d not in bound]
        )
        shape = [1 if d in bound else next(kept) for d in range(len(xs[0].shape))]
        yield {0: wanted.reshape(shape) / (1.0 if primitive.mean else size)}
    elif isinstance(primitive, p.Concatenate):
        yield {k: part for k, part in enumerate(_pieces(primitive, xs, wanted)) if part.any()}


def _factor(xs: Sequence[Value], place: int, held: Held) -> np.ndarray | None:
    """The other operand of a product, where it is made of numbers of the model."""
    other = xs[1 - place]
    return None if other.depends or xs[0] is xs[1] else held(other)


def _aligned(constant: np.ndarray, rank: int) -> np.ndarray:
    return constant.reshape((1,) * (rank - constant.ndim) + constant.shape)


def _bound(primitive: p.Reduce, x: Value) -> set[int]:
    return {d % len(x.shape) for d in primitive.dims} if x.shape else set()


def _reduced(primitive: p.Reduce, constant: np.ndarray, x: Value) -> np.ndarray:
    bound = _bound(primitive, x)
    whole = np.broadcast_to(constant, [x.shape[d] if d in bound else n for d, n in enumerate(constant.shape)])
    total = (np.mean if primitive.mean else np.sum)(whole, axis=tuple(bound), keepdims=primitive.keepdim)
    return np.asarray(total)


def _concatenated(primitive: p.Concatenate, xs: Sequence[Value], moves: Moves) -> np.ndarray:
    dim = primitive.dim % len(xs[0].shape)
    parts = [moves.get(k, np.zeros((1,) * len(x.shape))) for k, x in enumerate(xs)]
    sizes = [max(part.shape[d] for part in parts) for d in range(len(xs[0].shape))]
    full = [
        np.broadcast_to(c, [x.shape[d] if d == dim else n for d, n in enumerate(sizes)])
        for c, x in zip(parts, xs, strict=True)
    ]
    return np.concatenate(full, axis=dim)


def _pieces(primitive: p.Concatenate, xs: Sequence[Value], wanted: np.ndarray) -> list[np.ndarray]:
    dim = primitive.dim % len(xs[0].shape)
    if wanted.shape[dim] == 1:
        return [wanted for _ in xs]
    return np.split(wanted, np.cumsum([x.shape[dim] for x in xs])[:-1], axis=dim)


def _before_view(view: View, wanted: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """A constant of which the view is ``wanted``, zero where the view does not look; None where there is none."""
    if isinstance(view, Permute):
        return wanted.transpose(np.argsort(view.order))
    if isinstance(view, Reshape):
        return Reshape(shape).apply(wanted, view.shape)
    if isinstance(view, Expand):
        front = wanted.ndim - len(shape)
        narrow = all(n == 1 for n in wanted.shape[:front]) and all(
            n == 1 or m == n for n, m in zip(wanted.shape[front:], shape, strict=True)
        )
        return wanted.reshape(wanted.shape[front:]) if narrow else None
    return _untaken(view, wanted, shape)


def _untaken(view: Take, wanted: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    dim = view.dim
    if wanted.shape[dim] == 1 and set(view.positions) == set(range(shape[dim])):
        return wanted
    out = np.zeros([shape[dim] if d == dim else n for d, n in enumerate(wanted.shape)])
    out[(slice(None),) * dim + (list(view.positions),)] = wanted
    return out


def combinations(parts: Sequence[Iterator[dict[str, np.ndarray]]]) -> Iterator[dict[str, np.ndarray]]:
    """Joint constants of parameters, one way of each value that they are to show in."""
    # The ways of one value multiply with those of the next: unbounded, they would grow exponentially.
    for chosen in islice(product(*parts), _WAYS):
        joined: dict[str, np.ndarray] = {}
        for moves in chosen:
            for name, constant in moves.items():
                joined[name] = joined[name] + constant if name in joined else constant
        yield joined
