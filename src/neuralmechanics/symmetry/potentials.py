"""The scalar functions whose gradients drive training, as functions of one flat parameter vector.

Without a loss these are the model's output entries over all inputs: the laws found hold for every loss of the output
and every data set. With a loss they are its values over all inputs and targets: fewer functions, so more laws (the
cross-entropy of logits does not see a common shift of them).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from neuralmechanics.symmetry.inputs import call, resample, to_double

__all__ = ["Potentials"]

Objective = Callable[[nn.Module, Any], Tensor]


class _Evaluated(nn.Module):
    def __init__(self, model: nn.Module, loss_fn: Objective | None) -> None:
        super().__init__()
        self.model = model
        self.loss_fn = loss_fn

    def forward(self, batch: Any) -> Tensor:
        return call(self.model, batch) if self.loss_fn is None else self.loss_fn(self.model, batch).reshape(-1)


class Potentials:
    """Scalar functions φ_j(θ) = output or loss entries, one batch at a time, in float64 on a copy of the model.

    θ holds the trainable parameters only: frozen ones do not move. Random layers (dropout) draw the same numbers at
    every evaluation. ``norm_eps`` replaces the constant of every norm module that has one.
    """

    def __init__(
        self,
        model: nn.Module,
        batch: Any,
        loss_fn: Objective | None,
        data: Sequence[Any] | None,
        seed: int,
        norm_eps: float | None = None,
    ) -> None:
        double = copy.deepcopy(model).to(device="cpu", dtype=torch.float64)
        if norm_eps is not None:
            _set_eps(double, norm_eps)
        self.model = double
        self.data = None if data is None else [to_double(b) for b in data]
        if self.data is not None and not self.data:
            raise ValueError("data is empty; pass at least one batch, or data=None for all inputs")
        self.batch = to_double(batch)
        self.generator = torch.Generator().manual_seed(seed)
        self._seed = seed
        self._evaluated = _Evaluated(double, loss_fn)
        trainable = [(n, p) for n, p in double.named_parameters() if p.requires_grad]
        if not trainable:
            raise ValueError("the model has no trainable parameter (requires_grad), so nothing moves and nothing counts")
        self.names = tuple(n for n, _ in trainable)
        self.shapes = tuple(p.shape for _, p in trainable)
        self.sizes = tuple(p.numel() for _, p in trainable)
        self.frozen = {n: p.detach() for n, p in double.named_parameters() if not p.requires_grad}
        self.origin = torch.cat([p.detach().reshape(-1) for _, p in trainable])

    @property
    def dimension(self) -> int:
        """D, the number of trainable parameters."""
        return int(self.origin.numel())

    def generic_point(self, like: Tensor | None = None, share: float = 0.3) -> Float64[Tensor, " D"]:
        """θ drawn anew; or ``like`` with that share of its rows redrawn.

        Rows of matrices are normal of variance 1/fan-in with most of their mean taken out: a unit that reads
        rectified inputs through weights of one sign is always on or always off, which is no generic place. Vectors
        move by 0.4 of a normal from the model's values.
        """
        parts = []
        for index, (shape, value) in enumerate(zip(self.shapes, self.origin.split(self.sizes), strict=True)):
            noise = torch.randn(shape, generator=self.generator, dtype=torch.float64)
            if len(shape) > 1:
                rows = noise.reshape(shape[0], -1)
                fresh = (rows - 0.8 * rows.mean(1, keepdim=True)) / math.sqrt(rows.shape[1])
            else:
                fresh = (value.reshape(shape) + 0.4 * noise).reshape(-1, 1)
            if like is not None:
                keep = torch.rand(fresh.shape[0], 1, generator=self.generator, dtype=torch.float64) > share
                fresh = torch.where(keep, like.split(self.sizes)[index].reshape(fresh.shape), fresh)
            parts.append(fresh.reshape(-1))
        return torch.cat(parts)

    def unflatten(self, theta: Float64[Tensor, " D"]) -> dict[str, Tensor]:
        """The flat vector as named parameters."""
        pieces = theta.split(self.sizes)
        return {n: x.reshape(s) for n, x, s in zip(self.names, pieces, self.shapes, strict=True)}

    def flatten(self, named: Mapping[str, Tensor]) -> Float64[Tensor, " D"]:
        """Named tensors as a flat vector; absent names are zero."""
        pieces = [
            named[n].detach().double().reshape(-1) if n in named else torch.zeros(size, dtype=torch.float64)
            for n, size in zip(self.names, self.sizes, strict=True)
        ]
        return torch.cat(pieces)

    def draw(self) -> Any:
        """A batch: fresh random content, or one of the given data."""
        if self.data is None:
            return resample(self.batch, self.generator)
        return self.data[int(torch.randint(len(self.data), (), generator=self.generator))]

    def values(self, theta: Float64[Tensor, " D"], batch: Any) -> Float64[Tensor, " rows"]:
        """φ_j(θ) of one batch."""
        named = {f"model.{name}": value for name, value in self.unflatten(theta).items()}
        with torch.random.fork_rng(devices=[]), sdpa_kernel(SDPBackend.MATH):
            torch.default_generator.manual_seed(self._seed)
            values: Tensor = torch.func.functional_call(self._evaluated, named, (batch,))
        if not bool(torch.isfinite(values).all()):
            raise ValueError("the output is not finite at a random point of parameter space; pass point='model'")
        return values.double()

    def random_potential(self, batches: int = 2) -> Callable[[Tensor], Tensor]:
        """φ = Σ c_j φ_j over the entries of a few batches, with normal c."""
        chosen = [self.draw() for _ in range(batches)]
        weights: list[Tensor] = []

        def potential(theta: Tensor) -> Tensor:
            values = [self.values(theta, batch) for batch in chosen]
            if not weights:
                weights.extend(torch.randn(v.shape, generator=self.generator, dtype=torch.float64) for v in values)
            return torch.stack([(c * v).sum() for c, v in zip(weights, values, strict=True)]).sum()

        return potential

    def jacobian(self, theta: Float64[Tensor, " D"], entries: int) -> Float64[Tensor, "rows D"]:
        """Rows that span the gradients of at least ``entries`` entries φ_j, from four batches at least (all the data).

        Where there are many more entries than parameters, D + 16 normal combinations of them have the same span: many
        inputs then cost few rows.
        """
        limit = self.dimension + 16
        rows: list[Tensor] = []
        mixed: Tensor | None = None
        count = 0
        for index, batch in enumerate(self._batches()):
            if self.data is None and index >= 4 and count >= entries:
                break
            values = self.values(leaf := theta.detach().requires_grad_(), batch)
            count += values.numel()
            if values.numel() <= limit and mixed is None and count <= 3 * limit:
                rows.append(_pull(values, leaf, torch.eye(values.numel(), dtype=torch.float64)))
                continue
            weights = torch.randn(limit, values.numel(), generator=self.generator, dtype=torch.float64)
            more = _pull(values, leaf, weights / math.sqrt(values.numel()))
            mixed = more if mixed is None else mixed + more
        return torch.cat(rows if mixed is None else [*rows, mixed])

    def _batches(self) -> Iterator[Any]:
        if self.data is not None:
            yield from self.data
            return
        while True:
            yield self.draw()


def _pull(values: Float64[Tensor, " entries"], theta: Tensor, weights: Float64[Tensor, "rows entries"]) -> Tensor:
    """weights·∂values/∂θ."""
    if not values.requires_grad:
        return torch.zeros(weights.shape[0], theta.numel(), dtype=torch.float64)
    if weights.shape[0] == 1:
        return torch.autograd.grad(values, theta, weights[0], materialize_grads=True)[0][None]
    pieces = [
        torch.autograd.grad(
            values, theta, chunk, is_grads_batched=True, retain_graph=True, materialize_grads=True
        )[0]
        for chunk in weights.split(256)
    ]
    return torch.cat(pieces)


_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def _set_eps(model: nn.Module, eps: float) -> None:
    for module in model.modules():
        for name in ("eps", "variance_epsilon", "epsilon"):
            if isinstance(getattr(module, name, None), float):
                # torch refuses batch_norm with eps = 0 in training: the least normal number is 0 to every statistic
                setattr(module, name, max(eps, 1e-300) if isinstance(module, _BATCH_NORMS) else eps)


