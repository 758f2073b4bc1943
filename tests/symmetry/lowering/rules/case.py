"""One call of an operation: its arguments, drawn or given, as a graph for the rules and as a module for the oracle."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from neuralmechanics.symmetry.lowering.capture.captured import Captured, Source

from ...network import Network

ATEN = torch.ops.aten


@dataclass(frozen=True)
class Operand:
    """A tensor to be drawn: a parameter, or data.

    ``kind``: "any" (away from zero, of either sign), "positive", "unit" (below one half in size), "fraction" (in
    (0, 1)), "above" (two), "complex" (pairs along the last dimension), "number" (the only entry, as a number), "single"
    (in half the precision), "whole" (below ``bound``), "mask", "zeros", "given" (``value`` itself).
    """

    shape: tuple[int, ...]
    kind: str = "any"
    bound: int = 0
    value: Any = field(default=None, compare=False)
    trained: bool = True

    def draw(self, generator: torch.Generator) -> Tensor:
        if self.value is not None:
            return torch.as_tensor(self.value)
        if self.kind == "mask":
            return torch.rand(self.shape, generator=generator) < 0.6
        if self.kind == "whole":
            return torch.randint(self.bound, self.shape, generator=generator)
        size = 0.5 + torch.rand(self.shape, generator=generator, dtype=torch.float64)
        return size * (torch.randint(2, self.shape, generator=generator) * 2 - 1)

    def shaped(self, x: Any, call: Callable[..., Any]) -> Any:
        """x brought to where the operation is defined."""
        if self.kind == "number":
            return call(ATEN.item.default, x)
        if self.kind == "complex":
            return call(ATEN.view_as_complex.default, x)
        if self.kind == "single":
            return call(ATEN._to_copy.default, x, dtype=torch.float32)
        if self.kind == "fraction":
            return call(ATEN.sigmoid.default, x)
        if self.kind == "positive":
            return call(ATEN.abs.default, x)
        if self.kind == "unit":
            return call(ATEN.mul.Tensor, x, 0.2)
        if self.kind == "above":
            return call(ATEN.add.Tensor, call(ATEN.abs.default, x), 2.0)
        return x


def P(*shape: int, kind: str = "any") -> Operand:  # noqa: N802 - an operand that is a parameter
    return Operand(shape, kind)


def K(*shape: int) -> Operand:  # noqa: N802 - complex numbers of which both parts are parameters
    return Operand((*shape, 2), "complex")


def D(*shape: int, kind: str = "any") -> Operand:  # noqa: N802 - data
    return Operand(shape, kind, trained=False)


def I(bound: int, *shape: int) -> Operand:  # noqa: N802, E743 - whole numbers
    return Operand(shape, "whole", bound, trained=False)


def N(value: float) -> Operand:  # noqa: N802 - a number that the data hold
    return Operand((), "number", value=torch.tensor(value), trained=False)


def Z(*shape: int) -> Operand:  # noqa: N802 - zeros made by the model
    return Operand(shape, "zeros", trained=False)


def B(*shape: int) -> Operand:  # noqa: N802 - truth values
    return Operand(shape, "mask", trained=False)


def G(value: Any) -> Operand:  # noqa: N802 - a given tensor
    return Operand((), "given", value=value, trained=False)


@dataclass(frozen=True)
class Case:
    """``operation(*args, **kwargs)``; ``name``, behind a prefix, is the rule's."""

    name: str
    operation: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = "aten."

    @property
    def overload(self) -> str:
        return getattr(self.operation, "_overloadname", "")

    def __str__(self) -> str:
        told = ", ".join([*map(_told, self.args), *(f"{k}={_told(v)}" for k, v in self.kwargs.items())])
        return f"{self.name}.{self.overload}({told})"

    def operands(self) -> list[Operand]:
        return list(_operands((self.args, dict(self.kwargs))))


def _told(value: Any) -> str:
    if isinstance(value, Operand):
        letter = "P" if value.trained else "D"
        return f"{letter}{list(value.shape)}"
    return str(value)


def _operands(value: Any) -> Iterator[Operand]:
    if isinstance(value, Operand):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _operands(part)
    elif isinstance(value, Mapping):
        yield from _operands(list(value.values()))


def filled(value: Any, tensors: Iterator[Any]) -> Any:
    """The nest of arguments with every operand replaced in turn."""
    if isinstance(value, Operand):
        return next(tensors)
    if isinstance(value, (list, tuple)):
        return type(value)(filled(part, tensors) for part in value)
    if isinstance(value, Mapping):
        return {key: filled(part, tensors) for key, part in value.items()}
    return value


def tensors_of(result: Any) -> list[Tensor]:
    parts = result if isinstance(result, (list, tuple)) else [result]
    return [p for p in parts if isinstance(p, Tensor)]


# --- as a graph -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Drawn:
    """A graph of the call with tensors for its inputs, and what every operation of it gives."""

    captured: Captured
    parameters: Mapping[str, Tensor]
    values: Mapping[str, Any]
    results: list[Tensor]


Head = Callable[["Writer", list[fx.Node]], list[fx.Node]]


@dataclass(eq=False)
class Writer:
    """Writes a graph and runs it at the same time."""

    generator: torch.Generator
    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def leaf(self, operand: Operand) -> Any:
        """An input of the graph, brought to where the operation is defined."""
        if operand.kind == "zeros":
            return self.call(ATEN.zeros.default, list(operand.shape), dtype=torch.float64)
        number = len(self.sources)
        node = self.graph.placeholder(f"x{number}")
        value = operand.draw(self.generator)
        if operand.trained:
            name = f"p{number}"
            self.parameters[name], self.names[node.name] = value, name
            self.sources[node.name] = Source("parameter", name)
        else:
            self.sources[node.name] = Source("input", index=number)
        self._note(node, value)
        return operand.shaped(node, self.call)

    def call(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        node = self.graph.call_function(operation, args, kwargs)
        given = fx.node.map_arg((args, kwargs), lambda n: self.values[n.name])
        torch.manual_seed(0)
        self._note(node, operation(*given[0], **given[1]))
        return node

    def _note(self, node: fx.Node, value: Any) -> None:
        node.meta["val"] = self.values[node.name] = value

    def parts(self, node: fx.Node) -> list[fx.Node]:
        """The results of an operation as nodes."""
        value = self.values[node.name]
        if isinstance(value, (int, float, bool)):  # what is multiplied by it
            return [self.call(ATEN.mul.Tensor, self.leaf(Operand((2,))), node)]
        if not isinstance(value, (list, tuple)):
            return [node]
        found = [(k, v) for k, v in enumerate(value) if isinstance(v, Tensor)]
        return [self.call(operator.getitem, node, k) for k, _ in found]

    def drawn(self, outputs: list[fx.Node]) -> Drawn:
        self.graph.output(tuple(outputs))
        shapes = {name: tuple(p.shape) for name, p in self.parameters.items()}
        captured = Captured(
            self.graph,
            self.names,
            shapes,
            (),
            {},
            tuple(outputs),
            True,
            "export",
            sources=self.sources,
            results=tuple(outputs),
            writes_parameters=False,
        )
        return Drawn(captured, self.parameters, self.values, [self.values[n.name] for n in outputs])


def written(case: Case, seed: int, head: Head, read: bool = True) -> Drawn:
    """The call on drawn tensors, its results passed through ``head``; ``read``: by an operation each."""
    writer = Writer(torch.Generator().manual_seed(seed))
    leaves = iter([writer.leaf(operand) for operand in case.operands()])
    args, kwargs = filled(case.args, leaves), filled(dict(case.kwargs), leaves)
    parts = writer.parts(writer.call(case.operation, *args, **kwargs))
    if read:
        parts = [writer.call(ATEN.clone.default, part) if _real(writer, part) else part for part in parts]
    return writer.drawn(head(writer, parts))


def _real(writer: Writer, node: fx.Node) -> bool:
    value = writer.values[node.name]
    return value.is_floating_point() or value.is_complex()


def plain(writer: Writer, parts: list[fx.Node]) -> list[fx.Node]:
    """The results themselves."""
    return parts


def turned(writer: Writer, parts: list[fx.Node]) -> list[fx.Node]:
    """The results with their rows in the other order: what is kept apart by experts must be told apart for it."""
    return [writer.call(ATEN.flip.default, part, [0]) for part in parts]


def times(writer: Writer, parts: list[fx.Node]) -> list[fx.Node]:
    """Each real result times a parameter of its shape: a factor of one entry is a factor of the other."""
    return _joined(writer, parts, ATEN.mul.Tensor)


def plus(writer: Writer, parts: list[fx.Node]) -> list[fx.Node]:
    """Each real result plus a parameter of its shape: a shift of one entry is a shift of the other."""
    return _joined(writer, parts, ATEN.add.Tensor)


def _joined(writer: Writer, parts: list[fx.Node], join: Any) -> list[fx.Node]:
    shapes = [(n, tuple(writer.values[n.name].shape)) for n in parts if _real(writer, n)]
    return [writer.call(join, n, writer.leaf(Operand(shape))) for n, shape in shapes]


# --- as a module ----------------------------------------------------------------------------------------------------


class Called(nn.Module):
    """The graph with its parameters as a module, its data as inputs."""

    def __init__(self, drawn: Drawn) -> None:
        super().__init__()
        self.drawn = drawn
        for name, value in drawn.parameters.items():
            self.register_parameter(name, nn.Parameter(value.clone()))

    def forward(self, *data: Tensor) -> Tensor:
        values: dict[fx.Node, Any] = {}
        given = iter(data)
        for node in self.drawn.captured.graph.nodes:
            if node.op == "placeholder":
                source = self.drawn.captured.sources[node.name]
                values[node] = getattr(self, source.name) if source.kind == "parameter" else next(given)
            elif node.op == "call_function":
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: values[n])
                values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        seen = [values[n] for n in self.drawn.captured.outputs]
        return torch.cat([torch.view_as_real(v).flatten() if v.is_complex() else v.flatten() for v in seen])


def network(case: Case, drawn: Drawn) -> Network:
    """What the oracle is given: parameters that move, data that are drawn again."""
    data = [operand for operand in case.operands() if not operand.trained and operand.kind != "zeros"]
    return Network(str(case), Called(drawn), lambda generator: tuple(o.draw(generator) for o in data))


def as_data(case: Case) -> Case:
    """The same call on data alone."""

    def still(value: Any) -> Any:
        if isinstance(value, Operand):
            return replace(value, trained=False)
        if isinstance(value, (list, tuple)):
            return type(value)(still(part) for part in value)
        return value

    return replace(case, args=still(case.args), kwargs={k: still(v) for k, v in case.kwargs.items()})


def idealised(case: Case) -> Case:
    """The same call with a negligible eps: what its symmetries are, up to what breaks them by a known amount."""
    schema = getattr(case.operation, "_schema", None)
    names = [a.name for a in schema.arguments] if schema is not None else []
    if "eps" not in names or case.name in _EPS_OF_ANOTHER_KIND:
        return case
    at = names.index("eps")
    given = [*case.args, *(a.default_value for a in schema.arguments[len(case.args) : at])]
    return replace(case, args=(*given[:at], 1e-20, *given[at + 1 :]))


_EPS_OF_ANOTHER_KIND = (
    "logit",
    "special_logit",
    "logit_backward",
    "poisson_nll_loss",
    "triplet_margin_loss",
    "pairwise_distance",
)
