"""The scalar functions whose gradients drive training, as functions of one flat parameter vector.

Without a loss these are the model's output entries over all inputs: the laws found hold for every loss of the output
and every data set. With a loss they are its values over all inputs and targets: fewer functions, so more laws (the
cross-entropy of logits does not see a common shift of them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuralmechanics.diagnostics.counting.linear_pieces import Kinks, varied
from neuralmechanics.functional.as_found import RunState, double_copy
from neuralmechanics.functional.derivatives.higher_derivatives import exact_forms
from neuralmechanics.functional.derivatives.verification import require_right_derivatives
from neuralmechanics.functional.inputs import call, pick, resample, signature, stack, to_double

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
        double = double_copy(model, "cpu")
        if norm_eps is not None:
            _set_eps(double, norm_eps)
        self.model = double
        self.data = None if data is None else [to_double(b) for b in data]
        if self.data is not None and not self.data:
            raise ValueError("data is empty; pass at least one batch, or data=None for all inputs")
        self.batch = to_double(batch)
        self.generator = torch.Generator().manual_seed(seed)
        self._seed = seed
        self._vectorised = True
        self._evaluated = _Evaluated(double, loss_fn)
        self._runs = RunState(double, loss_fn)
        trainable = [(n, p) for n, p in double.named_parameters() if p.requires_grad]
        if not trainable:
            raise ValueError(
                "the model has no trainable parameter (requires_grad), so nothing moves and nothing counts"
            )
        self.names = tuple(n for n, _ in trainable)
        self.shapes = tuple(p.shape for _, p in trainable)
        self.sizes = tuple(p.numel() for _, p in trainable)
        self.frozen = {n: p.detach() for n, p in double.named_parameters() if not p.requires_grad}
        self.origin = torch.cat([p.detach().reshape(-1) for _, p in trainable])

    @property
    def dimension(self) -> int:
        """D, the number of trainable parameters."""
        return int(self.origin.numel())

    def split(self, theta: Float64[Tensor, " D"]) -> tuple[Tensor, ...]:
        """The flat vector cut into one flat piece a tensor."""
        return torch.split(theta, list(self.sizes))

    def unflatten(self, theta: Float64[Tensor, " D"]) -> dict[str, Tensor]:
        """The flat vector as named parameters."""
        pieces = self.split(theta)
        return {n: x.reshape(s) for n, x, s in zip(self.names, pieces, self.shapes, strict=True)}

    def flatten(self, named: Mapping[str, Tensor]) -> Float64[Tensor, " D"]:
        """Named tensors as a flat vector; absent names are zero."""
        pieces = [
            named[n].detach().double().reshape(-1) if n in named else torch.zeros(size, dtype=torch.float64)
            for n, size in zip(self.names, self.sizes, strict=True)
        ]
        return torch.cat(pieces)

    def values(self, theta: Float64[Tensor, " D"], batch: Any) -> Float64[Tensor, " entries"]:
        """φ_j(θ) of one batch."""
        # Copies: a model that writes into its weights must not write into θ.
        named = {f"model.{name}": value.clone() for name, value in self.unflatten(theta).items()}
        with torch.random.fork_rng(devices=[]), exact_forms():
            torch.default_generator.manual_seed(self._seed)
            with self._runs.fresh(to_double):
                values: Tensor = torch.func.functional_call(self._evaluated, named, (batch,))
        return values.double()

    def random_potential(self, entries: int = 2) -> Callable[[Tensor], Tensor]:
        """φ = Σ c_j φ_j over at least that many entries with normal c."""
        chosen = [self._one() for _ in range(-(-entries // max(1, self.entries)))]
        weights: list[Tensor] = []

        def potential(theta: Tensor) -> Tensor:
            values = [self.values(theta, batch) for batch in chosen]
            # The first evaluation tells how many are needed; kept, they make φ one function from then on.
            if not weights:
                weights.extend(torch.randn(v.shape, generator=self.generator, dtype=torch.float64) for v in values)
            return torch.stack([(c * v).sum() for c, v in zip(weights, values, strict=True)]).sum()

        return potential

    def require_brackets(self, theta: Float64[Tensor, " D"]) -> None:
        """Refuses a model whose nested derivatives are not the derivatives of its gradients, as far as can be measured.

        The draws that follow are those that would have been without it.
        """
        state = self.generator.get_state()
        require_right_derivatives(self.random_potential(), theta, 3)
        self.generator.set_state(state)

    @cached_property
    def entries(self) -> int:
        """Number of functions φ_j that one batch gives."""
        values = self.values(self.origin, self._one())
        if values.numel() == 0:
            raise ValueError("the output on the batch has no entries; give a batch with at least one example")
        if not bool(values.isfinite().all()):
            raise ValueError(
                "the output is not finite at a random input in the batch's shapes; give a batch with at least one "
                "example, or data=batches where inputs lie in a range"
            )
        return values.numel()

    def _one(self) -> Any:
        if self.data is None:
            return pick(resample(self.batch, self.generator, 1), 0)
        return self.data[int(torch.randint(len(self.data), (), generator=self.generator))]

    @cached_property
    def kinked(self) -> bool:
        """Whether the model has activations with a kink and can be run on a stack of inputs at once."""
        if self.data is not None:
            return False
        try:
            return self.read_at_kinks(self.origin, resample(self.batch, self.generator, 2)).shape[1] > 0
        except (RuntimeError, ValueError):  # in-place statistics, data-dependent branches
            return False

    def read_at_kinks(self, theta: Float64[Tensor, " D"], many: Any) -> Float64[Tensor, "inputs units"]:
        """What each kinked activation reads at each batch of a stack."""
        leaves, structure = pytree.tree_flatten(many)
        where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

        def one(*tensors: Tensor) -> Tensor:
            filled = list(leaves)
            for i, tensor in zip(where, tensors, strict=True):
                filled[i] = tensor
            with Kinks() as kinks:
                self.values(theta, pytree.tree_unflatten(filled, structure))
            return torch.cat([tensors[0].new_zeros(0, dtype=torch.float64), *(x.double() for x in kinks.read)])

        read: Tensor = torch.func.vmap(one, randomness="same")(*(leaves[i] for i in where))
        return read

    def inputs(self, theta: Float64[Tensor, " D"], count: int) -> Any:
        """A stack of random batches; where units have kinks, chosen from many so as to meet many linear pieces."""
        if not self.kinked or count >= _MOST_CANDIDATES:
            return resample(self.batch, self.generator, count)
        candidates = resample(self.batch, self.generator, min(max(4 * count, 2048), _MOST_CANDIDATES))
        chosen = varied(self.read_at_kinks(theta, candidates), count, self.generator)
        return pytree.tree_map(lambda leaf: leaf[chosen] if isinstance(leaf, Tensor) else leaf, candidates)

    def gradients(self, theta: Float64[Tensor, " D"], entries: int) -> Iterator[Float64[Tensor, "rows D"]]:
        """∂φ_j/∂θ of at least ``entries`` functions over random inputs, or of all the given data, in chunks of 128 MB.

        Raises ValueError where a gradient is not finite.
        """
        per_chunk = max(1, _CHUNK // (self.entries * self.dimension))
        if self.data is None:
            batches = -(-entries // max(1, self.entries))
            stacks = [(self.inputs(theta, n), n) for n in _pieces(batches, per_chunk)]
        else:
            alike: dict[Any, list[Any]] = {}
            for batch in self.data:
                alike.setdefault(signature(batch), []).append(batch)
            groups = [g[i : i + per_chunk] for g in alike.values() for i in range(0, len(g), per_chunk)]
            stacks = [(stack(group), len(group)) for group in groups]
        for many, count in stacks:
            rows = self._rows(theta, many, count)
            if not bool(torch.isfinite(rows).all()):
                raise ValueError(
                    "a gradient is not finite at a random input or point; pass data=batches or point='model'"
                )
            yield rows

    def _rows(self, theta: Tensor, many: Any, count: int) -> Tensor:
        """∂φ/∂θ of a stack of batches: all at once where the model allows vmap, else batch by batch."""
        theta = theta.detach()
        if self._vectorised:
            leaves, structure = pytree.tree_flatten(many)
            where = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

            def one(at: Tensor, *tensors: Tensor) -> Tensor:
                filled = list(leaves)
                for i, tensor in zip(where, tensors, strict=True):
                    filled[i] = tensor
                return self.values(at, pytree.tree_unflatten(filled, structure))

            jacobians = torch.func.vmap(torch.func.jacrev(one), in_dims=(None, *[0] * len(where)), randomness="same")
            try:
                rows: Tensor = jacobians(theta, *(leaves[i] for i in where))
                return rows.reshape(-1, self.dimension).detach()
            except RuntimeError:  # in-place statistics, data-dependent branches: same result, one batch at a time
                self._vectorised = False
        return torch.cat([self._rows_of(theta, pick(many, index)) for index in range(count)])

    def _rows_of(self, theta: Tensor, batch: Any) -> Tensor:
        leaf = theta.detach().requires_grad_()
        values = self.values(leaf, batch)
        if not values.requires_grad:
            return torch.zeros(values.numel(), self.dimension, dtype=torch.float64)
        rows = [torch.autograd.grad(v, leaf, retain_graph=True, materialize_grads=True)[0] for v in values]
        return torch.stack(rows)


# Numbers in double precision: 128 MB.
_CHUNK = 1 << 24
# Inputs that are run forward, at most, to choose some of them.
_MOST_CANDIDATES = 1 << 14


def _pieces(total: int, size: int) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _set_eps(model: nn.Module, eps: float) -> None:
    for module in model.modules():
        for name in ("eps", "variance_epsilon", "epsilon"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, eps)
