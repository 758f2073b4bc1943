"""The group element that brings one network to another: part after part, each from what is known already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, Step
from neuralmechanics.rewrite.comparing.parts.block_units import BlockUnit
from neuralmechanics.rewrite.comparing.parts.family_units import FamilyUnit
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.parts.units import SpaceUnit, Unit, Usable
from neuralmechanics.rewrite.comparing.solving.gauge import answering_blindly, centred, is_readable, rescaled
from neuralmechanics.rewrite.comparing.solving.levelling import levelled
from neuralmechanics.rewrite.comparing.solving.refining import refined
from neuralmechanics.symmetry import Family

__all__ = ["Matched", "Solver", "distance_between", "gaps", "matched"]

_SWEEPS = 8
_SMALL = 1e-12
_ROUNDING = 1e-9  # of a tensor in float64
_NEAR, _FAR = 1e-2, 0.5  # gaps from which the last approach is tried: with and without hidden tensors


@dataclass(frozen=True)
class Matched:
    """An element, and ‖g·b - a‖ / ‖a‖ of each tensor after it; ``hidden`` tensors had no say."""

    element: Element
    gaps: Mapping[str, float]
    hidden: frozenset[str]

    @property
    def off(self) -> float:
        """The greatest of the gaps that were not hidden."""
        return max((gap for name, gap in self.gaps.items() if name not in self.hidden), default=0.0)


def matched(
    network: Network,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    hidden: Collection[str] = (),
    *,
    sweeps: int = _SWEEPS,
    bound: float = _ROUNDING,
) -> Matched:
    """The element that explains b as a, as far as the tensors that are not ``hidden`` are one orbit.

    Shifts and free scales are fixed in both by rules. Then the parts of the group are solved for in turn, the best
    known one first, each from the entries on which nothing unknown acts but itself: for networks of one orbit every
    solution is exact. What depends on hidden tensors comes last; sweeps over all parts polish the result. Below a tenth
    of the ``bound`` of what counts as rounding there is nothing more to come nearer to.
    """
    solver = Solver(network, frozenset(hidden), a, b)
    solver.fix_gauges()
    solver.in_turn()
    solver.finish(sweeps)
    element = Element(tuple(solver.undone)).compose(Element(tuple(solver.steps)))
    found = Matched(element, gaps(a, element.transform(b)), frozenset(hidden))
    if hidden and found.off > _SMALL and solver.off() < _NEAR:
        found = _shifted(network, a, b, found)
    enough = min(bound, _ROUNDING) / 10
    return _refined(network, a, b, found) if enough < found.off < (_NEAR if hidden else _FAR) else found


def _refined(network: Network, a: Mapping[str, Tensor], b: Mapping[str, Tensor], found: Matched) -> Matched:
    """With a last approach along all continuous symmetries at once: what overlaps is not solved for part by part."""
    steps = refined(network.families, a, found.element.transform(b), found.hidden)
    element = Element(tuple(steps)).compose(found.element)
    tried = Matched(element, gaps(a, element.transform(b)), found.hidden)
    return tried if tried.off < found.off else found


def _shifted(network: Network, a: Mapping[str, Tensor], b: Mapping[str, Tensor], found: Matched) -> Matched:
    """With all shifts at once, outside the gauge: what a shift adds to a reader may depend on a hidden tensor."""
    off = {name for name, gap in found.gaps.items() if gap > _SMALL} - found.hidden
    shifts = _connected(network.shifts, off)
    if not off <= {name for family in shifts for name in family.parameters}:
        return found
    moved = found.element.transform(b)
    steps = refined(shifts, a, moved, found.hidden)
    element = Element((*found.element.steps, *steps))
    tried = Matched(element, gaps(a, element.transform(b)), found.hidden)
    return tried if tried.off < found.off else found


def _connected(families: Sequence[Family], names: Collection[str]) -> list[Family]:
    """The families that move one of the tensors, or one that another of these families moves."""
    reached, chosen = set(names), set[str]()
    while more := {f.name for f in families if not reached.isdisjoint(f.parameters)} - chosen:
        chosen |= more
        reached |= {name for f in families if f.name in more for name in f.parameters}
    return [family for family in families if family.name in chosen]


def gaps(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, float]:
    """‖b - a‖ / ‖a‖ tensor by tensor; of tensors that are zero, ‖b‖ itself."""
    out = {}
    for name, value in a.items():
        size = float(value.norm())
        gap = float((b[name] - value).norm())
        out[name] = gap / size if size else gap
    return out


def distance_between(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """‖b - a‖ / ‖a‖ over all tensors of a."""
    gap = sum(float((b[name] - value).square().sum()) for name, value in a.items())
    size = sum(float(value.square().sum()) for value in a.values())
    return float((gap / size) ** 0.5) if size else float(gap**0.5)


class Solver:
    """The state of one matching: both networks, b as far as it has been moved, and the parts that are known."""

    def __init__(
        self,
        network: Network,
        hidden: frozenset[str],
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        *,
        free: bool = True,
    ) -> None:
        self.network, self.hidden, self.free = network, hidden, free
        self.a, self.b = dict(a), dict(b)
        self.steps: list[Step] = []
        self.undone: list[Step] = []
        self.late: list[FamilyUnit] = []
        self.known: set[str] = set()
        # What shifts add to these depends on hidden tensors, which differ: in the gauge of a they are not those of b.
        self.unseen = hidden | answering_blindly(network.shifts, hidden)
        # The block of b that stands where a block of a does may be another: a gauge reads all of them or none.
        alike = hidden | network.alike(hidden)
        self.unread = alike | answering_blindly(network.shifts, alike)

    def fix_gauges(self) -> None:
        """Shifts and scales of both; those that cannot be read wait in ``late``."""
        network = self.network
        for family in network.shifts:
            if not is_readable(family, self.unread) and family.name in network.late:
                self.late.append(network.late[family.name])
        self.a, shifts = centred(network.shifts, self.a, self.unread, network.origins(self.a))
        own: list[Step] = list(shifts)
        self.b, shifts = centred(network.shifts, self.b, self.unread, network.origins(self.b))
        other: list[Step] = list(shifts)
        loose = self.unread | {name for unit in self.late for name in unit.family.parameters}
        for family in network.scalings:
            readable = network.readable(family, loose)
            amounts = [rescaled(family, params, readable, network.gains) for params in (self.a, self.b)]
            if amounts[0] is None or amounts[1] is None:
                self.late += [network.late[family.name]] if family.name in network.late else []
                continue
            steps = [FamilyStep(family, amount) for amount in amounts if amount is not None]
            self.a, self.b = steps[0].transform(self.a), steps[1].transform(self.b)
            own.append(steps[0])
            other.append(steps[1])
        level = self._level(own, other)
        gains = network.gains - self.unread - set(network.origins(self.a))
        for unit in (u for u in network.units if isinstance(u, SpaceUnit)):
            for step in unit.positive(self.a, gains):
                self.a = step.transform(self.a)
                own.append(step)
            for step in unit.positive(self.b, gains):
                self.b = step.transform(self.b)
                other.append(step)
        self.steps = list(other)
        # a was moved, too: its own way is gone back at the end, so that b lands on a, not on what stands for its orbit.
        self.undone = [back for step in reversed(own) for back in step.inverse()]
        waiting = {unit.name for unit in self.late}
        self.known = {name for name in network.late if name not in waiting} | level

    def _level(self, own: list[Step], other: list[Step]) -> set[str]:
        """What centring norms forget made level in both, by the readers that are seen; names of families so fixed."""
        network, done = self.network, set()
        for family in network.families:
            matrices = [levelled(network, family, params, self.unread) for params in (self.a, self.b)]
            if matrices[0] is None or matrices[1] is None:
                continue
            steps = [FamilyStep(family, matrix) for matrix in matrices if matrix is not None]
            self.a, self.b = steps[0].transform(self.a), steps[1].transform(self.b)
            own.append(steps[0])
            other.append(steps[1])
            done.add(family.name)
        if done:  # what shifts add is read off the maps that the levelling has changed
            self.a, shifts = centred(network.shifts, self.a, self.unread, network.origins(self.a))
            own += shifts
            self.b, shifts = centred(network.shifts, self.b, self.unread, network.origins(self.b))
            other += shifts
        return done

    def usable(self, unit: Unit, unknown: Collection[str] | None = None) -> Usable:
        """Places of the unit, and of those within it, on which nothing unknown acts but itself: zeros say nothing."""
        network = self.network

        def answer(asked: Unit, place: int) -> bool:
            name = asked.regions[place].tensor
            if name in self.unseen or name not in self.a or not (self.a[name].any() or self.b[name].any()):
                return False
            met = network.meeting[asked.name, place] - {asked.name, unit.name}
            return not (met - self.known if unknown is None else met & set(unknown))

        return answer

    def apply(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            self.b = step.transform(self.b)
            self.steps.append(step)

    def in_turn(self) -> None:
        """Every part once, the best known first."""
        waiting = list(self.network.units)
        while waiting:
            scores = [unit.known(self.usable(unit)) for unit in waiting]
            best = max(range(len(waiting)), key=lambda k: scores[k])
            # Before a part is solved from too little, a shift or scale that waits may make more of it known.
            if scores[best] <= 0 and self.late:
                self._settle_late(only_known=False)
                continue
            unit = waiting.pop(best)
            # Where each waits for another, the first is solved from what there is.
            usable = self.usable(unit) if scores[best] > 0 else self.usable(unit, self._within(unit))
            self.apply(unit.solve(self.a, self.b, usable, free=self.free))
            self.known |= {unit.name, f"{unit.name} itself"}
            self._settle_late(only_known=True)
        while self.late:
            self._settle_late(only_known=False)

    def _settle_late(self, *, only_known: bool) -> None:
        """Solves what waits and is known; where nothing else can be done the first that waits, from what there is."""
        for unit in list(self.late):
            usable = self.usable(unit)
            if unit.known(usable) > 0:
                self.apply(unit.solve(self.a, self.b, usable, free=self.free))
            elif only_known:
                continue
            self.late.remove(unit)
            self.known.add(unit.name)
            if not only_known:
                return

    def _within(self, unit: Unit) -> list[str]:
        if isinstance(unit, BlockUnit):
            return [u.name for u in unit.within]
        return [u.name for u, _ in unit.inner] if isinstance(unit, SpaceUnit) else []

    def off(self) -> float:
        """The greatest relative gap of a tensor that is not hidden; where factors are not free, the distance."""
        if not self.free:
            return distance_between(self.a, self.b)
        # Gains that are stored as 1 + w are zeros once they are one: their size is that of 1 + w.
        a, b = ({**x, **{n: x[n] + c for n, c in self.network.origins(x).items()}} for x in (self.a, self.b))
        found = gaps({n: v for n, v in a.items() if n not in self.unseen}, b)
        return max(found.values(), default=0.0)

    def hold_all(self) -> None:
        """Every part counts as known: each is solved from all entries, the others held where they are."""
        self.known = {*self.network.late, *(n for u in self.network.units for n in (u.name, f"{u.name} itself"))}

    def sweep(self) -> None:
        """Each part once, from all entries that it moves."""
        for unit in (*self.network.units, *(self.network.late.values() if self.free else ())):
            self.apply(unit.solve(self.a, self.b, self.usable(unit, self._within(unit)), free=self.free))

    def finish(self, sweeps: int) -> None:
        """All parts again from all entries, while the greatest gap falls."""
        before = self.off()
        for _ in range(sweeps):
            if before < _SMALL:
                return
            # A sweep that makes things worse is taken back.
            kept = dict(self.b), list(self.steps)
            self.sweep()
            after = self.off()
            if not after < 0.99 * before:
                if not after < before:
                    self.b, self.steps = kept
                return
            before = after
