"""Watching an optimiser step: before it, what cannot be known later; after it, the updates one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from neuralmechanics.optimizers.behaviour import SgdTrial, may_follow_sgd
from neuralmechanics.optimizers.hyperparameters.groups import Groups
from neuralmechanics.optimizers.hyperparameters.setting import Setting, follows_sgd
from neuralmechanics.optimizers.marks import mark, state_marks, written
from neuralmechanics.optimizers.nesterov import NesterovHabit
from neuralmechanics.optimizers.updates.adaptive import adaptive_formula, steps_made
from neuralmechanics.optimizers.updates.adaptive_update import adaptive_update, can_be_told, intended_update
from neuralmechanics.optimizers.updates.repeated import Repeated, copy_of
from neuralmechanics.optimizers.updates.update import Update, dense, held, held_velocity, is_addend, momentum, solvable

__all__ = ["StepWatch"]

_BUFFER, _NOTHING = "momentum_buffer", dict[str, Any]()
# Below float32 the stored step differs from -ηv in its leading digits, so there only a snapshot tells d.
_TRUSTED = (torch.float32, torch.float64)


class StepWatch:
    """Reads, for named parameters, what each optimiser step did. It never writes to the optimiser.

    Everything but the settings and "first step" is read after the step: closures, clipping and other hooks between
    the backward pass and the step are then part of what is read. Parameters are copied before a step only where the
    update does not follow from what torch leaves behind: `exact_update`, an optimiser other than SGD and Adam's kin
    (see `AdaptiveFormula`), parameters below float32, fused steps under a gradient scaler, ηλ near 1.
    """

    def __init__(self, optimizer: Optimizer, params: Mapping[str, Tensor], *, exact_update: bool = False) -> None:
        self.known = may_follow_sgd(optimizer)
        """whether it is read as SGD: torch's own, or one whose steps were SGD's as far as they were tried"""
        self.unlike = ""  # why it is not, where its steps were tried
        self._trial = SgdTrial() if self.known and not follows_sgd(optimizer) else None
        self._tried = self._scaled = self._stepping = self._rests = False
        self.disturbed = False  # whether a parameter was written, as torch counts it, between the last step and this
        self._formula = adaptive_formula(optimizer)
        self._made: dict[str, float | None] = {}
        self._optimizer = optimizer
        self._params, self._exact = dict(params), exact_update
        self._settings: dict[str, Setting] = {}
        self._first: set[str] = set()
        self._copies: dict[str, Tensor] = {}
        self._idle: set[str] = set()
        self._habit, self._absorbed = NesterovHabit(), set[int]()
        self._seen: dict[str, tuple[int, ...]] = {}
        self._groups = Groups(optimizer, self._params)
        self._told_from: list[object] = []
        self._moments: dict[str, tuple[int, int]] = {}
        self._buffers: dict[str, Tensor] = {}
        self._repeated = Repeated()
        self.rewritten: list[str] = []
        """parameters whose momentum was written by something else since the last step, known before a step"""
        self._versions: dict[str, int] = {}
        self.shared: set[str] = set()
        """parameters that a step moves more than once, which are copied"""

    def doubt(self) -> None:
        """Ask anew what it moves more than once and whether it is SGD by its behaviour: something may have changed."""
        self.shared = self._groups.shared()
        if self._trial is not None:
            self._trial.doubt()

    def before_step(self, *, copy: Iterable[str] = ()) -> None:
        """To be called when a step begins; `copy` names further parameters to be copied for an exact update."""
        wanted, self._stepping = set(copy), True
        settings = self._groups.by_name(sgd=self.known)
        self._absorbed, self.rewritten, self.disturbed = set(), [], False
        if self.known and isinstance(self._optimizer, SGD):
            self._absorbed = {n for n, group in enumerate(self._optimizer.param_groups) if self._habit.applies(group)}
        self._scaled = getattr(self._optimizer, "found_inf", None) is not None
        self._tried = self._trial is not None and self._trial.begin(settings, self.coming)
        for name, parameter in self._params.items():
            if (setting := settings.get(name)) is None:
                self._settings.pop(name, None)
                continue
            self._settings[name], version = setting, parameter._version
            self._versions[name], seen = version, self._seen.get(name)
            self.disturbed |= seen is not None and seen[0] != version
            self._note_buffer(name, setting)
            if self._formula is not None:
                self._made[name] = steps_made(self._state(parameter))
            if self._tried and self._trial is not None:
                self._trial.note(name, parameter, self._buffer(parameter))
            if name in wanted or self._tried or self._scaled or not self._computable(name, parameter, setting):
                self._copies[name] = copy_of(parameter, self._copies.get(name))
            else:
                self._copies.pop(name, None)

    def reread(self) -> None:
        """After the step: take the settings as they stand now; what ran after `before_step` may have changed them."""
        now = self._groups.by_name(sgd=self.known)
        self._settings = {name: now.get(name, setting) for name, setting in self._settings.items()}

    def judge(self) -> None:
        """After the step, before all else is read of it: whether one that was tried was SGD's; else it is none."""
        if not self._tried or (trial := self._trial) is None:
            return
        faults = (
            trial.fault(name, p, self._buffer(p), setting, absorbed=self._groups.of(p) in self._absorbed)
            for name, setting in self._settings.items()
            for p in [self._params[name]]
        )
        self.unlike = trial.judged(faults)
        self._rests, self._first = trial.from_rest, set() if trial.from_rest else self._first
        if self.unlike:
            self.known, self._trial = False, None

    def updates(self) -> Iterator[tuple[str, Update | None]]:
        """After the step: every parameter with its update, or None where torch left it alone."""
        for name, parameter in self._params.items():
            self._seen[name] = mark(parameter)
            yield name, None if self._skipped(name) else self._update(name, parameter, self._settings[name])

    def finish(self) -> None:
        """All of the step was seen."""
        self._repeated.release()
        self._stepping, self._told_from = False, self._state_told()
        self._moments |= {name: written(buffer) for name, buffer in self._buffers.items()}
        self._buffers = {}

    def rates(self) -> list[float | Tensor]:
        """η of every group now; numbers on an accelerator as they stand."""
        return [setting.learning_rate for setting in self._groups.settings(sgd=self.known)]

    @property
    def optimizer_name(self) -> str:
        """The class of the optimiser."""
        return type(self._optimizer).__name__

    @property
    def swapped(self) -> bool:
        """Whether the optimiser says that its parameters hold averages now, not what it trains."""
        return any(group.get("train_mode") is False for group in self._optimizer.param_groups)

    @property
    def holding(self) -> list[str]:
        """The parameters that the optimiser held when its step began."""
        return list(self._settings)

    def velocities(self) -> dict[str, Tensor]:
        """The momentum buffers that are there, zero for the others; empty when there is none at all."""
        found = {name: self._buffer(parameter) for name, parameter in self._params.items()} if self.known else {}
        if all(buffer is None for buffer in found.values()):
            return {}
        return {name: momentum(buffer, self._params[name]) for name, buffer in found.items()}

    def owned(self) -> list[str]:
        """The parameters that the optimiser holds now."""
        return list(self._groups.by_name(sgd=self.known))

    def settings(self) -> Mapping[str, Setting]:
        """The setting of every parameter that the optimiser holds now."""
        return self._groups.by_name(sgd=self.known)

    def coming(self, name: str, setting: Setting) -> bool:
        """Before a step that a parameter enters with this setting: whether it would be torch's first."""
        return self.known and setting.has_momentum and not self._rests and self._moment(name) is None

    def role(self, name: str) -> tuple[Setting | None, bool]:
        """After the step: the setting that moved a parameter, None where torch left it alone; torch's first step."""
        return (None, False) if self._skipped(name) else (self._settings[name], name in self._first)

    @property
    def idle_buffers(self) -> bool:
        """Whether a parameter moved without momentum past a buffer that torch keeps for when momentum returns."""
        return bool(self._idle)

    @property
    def scaled(self) -> bool:
        """Whether a gradient scaler works inside the step and may have skipped it unseen."""
        return self._scaled

    @property
    def interrupted(self) -> bool:
        """Whether a step began that was not seen to end: an error left it, or it is under way."""
        return self._stepping

    @property
    def told(self) -> bool:
        """Whether what the step does is known: SGD's, or that of Adam and its kin. Others may do what they like."""
        return self.known or self._formula is not None

    @property
    def copies(self) -> bool:
        """Whether every update is the difference of stored parameters."""
        return not self.told or self._exact or all(p.dtype not in _TRUSTED for p in self._params.values())

    def stale(self, name: str) -> bool:
        """Whether a frozen parameter still holds a gradient, which is then not that of the loss."""
        parameter = self._params[name]
        return not parameter.requires_grad and parameter.grad is not None

    def untouched(self) -> bool:
        """Whether all that `updates` reads is still that of the last step, so that it may be read again."""
        if self._told_from != self._state_told() or any(self._moment(n) != m for n, m in self._moments.items()):
            return False
        return bool(self._seen) and all(self._seen[name] == mark(p) for name, p in self._params.items())

    def _state_told(self) -> list[object]:
        states = (self._state(self._params[name]) for name in self._settings)
        return [] if self._formula is None else state_marks(self._optimizer, states)

    def _update(self, name: str, parameter: Tensor, setting: Setting) -> Update:
        if self._formula is not None or name in self._copies or self._absorbed:
            return self._told(name, parameter, setting)
        buffer = self._buffer(parameter) if self.known else None
        if buffer is not None:
            self._buffers[name] = buffer
        again = self._repeated.again(name, parameter, buffer, setting, first=name in self._first)
        return again or self._repeated.kept(name, parameter, buffer, self._told(name, parameter, setting))

    def _told(self, name: str, parameter: Tensor, setting: Setting) -> Update:
        after = dense(parameter.detach())
        slope = parameter.grad
        left = None if slope is None else held(slope.detach() if slope.requires_grad else slope, parameter)
        copied = self._copies.get(name)
        if copied is None and self._formula is not None:
            return adaptive_update(
                self._formula, self._groups.group(parameter), self._state(parameter), setting, parameter, left
            )
        if self._formula is not None and copied is not None and parameter.dtype not in _TRUSTED and not self._exact:
            group, made = self._groups.group(parameter), self._made.get(name, 0.0)
            if told := intended_update(self._formula, group, self._state(parameter), setting, parameter, copied, made):
                return told
        buffer = self._buffer(parameter) if self.known else None
        velocity = None if buffer is None else held_velocity(name, buffer, parameter)
        if buffer is not None:
            self._buffers[name] = buffer
        used = velocity if setting.has_momentum else None
        by_velocity = used is not None and not setting.nesterov
        addend = is_addend(slope)
        formulated = by_velocity or not addend  # d by the formula, from what is here
        if copied is None and not by_velocity and (left is None or addend):
            why = "lay in addends, one a process," if addend else "was gone"
            raise RuntimeError(
                f"the gradient of {name!r} {why} when the step ended, so its update is unknown; set gradients to "
                "None after optimizer.step() has returned, or use exact_update=True"
            )
        return Update(
            after,
            setting,
            left,
            velocity,
            first_step=name in self._first,
            copied=copied,
            absorbed=self._groups.of(parameter) in self._absorbed and left is not None and used is not None,
            claims=copied is not None and self.known and not self._scaled and formulated and name not in self.shared,
            addend=addend,
            lost=left is None and parameter._version != self._versions[name],
        )

    def _skipped(self, name: str) -> bool:
        if name not in self._settings:
            return True
        parameter = self._params[name]
        if self._formula is not None and name not in self._copies:
            return self._made[name] == steps_made(self._state(parameter))
        # Torch skips a parameter without a gradient; a closure may have set it to None only afterwards.
        return self.known and parameter.grad is None and parameter._version == self._versions[name]

    def _computable(self, name: str, parameter: Tensor, setting: Setting) -> bool:
        if self._exact or parameter.dtype not in _TRUSTED or name in self.shared:
            return False
        if self._formula is not None:
            group = self._groups.group(parameter)
            return self._made[name] is not None and can_be_told(self._formula, group, setting, parameter)
        if (not setting.has_momentum or setting.nesterov) and is_addend(parameter.grad):
            return False  # the update is computed from a gradient that no process holds
        return self.known and solvable(setting)

    def _note_buffer(self, name: str, setting: Setting) -> None:
        """Torch's first step is the one that finds no buffer; without momentum a buffer lies idle."""
        buffer = self._buffer(self._params[name]) if self.known else None
        buffered = buffer is not None
        if buffer is not None and (known := self._moments.get(name)) is not None and known != written(buffer):
            self.rewritten.append(name)
        first = self.known and setting.has_momentum and not self._rests and not buffered
        (self._first.add if first else self._first.discard)(name)
        (self._idle.add if buffered and not setting.has_momentum else self._idle.discard)(name)

    def _moment(self, name: str) -> tuple[int, int] | None:
        """Which tensor the momentum is and how often it was written; None where there is none."""
        return written(buffer) if self.known and (buffer := self._buffer(self._params[name])) is not None else None

    def _buffer(self, parameter: Tensor) -> Tensor | None:
        buffer = self._state(parameter).get(_BUFFER)
        return buffer if isinstance(buffer, Tensor) else None

    def _state(self, parameter: Tensor) -> Mapping[str, Any]:
        # .get, because the state is a defaultdict and indexing would write into the optimiser.
        return self._optimizer.state.get(parameter, _NOTHING)  # type: ignore[no-any-return]
