"""The budget of a run added up, read once and some intervals at a time, however many charges there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.reading.rows import in_blocks, places

if TYPE_CHECKING:
    import xarray as xr

Matrix = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Books:
    """By part of the budget: Σ and Σ| | over all intervals, [charge], and Σ| | over the charges of each layer."""

    sums: Mapping[str, Matrix]
    gross: Mapping[str, Matrix]
    by_layer: Mapping[str, Mapping[str, Matrix]]
    """by part, then by layer: [interval]"""


def books_of(budget: xr.Dataset) -> Books:
    """What a budget of single charges adds up to."""
    names = [str(name) for name in budget["part"].to_numpy()]
    owners = budget["layer"].to_numpy()
    members = {str(layer): places(owners == layer) for layer in dict.fromkeys(owners)}
    charges = budget.sizes["charge"]
    sums, gross = ({name: np.zeros(charges) for name in names} for _ in range(2))
    layered: dict[str, dict[str, list[Matrix]]] = {name: {layer: [] for layer in members} for name in names}
    for block in in_blocks(budget):
        for name, values in zip(names, block["change"].transpose("part", "step", "charge").to_numpy(), strict=True):
            sums[name] += values.sum(axis=0)
            size = np.abs(values)
            gross[name] += size.sum(axis=0)
            for layer, mine in members.items():
                layered[name][layer].append(size[:, mine].sum(axis=1))
    together = {
        n: {layer: np.concatenate([np.zeros(0), *rows]) for layer, rows in v.items()} for n, v in layered.items()
    }
    return Books(sums, gross, together)
