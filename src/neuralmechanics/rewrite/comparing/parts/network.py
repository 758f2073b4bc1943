"""A network's symmetry group as parts that are solved for in turn, and which of them act on the same entries."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction, Whole, names_of, unwrapped
from neuralmechanics.rewrite.comparing.parts.block_units import BlockUnit
from neuralmechanics.rewrite.comparing.parts.containing import contain_factors, contain_matrices, made_of_families
from neuralmechanics.rewrite.comparing.parts.family_units import (
    FamilyUnit,
    SolvedUnit,
    family_unit,
    is_scaling,
    is_shift,
    solved_through,
)
from neuralmechanics.rewrite.comparing.parts.units import SpaceUnit, Unit
from neuralmechanics.symmetry import Family, Space, Symmetries, find_symmetries

__all__ = ["Network"]


@dataclass(eq=False)
class Network:
    """The group of a model: spaces, shifts, scalings, and the other families that no space contains.

    ``scalings`` are solved by a gauge (see ``gauge``) where one tensor's lengths determine them, as a gain's do.
    ``meeting``: for each place of each unit the units that act on the same entries.
    """

    symmetries: Symmetries
    families: tuple[Family, ...]
    tied: Mapping[str, str]
    shifts: tuple[Family, ...]
    scalings: tuple[Family, ...]
    gains: frozenset[str]
    units: tuple[Unit, ...]
    late: Mapping[str, FamilyUnit] = field(default_factory=dict)
    meeting: dict[tuple[str, int], frozenset[str]] = field(default_factory=dict)
    bending: dict[str, frozenset[tuple[str, int | None]]] = field(default_factory=dict)

    @classmethod
    def of(cls, model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, exact: bool = True) -> Network:
        """The group of a model's function; ``exact`` leaves out what constants break by a little."""
        symmetries = find_symmetries(model, batch, loss_fn)
        tied = names_of(Whole(unwrapped(model), loss_fn)).tied
        return cls.from_symmetries(symmetries, tied, exact=exact)

    @classmethod
    def from_symmetries(cls, symmetries: Symmetries, tied: Mapping[str, str], *, exact: bool = True) -> Network:
        """The same from symmetries that were found before."""
        families = [f for f in symmetries if f.exact or not exact]
        shapes = {name: tuple(shape) for name, shape in symmetries.capture.get("parameters", {}).items()}
        gains = frozenset(g.parameter for s in symmetries.channel_spaces for e in s.entries for g, _ in e.dressing)
        gains |= {name for f in families for name in f.action.gains}
        spaces = [SpaceUnit(space, exact) for space in symmetries.channel_spaces]
        for unit in spaces:
            unit.inner = _within(unit.space, spaces)
        scalings = [
            f
            for f in families
            if is_scaling(f) and (gains & set(f.parameters) or not contain_factors(spaces, f, shapes))
        ]
        others = [f for f in families if not is_scaling(f) and not is_shift(f) and not contain_matrices(spaces, f)]
        spaces = [unit for unit in spaces if not made_of_families(unit, others, shapes)]
        units: list[Unit] = [*spaces, *(u for f in others if (u := family_unit(f, shapes)) is not None)]
        units += [BlockUnit.among(space, tuple(units)) for space in symmetries.spaces if space.blocks]
        shifts = [f for f in families if is_shift(f)]
        late = {f.name: u for f in (*scalings, *shifts) if (u := family_unit(f, shapes)) is not None}
        late |= {f.name: _opened(late[f.name], shifts) for f in shifts if solved_through(f)}
        network = cls(symmetries, tuple(families), tied, tuple(shifts), tuple(scalings), gains, tuple(units), late)
        network._meet()
        return network

    def _meet(self) -> None:
        """Which units meet at each place, and which change lengths in a tensor."""
        everyone: list[Unit] = [*self.units, *self.late.values()]
        blind = {u.name for u in everyone if isinstance(u, FamilyUnit) and u.family.action.along_ones}
        by_tensor: dict[str, list[tuple[str, Any]]] = {}
        for unit in everyone:
            for region in unit.regions:
                by_tensor.setdefault(region.tensor, []).append((unit.name, region))
        for unit in everyone:
            for k, region in enumerate(unit.regions):
                met = {name for name, other in by_tensor[region.tensor] if name != unit.name and region.meets(other)}
                met -= {name for name in met if _sees_no_mean(unit, k) and name in blind}
                if isinstance(unit, SpaceUnit) and _twice(unit, k):
                    met.add(f"{unit.name} itself")
                self.meeting[unit.name, k] = frozenset(met)
        bending: dict[str, set[tuple[str, int | None]]] = {}
        for unit in everyone:
            for k, region in enumerate(unit.regions):
                if not _keeps_lengths(unit, k):
                    bending.setdefault(region.tensor, set()).add((unit.name, _scaled_axis(unit, k)))
        self.bending = {name: frozenset(found) for name, found in bending.items()}

    def readable(self, family: Family, hidden: Collection[str]) -> list[str]:
        """Tensors whose lengths nothing changes but the family: shifts are gone.

        Factors of spaces along the same axis are factors of the family, too, which are all that there are.
        """
        own = {f.name for f in self.shifts} | {family.name}
        axes = _axes(family)
        out = []
        for name in (n for n in family.parameters if n not in hidden):
            bent = self.bending.get(name, frozenset())
            out += [name] if all(who in own or axis in axes.get(name, set()) for who, axis in bent) else []
        return out

    def stretched(self, name: str, family: Family, axis: int) -> frozenset[str]:
        """What changes lengths in a tensor beside the family and shifts, other than by factors along the axis."""
        own = {f.name for f in self.shifts} | {family.name}
        factors = {f.name for f in self.scalings if axis in _axes(f).get(name, set())}
        bent = self.bending.get(name, frozenset())
        return frozenset(who for who, along in bent if who not in own | factors and along != axis)

    def alike(self, names: Collection[str]) -> frozenset[str]:
        """Tensors of other blocks that may come to stand where these do."""
        places = [set(place) for space in self.symmetries.spaces for place in zip(*space.blocks, strict=True)]
        return frozenset(name for place in places if not place.isdisjoint(names) for name in place - set(names))

    def origins(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is added to gains before anything reads them: 1 of 1 + w."""
        return {name: c for f in self.scalings for name, c in f.action.origin(like).items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the parameters."""
        return {name: tuple(shape) for name, shape in self.symmetries.capture.get("parameters", {}).items()}

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors of the function: parameters, and buffers that a space moves."""
        named = list(self.symmetries.capture.get("parameters", {}))
        return tuple(dict.fromkeys([*named, *(name for s in self.symmetries.spaces for name in s.parameters)]))


def _opened(unit: FamilyUnit, shifts: Sequence[Family]) -> SolvedUnit:
    through = set(solved_through(unit.family))
    opening = tuple(f for f in shifts if not through.isdisjoint(f.parameters) and not f.action.inputs)
    return SolvedUnit(unit.family, unit.regions, unit.solver, opening)


def _axes(family: Family) -> dict[str, set[int]]:
    """The axes along which a scaling tells channels apart, where it sees tensors in their own shape."""
    out: dict[str, set[int]] = {}
    for term in family.action.factor_terms:
        out.setdefault(term.view.parameter, set()).update(term.view.kept)
    return out


def _within(space: Space, others: Sequence[SpaceUnit]) -> list[tuple[SpaceUnit, int]]:
    return [
        (unit, role)
        for unit in others
        for role, copy in enumerate(unit.space.copies)
        if copy.name == space.name and unit.space is not space
    ]


def _twice(unit: SpaceUnit, place: int) -> bool:
    """Whether the space acts along another dimension of the same tensor as well."""
    entry = unit.space.entries[place]
    return any(e.parameter == entry.parameter and e.axis != entry.axis for e in unit.space.entries)


def _sees_no_mean(unit: Unit, place: int) -> bool:
    """Writers of a space whose matrices leave the mean: it is no part of their fit."""
    if not isinstance(unit, SpaceUnit) or unit.space.group != "ones-preserving orthogonal":
        return False
    return not unit.space.entries[place].inverse_transposed


def _scaled_axis(unit: Unit, place: int) -> int | None:
    """The axis along which a space multiplies channels; None for what is more."""
    return unit.space.entries[place].axis if isinstance(unit, SpaceUnit) and not unit.space.mixes else None


def _keeps_lengths(unit: Unit, place: int) -> bool:
    """Whether the unit only permutes, flips signs and turns at one of its places."""
    if not isinstance(unit, SpaceUnit):
        action = unit.family.action if isinstance(unit, FamilyUnit) else None
        return isinstance(unit, BlockUnit) or (action is not None and action.compact and not action.inputs)
    space, entry = unit.space, unit.space.entries[place]
    if space.mixes:
        return not entry.mixes or (space.group != "general linear" and not entry.dressing)
    scales = (space.directions[k] for k in unit.directions)
    return not any(d.kind == "scale" and d.exponents[place] for d in scales)
