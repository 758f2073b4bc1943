"""The budget of a charge: its motion over a training split by cause, from what the laws are fed anyway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.coefficients import Coefficients, Numbers
from neuralmechanics.laws.state import LawState, everywhere
from neuralmechanics.laws.step import Drives, Hyperparameters

MEASURED_PARTS = ("finite_step", "weight_decay", "momentum_memory", "broken_symmetry", "preconditioning")
"""what an optimiser's step does to a charge, by cause"""
BUDGET_PARTS = (*MEASURED_PARTS, "outside", "rounding")
"""all of what moves a charge: the parts of a budget, which add up to the measured change"""

# What is summed of a step of SGD: |d|², ⟨θ,d⟩, and of this the parts of decay and momentum.
_OF_SGD = ("energy", "along", "decay", "memory")


@dataclass(frozen=True, eq=False)
class StoredStep:
    """What a step did where the stored parameters were compared, beside what the optimiser's formula says it did.

    `change` = (2⟨θ,d⟩ + |d|²) of the stored update minus that of the formula, `energy` = |d|² minus that of the
    formula, `companion` = ⟨θ_{k+1}, v_{k+1}⟩.
    """

    change: Float64[Tensor, " charges"]
    energy: Float64[Tensor, " charges"]
    companion: Float64[Tensor, " charges"]


class ChargeBudget:
    """ΔX = 2⟨θ,d⟩ + |d|² summed over steps by cause (theory 3.4); translations Δq = ⟨d,1_A⟩ have no finite step.

    Of SGD with coupled decay, with p = 2 (translations 1), G = g + λθ, a = 1-α and C = ⟨θ_k,v_k⟩:

        finite_step        |d|²
        weight_decay       -pηaλX                       Nesterov -pη(1+β)λX
        momentum_memory    -pηβC                        Nesterov -pηβ²C
        broken_symmetry    what is left of p⟨θ,d⟩, which is -pηa⟨g,ξ⟩ (Nesterov (1+β) in place of a)

    C follows from the step before: C = x - W/η with x = -⟨θ,d⟩/η (Nesterov: x + ⟨d,v⟩), so that nothing but ⟨θ,d⟩ and
    W is read and no error is carried on. Where the members of a charge have different settings, and of other
    optimisers, the parts are measured (`measured_step`); there `preconditioning` is what is left.

    >>> budget = ChargeBudget()
    >>> budget.start(torch.tensor([4.0], dtype=torch.float64), None)  # θ = (2, 0), g = (0, 1), η = .1, λ = .5
    >>> update, energy = torch.tensor([[-0.2], [0.02]], dtype=torch.float64)
    >>> drives = Drives(energy, parameter_update=update)
    >>> budget.step(Hyperparameters(0.1, 0.5), drives, torch.tensor([-0.38], dtype=torch.float64))
    >>> {name: round(float(value), 12) for name, value in budget.parts().items() if abs(value) > 1e-9}
    {'finite_step': 0.02, 'weight_decay': -0.4}
    """

    def __init__(self, quadratic: Bool[Tensor, " charges"] | None = None) -> None:
        self._state = LawState("budget", quadratic)
        self._sums: dict[str, Tensor] = {}
        self.companion_known = True
        """whether C is that of every member, so that a step may be split without being measured"""

    def start(self, charge: Float64[Tensor, " charges"], companion: Float64[Tensor, " charges"] | None) -> None:
        """Begin with empty parts, at a charge and with ⟨θ,v⟩ of momentum buffers already in use."""
        zero = torch.zeros_like(charge, dtype=torch.float64)
        self._state.start(charge)
        self._sums = {}
        self._companion = zero if companion is None else companion.to(zero).clone()
        self._buffered = everywhere(companion is not None, zero)
        self._old_buffers = companion is not None
        self.companion_known = True

    @property
    def charge(self) -> Float64[Tensor, " charges"]:
        """The charge that was measured last, with all that was done to it since."""
        return self._state["charge"]

    def rebase(self, charge: Float64[Tensor, " charges"], companion: Float64[Tensor, " charges"] | None = None) -> None:
        """Go on from a charge that was measured, and from a companion where something else wrote the momentum."""
        self._state.move(None, charge=charge.to(torch.float64).clone())
        if companion is not None:
            self._companion = companion.to(self._companion).clone()

    def step(
        self,
        hyper: Hyperparameters,
        drives: Drives,
        done: Float64[Tensor, " charges"],
        stored: StoredStep | None = None,
    ) -> None:
        """One step of SGD with one setting a charge (decays that differ among its members come as `drives.decay`)."""
        c = self._state.coefficients(hyper)
        n = c.numbers
        if n is not None and stored is None and not (n.nesterov or n.decoupled or n.restart) and n.learning_rate > 0:
            # While β = 0 an idle buffer stays and θ moves, so C moves by ⟨d,v⟩, which the short way leaves out.
            plain = n.momentum != 0 or not self._old_buffers
            if n.active and plain and drives.decay is None:
                self._ordinary_step(n, drives)
                self._state["charge"].add_(done)
                return
        self._any_step(c, drives, done, stored)
        self._state["charge"].add_(done)

    def measured_step(
        self, done: Float64[Tensor, " charges"], parts: Mapping[str, Tensor], rest: str, companion: Tensor | None
    ) -> None:
        """A step of which every part but `rest` was measured; `companion` is ⟨θ,v⟩ after it where all of it is known.

        `done` is what the optimiser's formula says where that is known, else what was stored.
        """
        left = done.clone()
        for name, value in parts.items():
            self._add(name, value)
            left.sub_(value)
        self._add(rest, left)
        self.companion_known = companion is not None
        if companion is not None:
            self._companion = companion
            self._buffered = everywhere(True, done)
            self._old_buffers = True

    def moved(self, done: Float64[Tensor, " charges"]) -> None:
        """The charge after steps that were measured."""
        self._state["charge"].add_(done)

    def believe(self, charges: Bool[Tensor, " charges"]) -> None:
        """⟨g,ξ⟩ = 0 at `charges`, which something else moved unseen between steps that followed from each other.

        What is left of ⟨θ,d⟩ there is no broken symmetry: the companion, or without momentum the charge that decay
        pulls, was another than the one that followed from the step before.
        """
        name = next((n for n in ("memory", "decay") if n in self._sums), None)
        if name is not None:
            other = self._sums["decay"] if name == "memory" and "decay" in self._sums else 0.0
            self._sums[name] = torch.where(charges, self._sums["along"] - other, self._sums[name])

    def parts(self) -> dict[str, Float64[Tensor, " charges"]]:
        """What each cause did to every charge since the start, or since they were taken."""
        return self._told({name: value.clone() for name, value in self._sums.items()})

    def taken(self) -> dict[str, Float64[Tensor, " charges"]]:
        """The parts; those to come begin at zero."""
        sums, self._sums = self._sums, {}
        return self._told(sums)

    def clear(self) -> None:
        """Go on with empty parts."""
        self._sums = {}

    def _told(self, s: Mapping[str, Tensor]) -> dict[str, Float64[Tensor, " charges"]]:
        """The parts that sums make, of which nothing else is made any more."""
        p, charge = 1 + self._state["quadratic"].view(torch.int8), self._state["charge"]
        found: dict[str, Tensor] = {}
        if "energy" in s:
            found["finite_step"] = s["energy"]
        for name, known in (("weight_decay", "decay"), ("momentum_memory", "memory")):
            if known in s:
                found[name] = p * s[known]
        if "along" in s:
            slope = s["along"]
            for known in ("decay", "memory"):
                if known in s:
                    slope = slope - s[known]
            found["broken_symmetry"] = p * slope
        for name in MEASURED_PARTS:
            if name in s:
                found[name] = s[name] + found[name] if name in found else s[name]
        # Of a cause that did nothing one zero stands for all charges.
        nothing = charge.new_zeros(()).expand_as(charge)
        return {name: found.get(name, nothing) for name in MEASURED_PARTS}

    def _add(self, name: str, value: Float64[Tensor, " charges"], times: float = 1.0) -> None:
        """Adds to a sum, which begins when something is added: most steps have few of them."""
        if name in self._sums:
            self._sums[name].add_(value, alpha=times)
        else:
            self._sums[name] = value.to(torch.float64).expand_as(self._state["charge"]) * times

    def _ordinary_step(self, n: Numbers, drives: Drives) -> None:
        """Numbers that all charges share, heavy ball or plain, in as few operations as there are."""
        T, W = drives.parameter_update, drives.update_energy
        assert T is not None
        assert W is not None
        self._add("energy", W)
        self._add("along", T)
        if n.weight_decay != 0:
            self._add("decay", self._state["charge"], -n.learning_rate * n.gain * n.weight_decay)
        if n.momentum != 0:
            self._add("memory", self._companion, -n.learning_rate * n.momentum)
            # ⟨θ + d, v⟩ with v = -d/η: T + W is ⟨θ + d, d⟩.
            self._companion = torch.add(T, W).mul_(-1 / n.learning_rate)
            self._old_buffers = True

    def _any_step(self, c: Coefficients, drives: Drives, done: Tensor, stored: StoredStep | None) -> None:
        state, p = self._state, self._state.degree
        η, β, quadratic = c.learning_rate, c.momentum, state["quadratic"]
        W, T = state.energy("update_energy", drives), state.drive("parameter_update", drives)
        if stored is not None:
            W = W - stored.energy
            # What the formula alone moves the charge by, 2⟨θ,d⟩ + |d|², solved for ⟨θ,d⟩.
            T = (done - stored.change - W) / p
        C = torch.where(c.restart, 0.0, self._companion)
        pull = c.weight_decay * state["charge"]
        if drives.decay is not None:
            pull = torch.where(torch.isnan(c.weight_decay), state.drive("decay", drives), pull)
        # Nesterov's G + βv with the new v = βv + G is (1+β)G + β²v of the old one: the factors of gradient and memory.
        gain, kept = torch.where(c.nesterov, 1 + β, c.gain), torch.where(c.nesterov, β * β, β)
        kept = torch.where(c.running, kept, 0.0)
        decay, memory = -η * gain * pull, -η * kept * C
        # The slope u = λX + ρ that the step took; where η = 0 nothing tells it, and the symmetry is believed.
        slope = torch.where(η > 0, (T - memory) / (-η * gain), pull)
        x = β * C + torch.where(c.nesterov, slope, c.gain * slope)
        P = None if drives.update_velocity is None else state.energy("update_velocity", drives)
        # Of the heavy ball, whose d is -ηv.
        moved = torch.where(η > 0, -W / η, 0.0) if P is None else P
        after = x + torch.where(quadratic, moved, 0.0)
        resting = C if P is None else C + torch.where(quadratic & self._buffered, P, 0.0)
        if stored is not None:
            after = resting = stored.companion
        active = c.active
        for name, value in zip(_OF_SGD, (W, T, decay, memory), strict=True):
            self._add(name, torch.where(active, value, 0.0))
        self._companion = torch.where(active, torch.where(c.running, after, resting), self._companion)
        # Once there is a buffer torch keeps it, momentum or not.
        self._buffered = self._buffered | (c.running & active)
        self._old_buffers = self._old_buffers or c.numbers is None or c.numbers.momentum != 0
