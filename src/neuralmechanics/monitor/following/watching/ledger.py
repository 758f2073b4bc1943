"""The books of the charges: what the optimiser did to each since it was last measured, and what it did not do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

# Roundings of one element in one step: of the stored parameter, of the update, of θ_k read back, and one to spare.
_ROUNDINGS = 4
# A sum in double precision over up to 1e9 elements, added pairwise by torch.
_SUM = 1e-13
# Steps whose largest changes are looked at together.
_TOGETHER = 64
_FLOAT32 = float(torch.finfo(torch.float32).eps)


class Ledger:
    """X_now - X_then - Σ (2⟨θ,d⟩ + |d|²): what moved a charge outside the optimiser, zero to rounding otherwise.

    Rounding theory: an element stored with machine precision u errs by u|θ| a step, so a charge of size S = Σ|s|θ²
    errs by at most 2uS for each rounding, and sums of steps add up. What is beyond was written by something else: a
    projection in a hook, an average, another optimiser. Two tallies are kept where updates are measured: of what the
    step did and of what the optimiser's formula says it did, so that writes inside the step are seen as well.
    """

    def __init__(self, precision: Float64[Tensor, " charges"], sizes: Callable[[], Tensor]) -> None:
        self._precision = precision
        self._sizes = sizes
        self._size = torch.zeros(len(precision), dtype=torch.float64, device=precision.device)
        # Beside sizes in double precision a float of 32 bits has digits and range enough.
        self._gross = torch.zeros(len(precision), dtype=torch.float32, device=precision.device)
        self._claimed: Tensor | None = None
        self._steps = 0
        self._exact = True

    def round(self, precision: Float64[Tensor, " charges"]) -> None:
        """Allow for other roundings: parameters are stored with another precision than before."""
        self._precision = precision

    def open(self, size: Float64[Tensor, " charges"]) -> None:
        """Begin at a measured charge of a known size."""
        self._size = size
        self._clear()

    def add(
        self,
        known: Float64[Tensor, " charges"],
        done: Float64[Tensor, " charges"],
        claimed: Float64[Tensor, " charges"] | None,
        *,
        exact: bool,
    ) -> None:
        """The change of one step, and what the optimiser's formula says of it where that was read apart.

        `known`: the charge that was measured last with all changes since, this one included; it is added up elsewhere.
        `exact`: every update is the difference of stored parameters, so that no rounding of theirs is left.
        """
        if claimed is not None and self._claimed is None:
            self._claimed = known - done
        if self._claimed is not None:
            self._claimed.add_(done if claimed is None else claimed)
        self._gross.add_(done.abs())
        self._exact = self._exact and exact
        self._steps += 1

    @property
    def gross(self) -> Float32[Tensor, " charges"]:
        """Σ|ΔX| of the steps since the charges were last measured."""
        return self._gross

    def settle(
        self,
        charge: Float64[Tensor, " charges"],
        known: Float64[Tensor, " charges"],
        total: Callable[..., tuple[Tensor, ...]],
    ) -> tuple[Float64[Tensor, " charges"], Bool[Tensor, " charges"]]:
        """What moved each charge outside since it was last measured, and where that is beyond rounding.

        `known` as in `add`. Reads values: for records alone. A charge that is not a number is not judged; one that is
        a number after steps that were none was moved, by infinity as it is told. `total` adds up what several processes
        tallied, each its share.
        """
        claimed = known if self._claimed is None else self._claimed
        known, claimed, self._gross = total(known, claimed, self._gross)
        outside = charge - claimed
        between = outside if self._claimed is None else charge - known
        alarm = self._beyond(outside, between)
        if bool(alarm.any()):  # sizes cost a pass over the parameters: asked for when the last known ones object
            self._size = torch.maximum(self._size, self._sizes())
            alarm = self._beyond(outside, between)
            self._size = self._sizes()
        if not bool(outside.sum().isfinite()):  # steps that were no numbers, set back by something else
            unknown = charge.isfinite() & ~claimed.isfinite()
            alarm, outside = alarm | unknown, outside.masked_fill(unknown, torch.inf)
        self._clear()
        return outside, alarm

    def _beyond(self, outside: Tensor, between: Tensor) -> Tensor:
        rounding = _ROUNDINGS * self._precision
        # The roundings of the parameters' own size nearly always do: the other terms only add to them.
        if not self._exact and not bool(torch.gt(outside.abs(), rounding * self._size * self._steps).any()):
            return torch.zeros_like(outside, dtype=torch.bool)
        sums = _SUM * (1 + self._steps) * (self._size + self._gross)
        alarm = outside.abs() > rounding * (self._steps * self._size + self._gross) + sums
        if not self._exact:
            return alarm
        # Writes that were taken back (averages swapped in and out, a step aside as in SAM) leave a rounding of float32.
        aside = _ROUNDINGS * self._precision.clamp(max=_FLOAT32)
        return alarm | (between.abs() > aside * (self._steps * self._size + self._gross) + sums)

    def _clear(self) -> None:
        self._gross = torch.zeros_like(self._gross, dtype=torch.float32)
        self._claimed = None
        self._steps, self._exact = 0, True


class SoundSteps:
    """How many steps there were until what changed was no number any more, counted where the tallies lie.

    The largest change of each step is noted in one operation, and many of them are looked at together.
    """

    def __init__(self, device: torch.device) -> None:
        self._largest = torch.zeros(_TOGETHER, dtype=torch.float32, device=device)
        self._places = self._largest.unbind()
        self._noted = 0
        self._counted = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, gross: Float32[Tensor, " charges"]) -> None:
        """One step more, with Σ|ΔX| after it, which stays nan or infinite once it is so."""
        torch.amax(gross, 0, out=self._places[self._noted])
        self._noted += 1
        if self._noted == _TOGETHER:
            self._count()

    def total(self) -> Int64[Tensor, ""]:
        """The steps whose Σ|ΔX| was finite."""
        self._count()
        return self._counted

    def _count(self) -> None:
        self._counted.add_((self._largest[: self._noted] < torch.inf).sum())
        self._noted = 0
