"""A record in a few numbers: the largest drift and error of each kind, the mean charge and drift of each family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from neuralmechanics.monitor.explaining.budget import layers
from neuralmechanics.monitor.reading.scale import filled_scale
from neuralmechanics.monitor.store.shards.compact import LAW_PREFIX
from neuralmechanics.monitor.store.shards.record import SCALAR_PREFIX
from neuralmechanics.monitor.store.shards.schema import BUDGET_PREFIX, SINCE
from neuralmechanics.symmetry import Symmetries

Row = np.ndarray[Any, np.dtype[np.float64]]


class Summary:
    """What is shown of a record, relative to where the monitor began.

        <kind>/drift        max |X - X_0| / S_0                 S_0 the size of the charge (see `filled_scale`)
        <kind>/error/<law>  max |predicted - X| / S_0           over the charges that the law speaks of; none, no entry
        <kind>/outside      max |outside| / S_0                 where something else than the optimiser moved a charge
        <layer>/norm        median |θ| over the scale-free groups of a layer
        <layer>/rotation    median angle of a step in radians, √(|d|²/n) since the record before, where a budget is kept
        <family>/charge     mean X
        <family>/drift      max |X - X_0| / S_0
        logged/<name>       what the loop logged

    A charge that is nan or infinite has an infinite error under every law, as in `Run.errors`. That a law does not
    speak is a gap in its curve.
    """

    def __init__(self, symmetries: Symmetries, charge: Row, scale: Row) -> None:
        self._start = np.array(charge)
        self._scale = filled_scale(scale, symmetries)
        kinds, families = np.array(symmetries.kinds, dtype=object), np.array(symmetries.family_names, dtype=object)
        self._kinds = {str(kind): kinds == kind for kind in dict.fromkeys(kinds)}
        self._families = {str(name): families == name for name in dict.fromkeys(families)}
        scale, owners = kinds == "scale", np.array(layers(symmetries), dtype=object)
        self._layers = {str(name): scale & (owners == name) for name in dict.fromkeys(owners[scale])}
        self._last = self._start

    def values(self, record: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, float]:
        """The numbers of one record, given as its arrays of one row."""
        charge = record["charge"][0]
        with np.errstate(invalid="ignore", over="ignore"):
            drift = np.abs(charge - self._start) / self._scale
        out: dict[str, float] = {}
        for kind, chosen in self._kinds.items():
            out[f"{kind}/drift"] = float(drift[chosen].max())
            out |= {f"{kind}/error/{law}": error for law, error in self._errors(record, charge, chosen)}
            if "outside" in record:
                out[f"{kind}/outside"] = float((np.abs(record["outside"][0]) / self._scale)[chosen].max())
        out |= self._turning(record, charge)
        for name, chosen in self._families.items():
            out[f"{name}/charge"] = float(charge[chosen].mean())
            out[f"{name}/drift"] = float(drift[chosen].max())
        for key in record:
            if key.startswith(SCALAR_PREFIX):
                out[f"logged/{key.removeprefix(SCALAR_PREFIX)}"] = float(record[key][0])
        return out

    def _turning(self, record: Mapping[str, np.ndarray[Any, Any]], charge: Row) -> dict[str, float]:
        before, self._last = self._last, np.array(charge)
        steps = int(record["step"][0]) - int(record[SINCE][0]) if SINCE in record else 0
        energy = record.get(f"{BUDGET_PREFIX}finite_step")
        out = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            for name, chosen in self._layers.items():
                out[f"{name}/norm"] = float(np.median(np.sqrt(np.maximum(charge[chosen], 0.0))))
                if energy is not None and steps > 0:
                    angle = np.sqrt(np.maximum(energy[0][chosen], 0.0) / steps / ((before + charge)[chosen] / 2))
                    out[f"{name}/rotation"] = float(np.median(angle))
        return out

    def _errors(
        self, record: Mapping[str, np.ndarray[Any, Any]], charge: Row, chosen: np.ndarray[Any, Any]
    ) -> Iterator[tuple[str, float]]:
        lost = ~np.isfinite(charge)
        for key in record:
            if not key.startswith(LAW_PREFIX):
                continue
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.abs(record[key][0] - charge) / self._scale
            known = error[chosen & ~np.isnan(record[key][0]) & ~lost]
            if (chosen & lost).any():
                yield key.removeprefix(LAW_PREFIX), float(np.inf)
            elif known.size:
                yield key.removeprefix(LAW_PREFIX), float(known.max())
