"""The update that a step made to one parameter, read back from what torch SGD leaves behind."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from neuralmechanics.optimizers.hyperparameters.setting import Setting
from neuralmechanics.optimizers.updates.adaptive import Quotient
from neuralmechanics.optimizers.updates.combination import Combination, Part, combined, heavy_ball, step

__all__ = ["Update", "sgd_update"]


_FIELDS: dict[Part, str] = {"after": "after", "gradient": "left", "velocity": "velocity", "before": "copied"}
PLAIN = (Tensor, torch.nn.Parameter)
"""types that hold all of a tensor in one place"""
_TERMS: tuple[Part, ...] = ("adam", "adam_slope")


@dataclass(eq=False)  # frozen ones take three times as long to make, one a parameter and step
class Update:
    """d = θ_{k+1} - θ_k of one parameter, told by what lies in memory when the step has ended; nothing is computed yet.

    `left` is the gradient as torch leaves it, None where there was none; `velocity` is torch's buffer, idle or in use,
    None where there is none. `first_step` is true where torch took v = G, undampened. `copied` is θ_k where it was
    copied: d is then the difference of the stored parameters, rounding included (`measured`), and else computed.
    `absorbed`: torch has added βv to the gradient. `claims`: what the optimiser's own formula gives is known beside a
    measured d; what else wrote during the step is the difference. `addend`: `left` is one of several that the gradient
    is the mean of, each in a process of its own. `terms`: what Adam and its kin moved it by, beside decoupled decay.
    `lost`: the parameter moved and its gradient was gone when the step had ended.
    """

    after: Tensor
    setting: Setting
    left: Tensor | None = None
    velocity: Tensor | None = None
    first_step: bool = False
    copied: Tensor | None = None
    absorbed: bool = False
    claims: bool = False
    addend: bool = False
    terms: tuple[Quotient, ...] = ()
    lost: bool = False

    def renew(self, left: Tensor | None) -> None:
        """Become the update of the step after, told by the same tensors and this gradient; None until it is known."""
        self.left, known = left, self.__dict__
        if len(known) > _OWN:  # what was derived is kept beside the fields
            for derived in ("gradient", "difference", "claimed"):
                known.pop(derived, None)

    @property
    def measured(self) -> bool:
        """Whether d is the difference of stored parameters."""
        return self.copied is not None

    @property
    def used(self) -> Tensor | None:
        """The velocity where it took part in the step."""
        return self.velocity if self.setting.has_momentum else None

    @cached_property
    def gradient(self) -> Tensor | None:
        """The gradient of what is minimised, None where there was none."""
        if self.left is None:
            return None
        own = -self.left if self.setting.maximize else self.left
        return own - self.setting.momentum * self.used if self.absorbed and self.used is not None else own

    @cached_property
    def difference(self) -> Tensor:
        """d as a tensor: in double precision where it was measured."""
        if self.copied is not None:
            return promoted(self.after) - promoted(self.copied)
        if self.terms:
            moved = torch.stack([term.whole() for term in self.terms]).sum(0)
            kept, lost = _decoupled(self.setting)
            return kept * moved + lost * promoted(self.after)
        return sgd_update(self.after, self.gradient, self.used, self.setting)

    @cached_property
    def claimed(self) -> Tensor | None:
        """What the optimiser's formula gives, in double precision, where `claims` and nothing that it needs is gone."""
        if not self.claims or self.copied is None:
            return None
        slope, speed = (None if t is None else promoted(t) for t in (self.gradient, self.used))
        return sgd_step(promoted(self.copied), slope, speed, self.setting)

    def before(self) -> Tensor:
        """θ_k, the parameter that the gradient was taken at."""
        return self.after - self.difference

    def tensor(self, part: Part) -> Tensor | tuple[Tensor, Tensor] | Quotient:
        """What a part of the combinations below is: a tensor, the two that it is the difference of, or a quotient."""
        if part == "moved":
            assert self.copied is not None
            return self.after, self.copied
        if self.terms and part in _TERMS:
            return self.terms[_TERMS.index(part)]
        # What torch added is taken out element by element: zero where that is all, which the difference of sums is not.
        found = self.gradient if part == "gradient" and self.absorbed else getattr(self, _FIELDS[part])
        assert isinstance(found, Tensor)
        return found

    def difference_parts(self) -> Combination:
        """d as a combination of parts."""
        if self.copied is not None:
            return {"moved": 1.0}
        if self.terms:
            kept, lost = _decoupled(self.setting)
            moved: Combination = dict.fromkeys(_TERMS[: len(self.terms)], kept)
            return moved if lost == 0 else {**moved, "after": lost}
        if self.used is not None and not self.setting.nesterov:
            return heavy_ball(self.setting)
        return step(self.setting, self.gradient_parts(), "after", momentum=self.used is not None)

    def before_parts(self) -> Combination:
        """θ_k as a combination of parts."""
        if self.copied is not None:
            return {"before": 1.0}
        return combined((1.0, {"after": 1.0}), (-1.0, self.difference_parts()))

    def gradient_parts(self) -> Combination:
        """g as a combination of parts; to be asked where there is one."""
        # An absorbed gradient is made anew by `tensor`, where its sign is turned already.
        return {"gradient": -1.0 if self.setting.maximize and not self.absorbed else 1.0}

    def claimed_parts(self) -> Combination | None:
        """The optimiser's formula as a combination of parts."""
        if not self.claims or self.copied is None:
            return None
        if self.terms:
            moved: Combination = dict.fromkeys(_TERMS[: len(self.terms)], 1.0)
            # From θ_k itself d = s - ηλθ_k, and -ηλ is the quotient of the two numbers.
            lost = _decoupled(self.setting)[1] / _decoupled(self.setting)[0]
            return moved if lost == 0 else {**moved, "before": lost}
        if self.used is not None and not self.setting.nesterov:
            return heavy_ball(self.setting)
        if self.left is None:
            return None
        return step(self.setting, self.gradient_parts(), "before", momentum=self.used is not None)

    @property
    def kind(self) -> tuple[bool | int, ...]:
        """Equal for updates whose combinations have the same coefficients, as long as their setting is the same."""
        there = (self.left is None, self.velocity is None, self.copied is None)
        return (*there, self.first_step, self.absorbed, self.claims, self.addend, len(self.terms), self.lost)


_OWN = len(fields(Update))


def _decoupled(setting: Setting) -> tuple[float, float]:
    """The numbers that d = kept·s + lost·θ_{k+1} has where θ_{k+1} = (1 - ηλ)θ_k + s: none is lost without decay."""
    if not setting.decoupled or setting.without_decay:
        return 1.0, 0.0
    pull = float(setting.learning_rate) * float(setting.weight_decay)
    return 1 / (1 - pull), -pull / (1 - pull)


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
    if type(tensor) in PLAIN and tensor.layout == torch.strided:  # nearly always, once a tensor and step
        return tensor
    # A sharded tensor answers for the whole: its own part is what this process updates.
    local = getattr(tensor, "to_local", None)
    if local is not None:
        tensor = local()
    return tensor if tensor.layout == torch.strided else tensor.to_dense()


def held(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Of a gradient or a buffer, the elements that this process holds of the parameter; nothing is communicated.

    Tensor parallel gradients may be placed otherwise than their parameter: whole where it is sharded, or as addends.
    Of n addends this is n times the one here, so that the gradient is the mean over the processes.
    """
    if type(tensor) in PLAIN:
        return dense(tensor)
    have, want = (getattr(each, "placements", None) for each in (tensor, parameter))
    if have is None or want is None or tuple(have) == tuple(want):
        return dense(tensor)
    from torch.distributed.tensor import DTensor

    assert isinstance(tensor, DTensor)
    factor, placements = 1, list(have)
    for place, (theirs, own) in enumerate(zip(have, want, strict=True)):
        if theirs.is_partial() and own.is_replicate() and theirs == type(theirs)("sum"):
            factor *= tensor.device_mesh.size(place)
            placements[place] = own
        elif theirs != own and not theirs.is_replicate():
            raise RuntimeError(
                f"a gradient or buffer is placed as {tuple(have)} and its parameter as {tuple(want)}, which needs "
                "communication at every step to follow; monitor this training in one process"
            )
    local = tensor.to_local() if factor == 1 else tensor.to_local() * factor
    # The check would communicate, and hang where the other processes do not come here.
    same = DTensor.from_local(
        local, tensor.device_mesh, placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )
    return dense(same.redistribute(placements=want))


def momentum(tensor: Tensor | None, parameter: Tensor) -> Tensor:
    """Of a momentum buffer the same; zero where there is none."""
    return torch.zeros_like(dense(parameter)) if tensor is None else held(tensor, parameter)


def is_addend(tensor: Tensor | None) -> bool:
    """Whether a tensor is the sum of what several processes hold."""
    return type(tensor) not in PLAIN and any(placement.is_partial() for placement in getattr(tensor, "placements", ()))


def held_velocity(name: str, buffer: Tensor, parameter: Tensor) -> Tensor:
    """Of a momentum buffer, the elements that this process holds of its parameter."""
    if is_addend(buffer):
        raise RuntimeError(f"the momentum of {name!r} lies in addends, one a process, which cannot be followed")
    return held(buffer.detach() if buffer.requires_grad else buffer, parameter)


def _is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0.0
