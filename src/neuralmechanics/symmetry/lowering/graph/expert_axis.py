"""Rows that data route to experts: every row as it would be at each expert, until rows of different experts meet.

A mixture of experts sorts its tokens and multiplies each row by its expert's matrix: y[s] = W[e(s)] x[s]. Which expert
serves a row is data, so a label of y may differ from expert to expert, not from row to row. ``Routing`` stands between
the rules and an interpreter: it carries such values with a dimension for the experts in front, y[e, s] = W[e] x[s], and
sums them over e, weighted by zeros and ones, where an operation mixes rows. Labels of all experts so obey the
constraints of the rows that the data may send to them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.families.family import Breaking
from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.contraction import Contraction
from neuralmechanics.symmetry.program.function import Function
from neuralmechanics.symmetry.program.refusals import Reason
from neuralmechanics.symmetry.program.value import Value
from neuralmechanics.symmetry.program.views import Expand, Permute, Reshape, Take, View

__all__ = ["GROUPED", "Routed", "Routing", "routes"]

GROUPED = ("aten._grouped_mm", "transformers.grouped_mm_fallback")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CARRIED = frozenset(
    f"aten.{name}" for name in ("to", "_to_copy", "cumsum", "histc", "bincount", "clamp", "view", "reshape", "clone")
)


def decided_by(node: Any) -> Any:
    """The list of experts, one a row, behind an index or behind the ends of the experts' groups of rows."""
    while isinstance(node, fx.Node) and node.op == "call_function" and operation_name(node).rstrip("_") in _CARRIED:
        node = node.args[0]
    return node


def routes(graph: fx.Graph) -> frozenset[Any]:
    """What decides the expert of each row: of grouped products, and of indices that pick one of stacked matrices."""
    found = set()
    for node in graph.nodes:
        name = operation_name(node) if node.op == "call_function" else ""
        if name in GROUPED and len(node.args) > 2 and node.args[2] is not None:
            found.add(decided_by(node.args[2]))
        elif name == "aten.index" and len(node.args[1]) == 1 and _picks_matrices(node):
            found.add(decided_by(node.args[1][0]))
    return frozenset(found)


def _picks_matrices(node: Any) -> bool:
    stacked, index = node.args[0], node.args[1][0]
    while stacked.op == "call_function" and operation_name(stacked) in ("aten.transpose", "aten.to", "aten._to_copy"):
        stacked = stacked.args[0]
    value = index.meta["val"]
    return (
        stacked.op in ("placeholder", "get_attr")
        and getattr(stacked.meta.get("val"), "ndim", 0) == 3
        and value.ndim == 1
        and value.dtype is not torch.bool
    )


@dataclass(frozen=True, eq=False)
class Routed(Value):
    """A value of shape [experts, rows, …] that stands for [rows, …], each row at the expert ``key`` names."""

    value: Value = field(kw_only=True)
    key: Hashable = field(kw_only=True)


def _routed(value: Value, key: Hashable) -> Routed:
    known = (value.number, value.nonnegative)
    return Routed(value.index, value.shape[1:], value.depends, *known, value=value, key=key)


def _one_hot(index: Any, ends: bool, experts: int, rows: int) -> Function:
    """[expert, row]: one where the row is the expert's, by a list of experts or by where each one's rows end."""

    def apply(chosen: torch.Tensor) -> torch.Tensor:
        if ends:
            chosen = torch.searchsorted(
                chosen, torch.arange(rows, dtype=chosen.dtype, device=chosen.device), right=True
            )
        return (chosen.reshape(-1) == torch.arange(experts, device=chosen.device)[:, None]).double()

    return Function("one_hot", apply, (index.name,), (ends, experts, rows))


class Routing:
    """The methods of ``builder.Builder`` for plain values and routed ones alike."""

    def __init__(self, domain: Builder, deciding: frozenset[Any] = frozenset()) -> None:
        self.domain = domain
        self._deciding = deciding
        self._choices: dict[Any, tuple[int, Value]] = {}
        self._indices: dict[Any, tuple[Any, bool]] = {}

    def __getattr__(self, name: str) -> Any:
        known = [own for own in dir(type(self)) if not own.startswith("_")]
        near = get_close_matches(name, known, 1)
        hint = f"; {near[0]!r} is near" if near else ""
        raise AttributeError(f"there is no primitive {name!r} in neuralmechanics.symmetry.program.builder{hint}")

    def roll_back(self, length: int) -> None:
        """Forgets what was written after the first ``length`` instructions."""
        self._choices = {key: made for key, made in self._choices.items() if made[0] < length}

    # --- routed values ------------------------------------------------------------------------------------------

    def routed(self, stacked: Any, rows: int, key: Any, ends: bool = False) -> Routed:
        """One entry of ``stacked`` [experts, …] for each row, by a list of experts or by the ``ends`` of their rows."""
        self._indices[decided_by(key)] = (key, ends)
        stacked = self.plain(stacked)
        experts, *rest = stacked.shape
        apart = self.domain.view(stacked, Reshape((experts, 1, *rest)))
        return _routed(self.domain.view(apart, Expand((experts, rows, *rest))), decided_by(key))

    def plain(self, x: Any) -> Any:
        """x itself; of a routed value, what its rows are: Σ_e [e = e(s)] x[e, s]."""
        if not isinstance(x, Routed):
            return x
        experts, rows, *rest = x.value.shape
        if (x.key, experts) not in self._choices:
            function = _one_hot(*self._indices[x.key], experts, rows)
            choice = self.domain.constant((experts, rows), nonnegative=True, function=function)
            self._choices[x.key, experts] = (self.domain.length() - 1, choice)
        chosen = self._choices[x.key, experts][1]
        if rest:
            chosen = self.domain.view(chosen, Reshape((experts, rows, *(1 for _ in rest))))
        return self.domain.reduce(self.domain.mul(x.value, chosen), (0,), False, False)

    def _together(self, xs: Sequence[Any]) -> tuple[list[Any], Any]:
        """The values with their experts in front where all routed ones follow one list and broadcast; and that list."""
        keys = {x.key for x in xs if isinstance(x, Routed)}
        ranks = {len(x.shape) for x in xs if isinstance(x, Routed)}
        widest = max((len(x.shape) for x in xs), default=0)
        if len(keys) != 1 or ranks != {widest}:
            return [self.plain(x) for x in xs], None
        return [x.value if isinstance(x, Routed) else x for x in xs], keys.pop()

    def _each(self, name: str, xs: Sequence[Any], *rest: Any, **settings: Any) -> Any:
        """An elementwise primitive."""
        values, key = self._together(xs)
        out = getattr(self.domain, name)(*values, *rest, **settings)
        return out if key is None else _routed(out, key)

    def _along(self, x: Any, dims: Sequence[int], apply: Callable[[Any, tuple[int, ...]], Any]) -> Any:
        """A primitive along dimensions, those of rows excepted."""
        if not isinstance(x, Routed):
            return apply(x, tuple(dims))
        moved = tuple(d % len(x.shape) + 1 for d in dims)
        if 1 in moved or not moved:
            return apply(self.plain(x), tuple(dims))
        return _routed(apply(x.value, moved), x.key)

    # --- primitives ---------------------------------------------------------------------------------------------

    def constant(
        self,
        shape: Sequence[int],
        number: float | None = None,
        nonnegative: bool = False,
        function: Function | None = None,
    ) -> Any:
        return self.domain.constant(shape, number, nonnegative, function)

    def forget(
        self, shape: Sequence[int], reason: Reason, hides: bool, *xs: Any, function: Function | None = None
    ) -> Any:
        entering = (x.value if isinstance(x, Routed) else x for x in xs)
        return self.domain.forget(shape, reason, hides, *entering, function=function)

    def ended(self, shape: Sequence[int], function: Function | None, *xs: Any) -> Any:
        return self.domain.ended(shape, function, *(self.plain(x) for x in xs))

    def view(self, x: Any, view: View) -> Any:
        """Rearrangements that leave the rows in front where they are."""
        if not isinstance(x, Routed):
            return self.domain.view(x, view)
        experts, rows = x.value.shape[:2]
        out = tuple(view.output_shape(x.shape))
        if isinstance(view, Reshape) and out[:1] == (rows,):
            return _routed(self.domain.view(x.value, Reshape((experts, *out))), x.key)
        if isinstance(view, Permute) and view.order[0] == 0:
            return _routed(self.domain.view(x.value, Permute((0, *(k + 1 for k in view.order)))), x.key)
        if isinstance(view, Take) and view.dim != 0:
            return _routed(self.domain.view(x.value, Take(view.dim + 1, view.positions)), x.key)
        if isinstance(view, Expand) and len(out) == len(x.shape):
            return _routed(self.domain.view(x.value, Expand((experts, *out))), x.key)
        return self.domain.view(self.plain(x), view)

    def cat(self, xs: Sequence[Any], dim: int) -> Any:
        values, key = self._together(xs)
        if key is None or dim == 0:
            return self.domain.cat([self.plain(x) for x in xs], dim)
        experts = next(x.value.shape[0] for x in xs if isinstance(x, Routed))
        full = [
            value if isinstance(x, Routed) else self.domain.view(value, Expand((experts, *value.shape)))
            for x, value in zip(xs, values, strict=True)
        ]
        return _routed(self.domain.cat(full, dim + 1), key)

    def add(self, x: Any, y: Any, scale: float = 1.0) -> Any:
        return self._each("add", (x, y), scale)

    def add_number(self, x: Any, number: float) -> Any:
        return self._each("add_number", (x,), number)

    def scaled(self, x: Any, factor: float) -> Any:
        return self._each("scaled", (x,), factor)

    def mul(self, x: Any, y: Any, function: Function | None = None) -> Any:
        return self._each("mul", (x, y), function)

    def power(self, x: Any, exponent: float, function: Function | None = None) -> Any:
        return self._each("power", (x,), exponent, function)

    def homogeneous(self, x: Any, nonnegative: bool = False, function: Function | None = None) -> Any:
        return self._each("homogeneous", (x,), nonnegative, function)

    def exponential(self, x: Any) -> Any:
        return self._each("exponential", (x,))

    def logarithm(self, x: Any) -> Any:
        return self._each("logarithm", (x,))

    def nonlinear(
        self, *xs: Any, nonnegative: bool = False, floor: float | None = None, function: Function | None = None
    ) -> Any:
        return self._each("nonlinear", xs, nonnegative=nonnegative, floor=floor, function=function)

    def larger(self, x: Any, y: Any, largest: bool = True) -> Any:
        return self._each("larger", (x, y), largest)

    def noise(self, x: Any, function: Function | None = None) -> Any:
        return self._each("noise", (x,), function)

    def contract(self, x: Any, y: Any, how: Contraction, function: Function | None = None) -> Any:
        """A sum of products row by row, or of rows at whatever expert they are."""
        keys = {v.key for v in (x, y) if isinstance(v, Routed)}
        first = {letters[:1] for v, letters in ((x, how.x), (y, how.y)) if isinstance(v, Routed)}
        inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
        if len(keys) != 1 or first != {how.out[:1]} or first & inner:
            return self.domain.contract(self.plain(x), self.plain(y), how, function)
        letter = next(c for c in reversed(_LETTERS) if c not in how.x + how.y + how.out)
        mine, theirs = (letter + s if isinstance(v, Routed) else s for v, s in ((x, how.x), (y, how.y)))
        left, right = (v.value if isinstance(v, Routed) else v for v in (x, y))
        out = self.domain.contract(left, right, replace(how, x=mine, y=theirs, out=letter + how.out))
        return _routed(out, keys.pop())

    def reduce(self, x: Any, dims: Sequence[int], keepdim: bool, mean: bool, function: Function | None = None) -> Any:
        return self._along(x, dims, lambda v, d: self.domain.reduce(v, d, keepdim, mean, function))

    def extremum(self, x: Any, dims: Sequence[int], keepdim: bool, largest: bool = True) -> Any:
        return self._along(x, dims, lambda v, d: self.domain.extremum(v, d, keepdim, largest))

    def ordered(self, x: Any, dim: int, shape: Sequence[int], function: Function | None = None) -> Any:
        return self.domain.ordered(self.plain(x), dim, shape, function)

    def pool(
        self,
        x: Any,
        dims: Sequence[int],
        shape: Sequence[int],
        linear: bool,
        keeps_constants: bool,
        how: Hashable,
        function: Function | None = None,
        signed: bool = False,
    ) -> Any:
        return self.domain.pool(self.plain(x), dims, shape, linear, keeps_constants, how, function, signed)

    def normalise(
        self,
        x: Any,
        dims: Sequence[int],
        center: bool,
        broken_by: Breaking | None,
        mean: bool = True,
        function: Function | None = None,
    ) -> Any:
        return self._along(x, dims, lambda v, d: self.domain.normalise(v, d, center, broken_by, mean, function))

    def softmax(self, x: Any, dim: int, log: bool = False, function: Function | None = None) -> Any:
        return self._along(x, (dim,), lambda v, d: self.domain.softmax(v, d[0], log, function))

    def gather(self, x: Any, dim: int, index_shape: Sequence[int], index: Any, function: Function | None = None) -> Any:
        """Entries picked for each row by what decides its expert are routed."""
        if dim == 0 and len(index_shape) == 1 and isinstance(index, fx.Node) and decided_by(index) in self._deciding:
            return self.routed(x, index_shape[0], index)
        if isinstance(x, Routed) and dim > 0:
            return _routed(self.domain.gather(x.value, dim + 1, index_shape, index, function), x.key)
        return self.domain.gather(self.plain(x), dim, index_shape, index, function)

    def select(self, x: Any, y: Any, shape: Sequence[int], function: Function | None = None) -> Any:
        return self.domain.select(self.plain(x), self.plain(y), shape, function)

    def fix(self, *xs: Any) -> None:
        self.domain.fix(*(x.value if isinstance(x, Routed) else x for x in xs))

    def masked(self, x: Any, number: float, shape: Sequence[int], function: Function | None = None) -> Any:
        if isinstance(x, Routed) and len(shape) == len(x.shape):
            return _routed(self.domain.masked(x.value, number, (x.value.shape[0], *shape), function), x.key)
        return self.domain.masked(self.plain(x), number, shape, function)

    def zero_padded(self, x: Any, dim: int, before: int, after: int, fill: float | None) -> Any:
        return self._along(x, (dim,), lambda v, d: self.domain.zero_padded(v, d[0], before, after, fill))

    def resized(self, x: Any, shape: Sequence[int], function: Function | None = None) -> Any:
        return self.domain.resized(self.plain(x), shape, function)

    def deviation(self, x: Any, dims: Sequence[int], keepdim: bool, correction: float = 1.0) -> Any:
        return self._along(x, dims, lambda v, d: self.domain.deviation(v, d, keepdim, correction))

    def positions(self, x: Any, dims: Sequence[int], keepdim: bool, function: Function | None = None) -> Any:
        return self._along(x, dims, lambda v, d: self.domain.positions(v, d, keepdim, function))

    def spread_along(self, x: Any, dim: int, apart: Sequence[int] = (), function: Function | None = None) -> Any:
        return self._along(x, (dim, *apart), lambda v, d: self.domain.spread_along(v, d[0], d[1:], function))

    def placed(
        self,
        x: Any,
        source: Any,
        dim: int,
        shape: Sequence[int],
        apart: Sequence[int] = (),
        function: Function | None = None,
    ) -> Any:
        onto = None if x is None else self.plain(x)
        return self.domain.placed(onto, self.plain(source), dim, shape, apart, function)
