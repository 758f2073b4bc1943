"""A walk that demands nothing where nobody looks for symmetries: what it still ends is ended for certain.

Every constraint of an ordinary walk is enough for what is claimed to be true; not every one is needed. Where an
operation has no rule, or its rule gives up, or a product with numbers of the model (a mask, a table) may hide what
enters, a ``Lenient`` walk goes on with a value of which nothing is known, and constrains nothing. A parameter that does
not move in this walk either is *free* of symmetry; of any other the first such operation on its way is the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.refusals import NotSoughtError, Reason

__all__ = ["Lenient", "Unsought"]


@dataclass(frozen=True, eq=False)
class Unsought:
    """A tensor of which it is not known how it changes.

    ``pending``: values that cannot change unless this one does. ``hides``: some of what entered it may not show.
    """

    shape: tuple[int, ...]
    reason: Reason
    pending: tuple[Any, ...] = ()
    hides: bool = True


@dataclass(eq=False)
class Lenient:
    """Answers instructions with the methods of ``domain``, or with values of which nothing is known.

    ``met``: by the number of an operation, why it is not followed. ``hidden``: operations behind which what enters may
    not show at all.
    """

    domain: Scales | Shifts
    program: Program
    met: dict[int, Reason] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    _marked: dict[int, Any] = field(default_factory=dict)
    _sums: dict[int, Any] = field(default_factory=dict)

    def step(self, instruction: Instruction, *xs: Any) -> Any:
        """The value of one instruction."""
        primitive = instruction.primitive
        unknown = [x for x in xs if isinstance(x, Unsought)]
        out: Any
        if isinstance(primitive, p.Fix) and primitive.reason is not None:
            self._unsaid(primitive.reason, xs)
            out = None
        elif isinstance(primitive, p.Forget):
            out = self._unsought(primitive, xs)
        elif unknown:
            out = self._passed(primitive, unknown, xs)
        elif (given_up := self._given_up(instruction, xs)) is not None:
            out = given_up
        else:
            try:
                out = primitive.interpreted(self.domain, *xs)
            except NotSoughtError as given_up:
                out = self._unknown(instruction, xs, str(given_up), (), False)
            self._follow_sums(primitive, xs, out)
            # What is made of numbers of the model alone is such a number, too.
            if xs and all(id(x) in self._marked for x in xs) and out is not None:
                self._marked[id(out)] = out
        if instruction.result is not None and instruction.result.index in self.program.numbers:
            self._marked[id(out)] = out
        return out

    # --- what is not followed -----------------------------------------------------------------------------------

    def _moves(self, x: Any) -> bool:
        return isinstance(x, Unsought) or self.domain.moves(x)

    def _unsought(self, forget: p.Forget, xs: Sequence[Any]) -> Any:
        """A result of an operation that is not followed."""
        moving = any(self._moves(x) for x in xs)
        if moving or forget.hides:
            self._note(forget.reason, forget.hides)
        return Unsought(forget.shape, forget.reason, (), forget.hides) if moving else self.domain.constant(forget.shape)

    def _unsaid(self, reason: Reason, xs: Sequence[Any]) -> None:
        """A statement of which it is not known what it says."""
        if any(self._moves(x) for x in xs):
            self._note(reason, False)

    def _note(self, reason: Reason, hides: bool) -> None:
        self.met.setdefault(self.domain.cause, reason)
        if hides:
            self.hidden.add(self.domain.cause)

    def _unknown(
        self,
        instruction: Instruction,
        xs: Sequence[Any],
        text: str,
        pending: tuple[Any, ...],
        hides: bool,
        moves: bool = True,
    ) -> Any:
        """A result of which nothing is known, or (where nothing that moves enters) what does not show behind it."""
        reason = Reason("not sought", str(instruction.cause), text)
        self._note(reason, hides)
        shape = _shape(instruction.primitive, xs)
        return Unsought(shape, reason, pending, hides) if moves else self.domain.constant(shape)

    def _passed(self, primitive: p.Primitive, unknown: Sequence[Unsought], xs: Sequence[Any]) -> Any:
        """A primitive of which an operand is not known."""
        reason, hides = unknown[0].reason, any(x.hides for x in unknown)
        self._note(reason, hides)
        others = [x for x in xs if not isinstance(x, Unsought) and self._moves(x)]
        ending = isinstance(primitive, _ENDING)
        # Where what is not known may not change, neither may the values that could change with it alone.
        if ending:
            self.domain.fix(*(v for x in unknown for v in x.pending))
            if not hides:
                self.domain.fix(*others)
        if isinstance(primitive, (p.Fix, p.Pair)):
            return None
        shape = _shape(primitive, xs)
        if isinstance(primitive, p.Ended) or (ending and not hides):
            return self.domain.constant(shape)
        pending = tuple(v for x in unknown for v in x.pending)
        kept = pending if not others and not isinstance(primitive, _BLIND) else ()
        return Unsought(shape, reason, kept, hides)

    # --- what demands more than it must -------------------------------------------------------------------------

    def _given_up(self, instruction: Instruction, xs: Sequence[Any]) -> Any:
        """The result where the primitive demands more than it must; None where it does not."""
        primitive = instruction.primitive
        moving = [x for x in xs if self._moves(x)]
        marked = [id(x) in self._marked for x in xs]
        if isinstance(primitive, (p.Multiply, p.Contract)) and any(marked) and not all(marked):
            text = "it is multiplied by numbers of the model, which may be zero"
            return self._unknown(instruction, xs, text, (), True, bool(moving))
        if isinstance(primitive, (p.Gather, p.Spread)) and primitive.some and not all(marked):
            return self._unknown(instruction, xs, "which entries are read is not looked at", (), True, bool(moving))
        if isinstance(primitive, p.Positions) or (isinstance(primitive, p.Power) and primitive.exponent == 0):
            return self._unknown(instruction, xs, "no gradient passes a step", (), True, False)
        if not moving:
            return None
        if isinstance(primitive, p.Contract) and any(v.number is not None for v in instruction.operands):
            text = "products with one number are added up, in which summands are not told apart"
            return self._unknown(instruction, xs, text, (), True)
        if isinstance(primitive, (p.Exponential, p.Logarithm)):
            text = "sums that turn into products, and products into sums, are not followed"
            return self._unknown(instruction, xs, text, (), False)
        if isinstance(primitive, p.Contract) and any(self._forgotten(x) for x in xs):
            text = "entries that add up to a constant are not followed this far"
            return self._unknown(instruction, xs, text, (), False)
        if isinstance(primitive, p.Mask):
            text = "which entries are masked is not looked at"
            return self._unknown(instruction, xs, text, (), primitive.number == 0)
        if isinstance(primitive, p.Normalise) and all(xs[0].shape[d] == 1 for d in primitive.dims):
            return self._unknown(instruction, xs, "a norm of single entries", (), True)
        if len(moving) == 1 and self._scaled() and _adds(primitive):
            return self._unknown(
                instruction, xs, "a factor of a sum with a constant is not looked for", tuple(moving), False
            )
        return None

    def _scaled(self) -> bool:
        """Whether the walk asks for factors, which a constant that is added ends."""
        return isinstance(self.domain, Scales)

    def _follow_sums(self, primitive: p.Primitive, xs: Sequence[Any], out: Any) -> None:
        """Notes what adds up to a constant along a dimension, and what is made of it by rearrangement."""
        moved = isinstance(primitive, _REARRANGING) and any(id(x) in self._sums for x in xs)
        shares = isinstance(primitive, p.Softmax) and not primitive.log
        if moved or shares or (isinstance(primitive, p.Normalise) and primitive.center):
            # The values are held with their ids, which others would be given once they were let go.
            self._sums[id(out)] = out

    def _forgotten(self, x: Any) -> bool:
        """Whether it adds up to a constant along some dimension, and the domain does not know along which any more."""
        known = (getattr(x, "sums_to_one", None), getattr(x, "sums_to_zero", None))
        return id(x) in self._sums and known == (None, None) and not self._scaled()


def _shape(primitive: p.Primitive, xs: Sequence[Any]) -> tuple[int, ...]:
    shape = primitive.output_shape(*(tuple(x.shape) for x in xs))
    if shape is None:
        raise AssertionError(f"{primitive} has no result")
    return shape


def _adds(primitive: p.Primitive) -> bool:
    """Whether something is added that is no eps."""
    if isinstance(primitive, p.AddNumber):
        return primitive.number != 0 and primitive.broken_by is None
    return isinstance(primitive, p.Add) and primitive.scale != 0


_ENDING = (p.Fix, p.Ended, p.Nonlinear, p.Homogeneous, p.Power, p.Noise)
_REARRANGING = (p.Rearrange, p.Concatenate, p.Scale, p.AddNumber, p.Mask, p.Pad, p.Resize, p.Reduce, p.Select)
_BLIND = (p.Softmax, p.Normalise, p.Deviation, p.Positions)  # to some of what is added
