"""The model's computation as one graph of ATen operations on fake tensors, every input named."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind
from torch.fx import config

from neuralmechanics.symmetry.plain import FunctionModule
from neuralmechanics.symmetry.regions import written_out

__all__ = ["Captured", "capture", "operation_name", "place"]

LossFunction = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class Captured:
    """A graph, the parameter behind each placeholder, the trainable parameters' shapes, and how it was captured."""

    graph: fx.Graph
    parameters: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    frozen: tuple[str, ...]
    tied: Mapping[str, str]
    outputs: tuple[fx.Node, ...]
    training: bool
    route: str
    complex: frozenset[str] = frozenset()

    def requirements(self) -> tuple[str, ...]:
        """What the result holds for, beyond the mode of each operation."""
        if self.route == "export":
            return ()
        return ("the branch taken by the given batch (captured by tracing real tensors)",)


class _Whole(nn.Module):
    """The model and the loss as one module of the batch."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction | None) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn

    def forward(self, batch: Any) -> tuple[Tensor, ...]:
        result = self._loss_fn(self.model, batch) if self._loss_fn is not None else _call(self.model, batch)
        return tuple(_floating(result))


def _call(model: nn.Module, batch: Any) -> Any:
    if isinstance(model, FunctionModule):
        return model(batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, (tuple, list)) else model(batch)


def _floating(result: Any) -> Iterable[Tensor]:
    """Every floating-point tensor of a nested output; caches of keys and values are memory, not output."""
    if isinstance(result, Tensor):
        if result.is_floating_point() or result.is_complex():
            yield result
    elif isinstance(result, Mapping):
        for key, value in result.items():
            if key not in ("past_key_values", "cache_params"):
                yield from _floating(value)
    elif isinstance(result, (tuple, list)):
        for value in result:
            yield from _floating(value)
    elif dataclasses.is_dataclass(result):
        for entry in dataclasses.fields(result):
            yield from _floating(getattr(result, entry.name))


def capture(model: nn.Module, batch: Any, loss_fn: LossFunction | None = None) -> Captured:
    """Captures ``loss_fn(model, batch)`` (or the model's output) without running it on real data where possible.

    ``torch.export`` in non-strict mode first; where that fails, tracing with the real tensors, valid for the branch
    taken.
    Raises ``ValueError`` when the model cannot run on the batch at all.
    """
    model = _unwrapped(model)
    whole = _Whole(model, loss_fn)
    whole.train(model.training)
    with warnings.catch_warnings(), _quiet_logs(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            return _exported(whole, batch)
        except Exception as export_error:  # noqa: BLE001 - whatever export cannot do, tracing may
            try:
                return _traced(whole, batch)
            except Exception as trace_error:  # noqa: BLE001
                reason = str(trace_error).strip().splitlines() or [type(trace_error).__name__]
                raise ValueError(
                    f"{type(model).__name__} does not run on the given batch: {reason[0]}; pass a batch that the model "
                    "(and loss_fn) accept"
                ) from export_error


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Silences what export logs about a failure that the second route may still mend."""
    logger = logging.getLogger("torch")
    before = logger.disabled
    children = [logging.getLogger(name) for name in ("torch.fx.experimental.symbolic_shapes", "torch.export")]
    states = [child.disabled for child in children]
    try:
        for entry in (logger, *children):
            entry.disabled = True
        yield
    finally:
        logger.disabled = before
        for child, state in zip(children, states, strict=True):
            child.disabled = state


def _unwrapped(model: nn.Module) -> nn.Module:
    """The module behind ``torch.compile`` and data-parallel wrappers."""
    while True:
        if hasattr(model, "_orig_mod"):
            model = cast(nn.Module, model._orig_mod)
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


def _names(whole: _Whole) -> tuple[dict[str, str], dict[str, tuple[int, ...]], tuple[str, ...], dict[str, str]]:
    """Alias → canonical name, shapes of trainable parameters, frozen ones, ties; all without the wrapper's prefix."""
    canonical: dict[str, str] = {}
    first: dict[int, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    frozen: list[str] = []
    tied: dict[str, str] = {}
    for alias, parameter in whole.model.named_parameters(remove_duplicate=False):
        name = first.setdefault(id(parameter), alias)
        canonical[alias] = name
        if name != alias:
            tied[alias] = name
        elif parameter.requires_grad and (parameter.is_floating_point() or parameter.is_complex()):
            shapes[name] = tuple(parameter.shape)
        else:
            frozen.append(name)
    return canonical, shapes, tuple(frozen), tied


def _complex(whole: _Whole) -> frozenset[str]:
    return frozenset(name for name, p in whole.model.named_parameters() if p.is_complex())


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


def _exported(whole: _Whole, batch: Any) -> Captured:
    with _no_stack_traces():
        program = torch.export.export(whole, (batch,), strict=False)
    if _needs_functional_form(program.graph):
        program = program.run_decompositions({})
    canonical, shapes, frozen, tied = _names(whole)
    parameters = {
        spec.arg.name: canonical[str(spec.target).removeprefix("model.")]
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.PARAMETER and str(spec.target).removeprefix("model.") in canonical
    }
    user = set(program.graph_signature.user_outputs)
    trainable = {place: name for place, name in parameters.items() if name in shapes}
    graph = written_out(program.graph_module, frozenset(trainable))
    output = next(node for node in graph.nodes if node.op == "output")
    outputs = tuple(node for node in output.args[0] if isinstance(node, fx.Node) and node.name in user)
    return Captured(graph, trainable, shapes, frozen, tied, outputs, whole.training, "export", _complex(whole))


def _traced(whole: _Whole, batch: Any) -> Captured:
    from torch.func import functional_call
    from torch.fx.experimental.proxy_tensor import make_fx

    canonical, shapes, frozen, tied = _names(whole)
    values = {f"model.{name}": p.detach() for name, p in whole.model.named_parameters() if name in shapes}

    def run(params: dict[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(functional_call(whole, params, (batch,)))

    state = torch.get_rng_state()
    saved = {name: buffer.clone() for name, buffer in whole.named_buffers()}
    try:
        module = make_fx(run, pre_dispatch=True, tracing_mode="real", _error_on_data_dependent_ops=False)(values)
    finally:
        torch.set_rng_state(state)
        for name, buffer in whole.named_buffers():
            buffer.data.copy_(saved[name])
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    parameters = {
        node.name: canonical[name.removeprefix("model.")] for node, name in zip(placeholders, values, strict=True)
    }
    output = next(node for node in module.graph.nodes if node.op == "output")
    outputs = tuple(node for node in output.args[0] if isinstance(node, fx.Node))
    return Captured(module.graph, parameters, shapes, frozen, tied, outputs, whole.training, "trace", _complex(whole))


def _needs_functional_form(graph: fx.Graph) -> bool:
    """Whether an operation writes into a tensor in a way that the walk over the graph could misread.

    Writing in place into a tensor that is neither a view nor viewed elsewhere is the functional operation followed by
    renaming; anything else needs the graph to be rewritten without mutation.
    """
    for node in graph.nodes:
        if not is_in_place(node):
            continue
        target = node.args[0]
        if not isinstance(target, fx.Node) or operation_name(node) not in _SIMPLE_IN_PLACE:
            return True
        if target.op == "placeholder":
            continue
        others = [user for user in target.users if user is not node]
        if _may_alias(target) or any(_may_alias(user) for user in others):
            return True
    return False


_SIMPLE_IN_PLACE = frozenset(
    f"aten.{name}_"
    for name in [
        "relu",
        "add",
        "sub",
        "mul",
        "div",
        "leaky_relu",
        "silu",
        "gelu",
        "sigmoid",
        "tanh",
        "hardtanh",
        "elu",
        "celu",
        "selu",
        "neg",
        "relu6",
        "dropout",
        "hardswish",
        "hardsigmoid",
        "mish",
        "clamp",
        "exp",
        "sqrt",
        "rsqrt",
        "pow",
    ]
)
_FRESH = frozenset(
    f"aten.{name}"
    for name in [
        "linear",
        "conv1d",
        "conv2d",
        "conv3d",
        "batch_norm",
        "group_norm",
        "layer_norm",
        "instance_norm",
        "add",
        "sub",
        "mul",
        "div",
        "relu",
        "matmul",
        "mm",
        "bmm",
        "cat",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "adaptive_avg_pool2d",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "dropout",
        "prelu",
        "leaky_relu",
        "conv_transpose2d",
        "conv_transpose1d",
        "rms_norm",
        "softmax",
        "embedding",
        "addmm",
        "baddbmm",
    ]
)


def _may_alias(node: fx.Node) -> bool:
    name = operation_name(node)
    return not (node.op == "call_function" and (name in _FRESH or name.rstrip("_") in _FRESH))


def is_node(value: Any) -> bool:
    """Whether an argument is another operation's result."""
    return isinstance(value, fx.Node)


def operation_name(node: fx.Node) -> str:
    """The operation without its overload: ``aten.linear``."""
    target = node.target
    packet = getattr(target, "overloadpacket", None)
    if packet is not None:
        return str(packet)
    return getattr(target, "__name__", str(target))


def is_in_place(node: fx.Node) -> bool:
    """Whether the node writes into its first argument."""
    if node.op != "call_function":
        return False
    name = operation_name(node)
    return name.startswith("aten.") and name.endswith("_") and not name.endswith("__")


def place(node: fx.Node) -> str:
    """Where in the model the operation stands: the innermost module's path, or the node's own name."""
    stack = node.meta.get("nn_module_stack")
    if stack:
        path = next(reversed(stack.values()))[0]
        path = str(path).removeprefix("model").removeprefix(".")
        if path:
            return path
    return node.name
