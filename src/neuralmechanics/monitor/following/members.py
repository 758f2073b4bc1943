"""Which parameters make up which charge, and so which hyperparameters a charge has."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.laws import Hyperparameters, decay_strength
from neuralmechanics.optimizers import Setting, Sgd
from neuralmechanics.symmetry import Symmetries

_SETTINGS = tuple(field.name for field in fields(Sgd))
# Patterns of settings over parameters that are kept: a training has a few, random skipping has no end of them.
_REMEMBERED = 64


@dataclass(frozen=True)
class Role:
    """What a step did with one parameter: its setting (None: not touched) and whether torch's buffer began.

    `stale`: the parameter is frozen and still holds a gradient, which is then no part of the loss's.
    """

    setting: Setting | None
    first_step: bool = False
    stale: bool = False


@dataclass(frozen=True, eq=False)
class ChargeSettings:
    """The hyperparameters of every charge at one step.

    `uneven` marks charges whose parameters differ in them. `mixed`: there are charges whose λ is nan, because their
    parameters differ in it alone, or because the charge is one of θ + c while decay pulls θ.
    `rated` marks those that differ in η, perhaps in λ too: their λ is nan, their η the one that rates are told in.
    """

    hyperparameters: Hyperparameters
    uneven: np.ndarray[Any, np.dtype[np.bool_]] | None = None
    mixed: bool = False
    rated: Tensor | None = None
    strength: float = 0.0
    """the largest strength of decay (see `laws.decay_strength`) among the settings whose numbers are on the host"""

    @property
    def apart(self) -> bool:
        """Whether decay that is not a function of a charge may stand apart from the gradient."""
        return self.mixed and self.hyperparameters.decoupled is not False


class Members:
    """The incidence of parameters and charges, found from the charges themselves."""

    def __init__(self, symmetries: Symmetries, params: Mapping[str, Tensor], device: torch.device) -> None:
        self._symmetries = symmetries
        self.names = symmetries.parameters
        self.charges = len(symmetries.labels)
        self._device = device
        pairs = [(position, _touched(symmetries, name, params[name])) for position, name in enumerate(self.names)]
        self._charge = np.concatenate([c for _, c in pairs]) if pairs else np.zeros(0, dtype=np.int64)
        self._name = np.concatenate([np.full(len(c), p) for p, c in pairs]) if pairs else self._charge
        displaced = symmetries.displaced
        self._displaced = displaced.to(device) if bool(displaced.any()) else None
        self._last: tuple[list[Role], float, ChargeSettings] | None = None
        self._patterns: dict[tuple[tuple[int, ...], ...], _Pattern] = {}

    def settings(self, roles: Mapping[str, Role], reference: float = 1.0) -> ChargeSettings:
        """One setting a charge from one a parameter. Numbers where all agree, else tensors on the device.

        The very roles of the step before have the settings of the step before. `reference`: the η of charges whose
        parameters differ in it.
        """
        now = [roles[name] for name in self.names]
        if self._last is None or self._last[1] != reference or not all(map(operator.is_, now, self._last[0])):
            decays = any(r.setting is not None and not r.setting.without_decay for r in now)
            settings = self._settings(roles, reference)
            if self._displaced is not None and decays:
                settings = self._pulled_apart(settings, self._displaced)
            self._last = now, reference, settings
        return self._last[2]

    def _pulled_apart(self, settings: ChargeSettings, displaced: Tensor) -> ChargeSettings:
        """The same where λ is not that of the charges of θ + c: what decay does to them has to be measured."""
        assert self._displaced is not None  # there are such charges
        decay = settings.hyperparameters.weight_decay
        each = torch.as_tensor(decay, dtype=torch.float64, device=self._device).expand(self.charges)
        displaced = torch.where(each == 0, False, displaced)
        hyper = replace(settings.hyperparameters, weight_decay=each.masked_fill(displaced, math.nan))
        return replace(settings, hyperparameters=hyper, mixed=True)

    def _settings(self, roles: Mapping[str, Role], reference: float) -> ChargeSettings:
        classes: dict[tuple[Any, ...], int] = {}
        values: list[Role] = []
        pattern = []
        for name in self.names:
            role = roles[name]
            key = _meaning(role)
            if key not in classes:
                classes[key] = len(values)
                values.append(role)
            pattern.append(classes[key])
        strength = max(map(_strength, values))
        if len(values) == 1:
            return ChargeSettings(Hyperparameters(**_fields(values[0])), strength=strength)
        coarse, coarser = _numbered(map(_but_for_decay, classes)), _numbered(map(_but_for_rate, classes))
        found = self._pattern(tuple(pattern), coarse, coarser)
        hyper = _many(values, found.masks)
        if found.mixed is not None:
            hyper = replace(hyper, weight_decay=self._each(hyper.weight_decay).masked_fill(found.mixed, math.nan))
        if found.rated is not None:
            hyper = replace(
                hyper,
                weight_decay=self._each(hyper.weight_decay).masked_fill(found.rated, math.nan),
                learning_rate=self._each(hyper.learning_rate).masked_fill(found.rated, reference),
            )
        return ChargeSettings(hyper, found.uneven, found.mixed is not None, found.rated, strength)

    def _each(self, value: float | Tensor) -> Tensor:
        """One entry a charge."""
        if isinstance(value, Tensor) and value.dim():
            return value
        return torch.zeros(self.charges, dtype=torch.float64, device=self._device) + value

    def largest(self, values: Mapping[str, float]) -> Tensor:
        """The largest of a number a parameter over the parameters of each charge, float64 on the host."""
        out = np.zeros(self.charges)
        each = np.array([values[name] for name in self.names], dtype=np.float64)
        np.maximum.at(out, self._charge, each[self._name])
        return torch.from_numpy(out)

    def touched(self, names: Collection[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """The charges that any of these parameters enters."""
        chosen = np.array([name in names for name in self.names], dtype=bool)
        out = np.zeros(self.charges, dtype=bool)
        out[self._charge[chosen[self._name]]] = True
        return out

    def single(self) -> Tensor:
        """The charges that live on one element of one parameter."""
        parameters = np.bincount(self._charge, minlength=self.charges)
        return (self._symmetries.elements() <= 1) & torch.from_numpy(parameters == 1)

    def _pattern(self, pattern: tuple[int, ...], coarse: tuple[int, ...], coarser: tuple[int, ...]) -> _Pattern:
        """What follows from each parameter's class and each class's coarse ones; kept, for steps repeat it."""
        known = self._patterns.get((pattern, coarse, coarser))
        if known is None:
            if len(self._patterns) >= _REMEMBERED:
                self._patterns.clear()
            low, high = self._range(np.asarray(pattern))
            lower, higher = self._range(np.asarray(coarse)[np.asarray(pattern)])
            lowest, highest = self._range(np.asarray(coarser)[np.asarray(pattern)])
            uneven, rated, mixed = lowest < highest, (lower < higher) & (lowest == highest), (low < high)
            known = self._patterns[pattern, coarse, coarser] = _Pattern(
                masks=[torch.from_numpy(low == c).to(self._device) for c in range(len(coarse))],
                uneven=uneven if uneven.any() else None,
                rated=self._where(rated),
                mixed=self._where(mixed & (lower == higher)),
            )
        return known

    def _where(self, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Tensor | None:
        """The mask on the charges' device; None where it is empty."""
        return torch.from_numpy(mask).to(self._device) if mask.any() else None

    def _range(self, of_names: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The smallest and largest class among the parameters of each charge."""
        kind = of_names[self._name]
        low = np.full(self.charges, len(self.names))
        high = np.full(self.charges, -1)
        np.minimum.at(low, self._charge, kind)
        np.maximum.at(high, self._charge, kind)
        return low, high


@dataclass(frozen=True, eq=False)
class _Pattern:
    """Per class the charges that it sets; charges of several classes, those that differ in η and λ, in λ alone."""

    masks: list[Tensor]
    uneven: np.ndarray[Any, np.dtype[np.bool_]] | None
    rated: Tensor | None
    mixed: Tensor | None


def _touched(symmetries: Symmetries, name: str, parameter: Tensor) -> np.ndarray[Any, Any]:
    """The charges that this parameter enters."""
    try:
        return symmetries.touched(name, parameter)
    except (ValueError, RuntimeError, IndexError):
        raise ValueError(
            f"parameter {name!r} has shape {list(parameter.shape)}, which is not the one that the symmetries were "
            "found for; find the symmetries of this very model"
        ) from None


def _meaning(role: Role) -> tuple[Any, ...]:
    """Equal for roles that move a charge alike: α, Nesterov and the buffer mean nothing without momentum."""
    setting = role.setting
    if setting is None:
        return ("idle",)
    rate, decay, momentum, dampening, nesterov, decoupled, _ = setting.key
    if not setting.has_momentum:
        return (rate, decay, decoupled, role.stale)
    return (rate, decay, decoupled, role.stale, momentum, dampening, nesterov, role.first_step)


def _but_for_decay(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same for roles that differ in coupled λ alone; see the order in `_meaning`."""
    decoupled = len(key) > 2 and key[2]
    return key if len(key) < 3 or decoupled else (key[0], *key[2:])


def _but_for_rate(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same for roles that differ in η and coupled λ alone, where these are numbers on the host."""
    coarse = _but_for_decay(key)
    numbers = not any(isinstance(value, tuple) for value in key[:2])
    return coarse[1:] if coarse != key and numbers else coarse


def _numbered(keys: Iterable[tuple[Any, ...]]) -> tuple[int, ...]:
    """Equal keys under equal numbers."""
    seen: dict[tuple[Any, ...], int] = {}
    return tuple(seen.setdefault(key, len(seen)) for key in keys)


def _strength(role: Role) -> float:
    """The strength of the decay that a setting has; 0 where its numbers are on a device, so that nothing waits."""
    setting = role.setting
    if setting is None or (not isinstance(setting.weight_decay, Tensor) and setting.weight_decay == 0):
        return 0.0
    hyper = _fields(role)
    if any(isinstance(value, Tensor) for value in hyper.values()):
        return 0.0
    return float(decay_strength(Hyperparameters(**hyper)))


def _fields(role: Role) -> dict[str, Any]:
    if role.setting is None:
        return asdict(Sgd(0.0)) | {"first_step": False, "active": False}
    values = {name: _number(getattr(role.setting, name)) for name in _SETTINGS}
    return values | {"first_step": role.first_step, "active": True}


def _number(value: Any) -> Any:
    """A law's hyperparameters refuse the number nan; what an optimiser does not have is a nan tensor there."""
    return torch.full((), value) if isinstance(value, float) and math.isnan(value) else value


def _many(roles: list[Role], masks: list[Tensor]) -> Hyperparameters:
    each = [_fields(role) for role in roles]
    combined: dict[str, Any] = {}
    for field in fields(Hyperparameters):
        values = [values[field.name] for values in each]
        if all(value is values[0] or _same(value, values[0]) for value in values):
            combined[field.name] = values[0]
            continue
        flag = isinstance(values[0], bool)
        kind = torch.bool if flag else torch.float64
        out = torch.zeros(masks[0].shape, dtype=kind, device=masks[0].device)
        for value, mask in zip(values, masks, strict=True):
            if isinstance(value, Tensor):
                out = torch.where(mask, value.to(out), out)
            elif flag:
                out = out | mask if value else out & ~mask
            else:
                out = out.masked_fill(mask, float(value))
        combined[field.name] = out
    return Hyperparameters(**combined)


def _same(a: Any, b: Any) -> bool:
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and a == b
