"""Measuring the drives of one step: one read of each parameter, its gradient and its momentum."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws import Drives, StoredStep
from neuralmechanics.monitor.following.measuring import budget_forms
from neuralmechanics.monitor.following.measuring.recipes import Forms, recipe_of
from neuralmechanics.monitor.processes.portion import ChargeSums
from neuralmechanics.monitor.store.shards.record import StepDrives
from neuralmechanics.optimizers import Part, Setting, Update, dense
from neuralmechanics.slices import (
    AdamStep,
    Bilinear,
    Derived,
    Operand,
    ProductPlan,
    Products,
    Recipe,
    first_of,
    widened,
)
from neuralmechanics.slices.sending import weighed

ALL_DRIVES = tuple(field.name for field in fields(Drives))
DONE, CLAIMED = "done", "claimed"
# Parts of an update that are the very same tensors as long as the update is the same object.
_LASTING = frozenset(("after", "velocity"))
# Recipes that are kept: a training repeats a few, a schedule makes new ones at every step.
_REMEMBERED = 64


@dataclass(frozen=True, eq=False)
class _Known:
    """A recipe, and the setting that it was made for, kept so that its identity stays its own."""

    setting: Setting
    forms: Forms


@dataclass(frozen=True, eq=False)
class Measured:
    """One step of one optimiser: the drives, what its formula does not account for, and parts of the budget.

    `stored` is None where every update was read from the formula itself.
    """

    drives: Drives
    stored: StoredStep | None
    parts: Mapping[str, Tensor]


class DriveMeter:
    """Sums of pair(·,·) over parameters in float64, each on its parameter's device, gathered on one."""

    def __init__(
        self,
        symmetries: ChargeSums,
        params: Mapping[str, Tensor],
        device: torch.device,
        quadratic: Bool[Tensor, " charges"],
    ) -> None:
        self._symmetries = symmetries
        self._quadratic = quadratic
        self._device = device
        self._params = dict(params)
        self._plans: dict[torch.device, ProductPlan] = {}
        for on in dict.fromkeys(params[name].device for name in symmetries.parameters):
            self._plan(on, ())
        self._last: tuple[Setting, tuple[bool | int, ...], tuple[str, ...], Forms] | None = None
        self._known: dict[tuple[object, ...], _Known] = {}
        self._here = frozenset(symmetries.parameters)
        self._given: dict[str, tuple[Update, Forms, Products]] = {}
        displacement = symmetries.displacement
        self._displaced = bool(displacement.mix.parameters) or bool(displacement.constants.any())
        self._single = _pair_recipe(same=True)
        self._double = _pair_recipe(same=False)

    def measure(
        self, updates: Iterable[tuple[str, Update | None]], wanted: Collection[str], parts: Sequence[str] = ()
    ) -> Measured:
        """The wanted drives of the step and parts of its budget, zero where torch left a parameter alone."""
        # of a parameter that lies elsewhere nothing is measured here
        present = [(name, update) for name, update in updates if update is not None and name in self._here]
        names = (*sorted(wanted), *parts)
        unclaimed = any(update.claims for _, update in present)
        if unclaimed:
            names = (*names, DONE, CLAIMED, budget_forms.CLAIMED_ENERGY)
            names = names if budget_forms.COMPANION in parts else (*names, budget_forms.COMPANION)
        given = {}
        for name, update in present:
            forms, known = self._forms(update, names), self._given.get(name)
            if known is None or known[0] is not update or known[1] is not forms:
                operands = tuple([_operand(update, part) for part in forms.parts])
                known = self._given[name] = update, forms, Products(operands, forms.recipe)
                if not _LASTING.issuperset(forms.parts):
                    del self._given[name]
            given[name] = known[2]
        sums = dict(zip(names, self._measured(given, len(names)), strict=True))
        drives = Drives(**{name: sums[name] for name in wanted})
        found = {name: sums[name] for name in parts}
        if not unclaimed:
            return Measured(drives, None, found)
        energy = sums["update_energy"] if "update_energy" in sums else sums[budget_forms.CLAIMED_ENERGY]
        change = (1 + self._quadratic.double()) * (sums[DONE] - sums[CLAIMED])
        stored = StoredStep(change, energy - sums[budget_forms.CLAIMED_ENERGY], sums[budget_forms.COMPANION])
        return Measured(drives, stored, found)

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """pair(a, b) over all parameters, whatever devices they are on, in double precision throughout."""
        given = {
            name: Products((a[name],), self._single)
            if a[name] is b[name]
            else Products((a[name], b[name]), self._double)
            for name in self._symmetries.parameters
        }
        return self._measured(given, 1)[0]

    def charge(self, values: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The charges at ``values``: ⟨θ, Mθ⟩, and of θ + c what is linear in θ and what is constant, too."""
        if not self._displaced:
            return self.pair(values, values)
        given = {name: Products((values[name],), _CHARGE) for name in self._symmetries.parameters}
        pair, sums = self._measured(given, 2)
        constants = self._symmetries.displacement.constants.to(pair.device)
        return pair + torch.where(self._quadratic, sums + constants, 0.0)

    def energies(self, values: Mapping[str, Tensor]) -> tuple[Float64[Tensor, " charges"], Float64[Tensor, " charges"]]:
        """Σ |c| a² over the slices of every quadratic charge, and of every translation; linear blocks left out."""
        names = [name for name in self._symmetries.parameters if name in values]
        given = {name: Products((values[name],), _ENERGIES) for name in names}
        products, sums = self._measured(given, 2, absolute=True)
        return products, sums

    def _forms(self, update: Update, wanted: tuple[str, ...]) -> Forms:
        """What is made of the update's parts; the same object as long as its setting is the same."""
        kind, last = update.kind, self._last
        if last is not None and last[0] is update.setting and last[1] == kind and last[2] == wanted:
            return last[3]
        key = (id(update.setting), kind, wanted)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = _Known(update.setting, recipe_of(update, wanted))
        self._last = (update.setting, kind, wanted, known.forms)
        return known.forms

    def _plan(self, device: torch.device, names: Collection[str]) -> ProductPlan:
        """The plan of the parameters on a device, made anew when others have come there (a model that was moved)."""
        plan = self._plans.get(device)
        if plan is None or not plan.holds(names):
            here = {name: dense(self._params[name].detach()) for name in self._symmetries.parameters}
            there = {name: p for name, p in here.items() if p.device == device or name in names}
            plan = self._plans[device] = self._symmetries.product_plan(there, device)
        return plan

    def _measured(self, given: Mapping[str, Products], forms: int, *, absolute: bool = False) -> Sequence[Tensor]:
        """One tensor [charges] a form."""
        devices: dict[torch.device, dict[str, Products]] = {}
        for name, products in given.items():
            if products.operands:
                devices.setdefault(first_of(products.operands[0]).device, {})[name] = products
        total: Tensor | None = None
        for device, here in devices.items():
            out = self._plan(device, here.keys()).measure(here, forms, absolute=absolute)
            for name in () if absolute else self._symmetries.apart & here.keys():
                self._add_apart(out, name, here[name])
            out = out.to(self._device, non_blocking=True)
            total = out if total is None else total + out
        if total is None:
            total = torch.zeros(forms, len(self._symmetries.labels), dtype=torch.float64, device=self._device)
        return total.unbind(0)

    def _add_apart(self, out: Float64[Tensor, "forms charges"], name: str, products: Products) -> None:
        """The charges that no plan measures: one product for each pair."""
        quadratic = products.recipe.quadratic
        wide = [widened(o) if isinstance(o, Tensor) else o.whole() for o in products.operands]
        weights = weighed(quadratic.weights, out.device)
        for number, (left, right) in enumerate(quadratic.pairs):
            found = torch.zeros_like(out[0])
            self._symmetries.accumulate_apart_(found, name, wide[left], wide[right])
            out += weights[:, number, None] * found


def _operand(update: Update, part: Part) -> Operand:
    found = update.tensor(part)
    if isinstance(found, Tensor):
        return found
    if isinstance(found, tuple):
        return Derived(*found)
    constants = AdamStep(found.scale, found.root, found.epsilon, found.squared)
    return Derived(found.numerator, found.denominator, constants)


def _pair_recipe(*, same: bool) -> Recipe:
    one = np.ones((1, 1))
    return Recipe(Bilinear(((0, 0) if same else (0, 1),), one), Bilinear(((0, -1),), one))


_ENERGIES = Recipe(Bilinear(((0, 0),), np.array([[1.0], [0.0]])), Bilinear(((0, 0),), np.array([[0.0], [1.0]])))
# ⟨θ, Mθ⟩ with what is linear in θ; and that alone.
_CHARGE = Recipe(Bilinear(((0, 0),), np.array([[1.0], [0.0]])), Bilinear(((0, -1),), np.ones((2, 1))))


def summed(a: Drives, b: Drives) -> Drives:
    """Drives of two optimisers in one iteration: sums over disjoint parameters."""
    total = {}
    for name in ALL_DRIVES:
        one, other = getattr(a, name), getattr(b, name)
        total[name] = None if one is None or other is None else one + other
    return Drives(**total)


def rated(drives: Drives, now: Tensor | None, companion: tuple[Tensor, Tensor] | None) -> Drives:
    """Drives with what belongs to charges whose parameters differ in η `now` left to these alone, nan elsewhere.

    `companion`: Σ_p η_p ⟨θ_p,v_p⟩ before the step and the charges that are to take it; None where all laws know it.
    """
    pull, velocity = drives.rated_pull, drives.rated_velocity
    if all(each is None for each in (now, companion, pull, velocity, drives.rated_companion)):
        return drives
    if now is None or pull is None or velocity is None:
        pull = velocity = None
    else:
        pull, velocity = (each.masked_fill(~now, torch.nan) for each in (pull, velocity))
    taken = None if companion is None else companion[0].masked_fill(~companion[1], torch.nan)
    if taken is None and pull is not None:
        taken = torch.full_like(pull, torch.nan)
    return replace(drives, rated_pull=pull, rated_velocity=velocity, rated_companion=taken)


def gathered(steps: Sequence[StepDrives], total: Callable[..., Sequence[Tensor]]) -> list[StepDrives]:
    """Steps with the drives of the whole model, from those of this process; `total` adds up what all measured."""
    measured = [{name: v for name in ALL_DRIVES if (v := getattr(s.drives, name)) is not None} for s in steps]
    flat = {(number, name): value for number, each in enumerate(measured) for name, value in each.items()}
    totals = dict(zip(flat, total(*flat.values()), strict=True)) if flat else {}
    sums = [{name: totals[number, name] for name in each} for number, each in enumerate(measured)]
    return [replace(step, drives=Drives(**each)) for step, each in zip(steps, sums, strict=True)]
