"""Changes of products: what becomes of coefficients and functions under sums of products with other tensors."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from neuralmechanics.symmetry.domains.shift.movement import taken_term
from neuralmechanics.symmetry.domains.shift.variation import Change, ChangeTerm, Name, letters_of
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Take


@dataclass(frozen=True)
class Mapped:
    """The step of a function's identity that a sum of products with another tensor is.

    ``absorbed``: the dimensions of the changed tensor whose coefficients became numbers of functions.
    ``summed``: sizes of the changed tensor along the letters that are summed; a constant there is multiplied by them.
    """

    other: Hashable
    how: Contraction
    letters: str
    absorbed: tuple[int, ...]
    summed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Gained:
    """The step of a function's identity that a product with another tensor is; ``absorbed`` as that of ``Mapped``."""

    other: Hashable
    absorbed: tuple[int, ...]


def times(t: ChangeTerm, other: Change) -> ChangeTerm:
    """The term multiplied by a tensor that is known to be constant along some axes."""
    moved = tuple(sorted(other.varies & t.pattern))
    ids = t.absorbed(moved, other.shape)
    return t.then(Gained(other.name, moved), ids, t.varies | other.varies)


def contracted_term(
    t: ChangeTerm, letters: str, sizes: Sequence[int], other: Change, other_letters: str, how: Contraction
) -> ChangeTerm:
    """The term of a tensor of these sizes after a sum of products with ``other``."""
    outer = letters_of(other.varies, other_letters)
    if other.sums_to_one is not None:
        letter = other_letters[other.sums_to_one]
        if letter in letters and letter not in how.out and letters.index(letter) not in t.varies | t.pattern:
            return _averaged(t, letters, how)
    windows = {w.x: w for w in how.windows} | {w.kernel: w for w in how.windows}
    t, sizes, base, takes = _behind_takes(t, letters, sizes, other.name, other_letters, how)
    moved = {letter for letter in letters if letter not in how.out or letter in outer or letter in windows}
    absorbed = tuple(d for d, letter in enumerate(letters) if letter in moved and t.ids.shape[d] > 1)
    ids = t.absorbed(absorbed, ())
    varying = letters_of(t.varies, letters) | outer
    touched = varying | letters_of(t.pattern, letters)
    # Zeros of a padding make even a constant differ near the border.
    varying |= {w.out for w in how.windows if w.x in touched or not w.keeps_constants}
    kept = {letter: ids.shape[d] for d, letter in enumerate(letters) if letter not in moved}
    shape = [kept.get(letter, 1) for letter in how.out]
    order = [letters.index(letter) for letter in how.out if letter in kept]
    rest = [d for d in range(len(letters)) if d not in order]
    ids = ids.transpose([*order, *rest, len(letters)]).reshape([*shape, ids.shape[-1]])
    summed = tuple(n for letter, n in zip(letters, sizes, strict=True) if letter not in how.out)
    step = Mapped(base, how, letters, absorbed, summed)
    whole = varying | {how.out[take.dim] for take in takes}
    mapped = t.then(step, ids, (k for k, letter in enumerate(how.out) if letter in whole))
    for take in takes:
        mapped = taken_term(mapped, take)
    return mapped


def _behind_takes(
    t: ChangeTerm, letters: str, sizes: Sequence[int], name: Hashable, mine: str, how: Contraction
) -> tuple[ChangeTerm, Sequence[int], Hashable, list[Take]]:
    """The term before a product with the whole of a factor of which some entries are taken; and entries of the result.

    Some outputs of a linear map are outputs of the whole map, and some inputs are all of them where the rest is zero.
    """
    takes: list[Take] = []
    windowed = {letter for w in how.windows for letter in (w.x, w.kernel, w.out)}
    # A name tells how its value came to be, the last view first.
    while isinstance(name, Name) and name[0] == "view" and isinstance(take := name[2], Take):
        letter = mine[take.dim]
        if letter in how.out and letter not in letters and letter not in windowed:
            takes.insert(0, Take(how.out.index(letter), take.positions))
        elif letter in how.out or letter not in letters or letter in windowed:
            break
        else:
            dim, whole = letters.index(letter), name[3]
            if not isinstance(whole, int) or dim in t.varies or len(set(take.positions)) < len(take.positions):
                break
            ids = np.zeros([whole if d == dim else n for d, n in enumerate(t.ids.shape)], np.int64)
            ids[(slice(None),) * dim + (list(take.positions),)] = t.ids
            t, sizes = replace(t, ids=ids), [whole if d == dim else n for d, n in enumerate(sizes)]
        name = name[1]
    return t, sizes, name, takes


def _averaged(t: ChangeTerm, letters: str, how: Contraction) -> ChangeTerm:
    """The term after a mean along an axis where it is constant, with any weights that sum to one: as it was."""
    order = [letters.index(letter) for letter in how.out if letter in letters]
    rest = [d for d in range(len(letters)) if d not in order]
    shape = [t.ids.shape[letters.index(letter)] if letter in letters else 1 for letter in how.out]
    ids = t.ids.transpose([*order, *rest, len(letters)]).reshape([*shape, t.ids.shape[-1]])
    return t.moved(ids, {letters.index(letter): k for k, letter in enumerate(how.out) if letter in letters})


def zero_along(letters: str, other: Change, other_letters: str, how: Contraction) -> int | None:
    """The dimension of a factor that is summed against entries of the other that add up to zero along it."""
    if other.sums_to_zero is None:
        return None
    letter = other_letters[other.sums_to_zero]
    inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
    return letters.index(letter) if letter in letters and letter not in how.out and letter not in inner else None


def one_along(letters: str, other: Change, other_letters: str, how: Contraction) -> int | None:
    """The dimension of a factor that is summed against entries of the other that add up to one along it."""
    if other.sums_to_one is None:
        return None
    letter = other_letters[other.sums_to_one]
    return letters.index(letter) if letter in letters and letter not in how.out else None
