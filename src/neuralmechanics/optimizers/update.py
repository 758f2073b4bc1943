"""The update that a step made to one parameter, read back from what torch SGD leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuralmechanics.optimizers.setting import Setting

__all__ = ["Update", "sgd_update"]


@dataclass(frozen=True, eq=False)
class Update:
    """d = θ_{k+1} - θ_k of one parameter, with the gradient of what is minimised and the velocity after the step.

    `gradient` is None where there was none; `velocity` is torch's buffer, idle or in use, None where there is none.
    `first_step` is true where torch took v = G, undampened. `measured` is true where d is the difference of the
    stored parameters, rounding included, and false where it is computed from the buffer. `claimed` is what the
    optimiser's own formula gives where d was measured: what else wrote during the step is the difference.
    """

    difference: Tensor
    after: Tensor
    setting: Setting
    gradient: Tensor | None = None
    velocity: Tensor | None = None
    first_step: bool = False
    measured: bool = False
    claimed: Tensor | None = None

    def before(self) -> Tensor:
        """θ_k, the parameter that the gradient was taken at."""
        return self.after - self.difference


def sgd_update(after: Tensor, gradient: Tensor | None, velocity: Tensor | None, setting: Setting) -> Tensor:
    """d from g, v_{k+1} and θ_{k+1}: no copy of θ_k is needed, and nothing cancels.

    Heavy ball: d = -ηv. Nesterov and plain SGD: d = -η(g + λθ_k + βv) with θ_k = θ_{k+1} - d, so
    d = -η(g + λθ_{k+1} + βv) / (1 - ηλ), with v = 0 for plain SGD.

    >>> setting = Setting(learning_rate=0.1, weight_decay=0.5)
    >>> before, gradient = torch.tensor([2.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    >>> after = before - 0.1 * (gradient + 0.5 * before)
    >>> torch.allclose(sgd_update(after, gradient, None, setting), after - before, rtol=1e-15)
    True
    """
    eta, decay = setting.learning_rate, setting.weight_decay
    if velocity is not None and not setting.nesterov:
        return velocity * -eta
    if gradient is None:
        raise ValueError("plain SGD and Nesterov need the gradient of the step to give its update; got None")
    slope = gradient if _is_zero(decay) else gradient + decay * after
    if velocity is not None:
        slope = slope + setting.momentum * velocity
    # θ_k = θ_{k+1} - d stands on both sides; solved for d, no difference of θs is formed.
    return slope * (-eta / (1.0 - eta * decay))


def sgd_step(before: Tensor, gradient: Tensor | None, velocity: Tensor | None, setting: Setting) -> Tensor | None:
    """d from g, v_{k+1} and θ_k itself, in their precision; None where the gradient that it needs is gone.

    Heavy ball -ηv, Nesterov -η(g + λθ_k + βv), plain SGD -η(g + λθ_k).
    """
    if velocity is not None and not setting.nesterov:
        return velocity * -setting.learning_rate
    if gradient is None:
        return None
    slope = gradient + setting.weight_decay * before
    return (slope if velocity is None else slope + setting.momentum * velocity) * -setting.learning_rate


def promoted(tensor: Tensor) -> Tensor:
    """The tensor in double precision, in which differences of stored parameters are taken without rounding."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def solvable(setting: Setting) -> bool:
    """Whether d follows from what is left after the step: ηλ well below 1, else θ_k drowns in rounding."""
    # d = -ηv is read off the buffer, whatever η and λ are.
    if setting.has_momentum and not setting.nesterov:
        return True
    eta, decay = setting.learning_rate, setting.weight_decay
    if isinstance(eta, Tensor) or isinstance(decay, Tensor):
        return _is_zero(decay)
    return abs(eta * decay) < 0.5


def dense(tensor: Tensor) -> Tensor:
    """The tensor itself, the dense form of a sparse gradient, or what this process holds of a sharded one."""
    # A sharded tensor answers for the whole: its own part is what this process updates.
    local = getattr(tensor, "to_local", None)
    if local is not None:
        tensor = local()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def _is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0.0
