"""The smallest losses that have each symmetry, and the paper's quadratic: material for figures and first steps."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = [
    "QUADRATIC",
    "curved_valley",
    "norm_neuron",
    "quadratic",
    "rotation",
    "softmax_pair",
    "two_weight_path",
    "weighted_unit",
]

# Eigenvalues 4 and 1, eigenvectors along the diagonals.
QUADRATIC = torch.tensor([[2.5, -1.5], [-1.5, 2.5]], dtype=torch.float64)
_INPUTS = torch.tensor(
    [[1.0, 0.2, -0.4], [-0.6, 1.1, 0.3], [0.1, -0.9, 1.2], [-0.8, -0.5, -0.7], [0.3, 0.1, -0.4]],
    dtype=torch.float64,
)
_ANSWERS = torch.tensor([1.2, -0.4, 0.5, -1.6, 0.3], dtype=torch.float64)


def quadratic(params: dict[str, Tensor]) -> Tensor:
    """½ xᵀAx with eigenvalues 4 and 1: the paper's Fig. 4."""
    x = params["x"]
    return torch.dot(x, torch.mv(QUADRATIC, x)) / 2


def rotation(params: dict[str, Tensor]) -> Mapping[str, Tensor]:
    """The field x' = (-x2, x1): its flow keeps the circle, its Euler steps spiral out."""
    x = params["x"]
    return {"x": torch.stack([-x[1], x[0]])}


def curved_valley(params: dict[str, Tensor]) -> Tensor:
    """A smooth loss that is neither quadratic nor separable: all terms of the series are at work."""
    x, y = params["x"]
    return torch.square(x * y - 1) / 2 + torch.cos(x - 0.3 * y) + 0.1 * torch.square(y)


def softmax_pair(params: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of softmax(x), two or three classes, against fixed shares: unmoved by x + a(1, …, 1)."""
    x = params["x"]
    shares = torch.tensor([0.7, 0.3] if x.numel() == 2 else [0.55, 0.3, 0.15], dtype=torch.float64)
    return cross_entropy(x[None], shares[None])


def norm_neuron(params: dict[str, Tensor]) -> Tensor:
    """Squared error of a standardised linear neuron on five examples: unmoved by ax."""
    x = params["x"]
    response = _INPUTS[:, : x.numel()] @ x
    centred = response - response.mean()
    target = _ANSWERS - _ANSWERS.mean()
    return (centred / centred.square().mean().sqrt() - target).square().mean() / 2


def two_weight_path(params: dict[str, Tensor]) -> Tensor:
    """½(xy - 1)²: unmoved by (ax, y/a)."""
    x, y = params["x"]
    return torch.square(x * y - 1) / 2


def weighted_unit(params: dict[str, Tensor]) -> Tensor:
    """A linear unit with two incoming weights and one outgoing: |incoming|² - outgoing² is its charge."""
    x = params["x"]
    return ((x[2] * (_INPUTS[:, :2] @ x[:2]) - _ANSWERS).square().mean()) / 2
