"""The captured graph run beside the real model: values and gradients must agree, or nothing is claimed of it."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from neuralmechanics.symmetry.as_found import RunState
from neuralmechanics.symmetry.captured import Captured, Source
from neuralmechanics.symmetry.graph_run import Conversion, GraphError, run_graph
from neuralmechanics.symmetry.inputs import pick, resample
from neuralmechanics.symmetry.tracing import SEED, seeded
from neuralmechanics.symmetry.whole import Whole

__all__ = ["Replayed", "replayed", "runs_on_copies"]

MATERIALISED = 1 << 20  # tensor entries of a model on the meta device up to which real ones are made for the replay
DOUBLE = 1 << 20  # tensor entries up to which everything is run in float64 at once
LARGE = 1 << 22  # parameters up to which another point in parameter space is another in every tensor
MOVED = 1 << 27  # parameters up to which another point is tried at all
PARTLY_MOVED = 1 << 18  # entries of the tensors that are moved in larger models, beside those that are zero
DIFFERENTIATED = 1 << 29  # parameters up to which gradients are compared
STEPS = (0.1, 0.01, 0.001)  # to another point in parameter space; a smaller one may stay on the branch that was traced
TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.03}
CAST = 1e-4  # in float64, where the model casts to a narrower type of its own accord
PATTERN = 65_537  # random numbers that a large tensor is moved by, over and over: a prime, so no dimension repeats them
DRAWS = 32  # runs with other random numbers, where the model draws some that may decide a branch
SIDES = (16, 32)  # of images that are enough for a first comparison, if the model takes them
FEW = 4  # samples that are enough for it


@dataclass(frozen=True)
class Replayed:
    """What came of it: nothing against the graph, or the first difference; and why it could not be run at all."""

    difference: str = ""
    not_run: str = ""


@dataclass(frozen=True)
class _Point:
    """A point in parameter space, the model's other tensors, and a batch; all by the wrapper's names."""

    params: Mapping[str, Tensor]
    others: Mapping[str, Tensor]
    batch: Any

    @property
    def size(self) -> int:
        leaves = [leaf for leaf in pytree.tree_leaves(self.batch) if isinstance(leaf, Tensor)]
        return sum(t.numel() for t in (*self.params.values(), *self.others.values(), *leaves))

    def double(self) -> _Point:
        params = {name: _double(value) for name, value in self.params.items()}
        return _Point(params, {n: _double(v) for n, v in self.others.items()}, pytree.tree_map(_double, self.batch))

    def on_copies(self) -> _Point:
        """The same with copies of all parameters, into which a model may write."""
        frozen = {n: nn.Parameter(v.clone(), False) for n, v in self.others.items() if isinstance(v, nn.Parameter)}
        params = {name: value.clone() for name, value in self.params.items()}
        return replace(self, params=params, others={**self.others, **frozen})

    def moved(self, step: float) -> _Point:
        """Every parameter moved by a random fraction of its size."""
        generator = torch.Generator().manual_seed(SEED)
        every = sum(value.numel() for value in self.params.values()) <= LARGE
        chosen = {n: v for n, v in self.params.items() if every or v.numel() <= PARTLY_MOVED or _is_zero(v)}
        moved = {name: _moved(value, step, generator) for name, value in chosen.items()}
        return replace(self, params={**self.params, **moved})

    def on_other_data(self) -> _Point:
        return replace(self, batch=pick(resample(self.batch, torch.Generator().manual_seed(SEED), 1), 0))


@dataclass(frozen=True)
class _Evaluation:
    """Outputs, and the gradient of one random combination of them.

    Of each gradient of a large model two numbers are kept: its product with a random vector, and its size. ``drew``
    names the generators that random numbers were drawn from.
    """

    values: Sequence[Tensor]
    gradients: Mapping[str, Tensor]
    drew: frozenset[str] = frozenset()


class _NotRunError(Exception):
    """The model itself does not run there."""


def runs_on_copies(whole: Whole) -> bool:
    """Whether the replay gives the model copies of its parameters, so that these need not be put back afterwards."""
    return LARGE < sum(p.numel() for p in whole.parameters()) <= MOVED


def replayed(captured: Captured, whole: Whole, batch: Any) -> Replayed:
    """Runs graph and model on the batch, at another point in parameter space, and on other data where that is fair.

    Small models are compared in float64; others in their own precision, and in float64 if that leaves a doubt. Large
    images are cut, and many samples left out, as long as nothing differs. A graph traced with real tensors holds for
    the branch taken: it is compared on the given data, and at the farthest other point that stays on the branch.
    """
    constant = _parameter_as_constant(captured, whole)
    if constant:
        return Replayed(f"the graph holds {constant} as a constant")
    point = _point(captured, whole, batch)
    if isinstance(point, str):
        return Replayed(not_run=point)
    try:
        if captured.route == "export" and point.size > DOUBLE and _agrees_in_small(captured, whole, point):
            return Replayed()
        return _in_some_precision(captured, whole, point)
    finally:
        _noise.cache_clear()


def _parameter_as_constant(captured: Captured, whole: Whole) -> str:
    """The first parameter whose memory a constant of the graph shares; empty where none does."""
    memory = {_memory(p): name.removeprefix("model.") for name, p in whole.named_parameters() if p.requires_grad}
    held = [source.value for source in captured.sources.values() if source.kind == "constant"]
    named = {str(node.target) for node in captured.graph.nodes if node.op == "get_attr"}
    held += [value for name in named if isinstance(value := attrgetter(name)(captured.module), Tensor)]
    return next((memory[_memory(t)] for t in held if isinstance(t, Tensor) and _memory(t) in memory), "")


def _memory(tensor: Tensor) -> Any:
    """What tells the memory of tensors apart; those without any are all different."""
    pointer = 0 if tensor.is_meta or tensor.layout != torch.strided else tensor.untyped_storage().data_ptr()
    return pointer or tensor


def _agrees_in_small(captured: Captured, whole: Whole, point: _Point) -> bool:
    """Whether graph and model take a few small images, and agree on them."""
    for side in SIDES:
        small = _shrunk(point.batch, side)
        if small is None:
            return False
        # The library behind large convolutions takes longer to rearrange weights than to multiply a few entries.
        with torch.backends.mkldnn.flags(enabled=False):
            if _in_some_precision(captured, whole, replace(point, batch=small)) == Replayed():
                return True
    return False


def _in_some_precision(captured: Captured, whole: Whole, point: _Point) -> Replayed:
    if point.size <= DOUBLE:
        wide = _at_several_points(captured, whole, point.double(), wide=True)
        if not wide.not_run:
            return wide
    own = _at_several_points(captured, whole, point, wide=False)
    if own.difference and point.size > DOUBLE:
        wide = _at_several_points(captured, whole, point.double(), wide=True)
        return own if wide.not_run else wide
    return own


def _at_several_points(captured: Captured, whole: Whole, point: _Point, *, wide: bool) -> Replayed:
    traced = captured.route != "export"
    count = sum(p.numel() for p in point.params.values())
    gradients = count <= DIFFERENTIATED
    try:
        found, drew = _compared(captured, whole, point, gradients=gradients and (traced or count > MOVED), wide=wide)
        if not found and (drew - {"torch"} or (drew and traced)):  # a branch may hang on what was drawn
            seeds = range(SEED + 2, SEED + DRAWS)
            others = (_compared(captured, whole, point, seed, gradients=False, wide=wide)[0] for seed in seeds)
            found = next(filter(None, others), "")
        if found or count > MOVED:
            return Replayed(found)
        for step in STEPS if traced else STEPS[:1]:
            found = _elsewhere(captured, whole, point.moved(step), gradients=gradients, wide=wide)
            if not found:
                break
    except _NotRunError as error:
        return Replayed(not_run=str(error))
    return Replayed(found)


def _elsewhere(captured: Captured, whole: Whole, point: _Point, *, gradients: bool, wide: bool) -> str:
    """At another point, and there on other data if the graph holds for all data and the model takes them."""
    if captured.route == "export":
        try:
            return _compared(captured, whole, point.on_other_data(), SEED + 1, gradients=gradients, wide=wide)[0]
        except _NotRunError:
            pass
    return _compared(captured, whole, point, SEED + 1, gradients=gradients, wide=wide)[0]


def _compared(
    captured: Captured, whole: Whole, point: _Point, seed: int = SEED, *, gradients: bool, wide: bool
) -> tuple[str, frozenset[str]]:
    """The first difference between model and graph at one point, empty where they agree; what the model drew."""
    try:
        with seeded(seed), torch.enable_grad():
            model = _model_evaluated(whole, point, gradients=gradients, wide=wide)
    except Exception as error:
        text = str(error).strip().splitlines() or [""]
        raise _NotRunError(f"{type(whole.model).__name__} raises {type(error).__name__}: {text[0]}") from error
    conversion = Conversion(_own_type(whole) if wide else None)
    try:
        with seeded(seed), torch.enable_grad():
            params = _leaves(point.params)
            graph = _evaluated(_run_captured(captured, whole, point, params, conversion), params, gradients)
    except GraphError as error:
        return str(error), model.drew
    except RuntimeError as error:
        return f"the captured graph has no gradient: {(str(error).splitlines() or [''])[0]}", model.drew
    return _difference(model, graph, _tolerance(model, conversion)), model.drew


def _model_evaluated(whole: Whole, point: _Point, *, gradients: bool, wide: bool) -> _Evaluation:
    """The model run with its own parameters moved to the point, so that whoever else refers to them sees them move.

    Large models, and those without content, are given other tensors in their place.
    """
    before = _drawn()
    if runs_on_copies(whole) or any(p.is_meta for p in whole.parameters()):
        found = _run_model(whole, point, _leaves(point.params), gradients)
    else:
        with _moved_to(whole, point) as params, RunState(whole).fresh(_double if wide else _same):
            found = _evaluated(list(whole(_copied(point.batch))), params, gradients)
            return replace(found, drew=_drawn_since(before))
    return replace(found, drew=_drawn_since(before))


def _drawn_since(before: Mapping[str, Any]) -> frozenset[str]:
    """The generators that random numbers were drawn from."""
    after = _drawn()
    return frozenset(name for name in before if before[name] != after[name])


@contextmanager
def _moved_to(whole: Whole, point: _Point) -> Iterator[dict[str, Tensor]]:
    """The model's own parameters with the point's values, without gradients, and without what hooks do to these."""
    given = {**point.params, **point.others}
    kept = [(p, p.data, p.grad, p._backward_hooks, p._post_accumulate_grad_hooks) for p in whole.parameters()]
    try:
        for name, parameter in whole.named_parameters():
            parameter.grad, parameter._backward_hooks, parameter._post_accumulate_grad_hooks = None, None, None  # type: ignore[assignment]
            parameter.data = given[name].detach().clone()
        yield {name: whole.get_parameter(name) for name in point.params}
    finally:
        for parameter, data, gradient, hooks, after in kept:
            parameter.grad = None
            parameter.data = data
            parameter.grad, parameter._backward_hooks, parameter._post_accumulate_grad_hooks = gradient, hooks, after


def _drawn() -> dict[str, Any]:
    """The states of the random generators."""
    state = np.random.get_state()  # noqa: NPY002
    return {"torch": torch.get_rng_state().numpy().tobytes(), "python": random.getstate(), "numpy": repr(state)}


def _leaves(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().requires_grad_() for name, value in params.items()}


def _run_model(whole: Whole, point: _Point, params: Mapping[str, Tensor], gradients: bool) -> _Evaluation:
    """Values and gradients while the tensors stand in the model's place: checkpoints run it again on the way back."""
    tensors = {f"whole.{name}": value for name, value in {**params, **_copies(point.others)}.items()}
    evaluated = _Evaluated(whole, params, gradients)
    with RunState(whole).fresh():
        evaluation: _Evaluation = functional_call(evaluated, tensors, (_copied(point.batch),))
    return evaluation


class _Evaluated(nn.Module):
    """The model with its gradients as results."""

    def __init__(self, whole: Whole, params: Mapping[str, Tensor], gradients: bool) -> None:
        super().__init__()
        self.whole = whole
        self._params, self._gradients = params, gradients
        self.training = whole.training

    def forward(self, batch: Any) -> _Evaluation:
        return _evaluated(list(self.whole(batch)), self._params, self._gradients)


def _run_captured(
    captured: Captured, whole: Whole, point: _Point, params: Mapping[str, Tensor], conversion: Conversion
) -> list[Any]:
    tensors = {**params, **_copies(point.others)}
    first = _first_names(whole)
    leaves = pytree.tree_leaves(_copied(point.batch))

    def value_of(source: Source) -> Any:
        if source.kind == "input":
            return leaves[source.index]
        return conversion.constant(source.value) if source.kind == "constant" else tensors[first[source.name]]

    return run_graph(captured, value_of, conversion)


def _first_names(whole: Whole) -> dict[str, str]:
    """For each name of a parameter or buffer, the first name of the same tensor."""
    first: dict[int, str] = {}
    named = [*whole.named_parameters(remove_duplicate=False), *whole.named_buffers(remove_duplicate=False)]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers as copies, for a run writes into them; frozen parameters, which may be large, as they are."""
    return {n: v.detach() if isinstance(v, nn.Parameter) else v.clone() for n, v in tensors.items()}


def _copied(batch: Any) -> Any:
    return pytree.tree_map(_copy, batch)


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone().requires_grad_(leaf.requires_grad) if isinstance(leaf, Tensor) else leaf


def _evaluated(results: Sequence[Any], params: Mapping[str, Tensor], gradients: bool) -> _Evaluation:
    values = [value for value in results if isinstance(value, Tensor)]
    moving = [value for value in values if value.requires_grad] if gradients else []
    plain = [value.detach() for value in values]
    if not moving:
        return _Evaluation(plain, {})
    generator = torch.Generator().manual_seed(SEED)
    weights = [torch.randn(v.shape, generator=generator).to(v.device, v.dtype) for v in moving]
    if sum(p.numel() for p in params.values()) > LARGE:
        return _Evaluation(plain, _sketches(moving, weights, params))
    found = _gradients(moving, list(params.values()), weights)
    return _Evaluation(plain, {name: g for name, g in zip(params, found, strict=True) if g is not None})


def _sketches(moving: list[Tensor], weights: list[Tensor], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Two numbers for each gradient, taken as soon as it is there, so that its memory serves the next one."""
    noise = _noise(max(p.numel() * (2 if p.is_complex() else 1) for p in params.values()))
    found: dict[str, Tensor] = {}

    def take(name: str, parameter: Tensor) -> None:
        gradient = parameter.grad
        parameter.grad = None
        if gradient is not None:
            flat = (torch.view_as_real(gradient) if gradient.is_complex() else gradient).reshape(-1).float()
            along = torch.dot(flat, noise[: flat.numel()].to(flat.device))
            found[name] = torch.stack([along, torch.linalg.vector_norm(flat)]).double().cpu()

    hooks = [p.register_post_accumulate_grad_hook(partial(take, name)) for name, p in params.items()]  # type: ignore[no-untyped-call]
    torch.autograd.backward(moving, weights, inputs=list(params.values()))
    for hook in hooks:
        hook.remove()
    return found


def _gradients(values: list[Tensor], params: list[Tensor], weights: list[Tensor]) -> Sequence[Tensor | None]:
    """By ``autograd.grad``, or by a backward pass where a reentrant checkpoint allows nothing else."""
    try:
        return torch.autograd.grad(values, params, weights, allow_unused=True, retain_graph=True)
    except RuntimeError as error:
        if "use_reentrant" not in str(error):
            raise
    torch.autograd.backward(values, weights)
    return [p.grad for p in params]


def _own_type(whole: Whole) -> torch.dtype | None:
    """The precision of the model's parameters, if it is narrower than float64."""
    kinds = {p.dtype for p in whole.parameters() if p.is_floating_point()}
    return max(kinds, key=lambda kind: kind.itemsize) if kinds and torch.float64 not in kinds else None


def _tolerance(model: _Evaluation, conversion: Conversion) -> float:
    kinds = [value.dtype for value in (*model.values, *model.gradients.values()) if value.dtype in TOLERANCES]
    rounding = max((TOLERANCES[kind] for kind in kinds), default=TOLERANCES[torch.float64])
    return max(rounding, CAST) if conversion.cast else rounding


def _difference(model: _Evaluation, graph: _Evaluation, tolerance: float) -> str:
    """What differs by more than rounding, with its size relative to the greatest entry."""
    if len(model.values) != len(graph.values):
        return f"the model has {len(model.values)} outputs, the graph {len(graph.values)}"
    for number, (x, y) in enumerate(zip(model.values, graph.values, strict=True)):
        size = _relative(x, y, max(_greatest(x), _greatest(y)))
        if not size <= tolerance:
            which = "the value" if len(model.values) == 1 else f"output {number}"
            return f"{which} differs by {size:.1e} of its size"
    names = list({**model.gradients, **graph.gradients})
    pairs = [_both(model.gradients.get(name), graph.gradients.get(name)) for name in names]
    for name, size in zip(names, _relative_sizes(pairs), strict=True):
        if not size <= 10 * tolerance:
            return f"the gradient of {name.removeprefix('model.')} differs by {size:.1e} of its size"
    return ""


def _both(x: Tensor | None, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Two gradients, with zero for the one that is missing."""
    if x is None or y is None:
        known = x if x is not None else y
        assert known is not None
        return (known, torch.zeros_like(known)) if y is None else (torch.zeros_like(known), known)
    return x, y


def _relative_sizes(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[float]:
    """The greatest difference of each pair, in units of its greatest entry or of a thousandth of that of all pairs."""
    scales = [max(_greatest(x), _greatest(y)) for x, y in pairs]
    floor = 1e-3 * max((scale for scale in scales if math.isfinite(scale)), default=0.0)
    return [_relative(x, y, max(scale, floor)) for (x, y), scale in zip(pairs, scales, strict=True)]


def _relative(x: Tensor, y: Tensor, scale: float) -> float:
    """The greatest difference in units of ``scale``; nan meets nan, and infinity itself."""
    if x.shape != y.shape:
        return math.inf
    if not math.isfinite(scale):
        same = torch.allclose(x, y, rtol=1e-2, equal_nan=True)
        return 0.0 if same else math.inf
    return _greatest(x - y) / scale if scale > 0 else 0.0


def _greatest(x: Tensor) -> float:
    """The size of the greatest entry (aminmax is ten times as fast as the norm); nan if there is one."""
    if not x.numel():
        return 0.0
    low, high = torch.aminmax(torch.view_as_real(x) if x.is_complex() else x)
    return max(-float(low), float(high))


@lru_cache(maxsize=1)
def _noise(count: int) -> Tensor:
    """Random numbers that gradients are multiplied by; the same for the model and for the graph."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(PATTERN, generator=generator).repeat(-(-count // PATTERN))[:count]


def _is_zero(value: Tensor) -> bool:
    """Whether all entries are zero; a few tell in most cases."""
    return not value.reshape(-1)[:64].any() and not value.any()


def _same(value: Tensor) -> Tensor:
    return value


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _moved(value: Tensor, step: float, generator: torch.Generator) -> Tensor:
    if not value.numel():
        return value
    count = value.numel()
    noise = torch.randn(min(count, PATTERN), generator=generator, dtype=torch.float32).to(value.device)
    noise = noise.repeat(-(-count // PATTERN))[:count].reshape(value.shape)
    size = float(torch.linalg.vector_norm(value)) / math.sqrt(count)
    return torch.add(value, noise.to(value.dtype), alpha=step * (size if size > 0 else 1.0))


def _point(captured: Captured, whole: Whole, batch: Any) -> _Point | str:
    """The model's own tensors, or small random ones for a model on the meta device; else why there are none."""
    params = {f"model.{name}": whole.get_parameter(f"model.{name}").detach() for name in captured.shapes}
    named = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    point = _Point(params, {name: value for name, value in named.items() if name not in params}, batch)
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    if not any(t.is_meta for t in (*named.values(), *leaves)):
        return point.on_copies() if runs_on_copies(whole) else point
    if point.size > MATERIALISED:
        return "the model is on the meta device"
    generator = torch.Generator().manual_seed(SEED)
    filled = {name: _filled(value, generator) for name, value in point.others.items()}
    moved = {name: _filled(value, generator) for name, value in params.items()}
    return _Point(moved, filled, pytree.tree_map(lambda leaf: _filled(leaf, generator), batch))


def _filled(value: Any, generator: torch.Generator) -> Any:
    """Positive random numbers for a tensor without content; zeros for whole numbers, which are valid as any index."""
    if not isinstance(value, Tensor) or not value.is_meta:
        return value
    if not value.is_floating_point():
        return torch.zeros(value.shape, dtype=value.dtype)
    return torch.rand(value.shape, generator=generator, dtype=torch.float32).add(0.5).to(value.dtype)


def _shrunk(batch: Any, side: int) -> Any:
    """A few samples, cut to small images; None where that saves nothing."""
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    counts = {leaf.shape[0] for leaf in leaves if leaf.ndim}
    few = FEW if len(counts) == 1 and counts.pop() > 2 * FEW else None

    def cut(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.ndim:
            return leaf
        sides = min(3, max(0, leaf.ndim - 2)) if leaf.is_floating_point() and leaf.ndim > 3 else 0
        index = [slice(few), *[slice(None)] * (leaf.ndim - 1 - sides), *[slice(side)] * sides]
        return leaf[tuple(index)]

    small = pytree.tree_map(cut, batch)
    sizes = [sum(x.numel() for x in pytree.tree_leaves(b) if isinstance(x, Tensor)) for b in (small, batch)]
    return small if sizes[0] * 4 <= sizes[1] and sizes[1] >= 1 << 15 else None
