"""Measuring the drives of one step: one pass over the parameters, one update in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import fields
from functools import cached_property

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.laws import Drives
from neuralmechanics.optimizers import Update
from neuralmechanics.slices import widened
from neuralmechanics.symmetry import Symmetries

ALL_DRIVES = tuple(field.name for field in fields(Drives))
_DONE, _CLAIMED = "done", "claimed"


class _Wide:
    """An update in double precision: each of its tensors is widened once, when it is first asked for."""

    def __init__(self, update: Update) -> None:
        self._update = update
        self.setting = update.setting

    @cached_property
    def difference(self) -> Tensor:
        return widened(self._update.difference)

    @cached_property
    def before(self) -> Tensor:
        return widened(self._update.after) - self.difference

    @cached_property
    def gradient(self) -> Tensor | None:
        return None if self._update.gradient is None else widened(self._update.gradient)

    @cached_property
    def velocity(self) -> Tensor | None:
        return None if self._update.velocity is None else widened(self._update.velocity)


class DriveMeter:
    """Sums of pair(·,·) over parameters in float64, each on its parameter's device, gathered on one."""

    def __init__(self, symmetries: Symmetries, device: torch.device) -> None:
        self._symmetries = symmetries
        self._charges = len(symmetries.labels)
        self._device = device

    def measure(
        self, updates: Iterable[tuple[str, Update | None]], wanted: Collection[str]
    ) -> tuple[Drives, Tensor | None]:
        """The wanted drives of the step, zero where torch left a parameter alone, and its unclaimed part.

        That is the change of the charges that the optimiser's own formula does not account for: None where every
        update was read from the formula itself.
        """
        sums: dict[tuple[str, torch.device], Tensor] = {}
        unclaimed = False
        for name, update in updates:
            if update is None:
                continue
            wide = _Wide(update)
            for drive in wanted:
                self._add(sums, drive, name, wide)
            if update.claimed is not None:
                unclaimed = True
                twice, claimed = 2 * wide.before, widened(update.claimed)
                self._pair(sums, _DONE, name, wide.difference, twice + wide.difference)
                self._pair(sums, _CLAIMED, name, claimed, twice + claimed)
        apart = self._gather(sums, _DONE) - self._gather(sums, _CLAIMED) if unclaimed else None
        return Drives(**{drive: self._gather(sums, drive) for drive in wanted}), apart

    def pair(self, a: dict[str, Tensor], b: dict[str, Tensor]) -> Float64[Tensor, " charges"]:
        """pair(a, b) over all parameters, whatever devices they are on."""
        sums: dict[tuple[str, torch.device], Tensor] = {}
        for name in self._symmetries.parameters:
            self._pair(sums, "pair", name, a[name], b[name])
        return self._gather(sums, "pair")

    def _add(self, sums: dict[tuple[str, torch.device], Tensor], drive: str, name: str, wide: _Wide) -> None:
        if drive == "update_energy":
            self._pair(sums, drive, name, wide.difference, wide.difference)
        elif drive == "parameter_update":
            self._pair(sums, drive, name, wide.difference, wide.before)
        elif drive == "update_velocity" and wide.velocity is not None:
            self._pair(sums, drive, name, wide.difference, wide.velocity)
        elif drive == "residual" and wide.gradient is not None:
            self._pair(sums, drive, name, wide.gradient, wide.before)
        elif drive == "gradient_energy" and wide.gradient is not None:
            self._pair(sums, drive, name, wide.gradient, wide.gradient)
        elif drive == "velocity_gradient" and wide.gradient is not None and wide.velocity is not None:
            self._pair(sums, drive, name, wide.velocity, wide.gradient)
        elif drive == "velocity_energy" and wide.velocity is not None:
            self._pair(sums, drive, name, wide.velocity, wide.velocity)
        elif drive == "decay" and not wide.setting.without_decay:
            self._pair(sums, drive, name, wide.setting.weight_decay * wide.before, wide.before)

    def _pair(self, sums: dict[tuple[str, torch.device], Tensor], drive: str, name: str, a: Tensor, b: Tensor) -> None:
        key = (drive, a.device)
        if key not in sums:
            sums[key] = torch.zeros(self._charges, dtype=torch.float64, device=a.device)
        self._symmetries.accumulate_pair_(sums[key], name, a, b)

    def _gather(self, sums: dict[tuple[str, torch.device], Tensor], drive: str) -> Tensor:
        parts = [total.to(self._device, non_blocking=True) for (of, _), total in sums.items() if of == drive]
        if not parts:
            return torch.zeros(self._charges, dtype=torch.float64, device=self._device)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
