"""The walk over a captured graph that applies one rule an operation, for one kind of symmetry at a time."""

from __future__ import annotations

import operator
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import fx

from neuralmechanics.symmetry.captured import Captured, is_node, operation_name, place
from neuralmechanics.symmetry.checked import Checked, is_value
from neuralmechanics.symmetry.in_place import is_in_place
from neuralmechanics.symmetry.lenient import Lenient, Reason, numbers_of
from neuralmechanics.symmetry.reading import Reads, partial_reads
from neuralmechanics.symmetry.refusals import DomainError, NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.rotary import Rotary
from neuralmechanics.symmetry.routing import GROUPED, Routing, decided_by, routes
from neuralmechanics.symmetry.rules import RULES, Rule
from neuralmechanics.symmetry.rules.sizes import shape_of
from neuralmechanics.symmetry.symmetries import UnknownOperation

__all__ = ["Roles", "Walk", "dependents", "interpret", "live", "roles"]


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


_VIEWS = frozenset(
    f"aten.{name}"
    for name in [
        "view",
        "reshape",
        "permute",
        "transpose",
        "t",
        "numpy_T",
        "unsqueeze",
        "squeeze",
        "expand",
        "flatten",
        "clone",
        "contiguous",
        "to",
        "slice",
        "select",
        "split",
        "chunk",
        "alias",
        "unflatten",
        "mT",
        "_to_copy",
        "narrow",
        "unbind",
    ]
)
_MATRIX = frozenset(
    f"aten.{name}"
    for name in [
        "linear",
        "matmul",
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "einsum",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "convolution",
        "embedding",
        "lstm",
        "gru",
        "rnn_tanh",
        "rnn_relu",
        "lstm_cell",
        "gru_cell",
        "bilinear",
        "mv",
        "scaled_dot_product_attention",
        "index",
        "index_select",
    ]
) | frozenset(GROUPED)


@dataclass(frozen=True)
class Roles:
    """How parameters are read: only elementwise; by a convolution in groups; by an einsum, with joint index sets.

    ``single``: those that one operation reads, once.
    """

    elementwise: frozenset[str]
    groups: dict[str, int]
    contracted: dict[str, list[tuple[int, ...]]]
    single: frozenset[str]


def roles(captured: Captured) -> Roles:
    """Looks at the operations that read each parameter, directly or through views."""
    matrix: set[str] = set()
    groups: dict[str, int] = {}
    contracted: dict[str, list[tuple[int, ...]]] = {}
    deciding = routes(captured.graph)
    for node in captured.graph.nodes:
        name = captured.parameters.get(node.name)
        if name is None:
            continue
        frontier = list(node.users)
        seen = set(frontier)
        while frontier:
            user = frontier.pop()
            operation = operation_name(user)
            if operation in _MATRIX and not _is_bias(user, node) and not _one_a_row(user, deciding):
                matrix.add(name)
                if operation == "aten.einsum" and node in user.args[1]:
                    contracted.setdefault(name, _index_sets(user, node))
                count = _groups(user)
                if count > 1 and len(user.args) > 1 and user.args[1] is node:
                    groups[name] = count
            if operation in _VIEWS or user.target is operator.getitem:
                new = [n for n in user.users if n not in seen]
                seen.update(new)
                frontier += new
    uses: Counter[str] = Counter()
    for node in captured.graph.nodes:
        if node.name in captured.parameters:
            uses[captured.parameters[node.name]] += sum(_occurrences(user, node) for user in node.users)
    read_once = {
        captured.parameters[n.name] for n in captured.graph.nodes if n.name in captured.parameters and _chain(n)
    }
    single = frozenset(name for name, count in uses.items() if count == 1 and name in read_once)
    return Roles(frozenset(captured.shapes) - matrix, groups, contracted, single)


def _chain(node: Any) -> bool:
    """Whether one operation reads the node in the end: views of it have one reader each."""
    while len(node.users) == 1 and operation_name(next(iter(node.users))) in _VIEWS:
        node = next(iter(node.users))
    return len(node.users) == 1


def _occurrences(user: Any, node: Any) -> int:
    """How many times an operation reads a node."""
    seen: list[Any] = []

    def note(read: Any) -> Any:
        seen.append(read)
        return read

    fx.node.map_arg((user.args, user.kwargs), note)
    return sum(read is node for read in seen)


def _index_sets(user: Any, node: Any) -> list[tuple[int, ...]]:
    """Dimensions of an einsum operand that are summed, and those that stay, each with those shared by all (batch)."""
    inputs, _, out = user.args[0].replace(" ", "").partition("->")
    terms = inputs.split(",")
    mine = terms[user.args[1].index(node)]
    others = "".join(t for t, operand in zip(terms, user.args[1], strict=True) if operand is not node)
    if "." in mine or not out:
        return [(d,) for d in range(len(mine.replace("...", "")))]
    batch = [d for d, letter in enumerate(mine) if letter in out and letter in others]
    kept = [d for d, letter in enumerate(mine) if letter in out and letter not in others]
    summed = [d for d, letter in enumerate(mine) if letter not in out]
    return [tuple(sorted([*batch, *dims])) for dims in (kept, summed) if dims] or [tuple(batch)]


def _is_bias(user: Any, node: Any) -> bool:
    return (
        operation_name(user) == "aten.linear"
        and len(user.args) > 2
        and user.args[2] is node
        and user.args[1] is not node
    )


def _one_a_row(user: Any, deciding: frozenset[Any]) -> bool:
    """Whether each row of data gets a row of the parameter, its expert's bias."""
    if operation_name(user) != "aten.index" or len(user.args[0].meta["val"].shape) > 2:
        return False
    return len(user.args[1]) == 1 and decided_by(user.args[1][0]) in deciding


def _groups(user: Any) -> int:
    name = operation_name(user)
    if name in ("aten.conv1d", "aten.conv2d", "aten.conv3d") or name.startswith("aten.conv_transpose"):
        return int(user.args[6]) if len(user.args) > 6 else int(user.kwargs.get("groups", 1))
    return int(user.args[8]) if name == "aten.convolution" else 1
