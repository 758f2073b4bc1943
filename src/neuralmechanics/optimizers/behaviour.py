"""SGD by its behaviour: an optimiser with SGD's settings is followed as SGD if its first steps are SGD's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from neuralmechanics.optimizers.hyperparameters.setting import Setting, follows_sgd
from neuralmechanics.optimizers.updates.update import dense, held, promoted, sgd_step

__all__ = ["SgdTrial", "may_follow_sgd"]

_NEEDED = {"lr", "momentum", "weight_decay"}
# Settings of optimisers that precondition, sign or orthogonalise.
_FOREIGN = {"betas", "eps", "alpha", "rho", "ns_steps", "ns_coefficients", "lambd", "etas"}
# Steps of one mode (with momentum or without, Nesterov, dampened, decaying) that are tried.
_STEPS = 3
# Roundings of a step, of its sum and of its stored result, in units of the largest number that took part.
_ROUNDINGS = 8


def may_follow_sgd(optimizer: Optimizer) -> bool:
    """Whether the update is that of `torch.optim.SGD`, or its settings are and its steps can be tried.

    >>> may_follow_sgd(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    True
    >>> may_follow_sgd(torch.optim.RMSprop([torch.zeros(1)], lr=0.1))
    False
    """
    if follows_sgd(optimizer):
        return True
    return all(group.keys() >= _NEEDED and not _FOREIGN & group.keys() for group in optimizer.param_groups)


@dataclass(frozen=True, eq=False)
class _Before:
    """A parameter, its gradient and its momentum when a step began."""

    parameter: Tensor
    gradient: Tensor | None
    velocity: Tensor | None


class SgdTrial:
    """Compares the first steps of every mode with v ← βv + a(g + λθ), θ ← θ - ηv (Nesterov: θ - η(g + λθ + βv)).

    Both are looked at, parameter and momentum, and the gradient, which has to lie there as it was: what is read from
    these later is then what happened. Keeps copies of parameters during the steps that are tried alone.
    """

    from_rest: bool = False
    """whether its first momentum is (1-α)G, as after v = 0, where torch's is G (as the paper's own SGD has it)"""

    def __init__(self) -> None:
        self._passed: dict[tuple[bool, ...], int] = {}
        self._told = False
        self._doubts = 0
        self._before: dict[str, _Before] = {}
        self._modes: set[tuple[bool, ...]] = set()

    def doubt(self) -> None:
        """Something moved the parameters that is not known: perhaps the optimiser, which is then tried again.

        At the first such time, the second, the fourth, and so on: where it is the loop that writes, trying is in vain.
        """
        self._doubts += 1
        if self._doubts & (self._doubts - 1) == 0:
            self._passed.clear()

    def begin(self, settings: Mapping[str, Setting], first: Callable[[str, Setting], bool]) -> bool:
        """Whether the step that begins has to be tried; `first` tells which parameters have no momentum yet."""
        self._before = {}
        modes = {(*_mode(setting), first(name, setting)) for name, setting in settings.items()}
        self._modes = {mode for mode in modes if self._passed.get(mode, 0) < _STEPS}
        return bool(self._modes)

    def note(self, name: str, parameter: Tensor, buffer: Tensor | None) -> None:
        """Copy what a step begins with."""
        gradient = None if parameter.grad is None else held(parameter.grad.detach(), parameter).clone()
        velocity = None if buffer is None else held(buffer.detach(), parameter).clone()
        self._before[name] = _Before(dense(parameter.detach()).clone(), gradient, velocity)

    def fault(self, name: str, parameter: Tensor, buffer: Tensor | None, setting: Setting, *, absorbed: bool) -> str:
        """What of one parameter's step was not SGD's; empty where all was. `absorbed`: torch's own adds βv into its
        gradient."""
        before, after = self._before[name], dense(parameter.detach())
        if before.gradient is None:
            # To the bit: torch leaves such a parameter alone, its decay and its momentum included.
            return "" if torch.equal(before.parameter, after) else f"its step moves {name!r}, which got no gradient"
        left = parameter.grad
        if left is None:
            return f"its step takes away the gradient of {name!r}; zero gradients outside of step()"
        slope = promoted(before.gradient) * (-1.0 if setting.maximize else 1.0)
        velocity = None if buffer is None else promoted(held(buffer.detach(), parameter))
        if not setting.has_momentum:
            moved, lies = sgd_step(promoted(before.parameter), slope, None, setting), promoted(before.gradient)
        else:
            if velocity is None or not self._kept(velocity, before, slope, setting):
                return f"the momentum that its step keeps of {name!r} is not SGD's" + _changed(before, left)
            moved = sgd_step(promoted(before.parameter), slope, velocity, setting)
            lies = promoted(before.gradient) + setting.momentum * velocity if absorbed else promoted(before.gradient)
        assert moved is not None
        if not _close(promoted(held(left.detach(), parameter)), lies, parameter.dtype):
            return f"its step does not leave the gradient of {name!r} as it was" + _changed(before, left)
        if not _close(promoted(after), promoted(before.parameter) + moved, parameter.dtype):
            return f"its step of {name!r} is not SGD's"
        return ""

    def _kept(self, velocity: Tensor, before: _Before, slope: Tensor, setting: Setting) -> bool:
        """Whether the momentum is SGD's; of the first dampened one, which of the two that there are."""
        expected = _velocity(before, slope, setting, from_rest=self.from_rest)
        if _close(velocity, expected, before.parameter.dtype):
            if before.velocity is None and setting.dampening != 0 and bool(expected.any()):
                self._told = True  # the first that tells the two apart decides for all
            return True
        rested = _velocity(before, slope, setting, from_rest=True)
        self.from_rest = not self._told and _close(velocity, rested, before.parameter.dtype)
        return self.from_rest

    def judged(self, faults: Iterable[str]) -> str:
        """The first fault of a step; empty where every parameter has passed it, which is then counted."""
        first = next(filter(None, faults), "")
        if not first:
            self._before = {}
            for mode in self._modes:
                self._passed[mode] = self._passed.get(mode, 0) + 1
        return first


def _changed(before: _Before, left: Tensor) -> str:
    """What else is known: the gradient was zeroed inside the step, or written otherwise."""
    if before.gradient is None or torch.equal(dense(left.detach()), dense(before.gradient)):
        return ""
    zeroed = not bool(left.detach().any())
    return "; zero gradients outside of step()" if zeroed else "; clip or project gradients outside of step()"


def _velocity(before: _Before, slope: Tensor, setting: Setting, *, from_rest: bool) -> Tensor:
    pulled = slope + setting.weight_decay * promoted(before.parameter)
    # The step that finds no buffer: torch takes v = G, undampened.
    if before.velocity is None:
        return (1.0 - setting.dampening) * pulled if from_rest else pulled
    return setting.momentum * promoted(before.velocity) + (1.0 - setting.dampening) * pulled


def _close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Equal to the rounding of numbers as large as the largest; nan where the other is nan."""
    # Where terms cancel, an entry has the rounding of its terms, so that no bound relative to the entry holds.
    largest = float(expected.abs().nan_to_num(0.0).max()) if expected.numel() else 0.0
    bound = _ROUNDINGS * torch.finfo(dtype).eps * largest
    return torch.allclose(found, expected, rtol=0.0, atol=bound, equal_nan=True)


def _mode(setting: Setting) -> tuple[bool, ...]:
    numbers: tuple[Any, ...] = (setting.momentum, setting.dampening, setting.weight_decay)
    return (*(isinstance(n, Tensor) or n != 0 for n in numbers), bool(setting.nesterov), setting.maximize)
