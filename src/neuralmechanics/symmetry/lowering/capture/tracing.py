"""Capture by tracing real tensors, valid for the branch that the batch takes: above autograd, below it, or in part.

Above autograd the graph holds the operations that the model calls. A loss that differentiates inside needs tracing
below autograd, where the tensors that the backward pass saved are followed too. Where a function is computed outside
torch, it stays one operation of its own that nothing is claimed of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.func import functionalize
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from neuralmechanics.functional.as_found.randomness import kept_randomness
from neuralmechanics.functional.calling import Names, Whole, names_of
from neuralmechanics.symmetry.lowering.capture.captured import (
    Captured,
    Outside,
    RouteError,
    Source,
    first_line,
    is_node,
)
from neuralmechanics.symmetry.lowering.capture.in_place import needs_functional_form, written_placeholders
from neuralmechanics.symmetry.lowering.capture.outside import calling_outside, mark_outside
from neuralmechanics.symmetry.lowering.capture.regions import Operation, cut_gradients

__all__ = ["SEED", "seeded", "traced", "traced_below_autograd", "traced_with_outside_functions"]

SEED = 20210503  # of every run that must draw the same random numbers as another

Run = Callable[[list[Tensor], list[Tensor]], tuple[Any, ...]]


def traced(whole: Whole, batch: Any, no_gradient: Operation) -> Captured:
    """The operations that the model calls, as they stand above autograd."""
    return _captured(whole, batch, no_gradient, below_autograd=False)


def traced_below_autograd(whole: Whole, batch: Any, no_gradient: Operation) -> Captured:
    """The operations that are left when autograd has done its part: inner gradients are operations like others."""
    return _captured(whole, batch, no_gradient, below_autograd=True)


def traced_with_outside_functions(whole: Whole, batch: Any, no_gradient: Operation) -> Captured:
    """As ``traced``, with every ``autograd.Function`` that is not torch's own as one operation without a rule."""
    with calling_outside(whole.model) as functions:
        return _captured(whole, batch, no_gradient, below_autograd=False, outside=functions)


def _captured(
    whole: Whole,
    batch: Any,
    no_gradient: Operation,
    *,
    below_autograd: bool,
    outside: Sequence[Outside] = (),
) -> Captured:
    names = names_of(whole)
    moved = [f"model.{name}" for name in names.shapes]
    params: list[Tensor] = [whole.get_parameter(name) for name in moved]
    others = _other_tensors(whole, frozenset(moved))
    leaves = pytree.tree_leaves(batch)

    def run(*_: Any) -> tuple[Any, ...]:
        return tuple(whole(batch))  # whoever refers to the model's own tensors is followed: a loss may hold them too

    rest = [*others.values(), *(leaf for leaf in leaves if isinstance(leaf, Tensor))]
    module = _graph_of(run, params, rest, below_autograd=below_autograd)
    written = written_placeholders(module.graph)
    held: dict[str, Tensor] = {}
    if needs_functional_form(module.graph):
        held = _constants(module)
        module = _without_mutation(module, params, rest, held)
    mark_outside(module.graph, outside)
    cut_gradients(module.graph, no_gradient)
    if below_autograd:
        _drop(module.graph, no_gradient)
    sources = [Source("parameter", name) for name in moved]
    for name, value in others.items():
        sources.append(Source("parameter" if _is_parameter(whole, name) else "buffer", name, value=value))
    sources += [Source("input", index=k) for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
    sources += [Source("constant", name, value=value) for name, value in held.items()]
    return replace(_described(module, names, sources, whole.training, outside), written=written)


def _described(
    module: fx.GraphModule, names: Names, sources: Sequence[Source], training: bool, outside: Sequence[Outside]
) -> Captured:
    """The traced module with the names of its inputs, which come in the order of ``sources``."""
    graph = module.graph
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    found = {node.name: source for node, source in zip(placeholders, sources, strict=False)}
    parameters = {
        node.name: names.canonical[source.name.removeprefix("model.")]
        for node, source in zip(placeholders[: len(names.shapes)], sources, strict=False)
    }
    results = tuple(next(node for node in graph.nodes if node.op == "output").args[0])
    return Captured(
        graph,
        parameters,
        names.shapes,
        names.frozen,
        names.tied,
        tuple(entry for entry in results if is_node(entry)),
        training,
        "trace",
        names.complex,
        module,
        found,
        results,
        tuple(outside),
    )


def _other_tensors(whole: nn.Module, moved: frozenset[str]) -> dict[str, Tensor]:
    """Frozen parameters and buffers by name."""
    frozen = {name: p for name, p in whole.named_parameters() if name not in moved}
    return frozen | dict(whole.named_buffers())


def _is_parameter(whole: nn.Module, name: str) -> bool:
    holder, _, last = name.rpartition(".")
    return last in whole.get_submodule(holder)._parameters


def _graph_of(run: Run, values: list[Tensor], rest: list[Tensor], *, below_autograd: bool) -> fx.GraphModule:
    """The operations of one run on these very tensors."""
    from torch.fx.experimental.proxy_tensor import make_fx

    # The backward pass of fused attention is one operation without a rule; written out it is products and a softmax.
    attention = sdpa_kernel(SDPBackend.MATH) if below_autograd else nullcontext()
    # On real tensors the model may branch on what they hold. Before dispatch, operations are those that it calls;
    # after it, what autograd adds are operations as well.
    trace = make_fx(run, pre_dispatch=not below_autograd, tracing_mode="real", _error_on_data_dependent_ops=False)
    try:
        with seeded(), attention:
            module: fx.GraphModule = trace(values, rest)
    except Exception as error:
        raise RouteError(first_line(error)) from error
    return module


@contextmanager
def seeded(seed: int = SEED) -> Iterator[None]:
    """The same random numbers in every run inside, and the random states as they were after it."""
    restore = kept_randomness()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that old code draws from
    try:
        yield
    finally:
        restore()


def _constants(module: fx.GraphModule) -> dict[str, Tensor]:
    """Copies of the tensors that a traced graph holds: what the model keeps outside its parameters and buffers."""
    names = dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "get_attr")
    values = {name: getattr(module, name) for name in names}
    for name, value in values.items():
        if isinstance(value, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(value):
            raise RouteError(f"the graph holds {name}, a tensor from inside a transformation of torch.func")
    return {name: value.detach().clone() for name, value in values.items() if isinstance(value, Tensor)}


def _without_mutation(
    module: fx.GraphModule, params: list[Tensor], rest: list[Tensor], held: Mapping[str, Tensor]
) -> fx.GraphModule:
    """The same function as a graph in which nothing is written in place, by torch's own functionalisation.

    The constants ``held`` are inputs of this second run, so that writes into them are seen.
    """

    def run(values: list[Tensor], others: list[Tensor]) -> tuple[Any, ...]:
        constants = dict(zip(held, others[len(rest) :], strict=True))
        return tuple(_Holding(module, constants).run(*values, *others[: len(rest)]))

    # The run writes into these, and the model's own must stay as they are.
    copies = [value.detach().clone() for value in (*rest, *held.values())]
    return _graph_of(functionalize(run), [p.detach() for p in params], copies, below_autograd=True)


class _Holding(fx.Interpreter):
    """Runs a graph with given tensors in the place of its constants."""

    def __init__(self, module: fx.GraphModule, held: Mapping[str, Tensor]) -> None:
        super().__init__(module)
        self._held = held

    def fetch_attr(self, target: str) -> Any:
        return self._held[target] if target in self._held else super().fetch_attr(target)


def _drop(graph: fx.Graph, no_gradient: Operation) -> None:
    """Below autograd a saved tensor passes through ``no_gradient``, which says nothing about gradients there.

    Whether one of the model's own was dropped with them shows in the replay, where gradients are compared.
    """
    for node in list(graph.nodes):
        if node.op == "call_function" and node.target is no_gradient:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
