"""⟨θ,v⟩ of the momentum that optimisers already hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from neuralmechanics.monitor.following.measuring.drives import DriveMeter
from neuralmechanics.optimizers import StepWatch


def companion(
    meter: DriveMeter,
    watches: Iterable[StepWatch],
    values: Mapping[str, Tensor],
    rates: Mapping[str, float] | None = None,
) -> Tensor | None:
    """This process's share of ⟨θ,v⟩ (translations ⟨v,1⟩) of buffers in use, float64 [charges]; None without any.

    `rates`: numbers that the buffers are multiplied by, 0 where there is none.
    """
    velocities: dict[str, Tensor] = {}
    for watch in watches:
        owned = set(watch.owned())
        velocities |= {name: v for name, v in watch.velocities().items() if name in owned}
    if not velocities:
        return None
    if rates is not None:
        velocities = {name: v * rates.get(name, 0.0) for name, v in velocities.items()}
    everywhere = {name: velocities.get(name, torch.zeros_like(value)) for name, value in values.items()}
    return meter.pair(everywhere, values)
