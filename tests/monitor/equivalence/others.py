"""Optimisers that torch does not have, each written from its formula in the plainest way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], Any]


class Lion(Optimizer):
    """θ ← (1 - ηλ)θ - η sign(β1 m + (1 - β1) g),  m ← β2 m + (1 - β2) g (Chen et al. 2023, algorithm 2)."""

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99), "weight_decay": decay})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> None:
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                mean = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * (first * mean + (1 - first) * p.grad).sign())
                mean.lerp_(p.grad, 1 - second)


class Sam(Optimizer):
    """The base's step with the gradient at θ + ρ g/|g| (Foret et al. 2021), in one call with a closure."""

    def __init__(self, params: Iterable[Tensor], base: Callable[..., Optimizer], radius: float = 0.05) -> None:
        super().__init__(params, {"radius": radius})
        self.base_optimizer = base(self.param_groups)
        self.param_groups = self.base_optimizer.param_groups

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"] if p.grad is not None]

    @torch.no_grad()
    def first_step(self) -> None:
        params = self._params()
        size = torch.stack([p.grad.norm() for p in params]).norm()  # type: ignore[union-attr]
        for p in params:
            self.state[p]["before"] = p.clone()
            p.add_(p.grad * self.param_groups[0]["radius"] / size)  # type: ignore[operator]

    @torch.no_grad()
    def second_step(self) -> None:
        for p in self._params():
            p.copy_(self.state[p]["before"])
        self.base_optimizer.step()

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> None:
        assert closure is not None
        again = torch.enable_grad()(closure)
        again()
        self.first_step()
        again()
        self.second_step()


class ScheduleFree(Optimizer):
    """z ← z - ηg,  x ← x + (z - x)/(k + 1), the parameters hold y = (1 - β)z + βx (Defazio et al. 2024)."""

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1, beta: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "k": 0, "train_mode": True})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> None:
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                x = self.state[p].setdefault("x", p.clone())
                z.sub_(group["lr"] * p.grad)
                x.lerp_(z, 1 / group["k"])
                p.copy_((1 - group["beta"]) * z + group["beta"] * x)


class PaperSgd(Optimizer):
    """The optimiser of the paper's experiments: the heavy ball, and beside it two integrals of each parameter.

    v ← βv + (1 - α)(g + λθ), θ ← θ - ηv (the first v undampened), with the buffers ∫|g|² and ∫|θ'|² that the paper's
    theory is evaluated from, each decayed as its law wants: of the parameters' size.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"nesterov": nesterov})

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)

    def _move(self, p: Tensor, group: dict[str, Any]) -> None:
        assert p.grad is not None
        state, rate, decay = self.state[p], group["lr"], group["weight_decay"]
        keep = (1 - rate * decay) ** 2
        energy = state.setdefault("integral_buffer_1", torch.zeros_like(p))
        energy.mul_(keep).add_(p.grad * p.grad, alpha=rate * rate)
        slope = p.grad.add(p, alpha=decay)
        if group["momentum"] != 0:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = slope.clone()
            else:
                state["momentum_buffer"].mul_(group["momentum"]).add_(slope, alpha=1 - group["dampening"])
            velocity = state["momentum_buffer"]
            slope = slope.add(velocity, alpha=group["momentum"]) if group["nesterov"] else velocity
        speed = state.setdefault("integral_buffer_2", torch.zeros_like(p))
        speed.mul_(keep).add_(slope * slope, alpha=rate * rate)
        p.add_(slope, alpha=-rate)
