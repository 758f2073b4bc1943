"""From a captured graph to the program: one rule an operation, applied once."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.families.symmetries import UnknownOperation
from neuralmechanics.symmetry.lowering.capture.captured import Captured, is_node, operation_name, place
from neuralmechanics.symmetry.lowering.capture.in_place import functional_name, is_in_place
from neuralmechanics.symmetry.lowering.graph.arguments import place_arguments
from neuralmechanics.symmetry.lowering.graph.known_entries import note_known_entries
from neuralmechanics.symmetry.lowering.rules import RULES, Rule
from neuralmechanics.symmetry.lowering.rules.functions import is_elementwise, outcome, parity
from neuralmechanics.symmetry.lowering.rules.reducing.statistics import is_unread
from neuralmechanics.symmetry.lowering.rules.registry import settings
from neuralmechanics.symmetry.lowering.sizes import demanded_shape, shape_of, undecided_sizes
from neuralmechanics.symmetry.program.attributes.function import Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.program import Location, Program
from neuralmechanics.symmetry.program.refusals import NotSoughtError, PassError, Reason, UnsupportedFormError, fault
from neuralmechanics.symmetry.program.value import Value, flat_values

__all__ = ["Lowered", "lower"]


@dataclass(frozen=True)
class Lowered:
    """The program of a captured graph, and the operations that have no rule or were met in a form unknown to it.

    ``sources``: by the index of a value that no parameter reaches, the operation that makes it; ``named``: the index of
    the value that an operation of the graph gives, where nothing writes into it later.
    """

    program: Program
    unknown: tuple[UnknownOperation, ...]
    sources: Mapping[int, fx.Node] = field(default_factory=dict)
    named: Mapping[str, int] = field(default_factory=dict)


def lower(captured: Captured) -> Lowered:
    """Translates every operation by its rule; what no parameter enters is data.

    Where there is no rule, or it does not know the form, or it gives up, what it had written is taken back and the
    operation becomes a ``Forget``, whose operands may not change.
    """
    return _Lowering(captured).run()


@dataclass(eq=False)
class _Lowering:
    captured: Captured
    unknown: list[UnknownOperation] = field(default_factory=list)

    def __post_init__(self) -> None:
        place_arguments(self.captured.graph)
        note_known_entries(self.captured)
        self.numbers: set[fx.Node] = set()
        self.builder = Builder(undecided_sizes(self.captured.graph))
        self.values: dict[fx.Node, Any] = {}
        self.sources: dict[int, fx.Node] = {}
        self.written: set[str] = set()

    def run(self) -> Lowered:
        for number, node in enumerate(self.captured.graph.nodes):
            if node.op == "output":
                continue
            self.builder.cause = Location(number, operation_name(node), place(node))
            made = self.values[node] = self._named(node)
            # A rule may pass a value on as it is: the operation that made it stays its source.
            if isinstance(made, Value) and not made.depends:
                self.sources.setdefault(made.index, node)
            # From here on the old name stands for what was written.
            if is_in_place(node) and is_node(node.args[0]):
                self.values[node.args[0]] = self.values[node]
                self.written.add(node.args[0].name)
                if node not in self.numbers:
                    self.numbers.discard(node.args[0])
        end = len(self.captured.graph.nodes)
        for output in self.captured.outputs:
            self.builder.cause = Location(end, operation_name(output), place(output))
            self.builder.fix(*flat_values(self.values[output]))
        named = {
            node.name: value.index
            for node, value in self.values.items()
            if isinstance(value, Value) and node.name not in self.written
        }
        return Lowered(self.builder.program(), tuple(self.unknown), self.sources, named)

    def _named(self, node: fx.Node) -> Any:
        """The operation's value; an error of the translation itself names the operation."""
        try:
            return self._value(node)
        except Exception as error:
            raise PassError(fault(self.builder.cause, "the translation", error)) from error

    def _value(self, node: Any) -> Any:
        if node.name in self.captured.parameters:
            name = self.captured.parameters[node.name]
            shape = self.captured.shapes[name]
            # What has no element (a prompt of no tokens, a layer of no units) has nothing that could move.
            return self.builder.parameter(name, shape) if math.prod(shape) else self._data(node)
        made = self._applied(node) if node.op == "call_function" else self._data(node)
        if self._of_model(node):
            self.numbers.add(node)
            self.builder.note_numbers(v for v in flat_values(made) if not v.depends)
        return made

    def _of_model(self, node: fx.Node) -> bool:
        """Whether it is computed from the model's own numbers (buffers, tables) alone."""
        if node.op == "call_function":
            return not _draws(node) and all(n in self.numbers for n in node.all_input_nodes)
        source = self.captured.sources.get(node.name)
        return source is not None and source.kind in ("buffer", "constant")

    def _applied(self, node: Any) -> Any:
        values = self.values
        if node.target is operator.getitem:
            source = values[node.args[0]]
            return source[node.args[1]] if isinstance(source, (tuple, list)) else self._data(node)
        name = operation_name(node)
        # An operation in place has the rule of the one that gives a new tensor, but where it has one of its own.
        rule = RULES.get(name, RULES.get(functional_name(node)))
        args = fx.node.map_arg(node.args, lambda n: values[n])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
        dependent = any(value.depends for value in flat_values((args, kwargs)))
        text = ""
        before = self.builder.length()
        # Rules run on data as well: what masks and indices are made of is read off what they write.
        if rule is not None and (dependent or _has_tensor(node)):
            try:
                return self._kept_beside(node, self._ruled(rule, name, node, args, kwargs))
            # Nothing of a rule that gave up may stay, for half of an operation is another operation.
            except NotSoughtError as given_up:
                self.builder.roll_back(before)
                if not dependent:
                    return self._data(node)
                reason = Reason("not sought", str(self.builder.cause), str(given_up))
                return self._forgotten(node, flat_values((args, kwargs)), reason, given_up.hides)
            except RuleError as error:  # reported, and everything fixed
                text = str(error)
                self.builder.roll_back(before)
        # Without a rule data give data: nothing is claimed of them, so nothing need be known.
        if not dependent:
            return self._data(node)
        entry = UnknownOperation(name, place(node), text)
        # One line for the reader, however often a loop meets the same form.
        if entry not in self.unknown:
            self.unknown.append(entry)
        return self._forgotten(node, flat_values((args, kwargs)), Reason("unknown", str(entry), text), True)

    def _ruled(self, rule: Rule, name: str, node: Any, args: Any, kwargs: Any) -> Any:
        """What the rule writes; of tensors whose sizes do not fit as they stand, at those that the run demands."""
        before = self.builder.length()
        try:
            return _by_rule(rule, name, self.builder, node, args, kwargs)
        except RuleError:
            shapes = {n: demanded_shape(n.meta["val"]) for n in node.all_input_nodes if _is_tensor(n.meta.get("val"))}
            moved = {n for n, shape in shapes.items() if shape != shape_of(n.meta["val"])}
            if not moved:
                raise
            self.builder.roll_back(before)
            values = self.values | {n: self._resized(self.values[n], shapes[n]) for n in moved}
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
            return _by_rule(self._at_own_sizes(rule), name, self.builder, node, args, kwargs)

    def _at_own_sizes(self, rule: Rule) -> Rule:
        """The rule, of which a result at the sizes that the run demands is brought to those that it stands at."""

        def applied(builder: Builder, node: Any, *args: Any, **kwargs: Any) -> Any:
            made, value = rule(builder, node, *args, **kwargs), node.meta.get("val")
            if isinstance(made, Value) and _is_tensor(value) and made.shape == demanded_shape(value):
                return self._resized(made, shape_of(value))
            return made

        return applied

    def _resized(self, x: Value, shape: tuple[int, ...]) -> Value:
        """The tensor at other sizes along dimensions of which no entry is told from another."""
        changed = [d for d, (n, m) in enumerate(zip(x.shape, shape, strict=True)) if n != m]
        for dim in changed:
            x = self.builder.spread_along(x, dim)
        return self.builder.resized(x, shape) if changed else x

    def _kept_beside(self, node: Any, made: Any) -> Any:
        """Results, of which some (the places of an order) stay as they are by what the others demand.

        That statement stays in the program even where nothing reads the others.
        """
        moving = [v for v in flat_values(made) if v.depends]
        if not isinstance(made, tuple) or not moving:
            return made

        def kept(k: int, value: Any) -> Any:
            if not isinstance(value, Value) or value.depends or value.number is not None or is_unread(node, k):
                return value
            beside = self.builder.computed(value.shape, (settings(node), k), False, outcome(node, k), moving)
            self.builder.fix(beside)
            return beside

        return tuple(kept(k, value) for k, value in enumerate(made))

    def _forgotten(self, node: Any, operands: list[Any], reason: Reason, hides: bool) -> Any:
        """The operation's results where it is not followed."""
        results = self._nest(
            node.meta.get("val"),
            lambda shape, part: self.builder.forget(
                shape,
                reason,
                hides,
                *operands,
                function=_result(node, part, operands),
                elementwise=is_elementwise(node) and not _draws(node),
                parity=parity(node),
            ),
        )
        if not flat_values(results):
            self.builder.fix(*operands, reason=reason)
        return results

    def _data(self, node: Any) -> Any:
        value = node.meta.get("val")
        read = [self.values.get(n) for n in node.all_input_nodes] if node.op == "call_function" else []
        data = [x for x in read if isinstance(x, Value) and not x.depends]
        if data and len(data) == len(read) and not _draws(node):
            key, entrywise = settings(node), is_elementwise(node)

            def computed(shape: tuple[int, ...], part: int | None) -> Value:
                return self.builder.computed(shape, (key, part), entrywise, outcome(node, part), data)

            return self._nest(value, computed)
        holds = getattr(value, "dtype", None) is torch.bool  # zeros and ones
        return self._nest(value, lambda shape, part: self.builder.constant(shape, None, holds, outcome(node, part)))

    def _nest(self, value: Any, make: Any, part: int | None = None) -> Any:
        """``make`` of the shape and the place of every tensor in the captured value."""
        if isinstance(value, (tuple, list)):
            return tuple(self._nest(v, make, k) for k, v in enumerate(value))
        return value if getattr(value, "shape", None) is None else make(shape_of(value), part)


class RuleError(RuntimeError):
    """A rule does not know a form of its operation, or is itself at fault."""


def _by_rule(rule: Rule, name: str, builder: Builder, node: Any, args: Any, kwargs: Any) -> Any:
    """What the rule writes; ``RuleError`` with why it could not, whatever it raised, unless it gave up."""
    try:
        return _fitting(rule(builder, node, *args, **kwargs), node.meta.get("val"))
    except NotSoughtError:
        raise
    except UnsupportedFormError as error:
        raise RuleError(f"the rule for {name} does not know this form ({error})") from error
    except Exception as error:
        raise RuleError(f"the rule for {name} raised {type(error).__name__}: {error}") from error


def _result(node: Any, part: int | None, operands: Sequence[Any]) -> Function:
    """What the operation gives in a run, whatever its operands are."""
    count, of_run = len(operands), outcome(node, part)
    return Function(of_run.name, lambda *tensors: of_run.apply(*tensors[count:]), of_run.data, of_run.settings)


def _fitting(made: Any, value: Any) -> Any:
    """What a rule made, if its shapes are those of the operation's results."""
    several, single = isinstance(value, (tuple, list)), getattr(value, "shape", None) is not None
    if (single and made is None) or (several and not isinstance(made, (tuple, list))):
        raise UnsupportedFormError(f"{type(made).__name__} for {'several results' if several else 'a tensor'}")
    # Labels in another shape would be read at the wrong places by all that follows.
    if isinstance(made, Value) and single and made.shape != shape_of(value):
        raise UnsupportedFormError(f"shape {made.shape} for a result of shape {shape_of(value)}")
    if isinstance(made, (tuple, list)) and isinstance(value, (tuple, list)):
        for one, other in zip(made, value, strict=False):
            _fitting(one, other)
    return made


def _has_tensor(node: Any) -> bool:
    value = node.meta.get("val")
    return any(hasattr(v, "shape") for v in (value if isinstance(value, (tuple, list)) else [value]))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _draws(node: fx.Node) -> bool:
    """Whether the operation draws random numbers."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
