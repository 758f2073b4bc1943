"""Capture by ``torch.export``: one graph on fake tensors, with the module that each operation stands in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch.export.graph_signature import InputKind
from torch.fx import config

from neuralmechanics.functional.calling import Whole, names_of
from neuralmechanics.symmetry.lowering.capture.captured import Captured, RouteError, Source, first_line
from neuralmechanics.symmetry.lowering.capture.in_place import needs_functional_form, written_placeholders
from neuralmechanics.symmetry.lowering.capture.regions import Operation, written_out
from neuralmechanics.symmetry.lowering.capture.uncompiled import compiled_when_called

__all__ = ["exported", "exported_with_checkpoints"]


def exported(whole: Whole, batch: Any, no_gradient: Operation) -> Captured:
    """The graph of ``torch.export`` in non-strict mode, without mutation where the walk could misread it."""
    return _exported(whole, batch, no_gradient, recomputed=False)


def exported_with_checkpoints(whole: Whole, batch: Any, no_gradient: Operation) -> Captured:
    """The same, with every region without gradients taken for a reentrant checkpoint, which has them after all."""
    return _exported(whole, batch, no_gradient, recomputed=True)


def _exported(whole: Whole, batch: Any, no_gradient: Operation, *, recomputed: bool) -> Captured:
    with _no_stack_traces(), compiled_when_called():
        program = _exported_program(whole, batch)
        written_out(program.graph_module, no_gradient, recomputed=recomputed)
        # Read off before the functional form, in which nothing is written into any more.
        written = written_placeholders(program.graph)
        # Only where it must be, for the whole graph is traced once more.
        if needs_functional_form(program.graph) or _vectorised(program.graph):
            program = _functional(program)
    names = names_of(whole)
    sources = _sources(program)
    parameters = {
        place: names.canonical[source.name.removeprefix("model.")]
        for place, source in sources.items()
        if source.kind == "parameter" and source.name.removeprefix("model.") in names.canonical
    }
    trainable = {place: name for place, name in parameters.items() if name in names.shapes}
    module = program.graph_module
    graph = module.graph
    count = len(program.graph_signature.user_outputs)
    output = next(node for node in graph.nodes if node.op == "output")
    # What the model returns comes last: in functional form an export gives mutated buffers in front of it.
    results = tuple(output.args[0])[-count:] if count else ()
    outputs = tuple(node for node in results if isinstance(node, fx.Node))
    return Captured(
        graph,
        trainable,
        names.shapes,
        names.frozen,
        names.tied,
        outputs,
        whole.training,
        "export",
        names.complex,
        module,
        sources,
        results,
        writes_parameters=not written.isdisjoint(parameters),
        written=written,
    )


def _exported_program(whole: Whole, batch: Any) -> torch.export.ExportedProgram:
    try:
        # Not strict: the model's Python is run as it is, where the strict mode would have to understand it first.
        return torch.export.export(whole, (batch,), strict=False)
    except Exception as error:
        raise RouteError(first_line(error)) from error


def _vectorised(graph: fx.Graph) -> bool:
    """Whether operations stand in it as ``torch.func.vmap`` called them, for one entry of a batch."""
    return any(getattr(node.target, "__name__", "") == "_add_batch_dim" for node in graph.nodes)


def _functional(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The same for whole batches, without operations that write into their arguments."""
    try:
        functional: torch.export.ExportedProgram = program.run_decompositions({})
    except Exception as error:
        raise RouteError(first_line(error)) from error
    return functional


def _sources(program: torch.export.ExportedProgram) -> dict[str, Source]:
    """Where each placeholder's value comes from; those of other kinds (tokens, objects) are left out."""
    sources: dict[str, Source] = {}
    inputs = 0
    for spec in program.graph_signature.input_specs:
        name, target = str(spec.arg.name), str(spec.target)
        if spec.kind == InputKind.PARAMETER:
            sources[name] = Source("parameter", target, value=_held(program, target))
        elif spec.kind == InputKind.BUFFER:
            sources[name] = Source("buffer", target, value=_held(program, target))
        elif spec.kind == InputKind.CONSTANT_TENSOR:
            sources[name] = Source("constant", target, value=program.constants[target])
        elif spec.kind == InputKind.USER_INPUT:
            sources[name] = Source("input", index=inputs)
            inputs += 1
    return sources


def _held(program: torch.export.ExportedProgram, name: str) -> Tensor | None:
    """The model's own tensor of this name; buffers that are no part of the state stand among the constants."""
    held = program.state_dict.get(name, program.constants.get(name))
    return held if isinstance(held, Tensor) else None


@contextmanager
def _no_stack_traces() -> Iterator[None]:
    """Operations are found by their module; recording a Python stack for each takes a good part of a capture."""
    name = "do_not_emit_stack_traces"  # older releases of torch have no such setting
    before = getattr(config, name, None)
    if before is not None:
        setattr(config, name, True)
    try:
        yield
    finally:
        if before is not None:
            setattr(config, name, before)
