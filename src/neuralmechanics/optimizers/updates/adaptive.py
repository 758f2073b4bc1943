"""The steps of Adam and its kin, told exactly from the state that torch leaves behind: no parameter is copied.

Every one of them is a sum of terms c·m / (√v·r + ε), element by element, with tensors m and v that lie in memory when
the step has ended and numbers c, r, ε of that step; decoupled decay is told apart from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer

from neuralmechanics.optimizers.hyperparameters.setting import Setting

__all__ = ["AdaptiveFormula", "Quotient", "adaptive_formula"]

Group: TypeAlias = Mapping[str, Any]
State: TypeAlias = Mapping[str, Any]
# Rectified from here on, as RAdam's authors and torch have it.
_RECTIFIED = 5.0
_NADAM_BASE = 0.96


@dataclass(frozen=True, eq=False)
class Quotient:
    """scale · m / (√v · root + ε), or with v itself where it is a size (`squared` False)."""

    numerator: Tensor
    denominator: Tensor
    scale: float
    root: float
    epsilon: float
    squared: bool = True

    def whole(self) -> Tensor:
        """It as a tensor in double precision."""
        size = self.denominator.double()
        size = size.sqrt() if self.squared else size
        return self.scale * self.numerator.double() / (size * self.root + self.epsilon)


Terms: TypeAlias = Callable[[Group, State, Tensor], Sequence[Quotient]]


@dataclass(frozen=True, eq=False)
class AdaptiveFormula:
    """How one class of optimisers moves a parameter. `slope`: whether the gradient itself is a numerator.

    Where it is, coupled decay would need the parameter before the step, which is gone. `momentum`: whether with β the
    optimiser's own buffer is the step, d = -ηv (RMSprop).
    """

    terms: Terms
    slope: bool
    momentum: bool = False

    def moves_by_buffer(self, group: Group) -> bool:
        """Whether d = -ηv with the buffer v that the optimiser keeps."""
        return self.momentum and _number(group.get("momentum", 0.0)) > 0

    def applies(self, group: Group, setting: Setting, parameter: Tensor) -> bool:
        """Whether the step can be told: plain numbers, real tensors, torch's plain arithmetic.

        With a tensor as η torch computes the step's numbers in the precision of that tensor.
        """
        numbers = (group.get("lr"), group.get("eps", 0.0), group.get("weight_decay", 0.0), *group.get("betas", ()))
        if any(isinstance(number, Tensor) for number in numbers) or parameter.is_complex():
            return False
        if group.get("capturable", False) or group.get("differentiable", False):
            return False
        if group.get("fused", False) and not _on_host(parameter):
            return False  # its count of steps lies on the device
        if self.moves_by_buffer(group):
            return True
        # Its denominator is the root of a variance, the difference of two tensors, and no tensor that lies there.
        if group.get("centered", False):
            return False
        decays = not setting.without_decay
        if setting.decoupled:
            # θ_k is θ_{k+1} - s over 1 - ηλ, which magnifies rounding without bound as ηλ comes near 1.
            return abs(_number(group["lr"]) * _number(group["weight_decay"])) < 0.5
        return not (self.slope and decays)


def adaptive_formula(optimizer: Optimizer) -> AdaptiveFormula | None:
    """The formula of an optimiser: of torch's own classes, and subclasses that keep their `step`.

    >>> adaptive_formula(torch.optim.AdamW([torch.zeros(1)])).slope
    False
    >>> adaptive_formula(torch.optim.SGD([torch.zeros(1)], lr=0.1)) is None
    True
    """
    for name, formula in _FORMULAS.items():
        kind = getattr(torch.optim, name)
        if isinstance(optimizer, kind) and inspect.unwrap(type(optimizer).step) is inspect.unwrap(kind.step):
            return formula
    return None


def steps_made(state: State) -> float | None:
    """How many steps the optimiser has made with a parameter; None where reading it would wait for a device."""
    count = state.get("step", 0.0)
    if isinstance(count, Tensor):
        return float(count) if _on_host(count) else None
    return float(count)


def _adam(group: Group, state: State, slope: Tensor) -> Sequence[Quotient]:
    step, (first, second) = _step(state), map(_number, group["betas"])
    squares = state["max_exp_avg_sq"] if group.get("amsgrad", False) else state["exp_avg_sq"]
    scale = -_number(group["lr"]) / (1 - first**step)
    # Torch corrects √v for its bias before it adds ε: √v / √(1 - β₂^k) + ε.
    return [Quotient(state["exp_avg"], squares, scale, (1 - second**step) ** -0.5, _number(group["eps"]))]


def _adamax(group: Group, state: State, slope: Tensor) -> Sequence[Quotient]:
    scale = -_number(group["lr"]) / (1 - _number(group["betas"][0]) ** _step(state))
    # ε is in the stored maximum already: torch takes it over |g| + ε.
    return [Quotient(state["exp_avg"], state["exp_inf"], scale, 1.0, 0.0, squared=False)]


def _nadam(group: Group, state: State, slope: Tensor) -> Sequence[Quotient]:
    step, (first, second) = _step(state), map(_number, group["betas"])
    rate, pace, product = _number(group["lr"]), _number(group["momentum_decay"]), float(state["mu_product"])
    now, coming = (first * (1 - 0.5 * _NADAM_BASE ** (k * pace)) for k in (step, step + 1))
    # The product in the state has this step's factor, as the step has ended, and not yet that of the coming one.
    of_slope, of_mean = -rate * (1 - now) / (1 - product), -rate * coming / (1 - product * coming)
    root = (1 - second**step) ** -0.5
    return [
        Quotient(state["exp_avg"], state["exp_avg_sq"], of_mean, root, _number(group["eps"])),
        Quotient(slope, state["exp_avg_sq"], _signed(group, of_slope), root, _number(group["eps"])),
    ]


def _radam(group: Group, state: State, slope: Tensor) -> Sequence[Quotient]:
    step, (first, second) = _step(state), map(_number, group["betas"])
    scale, left = -_number(group["lr"]) / (1 - first**step), 1 - second**step
    longest = 2 / (1 - second) - 1
    length = longest - 2 * step * second**step / left
    if length <= _RECTIFIED:
        # No denominator before the variance can be told: m / (√v · 0 + 1) is m.
        return [Quotient(state["exp_avg"], state["exp_avg_sq"], scale, 0.0, 1.0)]
    # Here torch adds ε to √v as it stands, so that √(1 - β₂^k) goes to the numerator.
    ratio = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    return [
        Quotient(state["exp_avg"], state["exp_avg_sq"], scale * (ratio * left) ** 0.5, 1.0, _number(group["eps"])),
    ]


def _rmsprop(group: Group, state: State, slope: Tensor) -> Sequence[Quotient]:
    rate = _signed(group, -_number(group["lr"]))
    return [Quotient(slope, state["square_avg"], rate, 1.0, _number(group["eps"]))]


def _adagrad(group: Group, state: State, slope: Tensor) -> Sequence[Quotient]:
    rate = -_number(group["lr"]) / (1 + (_step(state) - 1) * _number(group["lr_decay"]))
    return [Quotient(slope, state["sum"], _signed(group, rate), 1.0, _number(group["eps"]))]


def _signed(group: Group, rate: float) -> float:
    """What multiplies the gradient as it lies there; ascended, it enters with its sign turned."""
    return -rate if group.get("maximize", False) else rate


def _step(state: State) -> float:
    """The count of steps; read from a device once where a compiled step has put it there, see `Watch`."""
    return float(state["step"])


def _number(value: Any) -> float:
    return float(value)


def _on_host(value: Tensor) -> bool:
    return value.device.type == "cpu"


_FORMULAS: Mapping[str, AdaptiveFormula] = {
    "AdamW": AdaptiveFormula(_adam, slope=False),
    "Adam": AdaptiveFormula(_adam, slope=False),
    "Adamax": AdaptiveFormula(_adamax, slope=False),
    "NAdam": AdaptiveFormula(_nadam, slope=True),
    "RAdam": AdaptiveFormula(_radam, slope=False),
    "RMSprop": AdaptiveFormula(_rmsprop, slope=True, momentum=True),
    "Adagrad": AdaptiveFormula(_adagrad, slope=True),
}
