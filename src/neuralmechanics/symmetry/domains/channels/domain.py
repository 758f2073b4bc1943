"""How channels may be permuted, mixed, scaled and flipped: the interpreter of a program that follows each dimension.

Every dimension of every tensor has a layout (``layout``). Where two dimensions meet entry by entry their channels are
permuted alike, where channels meet data or stand in given places they are told apart. On the way it is noted with which
matrices the channels of a space may also mix, and by which factors and signs they may be multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from neuralmechanics.symmetry.domains.channels import elementwise, movement, sums
from neuralmechanics.symmetry.domains.channels.axes import Axes, broadcast, changed, data_axes, same_axes
from neuralmechanics.symmetry.domains.channels.layout import Layout, Leaf, Sum, data, mapped, same
from neuralmechanics.symmetry.domains.channels.meeting import Meeting, Run
from neuralmechanics.symmetry.families.actions.terms.gain import Gain
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["Channels"]


@dataclass(eq=False)
class Channels(Meeting):
    """Answers each instruction with the axes of its result. ``skeletons``: what each parameter's dimensions split into.

    ``buffers``: the names of the model's buffers, by what the graph calls them; their entries move along.
    ``cause`` and ``position`` are set by the interpreter's loop. State that only grows (``nodes``, ``mixing``) is kept
    when the program is interpreted again; ``factors`` are collected anew.
    """

    skeletons: Mapping[str, tuple[Layout, ...]] = field(default_factory=dict)
    complex: frozenset[str] = frozenset()
    cause: int = -1
    position: int = -1
    parameters: dict[str, Axes] = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    variables: int = 0

    def step(self, instruction: Instruction, *xs: Axes) -> Axes | None:
        """The axes of one instruction's result."""
        primitive = instruction.primitive
        rule = _RULES.get(type(primitive))
        result = instruction.result
        xs = tuple(self.current(x) for x in xs)
        # A primitive without a rule holds all that enters it: one that is new is safe here before anybody thinks of it.
        if rule is None:
            self.hold(*xs)
            out: Axes | None = None if result is None else data_axes(result.shape)
        elif result is not None and type(primitive) in _TOGETHER and not _broadcast(xs):  # sizes that the data decide
            self.hold(*xs)
            out = data_axes(result.shape)
        elif result is not None and not isinstance(primitive, p.Parameter) and 0 in result.shape:
            out = same_axes(result.shape)  # of no entries, whatever is said holds
        elif result is not None and result.constant_number() is not None and not isinstance(primitive, p.Parameter):
            out = same_axes(result.shape)  # zeros also where a parameter is met by zeros
        elif (
            result is not None
            and xs
            and not any(x.moves for x in xs)
            and not isinstance(primitive, (p.Parameter, p.Constant))
        ):
            out = self._of_data(primitive, xs, result.shape)
        else:
            out = rule(self, primitive, *xs)
        # Other primitives may make something else of zeros, as exp does: then all entries agree, and are not known.
        if out is not None and type(primitive) not in _KEEPING_ZEROS:
            out = changed(out, lambda leaf: replace(leaf, zero=False) if leaf.zero else leaf)
        if out is not None and result is not None:
            if out.shape != result.shape:
                raise AssertionError(f"{primitive} gives {out.shape} for {result.shape}")
            self.seen(out)
            # Data by their index, for masks: the layout says along which dimensions a mask is the same.
            if not result.depends and not out.moves:
                self.known[result.index] = out
        return out

    def _of_data(self, primitive: p.Primitive, xs: Sequence[Axes], shape: Sequence[int]) -> Axes:
        """Data of which only a repetition is followed."""
        if isinstance(primitive, p.Rearrange):
            return movement.view(self, primitive, *xs)
        if isinstance(primitive, _ENTRYWISE) and not elementwise.reads_data(getattr(primitive, "function", None)):
            wide = [broadcast(x, tuple(shape)) for x in xs]
            even = [all(x.layouts[d] == same(n) for x in wide) for d, n in enumerate(shape)]
            return Axes(tuple(same(n) if e else data(n) for n, e in zip(shape, even, strict=True)))
        return data_axes(shape)

    # --- leaves ---------------------------------------------------------------------------------------------------

    def parameter(self, name: str) -> Axes:
        """One space for each part of each dimension."""
        if name not in self.parameters:
            layouts = tuple(mapped(self.nodes.fresh(skeleton), self._labelled) for skeleton in self.skeletons[name])
            wide = [layout for layout in layouts if layout.width > 1]
            gain = (Gain(name), 1.0) if len(wide) == 1 else None
            self.parameters[name] = Axes(layouts, gain)
            if gain is not None:
                self._placed(Run(name, 0, 1), wide[0])
            # Of complex parameters nothing is claimed: matrices, factors and signs are real here.
            if name in self.complex:
                self.hold(self.parameters[name])
        return self.current(self.parameters[name])

    def _placed(self, run: Run, layout: Layout) -> None:
        """Notes where each leaf of a vector stands; not beside what is no space, which no copy counts."""
        if isinstance(layout, Leaf):
            if layout.scale:
                self.runs[layout.scale[0][0]] = run
        elif isinstance(layout, Sum):
            start = run.start
            for part in layout.parts:
                self._placed(replace(run, start=start), part)
                start += part.width * run.stride
        else:
            inner = [math.prod(p.width for p in layout.parts[k + 1 :]) for k in range(len(layout.parts))]
            for k, part in enumerate(layout.parts):
                others = [(x, n) for j, (x, n) in enumerate(zip(layout.parts, inner, strict=True)) if j != k]
                beside = [
                    (x.width, run.stride * n, x.node) for x, n in others if isinstance(x, Leaf) and x.node is not None
                ]
                if len(beside) == len(others):
                    own = replace(run, stride=run.stride * inner[k], beside=(*run.beside, *beside))
                    self._placed(own, part)

    def buffer(self, name: str, shape: Sequence[int]) -> Axes:
        """Channels of a buffer, such as running statistics, which are permuted and nothing else."""
        if name not in self.parameters:
            (skeleton,) = self.skeletons.get(name) or (same(math.prod(shape)),)
            self.parameters[name] = Axes((self.nodes.fresh(skeleton),))
        return movement.reshaped(self, Reshape(tuple(shape)), self.current(self.parameters[name]))

    def _labelled(self, leaf: Leaf) -> Leaf:
        """The leaf with a matrix, a factor and a sign of its own."""
        if leaf.node is None:
            return leaf
        self.variables += 1
        variable = self.variables
        return replace(
            leaf, mixing=self.mixing.new(leaf.width), scale=((variable, Fraction(1)),), sign=frozenset({variable})
        )


def _parameter(c: Channels, primitive: p.Parameter) -> Axes:
    return c.parameter(primitive.name)


def _constant(c: Channels, primitive: p.Constant, *xs: Axes) -> Axes:
    if primitive.number is not None:
        return same_axes(primitive.shape)
    if primitive.entries_of is not None and primitive.entries_of in c.buffers:
        return c.buffer(c.buffers[primitive.entries_of], primitive.shape)
    c.hold(*xs)
    return data_axes(primitive.shape)


def _ended(c: Channels, primitive: Any, *xs: Axes) -> Axes:
    c.hold(*xs)
    return data_axes(primitive.shape)


def _fixed(c: Channels, primitive: p.Fix, *xs: Axes) -> None:
    c.hold(*xs)


def _nothing(c: Channels, primitive: Any, *xs: Axes) -> None:
    """A statement that other interpreters read."""


_ENTRYWISE = (
    p.Add, p.AddNumber, p.Scale, p.Multiply, p.Power, p.Homogeneous, p.Nonlinear, p.Exponential, p.Logarithm, p.Maximum,
)  # fmt: skip
_RULES: dict[type, Callable[..., Any]] = {
    p.Parameter: _parameter,
    p.Constant: _constant,
    p.Unread: _nothing,
    p.Pair: movement.paired,
    p.Forget: elementwise.forgotten,
    p.Ended: _ended,
    p.Fix: _fixed,
    p.Rearrange: movement.view,
    p.Concatenate: movement.concatenated,
    p.Add: elementwise.added,
    p.AddNumber: elementwise.number_added,
    p.Scale: elementwise.scaled,
    p.Multiply: elementwise.multiplied,
    p.Power: elementwise.power,
    p.Homogeneous: elementwise.homogeneous,
    p.Nonlinear: elementwise.nonlinear,
    p.Exponential: elementwise.nonlinear,
    p.Logarithm: elementwise.nonlinear,
    p.Maximum: elementwise.larger,
    p.Noise: elementwise.noisy,
    p.Select: elementwise.selected,
    p.Mask: elementwise.masked,
    p.Contract: sums.contracted,
    p.Reduce: sums.reduced,
    p.Extremum: sums.extremum,
    p.Positions: sums.positions,
    p.Order: sums.ordered,
    p.Pool: sums.pooled,
    p.Normalise: sums.normalised,
    p.Deviation: sums.deviation,
    p.Softmax: sums.softmax,
    p.Gather: movement.gathered,
    p.Pad: movement.padded,
    p.Resize: movement.resized,
    p.Spread: movement.spread,
    p.Scatter: movement.scattered,
}
_KEEPING_ZEROS = (p.Pad, p.Rearrange, p.Concatenate, p.Add)
_TOGETHER = (p.Add, p.Multiply, p.Maximum, p.Select, p.Nonlinear, p.Forget)  # read entry by entry, broadcast


def _broadcast(xs: Sequence[Axes]) -> bool:
    """Whether the operands' shapes fit together as far as they are known."""
    ranks = max((len(x.shape) for x in xs), default=0)
    shapes = [(1,) * (ranks - len(x.shape)) + tuple(x.shape) for x in xs]
    return all(len({n for n in sizes if n != 1}) <= 1 for sizes in zip(*shapes, strict=True))
