"""Small reference implementations of optimisers that torch may lack, as step functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

LEARNING_RATE = 0.01


def lion(params: Mapping[str, Tensor], gradients: Mapping[str, Tensor], state: dict[str, Any]) -> dict[str, Tensor]:
    """d = -η sign(β₁ m + (1-β₁) g), then m ← β₂ m + (1-β₂) g."""
    updates = {}
    for name, gradient in gradients.items():
        memory = state.get(name, torch.zeros_like(gradient))
        updates[name] = -LEARNING_RATE * (0.9 * memory + 0.1 * gradient).sign()
        state[name] = 0.99 * memory + 0.01 * gradient
    return updates


def muon(params: Mapping[str, Tensor], gradients: Mapping[str, Tensor], state: dict[str, Any]) -> dict[str, Tensor]:
    """d = -η U Vᵀ of the momentum buffer's singular value decomposition; vectors take the plain gradient."""
    updates = {}
    for name, gradient in gradients.items():
        state[name] = 0.9 * state.get(name, torch.zeros_like(gradient)) + gradient
        if gradient.ndim == 2:
            left, values, right = torch.linalg.svd(state[name], full_matrices=False)
            # as the Newton-Schulz iteration does, singular values that are zero stay zero
            updates[name] = -LEARNING_RATE * left @ torch.diag((values > 1e-10 * values[0]).to(left)) @ right
        else:
            updates[name] = -LEARNING_RATE * state[name]
    return updates
