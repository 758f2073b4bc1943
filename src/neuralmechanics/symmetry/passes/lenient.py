"""A walk that demands nothing where nobody looks for symmetries: what it still ends is ended for certain.

Every constraint of an ordinary walk is enough for what is claimed to be true; not every one is needed. Where an
operation has no rule, or its rule gives up, or a product with numbers of the model (a mask, a table) may hide what
enters, a ``Lenient`` walk goes on with a value of which nothing is known, and constrains nothing. A parameter that does
not move in this walk either is *free* of symmetry; of any other the first such operation on its way is the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.rules.registry import number_behind
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.passes.expert_axis import Routed, Routing
from neuralmechanics.symmetry.program.checked import is_value

__all__ = ["Lenient", "Reason", "Unsought", "numbers_of"]


@dataclass(frozen=True)
class Reason:
    """Why a symmetry may have been missed: there is no rule, or nobody looks; where, and what."""

    status: Literal["unknown", "not sought"]
    where: str
    text: str = ""


@dataclass(frozen=True, eq=False)
class Unsought:
    """A tensor of which it is not known how it changes.

    ``pending``: values that cannot change unless this one does. ``hides``: some of what entered it may not show.
    """

    shape: tuple[int, ...]
    reason: Reason
    pending: tuple[Any, ...] = ()
    hides: bool = True
    terms: tuple[int, ...] = (1,)


@dataclass(eq=False)
class Lenient:
    """The primitives with values of which nothing is known; it stands between the rules and ``routed``.

    ``met``: by the number of an operation, why it is not followed. ``hidden``: operations behind which what enters may
    not show at all.
    """

    domain: Routing
    numbers: frozenset[fx.Node]
    met: dict[int, Reason] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    where: str = ""
    _marked: dict[int, Any] = field(default_factory=dict)
    _sums: dict[int, Any] = field(default_factory=dict)

    # --- values -------------------------------------------------------------------------------------------------

    def mark(self, node: fx.Node, values: Iterable[Any]) -> None:
        """Notes the values of a node that is made of the model's own numbers."""
        if node in self.numbers:
            self._mark(values)

    def _mark(self, values: Iterable[Any]) -> None:
        self._marked |= {id(value): value for value in values}

    def _moves(self, x: Any) -> bool:
        value = x.value if isinstance(x, Routed) else x
        return isinstance(x, Unsought) or bool(self.domain.domain.moves(value))

    def unsought(self, meta: Any, inputs: Sequence[Any], reason: Reason, hides: bool) -> Any:
        """The results of an operation that is not followed."""
        moving = any(self._moves(x) for x in inputs)
        if moving or hides:
            self._note(reason, hides)
        return self._results(meta, reason, hides, moving)

    def _results(self, meta: Any, reason: Reason, hides: bool, moving: bool) -> Any:
        if isinstance(meta, (tuple, list)):
            return tuple(self._results(m, reason, hides, moving) for m in meta)
        if getattr(meta, "shape", None) is None:
            return meta
        shape = shape_of(meta)
        return Unsought(shape, reason, (), hides) if moving else self.domain.constant(shape)

    def _note(self, reason: Reason, hides: bool) -> None:
        self.met.setdefault(self.domain.cause, reason)
        if hides:
            self.hidden.add(self.domain.cause)

    # --- primitives ---------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **settings: Any) -> Any:
        operands = [a for arg in args for a in (arg if isinstance(arg, (tuple, list)) else [arg]) if is_value(a)]
        unknown = [x for x in operands if isinstance(x, Unsought)]
        if unknown:
            return self._passed(name, unknown, operands, args, settings)
        given_up = self._given_up(name, operands, args)
        if given_up is not None:
            return given_up
        out = getattr(self.domain, name)(*args, **settings)
        self._follow_sums(name, operands, out)
        if operands and all(id(x) in self._marked for x in operands) and is_value(out):
            self._mark([out])
        return out

    def _follow_sums(self, name: str, operands: Sequence[Any], out: Any) -> None:
        """Notes what adds up to a constant along a dimension, and what is made of it by rearrangement."""
        if name in ("softmax", "normalise") or (name in _REARRANGING and any(id(x) in self._sums for x in operands)):
            self._sums[id(out)] = out

    def _forgotten(self, x: Any) -> bool:
        """Whether it adds up to a constant along some dimension, and the domain does not know along which any more."""
        known = (getattr(x, "sums_to_one", None), getattr(x, "sums_to_zero", None))
        return id(x) in self._sums and known == (None, None) and not self._scaled()

    def _given_up(self, name: str, operands: Sequence[Any], args: Sequence[Any]) -> Any:
        """The result where the primitive demands more than it must; None where it does not."""
        moving = [x for x in operands if self._moves(x)]
        marked = [id(x) in self._marked for x in operands]
        if name in ("mul", "contract") and any(marked) and not all(marked):
            text = "it is multiplied by numbers of the model, which may be zero"
            return self._unknown(name, args, text, (), True, bool(moving))
        if name == "gather" and self._is_number(args[3]) and not all(marked):
            return self._unknown(name, args, "which entries are read is not looked at", (), True, bool(moving))
        if name == "positions" or (name == "power" and args[1] == 0):
            return self._unknown(name, args, "no gradient passes a step", (), True, False)
        if not moving:
            return None
        if name == "contract" and any(self._forgotten(x) for x in operands):
            return self._unknown(name, args, "entries that add up to a constant are not followed this far", (), False)
        if name == "masked":
            return self._unknown(name, args, "which entries are masked is not looked at", (), args[1] == 0)
        if name == "normalise" and all(args[0].shape[d] == 1 for d in args[1]):
            return self._unknown(name, args, "a norm of single entries", (), True)
        if name in ("add", "add_number") and len(moving) == 1 and self._scaled():
            alone = name == "add" and len(operands) == 2
            broken_by = args[2] if name == "add_number" and len(args) > 2 else None
            if (alone or name == "add_number") and broken_by is None and self._added(name, args):
                text = "a factor of a sum with a constant is not looked for"
                return self._unknown(name, args, text, tuple(moving), False)
        return None

    def _added(self, name: str, args: Sequence[Any]) -> bool:
        return bool(args[1] != 0 if name == "add_number" else (len(args) < 3 or args[2] != 0))

    def _scaled(self) -> bool:
        """Whether the walk asks for factors, which a constant that is added ends."""
        return bool(getattr(self.domain.domain, "ended_by_constants", False))

    def _is_number(self, index: Hashable) -> bool:
        parts = index if isinstance(index, tuple) else (index,)
        nodes = [n for part in parts for n in (part if isinstance(part, tuple) else (part,)) if isinstance(n, fx.Node)]
        return bool(nodes) and all(n in self.numbers for n in nodes)

    def _unknown(
        self, name: str, args: Sequence[Any], text: str, pending: tuple[Any, ...], hides: bool, moves: bool = True
    ) -> Any:
        """A result of which nothing is known, or (where nothing that moves enters) what does not show behind it."""
        reason = Reason("not sought", self.where, text)
        self._note(reason, hides)
        shape = self._shape(name, args)
        return Unsought(shape, reason, pending, hides) if moves else self.domain.constant(shape)

    def _shape(self, name: str, args: Sequence[Any], **settings: Any) -> tuple[int, ...]:
        """The shape of a primitive's result: that of the same with constants."""
        plain = [self._plain(arg) for arg in args]
        return tuple(getattr(self.domain, name)(*plain, **settings).shape)

    def _plain(self, arg: Any) -> Any:
        if isinstance(arg, (tuple, list)):
            return type(arg)(self._plain(a) for a in arg)
        return self.domain.constant(tuple(arg.shape)) if is_value(arg) else arg

    def _passed(
        self, name: str, unknown: Sequence[Unsought], operands: Sequence[Any], args: Sequence[Any], settings: Any
    ) -> Any:
        """A primitive of which an operand is not known."""
        reason, hides = unknown[0].reason, any(x.hides for x in unknown)
        self._note(reason, hides)
        others = [x for x in operands if not isinstance(x, Unsought) and self._moves(x)]
        if name in _ENDING:
            self.domain.fix(*(v for x in unknown for v in x.pending))
            if not hides:
                self.domain.fix(*others)
        if name == "fix":
            return None
        shape = self._shape(name, args, **settings)
        if name in _ENDING and not hides:
            return self.domain.constant(shape)
        kept = tuple(v for x in unknown for v in x.pending) if not others and name not in _BLIND else ()
        return Unsought(shape, reason, kept, hides)


_ENDING = frozenset({"fix", "nonlinear", "homogeneous", "power", "noise"})
_REARRANGING = frozenset(
    {"view", "cat", "scaled", "add_number", "masked", "zero_padded", "resized", "reduce", "select"}
)
_BLIND = frozenset({"softmax", "normalise", "deviation", "positions"})  # to some of what is added


def numbers_of(captured: Captured) -> frozenset[fx.Node]:
    """What is computed from the model's own numbers (buffers, tables) alone; a single nonzero number is no table."""
    made: set[fx.Node] = set()
    for node in captured.graph.nodes:
        drawn = any(word in str(node.target) for word in _RANDOM)
        computed = node.op == "call_function" and not drawn and all(n in made for n in node.all_input_nodes)
        if computed or _is_number(captured, node):
            made.add(node)
    return frozenset(node for node in made if not number_behind(node))


def _is_number(captured: Captured, node: fx.Node) -> bool:
    source = captured.sources.get(node.name)
    return source is not None and source.kind in ("buffer", "constant")


_RANDOM = ("rand", "normal", "bernoulli", "uniform", "dropout", "exponential", "cauchy")
