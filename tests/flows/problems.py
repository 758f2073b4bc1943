"""Small problems with known symmetries, and a stand-in for their charges that knows nothing of the library's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics.flows import ModuleLoss, module_loss
from neuralmechanics.flows.equation.layout import Layout

ROTATED = torch.tensor([[2.5, -1.5], [-1.5, 2.5]], dtype=torch.float64)
DIAGONAL = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))


def quadratic(matrix: Tensor) -> Callable[[dict[str, Tensor]], Tensor]:
    return lambda params: 0.5 * params["x"] @ matrix @ params["x"]


def point(*values: float) -> dict[str, Tensor]:
    return {"x": torch.tensor(values, dtype=torch.float64)}


def valley(params: dict[str, Tensor]) -> Tensor:
    """A smooth, curved loss of two parameters: neither quadratic nor separable."""
    x, y = params["x"]
    return (x * y - 1) ** 2 / 2 + torch.cos(x - 0.3 * y) + 0.1 * y**2


def tanh_mlp(params: dict[str, Tensor]) -> Tensor:
    """Mean squared error of a tanh network, 2-3-1, on six points: written out, because orders take many gradients."""
    inputs = torch.tensor([[1.0, 0.2], [-0.6, 1.1], [0.1, -0.9], [-0.8, -0.5], [0.3, 0.1], [0.7, -1.2]]).double()
    answers = torch.tensor([1.2, -0.4, 0.5, -1.6, 0.3, 0.9]).double()
    hidden = torch.tanh(inputs @ params["first"].T + params["bias"])
    return (hidden @ params["second"] - answers).square().mean()


def tanh_mlp_start() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "first": 0.3 * torch.randn(3, 2, generator=generator).double(),
        "bias": 0.15 * torch.randn(3, generator=generator).double(),
        "second": 0.3 * torch.randn(3, generator=generator).double(),
    }


class Standardise(nn.Module):
    """Batch norm without its eps, which would break the scale symmetry."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(0)
        return centred / centred.square().mean(0).sqrt()


def network(kind: str, width: int = 4, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    middle: dict[str, list[nn.Module]] = {
        "tanh": [nn.Tanh()],
        "linear": [],
        "relu": [nn.ReLU()],
        "softmax": [nn.Tanh()],
        "batch_norm": [Standardise(), nn.Tanh()],
    }
    return nn.Sequential(nn.Linear(3, width), *middle[kind], nn.Linear(width, 3))


def _mse(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - functional.one_hot(batch[1], 3)).square().mean()


def _cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def data(examples: int = 10, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 3, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(3, (examples,), generator=generator)


def network_loss(kind: str, width: int = 4, seed: int = 0) -> ModuleLoss:
    loss_fn = _cross_entropy if kind == "softmax" else _mse
    return module_loss(network(kind, width, seed), loss_fn, data())


@dataclass(frozen=True)
class DenseCharges:
    """Q = θᵀ diag(weights_c) θ, or ⟨θ, weights_c⟩ for a translation: one dense row a charge."""

    weights: Tensor
    kinds: tuple[str, ...]

    @property
    def quadratic(self) -> Tensor:
        return torch.tensor([kind != "translation" for kind in self.kinds])

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
        layout = Layout.of(a)
        u, w = layout.flatten(a), layout.flatten(b)
        return torch.where(self.quadratic, self.weights @ (u * w), self.weights @ u)

    def charge(self, params: Mapping[str, Tensor]) -> Tensor:
        return self.pair(params, params)

    def residual(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
        return self.pair(gradients, params)


def charges_of(loss: ModuleLoss, kind: str) -> DenseCharges:
    """Symmetries of ``network(kind)``, written down by hand from the table in the theory."""
    layout = Layout.of(loss.theta0)
    first, last = layout.names[0].removesuffix(".weight"), layout.names[-1].removesuffix(".bias")
    width = loss.theta0[f"{first}.weight"].shape[0]
    rows: list[Tensor] = []
    kinds: list[str] = []

    def add(name: str, **entries: Tensor) -> None:
        marked = {key: torch.zeros(shape) for key, shape in zip(layout.names, layout.shapes, strict=True)}
        rows.append(layout.flatten(marked | {key.replace("__", "."): value for key, value in entries.items()}))
        kinds.append(name)

    for unit in range(width):
        incoming = torch.zeros_like(loss.theta0[f"{first}.weight"])
        incoming[unit] = 1
        bias = torch.zeros(width)
        bias[unit] = 1
        outgoing = torch.zeros_like(loss.theta0[f"{last}.weight"])
        outgoing[:, unit] = -1
        if kind in ("relu", "linear"):
            add("rescale", **{f"{first}.weight": incoming, f"{first}.bias": bias, f"{last}.weight": outgoing})
        if kind == "batch_norm":
            add("scale", **{f"{first}.weight": incoming, f"{first}.bias": bias})
            add("translation", **{f"{first}.bias": bias})
        if kind == "softmax":
            add("translation", **{f"{last}.weight": -outgoing})
    if kind == "softmax":
        add("translation", **{f"{last}.bias": torch.ones_like(loss.theta0[f"{last}.bias"])})
    return DenseCharges(torch.stack(rows), tuple(kinds))
