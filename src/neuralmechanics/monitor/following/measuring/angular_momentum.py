"""The angular momentum of every rotation: J = ⟨v, Mθ⟩ with M antisymmetric, which the heavy ball multiplies by β."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.optim import Optimizer

from neuralmechanics.laws import Drives, Hyperparameters, RotationLaw
from neuralmechanics.monitor.store.shards.record import Rotations
from neuralmechanics.monitor.warning import Notes
from neuralmechanics.optimizers import dense, first_moment, follows_sgd, moment_setting
from neuralmechanics.symmetry import Family, Symmetries

# One row of measured and predicted values a record: beyond this a run is no longer handy.
MOST_ROTATIONS = 20_000


class Turns:
    """The generators of a family that turn its parameters: ξ = Mθ with M antisymmetric, one each."""

    def __init__(self, family: Family) -> None:
        self.family = family
        units = islice(family.action.units("antisymmetric"), MOST_ROTATIONS + 1)
        # `units` may give several at once, one a row
        rows = [row for weights in units for row in weights.reshape(-1, math.prod(family.generator_shape)).to_sparse()]
        self.count = len(rows)
        """how many there are"""
        self._basis = torch.stack(rows).coalesce() if rows else torch.zeros(0, 0)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters that turn and those that enter."""
        return (*self.family.parameters, *self.family.action.inputs)

    def moments(self, velocities: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Float64[Tensor, " rotations"]:
        """⟨v, ξ_w(θ)⟩ is linear in the weights w, so one derivative gives all J = ⟨v, Mθ⟩."""
        here = {name: params[name].double() for name in self.names}
        weights = torch.zeros(self.family.generator_shape, dtype=torch.float64, requires_grad=True)
        with torch.enable_grad():
            steps = self.family.generator(here, weights.to(next(iter(here.values())).device))
            total = torch.stack([(velocities[name].double() * step).sum() for name, step in steps.items()]).sum()
            (slope,) = torch.autograd.grad(total, weights)
        out: Tensor = self._basis @ slope.reshape(-1)
        return out

    def size(self, velocities: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
        """|v||θ| over the parameters that turn, which no |J| of a single rotation is far beyond."""
        moved = self.family.parameters
        squares = [sum(values[name].double().square().sum() for name in moved) for values in (velocities, params)]
        return (torch.as_tensor(squares[0]) * torch.as_tensor(squares[1])).sqrt().cpu()


@dataclass(frozen=True)
class _Did:
    """What a step did to the moment of a parameter."""

    momentum: float
    shrink: float
    first: bool
    active: bool


class AngularMomentum:
    """Measures J at records and follows J_k = β_k J_{k-1} between them, from the groups' settings alone.

    J is that of the moment which the optimiser keeps, the velocity of SGD or the first moment of Adam and Muon. For
    the heavy ball the law is exact under any batch, schedule, dampening and decay, since its step is along v. Others
    step along something else, and J tells how far that is from turning with the symmetry. Where the parameters of a
    family differ in β, or some of them stood still, the law speaks no more.
    """

    def __init__(
        self, symmetries: Symmetries, params: Mapping[str, Tensor], optimizers: Sequence[Optimizer], notes: Notes
    ) -> None:
        self._turns = [turns for family in symmetries.families if (turns := _within(symmetries, family)).count]
        if not self._turns:
            raise ValueError(
                "laws=['rotation']: these symmetries hold no rotation; linear blocks, rotary pairs and streams under "
                "norms without gains have some"
            )
        if not any(moment_setting(o, group) for o in optimizers for group in o.param_groups):
            raise ValueError("laws=['rotation'] is about momentum, of which these optimisers keep none")
        self._params = dict(params)
        self._optimizers = list(optimizers)
        self._notes = notes
        self._law = RotationLaw()
        self._silent = torch.zeros(sum(turns.count for turns in self._turns), dtype=torch.bool)
        self._fresh: set[str] = set()
        self._done: dict[str, _Did] = {}
        self._known: list[tuple[int, int]] = []

    @staticmethod
    def families(symmetries: Symmetries) -> list[tuple[str, int]]:
        """The families that hold rotations, and how many each."""
        every = ((family.name, _within(symmetries, family).count) for family in symmetries.families)
        return [(name, count) for name, count in every if count]

    def restart(self, state: Mapping[str, Tensor] | None = None) -> None:
        """Begin from what is measured now, or go on from a state that was saved."""
        if state is not None and "rotation/predicted" in state:
            predicted = state["rotation/predicted"].cpu()
            self._silent = predicted.isnan()
            self._law.start(torch.where(self._silent, 0.0, predicted))
        else:
            self._law.start(self._measured()[0])
        self._known = self._marks()

    def state(self) -> dict[str, Tensor]:
        """What the law remembers; nan where it speaks no more."""
        return {"rotation/predicted": torch.where(self._silent, torch.nan, self._law.value)}

    def before_step(self, number: int) -> None:
        """Which parameters have no moment yet: their first step makes one."""
        optimizer = self._optimizers[number]
        for name, parameter in self._params.items():
            (self._fresh.add if first_moment(optimizer, parameter) is None else self._fresh.discard)(name)

    def after_step(self, number: int) -> None:
        """What one optimiser did to the moments of its parameters."""
        optimizer = self._optimizers[number]
        owned = {id(p): group for group in optimizer.param_groups for p in group["params"]}
        for name, parameter in self._params.items():
            group = owned.get(id(parameter))
            setting = None if group is None else moment_setting(optimizer, group)
            if group is not None and parameter.grad is not None:
                momentum, shrink = (0.0, 1.0) if setting is None else (setting.momentum, setting.shrink)
                self._done[name] = _Did(momentum, shrink, name in self._fresh, True)

    def advance(self) -> None:
        """The iteration has ended: follow the law by one step."""
        rows: list[tuple[float, ...]] = []
        start = 0
        for turns in self._turns:
            did = {self._done.get(name, _STILL) for name in turns.family.parameters}
            if len(did) > 1:
                self._silent[start : start + turns.count] = True
            one = next(iter(did))
            rows.append((one.momentum, one.shrink, one.first, one.active))
            start += turns.count
        self._done = {}
        self._known = self._marks()
        self._law.step(self._hyperparameters(rows), Drives())

    def _hyperparameters(self, rows: list[tuple[float, ...]]) -> Hyperparameters:
        """Decoupled decay as η = 1 and λ = 1 - shrink: the law knows their product alone."""
        if len(set(rows)) == 1:
            β, kept, fresh, moved = rows[0]
            return Hyperparameters(1.0, 1 - kept, β, decoupled=True, first_step=bool(fresh), active=bool(moved))
        counts = torch.tensor([turns.count for turns in self._turns])
        momentum, shrink, first, active = torch.tensor(rows, dtype=torch.float64).repeat_interleave(counts, 0).unbind(1)
        return Hyperparameters(1.0, 1 - shrink, momentum, decoupled=True, first_step=first > 0, active=active > 0)

    def record(self, step: int, unit: float) -> Rotations:
        """J as it is and as the law has it; where it is violated, that is said."""
        if self._marks() != self._known:
            self.restart()  # something else wrote the moments since the step, which the follower says at the next
        measured, size = self._measured()
        predicted = torch.where(self._silent, torch.nan, self._law.value)
        self._tell(step, (measured - predicted).abs(), size, unit)
        return Rotations(measured, predicted, size)

    def _marks(self) -> list[tuple[int, int]]:
        """Which tensors the moments are and how often each was written."""
        moments = [first_moment(o, p) for o in self._optimizers for p in self._params.values()]
        return [(id(moment), moment._version) for moment in moments if moment is not None and not moment.is_inference()]

    def _measured(self) -> tuple[Tensor, Tensor]:
        values = {name: dense(p.detach()) for name, p in self._params.items()}
        velocities = {name: torch.zeros_like(value) for name, value in values.items()}
        for optimizer in self._optimizers:
            for name, parameter in self._params.items():
                moment = first_moment(optimizer, parameter)
                velocities[name] = velocities[name] if moment is None else dense(moment.detach())
        moments = torch.cat([turns.moments(velocities, values).cpu() for turns in self._turns])
        sizes = [turns.size(velocities, values).expand(turns.count) for turns in self._turns]
        return moments, torch.cat(sizes)

    def _tell(self, step: int, error: Tensor, size: Tensor, unit: float) -> None:
        beyond = error > unit**0.5 * size
        if not bool(beyond.any()):
            return
        share = float((error / size)[beyond].max())
        self._notes.tell(
            "rotation",
            step,
            f"at step {step} the angular momentum of {int(beyond.sum())} rotations is not the heavy ball's β^k J_0, by "
            f"up to {share:.1e} of |v||θ|: {self._reason()}",
        )

    def _reason(self) -> str:
        for optimizer in self._optimizers:
            if not follows_sgd(optimizer):
                return f"{type(optimizer).__name__} does not step along its moment"
            if any(group["nesterov"] for group in optimizer.param_groups):
                return "Nesterov's steps are along G + βv and not along v"
        return "the gradient does not obey the symmetry, or something else moved the parameters or their momentum"


_STILL = _Did(1.0, 1.0, first=False, active=False)


def _within(symmetries: Symmetries, family: Family) -> Turns:
    """The rotations of a family, if all families together have few enough of them."""
    turns = Turns(family)
    if turns.count > MOST_ROTATIONS:
        raise ValueError(
            f"laws=['rotation']: family {family.name!r} alone holds {turns.count} rotations, of which at most "
            f"{MOST_ROTATIONS} are followed; give the monitor the symmetries without it"
        )
    return turns
