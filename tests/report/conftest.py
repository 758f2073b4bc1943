"""A stand-in for a recorded run: a small heavy-ball training in closed form, laid out as the monitor lays runs out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuralmechanics.monitor.warning import Note

LAWS = ("exact", "identity", "modified_flow", "modified_loss", "first_order", "gradient_flow")
ERROR_OF_LAW = dict(zip(LAWS, (3e-6, 0.0, 2e-5, 4e-3, 2e-2, 1e-1), strict=True))


@dataclass(frozen=True)
class StandInFamily:
    kind: str
    name: str
    size: int
    charges: int
    exact: bool = True
    broken_by: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True)
class StandInRun:
    data: xr.Dataset
    symmetries: tuple[StandInFamily, ...]
    config: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[Note, ...] = field(default=(), kw_only=True)

    def errors(self, by: str = "family") -> pd.DataFrame:
        if by == "kind":
            if not self.symmetries:
                return pd.DataFrame()
            grouped = self.errors().groupby(["kind", "law"], sort=False)
            sums = {"charges": "sum", "max_error": "max", "rms_error": "max"}
            return grouped.agg(sums).reset_index()
        rows = []
        relative = np.abs(self.data["predicted"] - self.data["charge"]) / self.data["scale"]
        for family in self.symmetries:
            mine = np.flatnonzero(self.data["family"].values == family.name)
            for law in LAWS:
                part = relative.sel(law=law).values[:, mine]
                rows.append(
                    {
                        "family": family.name,
                        "kind": family.kind,
                        "law": law,
                        "charges": len(mine),
                        "max_error": part.max(),
                        "rms_error": np.sqrt((part**2).mean()),
                    }
                )
        return pd.DataFrame(rows, columns=["family", "kind", "law", "charges", "max_error", "rms_error"])


def make_run(families: tuple[StandInFamily, ...] | None = None, records: int = 60, weights: int = 80) -> StandInRun:
    """Charges that decay and bend, laws that leave them at their own speed, raw weights that jump about."""
    if families is None:
        families = (
            StandInFamily("scale", "scale of features.0", 16, 16, False, ("eps=1e-05 of features.1",)),
            StandInFamily("rescale", "rescale from features.1 to classifier", 16, 16),
            StandInFamily("translation", "columns of classifier", 40, 40),
        )
    random = np.random.default_rng(0)
    step = np.arange(records) * 10
    total = sum(family.charges for family in families)
    initial = random.uniform(0.5, 3.0, total) * np.where(random.random(total) < 0.2, -1, 1)
    time = step[:, None] / step[-1]
    charge = initial * (np.exp(-time) + 0.3 * random.random(total) * time**2)
    predicted = np.stack([charge + ERROR_OF_LAW[law] * time * np.abs(initial) for law in LAWS])
    data = xr.Dataset(
        {
            "charge": (("step", "charge"), charge),
            "predicted": (("law", "step", "charge"), predicted),
            "residual": (("step", "charge"), 1e-8 * random.standard_normal(charge.shape)),
            "scale": ("charge", np.abs(initial)),
            "learning_rate": (("step", "charge"), np.tile(np.where(step < step[-1] / 2, 0.1, 0.01), (total, 1)).T),
            "loss": ("step", 2.3 * np.exp(-time[:, 0] * 4)),
            "parameter": (("step", "weight"), 0.1 * random.standard_normal((records, weights)).cumsum(axis=0)),
        },
        coords={
            "step": step,
            "law": list(LAWS),
            "kind": ("charge", [f.kind for f in families for _ in range(f.charges)]),
            "family": ("charge", [f.name for f in families for _ in range(f.charges)]),
            "label": ("charge", [f"{f.name}[{k}]" for f in families for k in range(f.charges)]),
        },
    )
    config = {"model": "convnet-bn", "optimizer": {"learning_rate": 0.1, "momentum": 0.9}, "schedule": [30, 60]}
    return StandInRun(data, families, config)


@pytest.fixture(scope="session")
def run() -> StandInRun:
    return make_run()
