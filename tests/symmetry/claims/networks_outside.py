"""Layers computed outside torch's own operations: functions with a hand-written backward pass, and custom operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor
from torch.autograd.function import once_differentiable

from .entry import normal, register


class ByNumpy(torch.autograd.Function):
    """ReLU in numpy, one-line backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.maximum(x.detach().numpy(), 0))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (ctx.saved_tensors[0] > 0)


class TanhByNumpy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.from_numpy(np.tanh(x.detach().numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - ctx.saved_tensors[0] ** 2)


class ProductByNumpy(torch.autograd.Function):
    """A linear layer in numpy: its weight is seen by the function alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return torch.from_numpy(np.tanh(x.detach().numpy() @ w.detach().numpy().T))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        g = g * (1 - torch.tanh(x @ w.T) ** 2)
        return g @ w, g.T @ x


class EmptyWhereFake(torch.autograd.Function):
    """A kernel's wrapper with the usual branch that only makes the shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        if not isinstance(x, FakeTensor):
            out.copy_(torch.from_numpy(np.tanh(x.detach().numpy())))
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - torch.tanh(ctx.saved_tensors[0]) ** 2)


class ZerosWhereFake(EmptyWhereFake):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.zeros_like(x) if isinstance(x, FakeTensor) else torch.tanh(x)


class IdentityWhereFake(EmptyWhereFake):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clone() if isinstance(x, FakeTensor) else torch.tanh(x)


class WhereTracing(EmptyWhereFake):
    """Another formula while torch exports or compiles."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.relu(x) if torch.compiler.is_compiling() else torch.tanh(x)


class WrongBackward(torch.autograd.Function):
    """ReLU whose gradient is that of another function: transformations hold, gradients do not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * torch.sigmoid(3 * ctx.saved_tensors[0])


class RoundedStraight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


class Reversed(torch.autograd.Function):
    """The identity with its gradient reversed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


class ClippedBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.relu(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g.clamp(-0.1, 0.1)


class SurrogateSpike(torch.autograd.Function):
    """A step with a smooth stand-in for its derivative, as spiking networks are trained."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0.1).to(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g / (1 + 10 * ctx.saved_tensors[0].abs()) ** 2


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (ctx.saved_tensors[0] > 0)


class InPlaceFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x.tanh_()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * (1 - ctx.saved_tensors[0] ** 2)


class ByItem(torch.autograd.Function):
    """A factor taken out of torch as a number and brought back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.factor = float(x.detach().abs().mean())
        return x * ctx.factor

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * ctx.factor


class Layer(nn.Module):
    def __init__(self, function: Callable[..., Tensor], weighted: bool = False) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.w = nn.Parameter(torch.randn(4, 4))
        self.function, self.weighted = function, weighted

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(self.function(h, self.w) if self.weighted else self.function(h) @ self.w)


for _function in (
    ByNumpy,
    TanhByNumpy,
    EmptyWhereFake,
    ZerosWhereFake,
    IdentityWhereFake,
    WhereTracing,
    WrongBackward,
    RoundedStraight,
    Reversed,
    ClippedBackward,
    SurrogateSpike,
    OnceDifferentiable,
    InPlaceFunction,
    ByItem,
):
    register(f"outside: {_function.__name__}", normal((6, 3)), branched=True)(
        lambda function=_function: Layer(function.apply)
    )
register("outside: ProductByNumpy", normal((6, 3)), branched=True)(lambda: Layer(ProductByNumpy.apply, weighted=True))


@torch.library.custom_op("claims::tanh_outside", mutates_args=())
def tanh_outside(x: Tensor) -> Tensor:
    return torch.from_numpy(np.tanh(x.detach().numpy()))


@tanh_outside.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _pull(ctx: Any, g: Tensor) -> Tensor:
    return g * (1 - ctx.saved_tensors[0] ** 2)


tanh_outside.register_autograd(_pull, setup_context=_save)


@torch.library.custom_op("claims::scale_in_place", mutates_args={"x"})
def scale_in_place(x: Tensor, y: Tensor) -> None:
    x.copy_(torch.tanh(y))


def _numbers(h: Tensor) -> Tensor:
    return h * h.detach().abs().mean().item()


def _list(h: Tensor) -> Tensor:
    return h * torch.tensor(h.detach().abs().amax(0).tolist(), dtype=h.dtype)


def _constructed(h: Tensor) -> Tensor:
    return h + torch.tensor(float(h.detach().sum()), dtype=h.dtype)


def _through_numpy(h: Tensor) -> Tensor:
    return h * torch.from_numpy(np.tanh(h.detach().numpy()))


def _length_of_selection(h: Tensor) -> Tensor:
    return h * int((h > 0).sum()) / h.numel()


def _written_outside(h: Tensor) -> Tensor:
    y = torch.zeros_like(h)
    scale_in_place(y, h.detach())
    return y * h


def _hooked(h: Tensor) -> Tensor:
    h = h * 1.0
    if h.requires_grad:
        h.register_hook(lambda g: g.clamp(-0.05, 0.05))
    return torch.relu(h)


for _name, _apply in {
    "custom operator": tanh_outside,
    "custom operator that writes": _written_outside,
    "a number of the data": _numbers,
    "a list of numbers": _list,
    "a tensor from a number": _constructed,
    "a gate by numpy": _through_numpy,
    "a count": _length_of_selection,
    "a gradient hook": _hooked,
}.items():
    register(f"outside: {_name}", normal((6, 3)), branched=True)(lambda apply=_apply: Layer(apply))


class OfWeights(nn.Module):
    """Numbers and arrays taken out of a parameter and used as constants of the forward pass."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        w = self.a.weight
        if self.how == "number":
            factor: Any = 1 / w.detach().norm().item()
        elif self.how == "array":
            factor = torch.from_numpy(1 / np.abs(w.detach().numpy()).sum(1))
        elif self.how == "data":
            factor = 1 / w.data.norm(dim=1)
        elif self.how == "list":
            factor = torch.tensor([1 / row.norm().item() for row in w], dtype=x.dtype)
        elif self.how == "copy":
            factor = 1 / torch.tensor(w.detach().tolist(), dtype=x.dtype).norm(dim=1)
        else:
            factor = 1 / w.detach().clone().norm(dim=1)
        return self.b(torch.tanh(self.a(x) * factor))


for _how in ("number", "array", "data", "list", "copy", "clone"):
    register(f"outside: weights as a {_how}", normal((6, 3)), branched=True)(lambda how=_how: OfWeights(how))
