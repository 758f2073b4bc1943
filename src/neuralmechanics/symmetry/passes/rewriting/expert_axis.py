"""Rows that data route to experts: every row as it would be at each expert, until rows of different experts meet.

A mixture of experts sorts its tokens and multiplies each row by its expert's matrix: y[s] = W[e(s)] x[s]. Which expert
serves a row is data, so a label of y may differ from expert to expert, not from row to row. The program is rewritten so
that such values have a dimension for the experts in front, y[e, s] = W[e] x[s], and are summed over e, weighted by
zeros and ones, where an operation mixes rows. Labels of all experts so obey the constraints of the rows that the data
may send to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.function import COUNTS, GROUPS, SORTED, TRIANGLE, Function
from neuralmechanics.symmetry.program.attributes.views import Expand, Permute, Reshape, Take, View
from neuralmechanics.symmetry.program.axes import axis_map
from neuralmechanics.symmetry.program.facts import is_nonnegative, number_of
from neuralmechanics.symmetry.program.program import Instruction, Location, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["sorted_list", "with_expert_axis"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@naming_the_operation
def with_expert_axis(program: Program) -> Program:
    """The program with the experts' axis in front of what they compute row by row; it computes the same."""
    routes = _routes(program)
    if not routes:
        return program
    writer = _Writer(routes, program.size(), set(program.numbers))
    for instruction in program.instructions:
        writer.write(instruction)
    return replace(program, instructions=tuple(writer.out), numbers=frozenset(writer.numbers))


# --- which data decide the expert of each row -----------------------------------------------------------------------


def _routes(program: Program) -> dict[int, int]:
    """For each instruction (by its result) that picks an expert for every row, the value that decides which."""
    makers = program.makers()
    picks = [(i, key) for i in program.instructions if (key := _deciding(i, makers)) is not None]
    deciding = {key for i, key in picks if _picks_matrices(i, makers)}
    return {i.result.index: key for i, key in picks if key in deciding and i.result is not None}


def _deciding(instruction: Instruction, makers: dict[int, Instruction]) -> int | None:
    """The list of experts, one a row, by which an instruction picks entries along the first dimension."""
    primitive = instruction.primitive
    if not isinstance(primitive, p.Gather) or primitive.dim != 0 or len(primitive.index_shape) != 1:
        return None
    if len(primitive.index.values) != 1 or primitive.index.how not in ((), GROUPS) or primitive.function is None:
        return None
    value = _unshaped(primitive.index.values[0], makers)
    return value if primitive.index.how == () else sorted_list(value, makers)


def _unshaped(value: int, makers: Mapping[int, Instruction]) -> int:
    """The value of which this one is a reshape."""
    while isinstance(made := makers[value].primitive, p.Rearrange) and isinstance(made.view, Reshape):
        value = makers[value].operands[0].index
    return value


def sorted_list(ends: int, makers: Mapping[int, Instruction]) -> int:
    """The sorted list of which the groups' ends are the running sums of its counts; the ends themselves if none is."""
    maker = makers[ends]
    if not isinstance(maker.primitive, p.Contract) or _name(makers[maker.operands[1].index].primitive) != TRIANGLE:
        return ends
    counts = makers[_unshaped(maker.operands[0].index, makers)]
    if not isinstance(counts.primitive, p.Constant) or _name(counts.primitive) != COUNTS or not counts.operands:
        return ends
    listed = _unshaped(counts.operands[0].index, makers)
    made = makers[listed].primitive
    return listed if isinstance(made, p.Order) and _name(made) == SORTED else ends


def _name(primitive: p.Primitive) -> str:
    function: Function | None = getattr(primitive, "function", None)
    return "" if function is None else function.name


def _picks_matrices(instruction: Instruction, makers: dict[int, Instruction]) -> bool:
    """Whether each row is given one of stacked matrices of the model."""
    if isinstance(instruction.primitive, p.Gather) and instruction.primitive.index.how == GROUPS:
        return True
    stacked = instruction.operands[0]
    while isinstance(made := makers[stacked.index].primitive, p.Rearrange) and isinstance(made.view, Permute):
        stacked = makers[stacked.index].operands[0]
    leaf = isinstance(made, (p.Parameter, p.Constant)) and not makers[stacked.index].operands
    return leaf and len(stacked.shape) == 3


# --- primitives with one more dimension in front --------------------------------------------------------------------


def _led(primitive: p.Primitive, routed: Sequence[bool], experts: int, rank: int) -> p.Primitive | None:
    """The primitive over operands of which the ``routed`` ones have one more dimension in front; None: not followed.

    ``rank``: how many dimensions the routed operands have without it.
    """
    # Their settings are shapes or places of all dimensions together; without a rule the rows are summed first.
    if isinstance(primitive, (p.Select, p.Scatter, p.Pool, p.Resize, p.Order)):
        return None
    if isinstance(primitive, p.Contract):
        how = primitive.how
        letter = next(c for c in reversed(_LETTERS) if c not in how.x + how.y + how.out)
        x, y = (letter + own if led else own for own, led in zip((how.x, how.y), routed, strict=True))
        return replace(primitive, how=replace(how, x=x, y=y, out=letter + how.out))
    if isinstance(primitive, p.Mask):
        return replace(primitive, shape=(experts, *primitive.shape))
    return _view_led(primitive.view, experts) if isinstance(primitive, p.Rearrange) else _behind(primitive, rank)


def _view_led(view: View, experts: int) -> p.Rearrange:
    if isinstance(view, Permute):
        return p.Rearrange(Permute((0, *(k + 1 for k in view.order))))
    if isinstance(view, Take):
        return p.Rearrange(Take(view.dim + 1, view.positions))
    return p.Rearrange(replace(view, shape=(experts, *view.shape)))


def _behind(primitive: p.Primitive, rank: int) -> p.Primitive:
    """The primitive along dimensions one further behind; elementwise ones have none."""
    moved: dict[str, Any] = {}
    if isinstance(primitive, (p.Softmax, p.Spread, p.Concatenate, p.Pad, p.Gather)):
        moved["dim"] = primitive.dim % rank + 1
    if isinstance(primitive, p.Spread):
        moved["apart"] = tuple(d % rank + 1 for d in primitive.apart)
    if isinstance(primitive, (p.Reduce, p.Extremum, p.Positions, p.Deviation, p.Normalise)):
        moved["dims"] = tuple(d % rank + 1 for d in primitive.dims)
    return replace(primitive, **moved) if moved else primitive  # type: ignore[type-var]


# --- the program written anew ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Routed:
    """A value of shape [experts, rows, …] that stands for [rows, …], each row at the expert that ``key`` says."""

    value: Value
    key: int


@dataclass(eq=False)
class _Writer:
    """Writes the program anew: routed values with their experts in front, and as they were for whoever mixes rows."""

    routes: dict[int, int]
    values: int
    numbers: set[int]
    out: list[Instruction] = field(default_factory=list)
    routed: dict[int, _Routed] = field(default_factory=dict)
    places: dict[int, Function] = field(default_factory=dict)  # for each key, the expert of each row
    choices: dict[tuple[int, int], Value] = field(default_factory=dict)
    summed: set[int] = field(default_factory=set)

    def write(self, instruction: Instruction) -> None:
        result, primitive = instruction.result, instruction.primitive
        if result is not None and result.index in self.routes and isinstance(primitive, p.Gather):
            self._enter(primitive, instruction.operands[0], result, instruction.cause)
        elif isinstance(primitive, (p.Fix, p.Forget)):
            # What holds of a row holds of it at every expert, for the data may send it to any.
            known = ((self.routed.get(x.index), x) for x in instruction.operands)
            self.out.append(replace(instruction, operands=tuple(r.value if r else x for r, x in known)))
        elif not self._follow(instruction):
            for x in instruction.operands:
                self._sum(x, instruction.cause)
            self.out.append(instruction)

    def _new(self, primitive: p.Primitive, operands: Sequence[Value], cause: Location) -> Value:
        """One more instruction, and its value."""
        shape = primitive.output_shape(*(x.shape for x in operands))
        if shape is None:
            raise AssertionError(f"{primitive} has no result")
        known = (number_of(primitive, operands), is_nonnegative(primitive, operands))
        result = Value(self.values, shape, any(x.depends for x in operands), *known)
        self.values += 1
        self.out.append(Instruction(primitive, tuple(operands), result, cause))
        return result

    def _note(self, result: Value, value: Value, key: int) -> None:
        self.routed[result.index] = _Routed(value, key)
        if result.index in self.numbers:
            self.numbers.add(value.index)

    def _enter(self, primitive: p.Gather, stacked: Value, result: Value, cause: Location) -> None:
        """Every row at every expert, where one of the stacked entries is picked for each row."""
        self._sum(stacked, cause)
        experts, *rest = stacked.shape
        key = self.routes[result.index]
        if primitive.function is not None:
            self.places.setdefault(key, primitive.function)
        apart = self._new(p.Rearrange(Reshape((experts, 1, *rest))), [stacked], cause)
        full = p.Rearrange(Expand((experts, *primitive.index_shape, *rest)))
        self._note(result, self._new(full, [apart], cause), key)

    def _follow(self, instruction: Instruction) -> bool:
        """Writes what is done row by row at every expert; false where rows of several experts may meet."""
        primitive, operands, result = instruction.primitive, instruction.operands, instruction.result
        found = [self.routed.get(x.index) for x in operands]
        known = [(k, r) for k, r in enumerate(found) if r is not None]
        if result is None or len({(r.key, r.value.shape[0]) for _, r in known}) != 1:
            return False
        axes = axis_map(primitive, [x.shape for x in operands], result.shape)
        # Row by row means that row k of the result depends on row k of each operand and on no other.
        if any(axes[k][:1] != (0,) for k, _ in known):
            return False
        (at, first), *_ = known
        experts = first.value.shape[0]
        led = _led(primitive, [r is not None for r in found], experts, len(operands[at].shape))
        if led is None:
            return False
        values = [r.value if r else x for r, x in zip(found, operands, strict=True)]
        # Parts that no expert made are the same at each of them.
        if isinstance(primitive, p.Concatenate):
            values = [
                v if r else self._new(p.Rearrange(Expand((experts, *v.shape))), [v], instruction.cause)
                for v, r in zip(values, found, strict=True)
            ]
        self._note(result, self._new(led, values, instruction.cause), first.key)
        return True

    def _sum(self, x: Value, cause: Location) -> None:
        """Of a routed value, what its rows are: Σ_e [e = e(s)] x[e, s]."""
        routed = self.routed.get(x.index)
        # Written once: the sum is the value under its own number, which all later readers find.
        if routed is None or x.index in self.summed:
            return
        self.summed.add(x.index)
        experts, rows, *rest = routed.value.shape
        if (routed.key, experts) not in self.choices:
            function = _one_hot(self.places[routed.key], experts)
            choice = p.Constant((experts, rows), nonnegative=True, function=function)
            self.choices[routed.key, experts] = self._new(choice, [], cause)
        chosen = self.choices[routed.key, experts]
        if rest:
            chosen = self._new(p.Rearrange(Reshape((experts, rows, *(1 for _ in rest)))), [chosen], cause)
        weighted = self._new(p.Multiply(), [routed.value, chosen], cause)
        self.out.append(Instruction(p.Reduce((0,), False, False), (weighted,), x, cause))


def _one_hot(places: Function, experts: int) -> Function:
    """[expert, row]: one where the row is the expert's."""

    def apply(*data: torch.Tensor) -> torch.Tensor:
        chosen: torch.Tensor = places.apply(*data).reshape(-1)
        return (chosen == torch.arange(experts, device=chosen.device)[:, None]).double()

    return Function("one_hot", apply, places.data, (experts, places.name, places.settings))
