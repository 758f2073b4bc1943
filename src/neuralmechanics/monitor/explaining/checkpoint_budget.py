"""The budget of anybody's training, from checkpoints of its weights and the settings of its optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.laws.sparse_budget import sparse_budget
from neuralmechanics.monitor.explaining.budget import layers
from neuralmechanics.optimizers import Sgd
from neuralmechanics.symmetry import Symmetries

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["budget_from_checkpoints"]


def budget_from_checkpoints(
    symmetries: Symmetries,
    checkpoints: Mapping[int, Mapping[str, Tensor]],
    hyper: Sgd[float] | Callable[[int], Sgd[float]],
    *,
    adaptive: bool = False,
) -> xr.Dataset:
    """change[part, step, charge] and measured[step, charge] between checkpoints, with error[part, charge] of the sums.

    `checkpoints`: parameters by step, `hyper` the optimiser's numbers, at step k as k ↦ `Sgd` where they change.
    `adaptive`: another optimiser than SGD, with decoupled decay; `preconditioning` is then that and the finite step
    together. `error` is how far the sums move when every second checkpoint is left out. The symmetries are taken to
    hold: what breaks them counts as finite step. ValueError for fewer than two checkpoints.
    """
    import xarray as xr

    steps = sorted(checkpoints)
    if len(steps) < 2 or steps[0] < 0:
        raise ValueError(f"a budget needs checkpoints of at least two steps, 0 or later, got {steps}")
    charges = torch.stack([symmetries.charge({n: p.detach() for n, p in checkpoints[k].items()}) for k in steps])
    at = hyper if callable(hyper) else lambda step: hyper
    found = sparse_budget(steps, charges, at, symmetries.quadratic, follows_sgd=not adaptive)
    measured = charges.diff(dim=0).numpy()
    parts = {name: values.numpy() for name, values in found.parts.items()}
    rounding = measured - sum(parts.values())
    names: list[Any] = [*parts, "rounding"]
    labels = {"kind": symmetries.kinds, "family": symmetries.family_names, "label": symmetries.labels}
    error = np.stack([*(found.error[name].numpy() for name in parts), np.zeros(charges.shape[1])])
    return xr.Dataset(
        {
            "change": (("part", "step", "charge"), np.stack([*parts.values(), rounding])),
            "measured": (("step", "charge"), measured),
            "error": (("part", "charge"), error),
        },
        coords={
            "part": np.array(names, dtype=object),
            "step": np.array(steps[1:]),
            "layer": ("charge", np.array(layers(symmetries), dtype=object)),
            **{name: ("charge", np.array(texts, dtype=object)) for name, texts in labels.items()},
        },
    )
