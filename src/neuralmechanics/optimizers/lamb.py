"""LAMB: Adam's direction, rescaled for each tensor by the ratio of weight norm to step norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """You et al. 2020 (arXiv:1904.00962), algorithm 2, with bias correction and decoupled decay.

    u = m̂/(√v̂ + ε) + λθ,  θ ← θ - η (|θ|/|u|) u, where the ratio is 1 if either norm vanishes.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": learning_rate, "betas": betas, "eps": epsilon, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            # A tensor, as torch's own optimisers keep it, so that state dicts of both look alike.
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        first, second = group["betas"]
        state["step"] += 1
        step = float(state["step"])
        state["exp_avg"].lerp_(gradient, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        mean = state["exp_avg"] / (1 - first**step)
        scale = (state["exp_avg_sq"] / (1 - second**step)).sqrt_().add_(group["eps"])
        direction = mean / scale + group["weight_decay"] * parameter
        length, weight = direction.norm(), parameter.norm()
        # Chosen on the device: an `if` would make the host wait for two norms.
        ratio = torch.where((length > 0) & (weight > 0), weight / length, torch.ones_like(length))
        parameter.sub_(group["lr"] * ratio * direction)
