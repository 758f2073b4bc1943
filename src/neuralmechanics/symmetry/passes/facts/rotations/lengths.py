"""Whether anything behind or before rotations of pairs sees these by their length alone."""

from __future__ import annotations

from collections.abc import Iterator

from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["sees_turned_lengths"]

_LINEAR = (p.Rearrange, p.Concatenate, p.Scale, p.Add, p.Multiply, p.Noise, p.Gather, p.Pad)


def sees_turned_lengths(program: Program) -> bool:
    """Whether a norm or a square reads or makes what turns, or one weight makes two of them (queries that are keys).

    Else the pairs that may turn may scale as well. ``program``: one that looks through rotations.
    """
    makers, readers = program.makers(), program.readers()
    turned = [i.operands[0] for i in program.instructions if isinstance(i.primitive, p.Pair)]
    around = (i for x in turned for i in (*_behind(x, readers), *_before(x, makers)))
    if any(isinstance(i.primitive, (p.Normalise, p.Power, p.Reduce)) for i in around):
        return True
    weights = [name for x in dict.fromkeys(turned) for name in _written_by(x, makers)]
    return len(weights) > len(set(weights))


def _behind(value: Value, readers: dict[int, list[Instruction]]) -> Iterator[Instruction]:
    """What reads a value, also by way of linear operations."""
    waiting, seen = [value], {value.index}
    while waiting:
        for reader in readers.get(waiting.pop().index, ()):
            yield reader
            result = reader.result
            if result is not None and isinstance(reader.primitive, _LINEAR) and result.index not in seen:
                seen.add(result.index)
                waiting.append(result)


def _before(value: Value, makers: dict[int, Instruction]) -> Iterator[Instruction]:
    """What makes a value, also by way of linear operations."""
    waiting, seen = [value], {value.index}
    while waiting:
        maker = makers[waiting.pop().index]
        yield maker
        for x in maker.operands if isinstance(maker.primitive, _LINEAR) else ():
            if x.depends and x.index not in seen:
                seen.add(x.index)
                waiting.append(x)


def _written_by(value: Value, makers: dict[int, Instruction]) -> set[str]:
    """The parameters of the products that a value is made of by linear operations."""
    waiting, seen, found = [value], {value.index}, set[str]()
    while waiting:
        maker = makers[waiting.pop().index]
        if isinstance(maker.primitive, p.Parameter):
            found.add(maker.primitive.name)
            continue
        inside = isinstance(maker.primitive, p.Contract)
        for x in maker.operands if inside or isinstance(maker.primitive, _LINEAR) else ():
            if x.depends and x.index not in seen and (not inside or _is_weight(x, makers)):
                seen.add(x.index)
                waiting.append(x)
    return found


def _is_weight(value: Value, makers: dict[int, Instruction]) -> bool:
    """Whether a value is a parameter, rearranged."""
    maker = makers[value.index]
    while isinstance(maker.primitive, p.Rearrange):
        maker = makers[maker.operands[0].index]
    return isinstance(maker.primitive, p.Parameter)
