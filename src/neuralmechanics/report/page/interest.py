"""Which family a page opens on: one that the gravest finding is about, else the one that moved most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuralmechanics.experiments.config import SUM
from neuralmechanics.report.page.charts.families import Place

if TYPE_CHECKING:
    import xarray as xr

_SHOWS = ("scale", "rescale", "linear", "translation")


def most_interesting(data: xr.Dataset, places: Sequence[Place], found: Sequence[tuple[str, ...]]) -> int:
    """The position of a family among `places`; `found` are the layers or parameters of each finding, the gravest first.

    Among the families of a finding, or of all layers, norms come before differences and sums, and of those the one
    whose charges moved most for their size.
    """
    moved = np.array([_motion(data, place) for place in places])
    rank = np.array([_SHOWS.index(p.kind) if p.kind in _SHOWS else len(_SHOWS) for p in places])
    # A sum over a layer hides what its charges do: it comes after everything else.
    rank = rank + 10 * np.array([place.family.endswith(SUM) for place in places])
    order = [int(k) for k in np.lexsort((-moved, rank))]
    for layers in found:
        modules = {*layers, *(name.rpartition(".")[0] for name in layers)}
        about = [k for k in order if places[k].layer in modules or places[k].family in layers]
        if about:
            return about[0]
    return order[0] if order else 0


def _motion(data: xr.Dataset, place: Place) -> float:
    """How far the charges of a family came, relative to their sizes, on average; infinite where one is lost."""
    mine = np.flatnonzero(data["family"].values.astype(str) == place.family)
    charge = data["charge"].transpose("step", "charge").values[:, mine]
    away = charge - charge[:1]
    if not np.isfinite(away).all():
        return float("inf")
    return float(np.sqrt(np.mean((np.abs(away).max(axis=0) / data["scale"].values[mine]) ** 2)))
