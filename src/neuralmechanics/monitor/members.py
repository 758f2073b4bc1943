"""Which parameters make up which charge, and so which hyperparameters a charge has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.laws import Hyperparameters
from neuralmechanics.optimizers import Setting
from neuralmechanics.symmetry import Symmetries

_SETTINGS = ("learning_rate", "weight_decay", "momentum", "dampening", "nesterov", "decoupled")
_STILL = {"weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "decoupled": False}
# Patterns of settings over parameters that are kept: a training has a few, random skipping has no end of them.
_REMEMBERED = 64


@dataclass(frozen=True)
class Role:
    """What a step did with one parameter: its setting (None: not touched) and whether torch's buffer began."""

    setting: Setting | None
    first_step: bool = False


@dataclass(frozen=True, eq=False)
class ChargeSettings:
    """The hyperparameters of every charge at one step; `uneven` marks charges whose parameters differ in them."""

    hyperparameters: Hyperparameters
    uneven: np.ndarray[Any, np.dtype[np.bool_]] | None = None


class Members:
    """The incidence of parameters and charges, found from the charges themselves."""

    def __init__(self, symmetries: Symmetries, params: Mapping[str, Tensor], device: torch.device) -> None:
        self.names = symmetries.parameters
        self.charges = len(symmetries.labels)
        self._device = device
        pairs = [(position, _touched(symmetries, name, params[name])) for position, name in enumerate(self.names)]
        self._charge = np.concatenate([c for _, c in pairs]) if pairs else np.zeros(0, dtype=np.int64)
        self._name = np.concatenate([np.full(len(c), p) for p, c in pairs]) if pairs else self._charge
        self._patterns: dict[tuple[int, ...], tuple[list[Tensor], np.ndarray[Any, Any] | None]] = {}

    def settings(self, roles: Mapping[str, Role]) -> ChargeSettings:
        """One setting a charge from one a parameter. Numbers where all agree, else tensors on the device."""
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
        if len(values) == 1:
            return ChargeSettings(Hyperparameters(**_fields(values[0])))
        masks, uneven = self._pattern(tuple(pattern), len(values))
        return ChargeSettings(_many(values, masks), uneven)

    def _pattern(self, pattern: tuple[int, ...], count: int) -> tuple[list[Tensor], np.ndarray[Any, Any] | None]:
        """Per class the charges it sets, and the charges with several classes; kept, for steps repeat it."""
        if pattern not in self._patterns:
            if len(self._patterns) >= _REMEMBERED:
                self._patterns.clear()
            kind = np.asarray(pattern)[self._name]
            low = np.full(self.charges, count)
            high = np.full(self.charges, -1)
            np.minimum.at(low, self._charge, kind)
            np.maximum.at(high, self._charge, kind)
            uneven = low < high
            masks = [torch.from_numpy(low == c).to(self._device) for c in range(count)]
            self._patterns[pattern] = (masks, uneven if uneven.any() else None)
        return self._patterns[pattern]


def _touched(symmetries: Symmetries, name: str, parameter: Tensor) -> np.ndarray[Any, Any]:
    """The charges that a generic tensor in this parameter's place contributes to. Leaves torch's generators alone."""
    generator = torch.Generator().manual_seed(0)
    probe = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5
    out = torch.zeros(len(symmetries.labels), dtype=torch.float64)
    symmetries.accumulate_pair_(out, name, probe, probe)
    return np.flatnonzero(out.numpy())


def _meaning(role: Role) -> tuple[Any, ...]:
    """Equal for roles that move a charge alike: α, Nesterov and the buffer mean nothing without momentum."""
    setting = role.setting
    if setting is None:
        return ("idle",)
    rate, decay, momentum, dampening, nesterov, _, decoupled = setting.key
    if not setting.has_momentum:
        return (rate, decay, decoupled)
    return (rate, decay, decoupled, momentum, dampening, nesterov, role.first_step)


def _fields(role: Role) -> dict[str, Any]:
    if role.setting is None:
        return {"learning_rate": 0.0, "first_step": False, "active": False} | _STILL
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
