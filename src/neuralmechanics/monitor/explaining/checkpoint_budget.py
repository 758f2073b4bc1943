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
    momentum: Mapping[int, Mapping[str, Tensor]] | None = None,
) -> xr.Dataset:
    """change[part, step, charge] and measured[step, charge] between checkpoints, with error[part, charge] of the sums.

    `checkpoints`: parameters by step, `hyper` the optimiser's numbers, at step k as k ↦ `Sgd` where they change.
    `adaptive`: another optimiser than SGD, with decoupled decay; `preconditioning` is then that and the finite step
    together. `momentum`: SGD's buffers by name at the same steps (the state of the optimiser has them); with them the
    heavy ball's parts are those of every interval, without them of the whole alone. Nesterov's finite step and memory
    are told apart by the product of a step with its buffer, of which checkpoints say nothing: `error` has it.
    It is how far the sums move when every second checkpoint is left out. The symmetries are taken to hold: what breaks
    them counts as finite step. ValueError for fewer than two checkpoints, or a buffer that is missing.
    """
    import xarray as xr

    steps = sorted(checkpoints)
    if len(steps) < 2 or steps[0] < 0:
        raise ValueError(f"a budget needs checkpoints of at least two steps, 0 or later, got {steps}")
    charges = torch.stack([symmetries.charge({n: p.detach() for n, p in checkpoints[k].items()}) for k in steps])
    at = hyper if callable(hyper) else lambda step: hyper
    companions = None if momentum is None or adaptive else _companions(symmetries, checkpoints, momentum, steps)
    found = sparse_budget(steps, charges, at, symmetries.quadratic, follows_sgd=not adaptive, companions=companions)
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


def _companions(
    symmetries: Symmetries,
    checkpoints: Mapping[int, Mapping[str, Tensor]],
    momentum: Mapping[int, Mapping[str, Tensor]],
    steps: list[int],
) -> Tensor:
    """⟨ξ,v⟩ at each checkpoint; 0 before the first step, where there are no buffers."""
    rows = []
    for step in steps:
        held = {name: checkpoints[step][name].detach() for name in symmetries.parameters}
        buffers = momentum.get(step, {})
        if step and (missing := [name for name in held if name not in buffers]):
            raise ValueError(f"there is no momentum buffer of {missing[0]} at step {step}; give all of them, or none")
        none = {name: torch.zeros_like(p) for name, p in held.items()}
        rows.append(symmetries.residual({name: buffers.get(name, none[name]).detach() for name in held}, held))
    return torch.stack(rows)
