"""The loss as a pure function of the parameters: same batch, same random numbers, buffers of its own at every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from neuralmechanics.functional.as_found import RunState, plain_module
from neuralmechanics.functional.calling import NoLossError
from neuralmechanics.functional.inputs import call

__all__ = ["Objective", "fixed_randomness", "scalar", "trainable_parameters"]

LossFunction = Callable[[nn.Module, Any], Tensor]
_PREFIX = "model."


@dataclass(frozen=True, eq=False)
class Objective:
    """θ ↦ L(θ) on one batch. The model's own parameters, buffers, random state and ``.grad`` are never touched.

    ``loss_fn`` None stands for the model's output; an output of several numbers is projected on a fixed random
    direction, which every symmetry of the output leaves unchanged too.
    """

    model: nn.Module
    loss_fn: LossFunction | None
    batch: Any
    seed: int = 0
    double: bool = False
    _shell: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_shell", _Shell(self.model, self.loss_fn))

    def __call__(self, params: Mapping[str, Tensor]) -> Tensor:
        """L at ``params``; parameters that are absent keep their values."""
        with fixed_randomness(self.seed):
            return self._evaluate(params, lambda loss: (loss,))[0]

    def gradient(self, params: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """L and ∂L/∂θ by one backward pass; zero for what the loss does not use."""
        leaves = {name: p.detach().requires_grad_() for name, p in params.items()}

        def differentiated(loss: Tensor) -> tuple[Tensor, ...]:
            if not loss.requires_grad:
                raise NoLossError(
                    "the loss has no gradient: it depends on no trainable parameter, or something cuts it off (detach, "
                    "no_grad, inference_mode)"
                )
            parts = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
            return loss, *parts

        # Where the backward pass recomputes activations it draws random numbers and reads the parameters again.
        with torch.enable_grad(), fixed_randomness(self.seed):
            loss, *parts = self._evaluate(leaves, differentiated)
        return loss.detach(), dict(zip(leaves, (part.detach() for part in parts), strict=True))

    def value(self, params: Mapping[str, Tensor]) -> float:
        """L as a number. A loss may differentiate inside, by its parameters too, so it runs as in training."""
        with torch.enable_grad():
            return float(self({name: p.detach().requires_grad_() for name, p in params.items()}).detach())

    def in_double(self) -> Objective:
        """The same loss with every parameter, buffer and input in float64, where the model allows it."""
        return Objective(self.model, self.loss_fn, self.batch, self.seed, double=True)

    def on(self, batch: Any) -> Objective:
        """The same loss on another batch."""
        return Objective(self.model, self.loss_fn, batch, self.seed, self.double)

    def _evaluate(
        self, params: Mapping[str, Tensor], then: Callable[[Tensor], tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        """What ``then`` makes of the loss while the parameters are still in place."""
        named = {self._inside.get(name, name): tensor for name, tensor in params.items()}
        state = {_PREFIX + name: tensor for name, tensor in (self._frozen | named).items()}
        with self._runs.fresh(self._cast):
            found: tuple[Tensor, ...] = functional_call(
                self._shell, state, (self._batch, lambda loss: then(scalar(loss, self.seed)))
            )
        return found

    @cached_property
    def _runs(self) -> RunState:
        return RunState(self.model, self.loss_fn)

    @cached_property
    def _inside(self) -> dict[str, str]:
        """Names of the parameters inside ``torch.compile`` and data-parallel wrappers, by their plain names."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return {name: names[id(p)] for name, p in plain_module(self.model).named_parameters()}

    @cached_property
    def _batch(self) -> Any:
        return pytree.tree_map(self._cast, self.batch)

    @cached_property
    def _frozen(self) -> dict[str, Tensor]:
        if not self.double:
            return {}
        return {name: self._cast(p.detach()) for name, p in self.model.named_parameters() if not p.requires_grad}

    def _cast(self, leaf: Any) -> Any:
        return leaf.double() if self.double and isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


class _Shell(nn.Module):
    """A module around the model, so that its parameters can be replaced whatever ``loss_fn`` does with it."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction | None) -> None:
        super().__init__()
        self.model = model
        self._loss_fn = loss_fn

    def forward(self, batch: Any, then: Callable[[Any], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return then(call(self.model, batch) if self._loss_fn is None else self._loss_fn(self.model, batch))


def scalar(loss: Any, seed: int = 0) -> Tensor:
    """The loss as one number: a tensor of several is projected on a fixed random direction."""
    if not isinstance(loss, Tensor) or not loss.is_floating_point():
        raise NoLossError(f"loss_fn returned {type(loss).__name__}; it must return a floating-point tensor")
    if loss.numel() == 1:
        return loss.reshape(())
    draw = torch.Generator().manual_seed(seed + 1)
    # Drawn on the CPU in double precision, so that it is the same direction on every device and in every type.
    direction = torch.randn(loss.shape, generator=draw, dtype=torch.float64).to(loss)
    # Over √n, so that the size of the result is that of one entry, however many there are.
    projected: Tensor = (loss * direction).sum() / loss.numel() ** 0.5
    return projected


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters by name, tied ones once, detached from the model's graph but not copied."""
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {type(model).__name__}; check_symmetries needs a torch.nn.Module (the probe does not)"
        )
    return {name: p.detach() for name, p in plain_module(model).named_parameters() if p.requires_grad}


@contextmanager
def fixed_randomness(seed: int) -> Iterator[None]:
    """Random numbers start at ``seed`` inside and go on as if nothing had happened outside."""
    # Asking for the state of its generators would start CUDA where nothing uses it.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=devices):
        # Not `torch.manual_seed`, which would seed every device, those that are not put back afterwards too.
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield
