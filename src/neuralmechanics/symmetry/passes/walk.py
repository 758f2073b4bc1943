"""The walk over a captured graph that applies one rule an operation, for one kind of symmetry at a time."""

from __future__ import annotations

import operator
from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import fx

from neuralmechanics.symmetry.families.symmetries import UnknownOperation
from neuralmechanics.symmetry.lowering.capture.captured import Captured, is_node, operation_name, place
from neuralmechanics.symmetry.lowering.capture.in_place import is_in_place
from neuralmechanics.symmetry.lowering.rules import RULES, Rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.passes.expert_axis import Routing, routes
from neuralmechanics.symmetry.passes.lenient import Lenient, Reason, numbers_of
from neuralmechanics.symmetry.passes.needed_entries import Reads, partial_reads
from neuralmechanics.symmetry.passes.rotary import Rotary
from neuralmechanics.symmetry.program.checked import Checked, is_value
from neuralmechanics.symmetry.program.refusals import DomainError, NotSoughtError, UnsupportedFormError

__all__ = ["Walk", "dependents", "interpret", "live"]


def interpret(
    captured: Captured,
    domain: Any,
    dependent: frozenset[fx.Node],
    rotary: Rotary | None = None,
    lenient: bool = False,
) -> Walk:
    """Runs the whole graph through ``domain``; returns what the walk could not follow.

    Outputs, and the inputs of operations without a rule, are fixed. Operations that no parameter enters are data.
    The rotations of ``rotary`` are looked through, as if they only put channels in order. A ``lenient`` walk demands
    nothing where nobody looks for symmetries (see ``lenient``).
    Raises ``DomainError`` where the domain itself fails: a result without its constraints would be false.
    """
    rotary = rotary or Rotary()
    inner = Routing(domain, routes(captured.graph))
    walk = Walk(domain, Lenient(inner, numbers_of(captured)) if lenient else inner)
    values: dict[fx.Node, Any] = {}
    ends = _last_uses(captured, rotary)
    reads = partial_reads(captured)
    for number, node in enumerate(captured.graph.nodes):
        inner.cause = number
        if node.op == "output":
            continue
        if walk.lenient is not None:
            walk.lenient.where = f"{operation_name(node)} at {place(node)}"
        with _named(node):
            values[node] = _value(captured, walk, node, number, values, dependent, rotary, reads)
        if is_in_place(node) and is_node(node.args[0]) and number not in rotary.inner | rotary.ends.keys():
            values[node.args[0]] = values[node]
        for ended in ends.get(number, ()):
            values.pop(ended, None)
    inner.cause = len(captured.graph.nodes)
    for output in captured.outputs:
        with _named(output):
            walk.asked.fix(*_flat(values[output]))
    return walk


class Walk:
    """One run through the graph: the domain as rules see it, and what was refused on the way."""

    def __init__(self, domain: Any, stack: Any) -> None:
        self.domain = domain
        self.asked = Checked(stack)
        self.lenient = stack if isinstance(stack, Lenient) else None
        self.unknown: list[UnknownOperation] = []

    def refuse(self, node: Any, inputs: Any, reason: str) -> Any:
        """The node's value where the operation is not known: its inputs are fixed, or nothing is demanded of them."""
        entry = UnknownOperation(operation_name(node), place(node), reason)
        if entry not in self.unknown:
            self.unknown.append(entry)
        return self._opaque(node, inputs, Reason("unknown", str(entry), reason), True)

    def give_up(self, node: Any, inputs: Any, given_up: NotSoughtError) -> Any:
        """The same where symmetries of the operation are not looked for."""
        reason = Reason("not sought", f"{operation_name(node)} at {place(node)}", str(given_up))
        return self._opaque(node, inputs, reason, given_up.hides)

    def _opaque(self, node: Any, inputs: Any, reason: Reason, hides: bool) -> Any:
        if self.lenient is not None:
            return self.lenient.unsought(node.meta.get("val"), _flat(inputs), reason, hides)
        self.asked.fix(*_flat(inputs))
        return _data(self.asked, node)


@contextmanager
def _named(node: fx.Node) -> Iterator[None]:
    """Errors of a domain, with the operation that they arose at."""
    try:
        yield
    except DomainError as fault:
        raise DomainError(
            f"the search for symmetries failed at {operation_name(node)} at {place(node)}: {fault}; this is a fault of "
            "neuralmechanics and not of the model: please report it with this line"
        ) from fault


def _value(
    captured: Captured,
    walk: Walk,
    node: Any,
    number: int,
    values: Mapping[fx.Node, Any],
    dependent: frozenset[fx.Node],
    rotary: Rotary,
    reads: Reads,
) -> Any:
    """What the domain makes of one node."""
    asked = walk.asked
    if node.name in captured.parameters:
        name = captured.parameters[node.name]
        value = asked.parameter(name)
        for view in reads.unread.get(node, ()) if hasattr(type(walk.domain), "unread") else ():
            asked.unread(name, view)
        return value
    if node.op != "call_function" or number in rotary.inner:
        value = _data(asked, node)
    elif number in rotary.ends:
        turn = rotary.ends[number]
        value = asked.turned(values[turn.source], turn, shape_of(node.meta["val"]))
    else:
        seen = _seen(asked, node, values, reads) if node in dependent else values
        value = _apply(walk, node, seen, node in dependent)
    if walk.lenient is not None and node not in dependent:
        walk.lenient.mark(node, _flat(value))
    return value


def _seen(domain: Any, node: fx.Node, values: Mapping[fx.Node, Any], reads: Reads) -> Mapping[fx.Node, Any]:
    """The values as the node reads them: entries that it need not see are those that it does."""
    found = dict[fx.Node, Any]()
    for operand in node.all_input_nodes:
        for view in reads.repeating.get((node, operand), ()):
            found[operand] = domain.view(found.get(operand, values[operand]), view)
    return ChainMap(found, values) if found else values  # type: ignore[arg-type]


def _last_uses(captured: Captured, rotary: Rotary) -> dict[int, list[fx.Node]]:
    """For each place in the graph, the nodes whose values nothing after it reads."""
    last: dict[fx.Node, int] = {}
    for number, node in enumerate(captured.graph.nodes):
        last[node] = number
        last |= dict.fromkeys(node.all_input_nodes, number)
        if number in rotary.ends:
            last[rotary.ends[number].source] = number
    ends: dict[int, list[fx.Node]] = {}
    for node, number in last.items():
        if node not in captured.outputs:
            ends.setdefault(number, []).append(node)
    return ends


def _apply(walk: Walk, node: Any, values: Mapping[fx.Node, Any], dependent: bool) -> Any:
    asked = walk.asked
    if node.target is operator.getitem:
        source = values[node.args[0]]
        return source[node.args[1]] if isinstance(source, (tuple, list)) else _data(asked, node)
    name = operation_name(node)
    rule = RULES.get(name)
    if rule is None and name.endswith("_"):
        rule = RULES.get(name[:-1])
    args = fx.node.map_arg(node.args, lambda n: values[n])
    kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
    reason = ""
    if rule is not None and (dependent or _has_tensor(node)):
        try:
            return rule(asked, node, *args, **kwargs)
        except DomainError:
            raise
        except NotSoughtError as given_up:
            return walk.give_up(node, (args, kwargs), given_up) if dependent else _data(asked, node)
        except Exception as error:  # noqa: BLE001 - a rule's own, whatever it is: reported, and everything fixed
            reason = _told(name, rule, error)
    return walk.refuse(node, (args, kwargs), reason) if dependent else _data(asked, node)


def _told(name: str, rule: Rule, error: Exception) -> str:
    """Why a rule could not be used: a form that it does not know, or what went wrong in it."""
    if isinstance(error, UnsupportedFormError):
        return f"the rule for {name} does not know this form ({error})"
    return f"the rule for {name} raised {type(error).__name__}: {error}"


def _has_tensor(node: Any) -> bool:
    value = node.meta.get("val")
    return hasattr(value, "shape") and any(hasattr(n.meta.get("val"), "shape") for n in node.all_input_nodes)


def _data(domain: Any, node: Any) -> Any:
    return _constants(domain, node.meta.get("val"))


def _constants(domain: Any, value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return tuple(_constants(domain, v) for v in value)
    return value if getattr(value, "shape", None) is None else domain.constant(shape_of(value))


def _flat(value: Any) -> list[Any]:
    """Every domain value in a nest of arguments."""
    if isinstance(value, (tuple, list)):
        return [v for entry in value for v in _flat(entry)]
    if isinstance(value, Mapping):
        return [v for entry in value.values() for v in _flat(entry)]
    return [value] if is_value(value) else []


def dependents(captured: Captured) -> frozenset[fx.Node]:
    """The nodes that a trainable parameter reaches."""
    reached: set[fx.Node] = set()
    for node in captured.graph.nodes:
        if node.name in captured.parameters or any(n in reached for n in node.all_input_nodes):
            reached.add(node)
            if is_in_place(node):
                reached.add(node.args[0])
    return frozenset(reached)


def live(captured: Captured) -> Captured:
    """The same without parameters that no output depends on: nothing that a loss could see moves them."""
    reached: set[fx.Node] = set()
    frontier: list[fx.Node] = list(captured.outputs)
    frontier += [node for node in captured.graph.nodes if is_in_place(node)]
    while frontier:
        node = frontier.pop()
        if node not in reached:
            reached.add(node)
            frontier += node.all_input_nodes
    names = {node.name for node in reached}
    parameters = {place: name for place, name in captured.parameters.items() if place in names}
    return replace(captured, parameters=parameters)
