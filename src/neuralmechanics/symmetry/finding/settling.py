"""Channels settled: the program interpreted until dimensions split no further and nothing more is held."""

from __future__ import annotations

from collections.abc import Mapping

from neuralmechanics.symmetry.domains.channels.domain import Channels
from neuralmechanics.symmetry.domains.channels.factors import Factors
from neuralmechanics.symmetry.domains.channels.layout import Layout, same
from neuralmechanics.symmetry.domains.representation.spaces import Leg
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.program.interpret import interpret
from neuralmechanics.symmetry.program.program import Program

__all__ = ["channels_like", "settled_channels"]


_ROUNDS = 32  # interpretations until dimensions split no further, and nothing more is held


def settled_channels(captured: Captured, program: Program) -> Channels | None:
    """The interpreter after it has read the program until nothing changes; None where that takes too long."""
    skeletons: Mapping[str, tuple[Layout, ...]] = {
        name: tuple(same(n) for n in shape) for name, shape in captured.shapes.items()
    }
    for _ in range(_ROUNDS):
        channels = _fresh(captured, skeletons)
        _walk(program, channels)
        # A split puts the labels that were given before it out of date: the walk is begun anew, split from the start.
        if not channels.nodes.split_any:
            return _held(channels, program)
        skeletons = {**skeletons, **_skeletons(channels)}
    return None


def channels_like(settled: Channels, captured: Captured) -> Channels:
    """An interpreter that has read nothing, with dimensions that split as those of ``settled`` do."""
    return _fresh(captured, {**settled.skeletons, **_skeletons(settled)})


def _fresh(captured: Captured, skeletons: Mapping[str, tuple[Layout, ...]]) -> Channels:
    buffers = {
        place: source.name.removeprefix("model.")
        for place, source in captured.sources.items()
        if source.kind == "buffer"
    }
    return Channels(captured.shapes, skeletons=skeletons, complex=captured.complex, buffers=buffers)


def _skeletons(channels: Channels) -> dict[str, tuple[Layout, ...]]:
    return {
        name: tuple(channels.nodes.skeleton(layout) for layout in axes.layouts)
        for name, axes in channels.parameters.items()
    }


def _held(channels: Channels, program: Program) -> Channels | None:
    """The same once more, until nothing changes."""
    for _ in range(_ROUNDS):
        before = _state(channels)
        # Ties only grow and are kept; factors are equations on labels that ties may have changed.
        channels.factors = Factors()
        _walk(program, channels)
        # A tie may split what the first rounds had left whole, and then the labels are out of date once more.
        if channels.nodes.split_any:
            return None
        if _state(channels) == before:
            return channels
    return None


def _walk(program: Program, channels: Channels) -> None:
    interpret(program, channels, channels.step)  # type: ignore[arg-type]


def _state(channels: Channels) -> object:
    nodes, mixing = channels.nodes, channels.mixing
    roots = [nodes.find(n) for n in range(len(nodes.widths))]
    within = {
        root: frozenset(nodes.find(n) for n in known)
        for root in set(roots)
        if (known := nodes.within[root]) is not None
    }
    flags = [
        frozenset(mixing.find(Leg(n)).node for n in found) for found in (mixing.rigid, mixing.orthogonal, mixing.ones)
    ]
    return roots, frozenset(map(nodes.find, nodes.rigid)), within, flags, len(mixing.widths)
