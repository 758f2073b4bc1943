"""Terms: every value of a program by what makes it, so that two that are computed alike have one number."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from torch import fx

from neuralmechanics.symmetry.families.breaking import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.in_place import is_in_place
from neuralmechanics.symmetry.lowering.lower import Lowered
from neuralmechanics.symmetry.lowering.sizes import undecided_sizes
from neuralmechanics.symmetry.passes.rewriting.expert_axis import sorted_list
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import EQUALS, GROUPS, IDENTITY, RESULT, WRITTEN, Function
from neuralmechanics.symmetry.program.attributes.index import Index
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.program import Instruction, Program

__all__ = ["Terms", "UnfollowedError"]

_WORD = re.compile(r"[A-Za-z_]\w*")
Renumbered = Callable[[int], int]  # the index of a value: the number of its term


class UnfollowedError(Exception):
    """What a relabeling does to a value is not known."""


@dataclass(eq=False)
class Terms:
    """Numbers of terms. ``named``: the index of the value that the graph calls so; ``of``: the term of each value.

    ``owners``: for a size that the data decide, the first value that has it: which it is, that value's term tells.
    """

    captured: Captured
    program: Program
    named: Mapping[str, int]
    undecided: Callable[[int], bool]
    makers: Mapping[int, Instruction]
    of: dict[int, int] = field(default_factory=dict)
    owners: dict[int, int] = field(default_factory=dict)
    opaque: set[int] = field(default_factory=set)  # values of which not all that makes them is known
    patches: dict[int, tuple[int, frozenset[tuple[int, int]]]] = field(default_factory=dict)
    _at: int = -1
    _equal: dict[int, tuple[int, object]] = field(default_factory=dict)
    _numbers: dict[Hashable, int] = field(default_factory=dict)
    _names: frozenset[str] = frozenset()
    _own_numbers: int = 0

    @classmethod
    def read(cls, captured: Captured, lowered: Lowered) -> Terms:
        """All values of the program as it was lowered, before any pass."""
        terms = cls(captured, lowered.program, lowered.named, undecided_sizes(captured.graph), lowered.program.makers())
        terms._names = frozenset(node.name for node in captured.graph.nodes)
        for instruction in lowered.program.instructions:
            if instruction.result is not None:
                terms._own(instruction)
                terms.of[instruction.result.index] = terms._first(instruction)
        terms._own_numbers = len(terms._numbers)
        return terms

    def _first(self, instruction: Instruction) -> int:
        assert instruction.result is not None
        try:
            return self.made(instruction, self._known)
        except UnfollowedError:
            self.opaque.add(instruction.result.index)
            return self.number(("leaf", instruction.result.index))

    def _known(self, value: int) -> int:
        if value not in self.of:
            raise UnfollowedError("it names a value that is made later")
        return self.of[value]

    def _own(self, instruction: Instruction) -> None:
        assert instruction.result is not None
        for n in instruction.result.shape:
            if self.undecided(n):
                self.owners.setdefault(n, instruction.result.index)

    def number(self, key: Hashable) -> int:
        """The number of a term."""
        return self._numbers.setdefault(key, len(self._numbers))

    def made(self, instruction: Instruction, of: Renumbered, operands: Sequence[int] | None = None) -> int:
        """The term that the instruction makes of terms."""
        primitive, result = instruction.primitive, instruction.result
        assert result is not None
        self._at = result.index
        read = tuple(of(x.index) for x in instruction.operands) if operands is None else tuple(operands)
        if isinstance(primitive, p.Constant):
            if primitive.number is not None:
                return self.number(("number", primitive.number))
            if not read:  # a leaf, which is equal to nothing else
                return self.number(("leaf", result.index))
            named = primitive.function.name if primitive.function is not None else RESULT
            if named == EQUALS and primitive.function is not None:
                return self.equal(read[0], primitive.function.settings)
            return self.number(("data", named, self._plain(primitive.computed, of), read))
        function = getattr(primitive, "function", None)
        if isinstance(primitive, p.Homogeneous) and function is not None and function.name == IDENTITY:
            return read[0]
        if isinstance(primitive, p.Power) and function is not None and function.name == EQUALS:
            return self.equal(read[0], 0)
        if isinstance(primitive, p.Rearrange) and _as_it_stands(primitive, instruction.operands[0].shape):
            return read[0]
        if isinstance(primitive, p.Gather) and primitive.index.how == GROUPS and len(primitive.index.values) == 1:
            (ends,) = primitive.index.values
            if (listed := sorted_list(ends, self.makers)) != ends:  # the group of each row is what the list says
                return self.number(("groups", primitive.dim, self._plain(primitive.index_shape, of), of(listed), read))
        if isinstance(primitive, p.Scatter) and function is not None:
            if (patched := self._patched(primitive, of, read)) is not None:
                return patched
            if len(read) == 1 and (primitive.adds or function.name == WRITTEN):
                return self.put(primitive, of, read[0])
        if isinstance(primitive, (p.Multiply, p.Maximum)) and getattr(primitive, "function", None) is None:
            read = tuple(sorted(read))
        return self.number((type(primitive).__name__, self.settings(primitive, of), read))

    def is_own(self, term: int) -> bool:
        """Whether the term is that of a value of the model as it is."""
        return term < self._own_numbers

    def equal(self, labels: int, number: object) -> int:
        """The term of a comparison of integers with a number."""
        found = self.number((EQUALS, labels, number))
        self._equal[found] = labels, number
        return found

    def put(self, primitive: p.Scatter, of: Renumbered, source: int) -> int:
        """The term of a source put into zeros, in whatever words."""
        assert primitive.function is not None
        index = tuple(of(self.data(name)) for name in primitive.function.data)
        shape = self._plain(primitive.shape, of)
        return self.number(("put", primitive.adds, primitive.dim, primitive.apart, shape, index, source))

    def _patched(self, primitive: p.Scatter, of: Renumbered, read: Sequence[int]) -> int | None:
        """Entries replaced where integers are a number, and those where they are another: in whatever order."""
        if primitive.adds or primitive.function is None or len(primitive.function.data) != 1:
            return None
        mask = of(self.data(primitive.function.data[0]))
        nothing: tuple[int, frozenset[tuple[int, int]]] = (-1, frozenset())
        base, before = self.patches.get(read[0], (read[0], frozenset())) if len(read) == 2 else nothing
        if primitive.function.name != WRITTEN or not self._apart([mask, *(m for m, _ in before)]):
            return None
        found = frozenset({*before, (mask, read[-1])})
        term = self.number(("patched", primitive.dim, base, found))
        self.patches[term] = base, found
        return term

    def _apart(self, masks: Sequence[int]) -> bool:
        """Whether no two of the masks hold at one place."""
        found = [self._equal[m] for m in masks if m in self._equal]
        return len(found) == len(masks) == len(set(found)) and len({labels for labels, _ in found}) == 1

    def settings(self, primitive: p.Primitive, of: Renumbered) -> Hashable:
        """What a primitive does, the values that it names by their terms."""
        return tuple(
            (f.name, self._mask(getattr(primitive, f.name), of) if f.name == "mask" else self._plain(value, of))
            for f in fields(primitive)  # type: ignore[arg-type]
            if f.compare and (value := getattr(primitive, f.name)) is not None
        )

    def _mask(self, value: Any, of: Renumbered) -> Hashable:
        return None if value is None else of(value)

    def _plain(self, value: Any, of: Renumbered) -> Hashable:
        if isinstance(value, bool) or value is None:
            return value
        if isinstance(value, int):
            owner = self.owners.get(value)
            return value if owner is None else "own size" if owner == self._at else ("size of", of(owner))
        if isinstance(value, str):
            return self._without_names(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._plain(v, of) for v in value)
        if isinstance(value, Function):
            data = tuple(of(self.data(name)) for name in value.data if value.name != RESULT)
            own = value.data if value.name == RESULT else data
            return value.name, own, self._plain(value.settings, of)
        if isinstance(value, Index):
            return tuple(map(of, value.values)), self._plain(value.how, of)
        if isinstance(value, Breaking):
            return value.constant, value.value  # the place differs from expert to expert
        if isinstance(value, np.ndarray):
            return value.shape, value.tobytes()
        if hasattr(value, "__dataclass_fields__"):
            return type(value).__name__, tuple(self._plain(getattr(value, f.name), of) for f in fields(value))
        found: Hashable = value
        return found

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        made = self.makers[value].result
        assert made is not None
        return made.shape

    def leaf_name(self, value: int) -> str:
        """What the model calls a parameter or a buffer; nothing where it is none."""
        primitive = self.makers[value].primitive
        if isinstance(primitive, p.Parameter):
            return primitive.name
        source = self.captured.sources.get(getattr(primitive, "entries_of", None) or "")
        return source.name.removeprefix("model.") if source is not None and source.kind == "buffer" else ""

    def writes(self, node: fx.Node) -> bool:
        """Whether an operation writes into what it reads."""
        return is_in_place(node)

    def writes_into(self, node: fx.Node) -> bool:
        """Whether an operation writes into this one's result."""
        return any(user.args[:1] == (node,) and is_in_place(user) for user in node.users)

    def data(self, name: str) -> int:
        """The index of the value that the graph calls so."""
        if name not in self.named:
            raise UnfollowedError(f"{name} is no value of the program")
        return self.named[name]

    def _without_names(self, text: str) -> Hashable:
        """Names of the graph by the order in which they occur: what they stand for are operands."""
        met: dict[str, str] = {}

        def told(found: re.Match[str]) -> str:
            word = found.group()
            return met.setdefault(word, f"#{len(met)}") if word in self._names else word

        return _WORD.sub(told, text)


def _as_it_stands(primitive: p.Rearrange, shape: tuple[int, ...]) -> bool:
    """Whether a rearrangement leaves all where it is."""
    view = primitive.view
    if isinstance(view, Permute):
        return view.order == tuple(range(len(shape)))
    return getattr(view, "shape", None) == shape
