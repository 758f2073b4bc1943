"""Networks with one planted fault of the forward or backward pass each, and their correct twins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

Loss = Callable[[nn.Module, Any], Tensor]


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


class _Linear(Function):
    """x Wᵀ + b; the fault names what its backward pass gets wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, fault: str) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.fault = fault
        return x @ weight.T + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = grad @ weight, grad.T @ x, grad.sum(0)
        match ctx.fault:
            case "missing factor":
                to_weight = to_weight / 2
            case "wrong reduction":
                to_bias = grad.mean(0)
            case "wrong sign":
                to_bias = -to_bias
            case "stale weight":
                to_x = grad @ torch.ones_like(weight)
            case "row dropped":
                to_weight = torch.cat([torch.zeros_like(to_weight[:1]), to_weight[1:]])
        return to_x, to_weight, to_bias, None


class _LeakyReLU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, fault: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.fault = fault
        return torch.where(x > 0, x, 0.1 * x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        slope = 0.2 if ctx.fault == "wrong slope" else 0.1
        boundary = 0.3 if ctx.fault == "wrong threshold" else 0.0
        return torch.where(x > boundary, grad, slope * grad), None


class _LayerNorm(Function):
    """(x - μ)/√(σ² + eps) over the last axis."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, fault: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x)
        ctx.eps, ctx.fault = eps, fault
        return centred * inverse

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        inverse = torch.rsqrt(variance + (0.0 if ctx.fault == "dropped eps" else ctx.eps))
        y = centred * inverse
        through_mean = 0.0 if ctx.fault == "mean forgotten" else grad.mean(-1, keepdim=True)
        through_variance = 0.0 if ctx.fault == "variance forgotten" else y * (grad * y).mean(-1, keepdim=True)
        return (grad - through_mean - through_variance) * inverse, None, None


class _SoftmaxLoss(Function):
    """Mean cross-entropy of logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, fault: str) -> Tensor:
        ctx.save_for_backward(logits, classes)
        ctx.fault = fault
        return -logits.log_softmax(-1).gather(-1, classes[:, None]).mean()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, classes = ctx.saved_tensors
        target = functional.one_hot(classes, logits.shape[-1]).to(logits)
        if ctx.fault == "smoothed target":
            target = 0.9 * target
        return grad * (logits.softmax(-1) - target) / len(logits), None, None


class FaultyMLP(nn.Module):
    """Linear, leaky ReLU, linear, layer norm, linear: every part has hand-written derivatives."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.entry, self.middle, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)
        self.fault = fault

    def forward(self, x: Tensor) -> Tensor:
        x = _Linear.apply(x, self.entry.weight, self.entry.bias, self.fault)
        x = _LeakyReLU.apply(x, self.fault)
        x = _Linear.apply(x, self.middle.weight, self.middle.bias, self.fault)
        x = torch.tanh(_LayerNorm.apply(x, 1e-4, self.fault))
        return self.head(x)


def written_out(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return _SoftmaxLoss.apply(model(batch[0]), batch[1], model.fault)


class Hooked(nn.Module):
    """A gradient hook left over from debugging."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.entry, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.fault = fault

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.entry(x))
        if self.fault == "clipped by a hook" and hidden.requires_grad:
            hidden.register_hook(lambda grad: grad.clamp(-1e-3, 1e-3))
        return self.head(hidden)


class Stateful(nn.Module):
    """A forward pass that uses something else than the parameters it is given."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.entry, self.head = nn.Linear(4, 6), nn.Linear(6, 3)
        self.fault = fault
        self.calls = 0
        self.cache: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.entry.weight
        if self.fault == "cached weight" and not torch.compiler.is_exporting():
            if self.cache is None:
                self.cache = weight.detach().clone()
            weight = self.cache + 0 * weight
        if self.fault == "fast path differs" and not torch.compiler.is_exporting():
            return self.head(functional.gelu(functional.linear(x, weight, self.entry.bias)))
        return self.head(torch.relu(functional.linear(x, weight, self.entry.bias)))


class Checkpointed(nn.Module):
    """Recomputation in the backward pass that draws another dropout mask."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.entry, self.head = nn.Linear(4, 12), nn.Linear(12, 3)
        self.fault = fault

    def forward(self, x: Tensor) -> Tensor:
        from torch.utils.checkpoint import checkpoint

        def inner(x: Tensor) -> Tensor:
            return functional.dropout(torch.relu(self.entry(x)), 0.5)

        keep = self.fault != "mask redrawn"
        if torch.compiler.is_exporting():
            return self.head(inner(x))
        return self.head(checkpoint(inner, x, use_reentrant=False, preserve_rng_state=keep))


@dataclass(frozen=True)
class Fault:
    """A network that takes the name of its fault ("none" builds the correct twin), and the loss.

    ``expect``: charges of the twin, where the fault is one of the forward pass and shows in the numbers alone.
    """

    build: Callable[[str], nn.Module]
    loss: Loss = cross_entropy
    expect: Mapping[str, int] | None = None


_RESCALES = {"rescale": 6}
FAULTS: dict[str, Fault] = {
    "missing factor": Fault(FaultyMLP),
    "wrong reduction": Fault(FaultyMLP),
    "wrong sign": Fault(FaultyMLP),
    "stale weight": Fault(FaultyMLP),
    "row dropped": Fault(FaultyMLP),
    "wrong slope": Fault(FaultyMLP),
    "wrong threshold": Fault(FaultyMLP),
    "dropped eps": Fault(FaultyMLP),
    "mean forgotten": Fault(FaultyMLP),
    "variance forgotten": Fault(FaultyMLP),
    "smoothed target": Fault(FaultyMLP, written_out),
    "clipped by a hook": Fault(Hooked),
    "cached weight": Fault(Stateful),
    "fast path differs": Fault(Stateful, expect=_RESCALES),
    "mask redrawn": Fault(Checkpointed),
}


def batches(dtype: torch.dtype = torch.float64, count: int = 1) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(16, 4, generator=generator, dtype=torch.float64).to(dtype),
            torch.randint(3, (16,), generator=generator),
        )
        for _ in range(count)
    ]
