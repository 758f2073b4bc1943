"""Tokens that bear the scale of the table row they took: which dimensions choose it, followed through views.

A gathered tensor has at place (b, t) the label of row index[b, t]. Its term is kept as an array over all rows, one more
axis at the end, with the choice that says which dimensions of the tensor decide the row. Whatever tells tokens apart
or adds them up demands that all rows have one label; a norm over channels need not know.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace

from neuralmechanics.symmetry.domains.scaling.label import Choice, Label, LabelTerm
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View, dimension_groups

__all__ = ["choices_of", "chosen", "lifted", "lowered", "relettered", "viewed_chosen"]

Shape = tuple[int, ...]


def chosen(x: Label, dim: int, index_shape: Sequence[int], index: Hashable) -> Label:
    """Entries of x along ``dim`` picked by an index whose dimensions take the place of ``dim``."""
    count = len(index_shape)
    shape = (*x.shape[:dim], *index_shape, *x.shape[dim + 1 :])
    choice = Choice(
        (index, tuple(index_shape)), tuple(dim + k for k, n in enumerate(index_shape) if n > 1), x.shape[dim]
    )
    terms = []
    for t in x.terms:
        before, after = t.ids.shape[:dim], t.ids.shape[dim + 1 :]
        if t.ids.shape[dim] == 1:
            terms.append(replace(t, ids=t.ids.reshape((*before, *(1,) * count, *after))))
        else:
            moved = t.ids.transpose([*(d for d in range(t.ids.ndim) if d != dim), dim])
            terms.append(replace(t, ids=moved.reshape((*before, *(1,) * count, *after, x.shape[dim])), choice=choice))
    return Label(shape, tuple(terms))


def choices_of(*labels: Label) -> set[Choice]:
    return {t.choice for x in labels for t in x.terms if t.choice}


def lifted(x: Label, choice: Choice) -> Label:
    """x with the rows of ``choice`` as one more dimension at the end, constant where nothing depends on them."""
    if any(t.choice not in (None, choice) for t in x.terms):
        raise ValueError(f"a label that depends on other rows than those of {choice}; give all rows one label first")
    terms = (t if t.choice else replace(t, ids=t.ids[..., None]) for t in x.terms)
    return Label((*x.shape, choice.rows), tuple(replace(t, choice=None) for t in terms))


def lowered(x: Label, choice: Choice) -> Label:
    """The inverse of ``lifted``: terms that differ along the last dimension depend on the choice."""
    terms = (replace(t, ids=t.ids[..., 0]) if t.ids.shape[-1] == 1 else replace(t, choice=choice) for t in x.terms)
    return Label(x.shape[:-1], tuple(terms))


def relettered(choice: Choice, letters: str, out: str) -> Choice:
    """The choice of an operand of a sum of products, over the dimensions of the result."""
    return replace(choice, dims=tuple(out.index(letters[d]) for d in choice.dims))


def viewed_chosen(t: LabelTerm, view: View, shape: Shape) -> LabelTerm | None:
    """A term with a choice after a rearrangement of its tensor; None where the choice cannot be followed."""
    choice = t.choice
    if choice is None or (moved := _viewed_choice(choice, view, shape)) is None:
        return None
    return replace(t, ids=_with_rows(view, shape, choice.rows).apply(t.ids, (*shape, choice.rows)), choice=moved)


def _with_rows(view: View, shape: Shape, rows: int) -> View:
    """The view for tensors with one more dimension at the end."""
    if isinstance(view, Permute):
        return Permute((*view.order, len(shape)))
    return view if isinstance(view, Take) else replace(view, shape=(*view.shape, rows))


def _viewed_choice(choice: Choice, view: View, shape: Shape) -> Choice | None:
    """The choice after a rearrangement; None where its dimensions merge with others."""
    if isinstance(view, Permute):
        return replace(choice, dims=tuple(view.order.index(d) for d in choice.dims))
    if isinstance(view, Expand):
        return replace(choice, dims=tuple(d + len(view.shape) - len(shape) for d in choice.dims))
    if isinstance(view, Take):
        if view.dim not in choice.dims:
            return choice
        axis = choice.dims.index(view.dim)
        kept = choice.dims if len(view.positions) > 1 else choice.dims[:axis] + choice.dims[axis + 1 :]
        # Another key: at the same place it now picks the row of another place.
        return Choice((choice.key, "take", axis, view.positions), kept, choice.rows)
    return _reshaped(choice, view, shape)


def _reshaped(choice: Choice, view: Reshape, shape: Shape) -> Choice | None:
    if not math.prod(shape):
        return None
    key, at = choice.key, dict(enumerate(choice.dims))
    for inside, outside in dimension_groups(shape, view.shape):
        wide, after = [d for d in inside if shape[d] > 1], [d for d in outside if view.shape[d] > 1]
        if not any(d in choice.dims for d in wide):
            continue
        # The index's dimension would be merged with one that it does not run along.
        if any(d not in choice.dims for d in wide):
            return None
        axes = [choice.dims.index(d) for d in wide]
        if len(wide) == len(after) and all(shape[a] == view.shape[b] for a, b in zip(wide, after, strict=True)):
            at |= dict(zip(axes, after, strict=True))
            continue
        # Dimensions of the index merge or split: another index.
        key = (key, "reshape", tuple(axes), tuple(view.shape[d] for d in after))
        for axis in axes:
            del at[axis]
        start = max([len(choice.dims), *(k + 1 for k in at)])
        at |= {start + k: d for k, d in enumerate(after)}
    return Choice(key, tuple(at[axis] for axis in sorted(at)), choice.rows)
