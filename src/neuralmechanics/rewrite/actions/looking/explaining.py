"""Why a space of channels has no larger group: the first operation that stops it, and the parameters that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from neuralmechanics.rewrite.actions.looking.choosing import kind_of
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.rewritten import Refusal
from neuralmechanics.symmetry.domains.channels.axes import Axes, all_leaves
from neuralmechanics.symmetry.domains.channels.domain import Channels
from neuralmechanics.symmetry.domains.representation.spaces import Leg
from neuralmechanics.symmetry.finding.settling import channels_like, settled_channels
from neuralmechanics.symmetry.passes.rewriting.early_takes import with_early_takes
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["why_no_matrix"]


@dataclass(frozen=True)
class _Stop:
    """An instruction that lets no channels mix, and the gains that stand before it."""

    instruction: Instruction
    gains: tuple[str, ...]


def why_no_matrix(subject: Subject, kind: str | None = None) -> list[Refusal]:
    """For each space on which no matrices act, the operation that stops them.

    ``kind``: "stream" for spaces of which there is one, "head" for those of which there is one in each head.
    """
    without = [
        space
        for space in subject.symmetries.channel_spaces
        if kind_of(space) == "channels" and kind in (None, "head" if space.copies else "stream")
    ]
    if not subject.symmetries.channel_spaces:
        return [Refusal(type(subject.model).__name__, subject.why_no_space())]
    if not without:
        return []
    stops = _stops(subject)
    out = []
    for space in without:
        found = [stops.get((e.parameter, e.axis, e.place.offset)) for e in space.entries]
        known = [stop for stop in found if stop is not None]
        first = min(known, key=lambda stop: stop.instruction.cause.number, default=None)
        reason = (
            "its channels count heads or experts, which only change places" if first is None else _said(first, subject)
        )
        out.append(Refusal(space.name, reason))
    return out


Place = tuple[str, int, int]


def _stops(subject: Subject) -> Mapping[Place, _Stop]:
    """For each dimension of a parameter with channels the instruction that first held its matrices."""
    program = with_early_takes(subject.program)
    settled = settled_channels(subject.captured, program)
    if settled is None:
        return {}
    channels = channels_like(settled, subject.captured)
    stops: dict[int, _Stop] = {}

    def step(instruction: Instruction, *xs: Axes) -> Axes | None:
        gains = _gains(channels, xs)
        out = channels.step(instruction, *xs)
        for node in channels.mixing.rigid - stops.keys():
            known = next((stops[n] for n in stops if channels.mixing.find(Leg(n)).node == node), None)
            stops[node] = known or _Stop(instruction, gains)
        return out

    interpret(program, channels, step)  # type: ignore[arg-type]
    return dict(_by_place(channels, stops))


def _by_place(channels: Channels, stops: Mapping[int, _Stop]) -> Iterator[tuple[Place, _Stop]]:
    for name, axes in channels.parameters.items():
        if name in channels.gains:  # they stay where they are in any case
            continue
        for axis, layout in enumerate(axes.layouts):
            offset = 0
            parts = getattr(layout, "parts", (layout,)) if type(layout).__name__ == "Sum" else (layout,)
            for part in parts:
                for leaf in all_leaves(Axes((part,))):
                    leg = _found(channels, leaf.mixing)
                    if leg is not None and leg.node in stops:
                        yield (name, axis, offset), stops[leg.node]
                offset += part.width


def _found(channels: Channels, leg: Leg | None) -> Leg | None:
    return None if leg is None else channels.mixing.find(leg)


def _gains(channels: Channels, xs: tuple[Axes, ...]) -> tuple[str, ...]:
    """Gains that stand between the operands' channels and the space's own."""
    legs = [leg for x in xs for leaf in all_leaves(x) if (leg := _found(channels, leaf.mixing)) is not None]
    return tuple(dict.fromkeys(gain.parameter for leg in legs for gain, _ in leg.dressing))


def _said(stop: _Stop, subject: Subject) -> str:
    """One sentence."""
    primitive, where = stop.instruction.primitive, stop.instruction.cause
    if isinstance(primitive, (p.Add, p.Contract, p.Concatenate, p.Select)) and stop.gains:
        gain = stop.gains[0]
        also = _tied_reader(stop, subject)
        if also is not None:
            return f"{where} reads {also}, which is tied, through the gain {gain}: untie and fold first"
        return (
            f"at {where} what the gain {gain} multiplies meets what it does not, "
            "and a rotation does not pass through a gain that is not 1: fold it first, where it can be"
        )
    if isinstance(primitive, (p.Homogeneous, p.Nonlinear, p.Maximum, p.Softmax, p.Extremum, p.Order, p.Positions)):
        return f"{where} treats each of its channels alone"
    if isinstance(primitive, p.Multiply):
        return f"{where} multiplies each of its channels by a number of its own"
    if isinstance(primitive, p.Normalise) and stop.gains:
        return f"{where} measures by length what the gain {stop.gains[0]} has multiplied, which no rotation keeps"
    if isinstance(primitive, p.Normalise):
        return f"{where} takes statistics of each of its channels"
    if isinstance(primitive, p.Fix):
        return f"the output of {where} shows each of its channels"
    return f"{where} tells its channels apart"


def _tied_reader(stop: _Stop, subject: Subject) -> str | None:
    names = set(subject.aliases.values())
    makers = subject.program.makers()
    for value in stop.instruction.operands:
        maker = makers.get(value.index)
        while maker is not None and isinstance(maker.primitive, p.Rearrange):
            maker = makers.get(maker.operands[0].index)
        if maker is not None and isinstance(maker.primitive, p.Parameter) and maker.primitive.name in names:
            return maker.primitive.name
    return None
