"""Where graph and model are compared: a point in parameter space, and a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuralmechanics.functional.as_found import RunState
from neuralmechanics.functional.calling import Whole
from neuralmechanics.functional.inputs import pick, resample
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capture.tracing import SEED

__all__ = [
    "LARGE",
    "MOVED",
    "PATTERN",
    "Point",
    "copied_batch",
    "copies",
    "is_large",
    "moved",
    "point_of",
    "shrunk",
    "widened",
]

MATERIALISED = 1 << 20  # tensor entries of a model on the meta device up to which real ones are made for the replay
LARGE = 1 << 22  # parameters up to which another point in parameter space is another in every tensor
MOVED = 1 << 27  # parameters up to which another point is tried at all
PARTLY_MOVED = 1 << 16  # entries of the tensors that are moved in larger models, beside those that are zero
PATTERN = 65_537  # random numbers that a large tensor is moved by, over and over: a prime, so no dimension repeats them
FEW = 4  # samples that are enough for it


@dataclass(frozen=True)
class Point:
    """A point in parameter space, the model's other tensors, and a batch; all by the wrapper's names.

    ``state`` is what each run begins from besides them.
    """

    params: Mapping[str, Tensor]
    others: Mapping[str, Tensor]
    batch: Any
    state: RunState

    @property
    def size(self) -> int:
        leaves = [leaf for leaf in pytree.tree_leaves(self.batch) if isinstance(leaf, Tensor)]
        return sum(t.numel() for t in (*self.params.values(), *self.others.values(), *leaves))

    def double(self) -> Point:
        return replace(
            self,
            params={name: widened(value) for name, value in self.params.items()},
            others={name: widened(value) for name, value in self.others.items()},
            batch=pytree.tree_map(widened, self.batch),
        )

    def on_copies(self) -> Point:
        """The same with copies of all parameters, into which a model may write."""
        frozen = {n: nn.Parameter(v.clone(), False) for n, v in self.others.items() if isinstance(v, nn.Parameter)}
        params = {name: value.clone() for name, value in self.params.items()}
        return replace(self, params=params, others={**self.others, **frozen})

    def moved(self, step: float) -> Point:
        """Every parameter moved by a random fraction of its size."""
        generator = torch.Generator().manual_seed(SEED)
        every = sum(value.numel() for value in self.params.values()) <= LARGE
        # Tensors of zeros (biases at the start) are moved in any case: at zero much agrees that differs elsewhere.
        chosen = {n: v for n, v in self.params.items() if every or v.numel() <= PARTLY_MOVED or _is_zero(v)}
        other = {name: moved(value, step, generator) for name, value in chosen.items()}
        return replace(self, params={**self.params, **other})

    def on_other_data(self) -> Point | None:
        """The same with new content in the batch; None for batches that are no plain tensors."""
        leaves = [leaf for leaf in pytree.tree_leaves(self.batch) if isinstance(leaf, Tensor)]
        if not all(_is_plain(leaf) for leaf in leaves):
            return None
        here = pytree.tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, self.batch)
        fresh, structure = pytree.tree_flatten(pick(resample(here, torch.Generator().manual_seed(SEED), 1), 0))
        devices = [leaf.device if isinstance(leaf, Tensor) else None for leaf in pytree.tree_leaves(self.batch)]
        moved = [new if device is None else new.to(device) for new, device in zip(fresh, devices, strict=True)]
        return replace(self, batch=pytree.tree_unflatten(moved, structure))


def is_large(whole: Whole) -> bool:
    """Whether the model is given other tensors in the place of its parameters, which then need not be put back."""
    return _count(whole) > LARGE


def _count(whole: Whole) -> int:
    return sum(p.numel() for p in whole.parameters())


def point_of(captured: Captured, whole: Whole, batch: Any) -> Point | str:
    """The model's own tensors, or small random ones for a model on the meta device; else why there are none."""
    params = {f"model.{name}": whole.get_parameter(f"model.{name}").detach() for name in captured.shapes}
    named = {**dict(whole.named_parameters()), **dict(whole.named_buffers())}
    point = Point(params, {name: value for name, value in named.items() if name not in params}, batch, RunState(whole))
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    if not any(t.is_meta for t in (*named.values(), *leaves)):
        copied = captured.writes_parameters and LARGE < _count(whole) <= MOVED
        return point.on_copies() if copied else point
    if point.size > MATERIALISED:
        return "the model is on the meta device"
    generator = torch.Generator().manual_seed(SEED)
    filled = {name: _filled(value, generator) for name, value in point.others.items()}
    moved = {name: _filled(value, generator) for name, value in params.items()}
    content = pytree.tree_map(lambda leaf: _filled(leaf, generator), batch)
    return replace(point, params=moved, others=filled, batch=content)


def _is_plain(leaf: Tensor) -> bool:
    """Whether the tensor is dense, and of a type that random numbers can be drawn in."""
    return leaf.layout == torch.strided and leaf.dtype in _DRAWN and not leaf.is_nested


_DRAWN = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def shrunk(batch: Any, side: int) -> Any:
    """A few samples, cut to small images; None where that saves nothing."""
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    if not all(_is_plain(leaf) for leaf in leaves):
        return None
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
    # A run that fails is followed by one on the whole batch: it must be much cheaper to be worth trying.
    return small if sizes[0] * 4 <= sizes[1] and sizes[1] >= 1 << 15 else None


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Buffers as copies, for a run writes into them; frozen parameters, which may be large, as they are."""
    return {n: v.detach() if isinstance(v, nn.Parameter) else v.clone() for n, v in tensors.items()}


def copied_batch(batch: Any) -> Any:
    return pytree.tree_map(_copy, batch)


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone().requires_grad_(leaf.requires_grad) if isinstance(leaf, Tensor) else leaf


def _filled(value: Any, generator: torch.Generator) -> Any:
    """Positive random numbers for a tensor without content; zeros for whole numbers, which are valid as any index."""
    if not isinstance(value, Tensor) or not value.is_meta:
        return value
    if not value.is_floating_point():
        return torch.zeros(value.shape, dtype=value.dtype)
    return torch.rand(value.shape, generator=generator, dtype=torch.float32).add(0.5).to(value.dtype)


def moved(value: Tensor, step: float, generator: torch.Generator) -> Tensor:
    """A tensor moved by a random fraction of its size, one of zeros by that of one."""
    if not value.numel():
        return value
    count = value.numel()
    noise = torch.randn(min(count, PATTERN), generator=generator, dtype=torch.float32).to(value.device)
    noise = noise.repeat(-(-count // PATTERN))[:count].reshape(value.shape)
    size = float(torch.linalg.vector_norm(value)) / math.sqrt(count)
    return torch.add(value, noise.to(value.dtype), alpha=step * (size if size > 0 else 1.0))


def _is_zero(value: Tensor) -> bool:
    """Whether all entries are zero; a few tell in most cases."""
    return not value.reshape(-1)[:64].any() and not value.any()


def widened(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value
