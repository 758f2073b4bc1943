"""Names of families and of their charges: the layers that move, the slices that a charge holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions import Action
from neuralmechanics.symmetry.families.family import Breaking, Family, Kind

__all__ = ["named_family"]


def named_family(
    kind: Kind,
    action: Action,
    labels: Sequence[str],
    requires: tuple[str, ...],
    broken_by: tuple[Breaking, ...] = (),
) -> Family:
    """The family of an action, named by the layers that it moves."""
    parameters = action.parameters
    layer = parameters[0].rpartition(".")[0]
    return Family(kind, title(kind, parameters), labels, action, broken_by, requires, layer)


def title(kind: str, parameters: Sequence[str]) -> str:
    """``kind: first → last layer``; parameters of one layer are named by the layer."""
    layers = list(dict.fromkeys(p.rpartition(".")[0] or p for p in parameters))
    if kind == "translation" and len(parameters) <= 2:
        return f"{kind}: " + ", ".join(parameters)
    if len(layers) <= 3:
        return f"{kind}: " + " → ".join(layers)
    return f"{kind}: {layers[0]} → … → {layers[-1]} ({len(layers)} layers)"


class SliceLabels(Sequence[str]):
    """Each charge by the first slice it holds; the texts are made when they are asked for."""

    def __init__(self, terms: Sequence[SliceTerm], count: int) -> None:
        self._views = [term.view for term in terms]
        self._view = np.full(count, -1, dtype=np.int64)
        self._slice = np.zeros(count, dtype=np.int64)
        for number, term in enumerate(terms):
            charges, index = np.unique(term.charges, return_index=True)
            new = self._view[charges] < 0
            self._view[charges[new]] = number
            self._slice[charges[new]] = term.slices[index[new]]

    def __len__(self) -> int:
        return len(self._view)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self[k] for k in range(*index.indices(len(self))))
        view = self._views[self._view[index]]
        sizes = [view.shape[d] for d in view.kept]
        return view.parameter + subscript(view, int(self._slice[index]), sizes)


def subscript(view: SliceView, position: int, sizes: Sequence[int]) -> str:
    places = dict(zip(view.kept, (int(i) for i in np.unravel_index(position, sizes or (1,))), strict=False))
    if not view.kept:
        return ""
    entries = [str(places[d]) if d in places else ":" for d in range(max(view.kept) + 1)]
    return "[" + ", ".join(entries) + "]"


def unique_names(families: Sequence[Family]) -> list[Family]:
    """The same families, those of an equal name told apart: rotary pairs, or how many of all the charges they hold."""
    from dataclasses import replace

    alike: dict[str, list[Family]] = {}
    for family in families:
        alike.setdefault(family.name, []).append(family)
    seen: set[str] = set()
    out = []
    for family in families:
        name = family.name + _distinction(family, alike[family.name])
        # Names are what users and records tell families by: no two may be equal.
        while name in seen:  # as many charges as another: by the first of them, then by a mark
            name += f", from {family.labels[0]}" if ", from " not in name and len(family.labels) else "'"
        seen.add(name)
        out.append(replace(family, name=name))
    return out


def _distinction(family: Family, alike: Sequence[Family]) -> str:
    if len(alike) == 1:
        return ""
    if family.action.epithet:
        return f" ({family.action.epithet})"
    counts = [f.charges or f.size for f in alike if not f.action.epithet]
    return f" ({family.charges or family.size} of {sum(counts)})" if len(counts) > 1 else ""
