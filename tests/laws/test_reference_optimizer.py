"""The reference code trains with an SGD of its own, whose first buffer is dampened too: the exact law holds of it."""

from __future__ import annotations

import pytest
import torch

import neuralmechanics as nm
from neuralmechanics.laws import Drives, ExactLaw, Hyperparameters


class ReferenceSgd(torch.optim.Optimizer):
    """v ← (1-α)G at first, then v ← βv + (1-α)G; θ ← θ - ηv, Nesterov θ ← θ - η(G + βv); G = g + λθ."""

    def __init__(self, params, lr, momentum, dampening, weight_decay, nesterov):
        defaults = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"nesterov": nesterov})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta, share = group["momentum"], 1 - group["dampening"]
            for p in group["params"]:
                along = p.grad + group["weight_decay"] * p
                if beta:
                    before = self.state[p].get("momentum_buffer", torch.zeros_like(p))
                    buffer = self.state[p]["momentum_buffer"] = beta * before + share * along
                    along = along + beta * buffer if group["nesterov"] else buffer
                p.add_(along, alpha=-group["lr"])


@pytest.mark.parametrize(
    ("beta", "alpha", "nesterov"),
    [(0.0, 0.0, False), (0.9, 0.0, False), (0.99, 0.01, False), (0.9, 0.5, False), (0.9, 0.0, True)],
)
def test_its_trainings_obey_the_exact_law(beta, alpha, nesterov):
    """200 steps with weight decay: the law without torch's undampened first step, to rounding; with it, not."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).double()
    batch = torch.randn(40, 6, dtype=torch.float64), torch.randint(3, (40,))
    loss = lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    symmetries = nm.find_symmetries(model, batch, loss)
    optimizer = ReferenceSgd(model.parameters(), 0.05, beta, alpha, 1e-2, nesterov)
    params = dict(model.named_parameters())
    now = lambda: {name: p.detach().clone() for name, p in params.items()}  # noqa: E731
    laws = {first: ExactLaw(symmetries.quadratic) for first in (False, True)}
    start = symmetries.charge(now())
    for law in laws.values():
        law.start(start)
    for step in range(200):
        before = now()
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
        update = {name: value - before[name] for name, value in now().items()}
        velocity = {n: optimizer.state[p].get("momentum_buffer", torch.zeros_like(p)) for n, p in params.items()}
        drives = Drives(
            update_energy=symmetries.pair(update, update), update_velocity=symmetries.pair(update, velocity)
        )
        for first, law in laws.items():
            law.step(Hyperparameters(0.05, 1e-2, beta, alpha, nesterov, first_step=first and step == 0), drives)
    size = symmetries.scale(now(), now()) if hasattr(symmetries, "scale") else start.abs().clamp_min(0.1)
    error = {first: float(((law.value - symmetries.charge(now())).abs() / size).max()) for first, law in laws.items()}
    assert error[False] < 1e-13
    # Torch takes its first step undampened: of that no trace may be in a law of this class.
    assert (error[True] > 1e-6) == (alpha > 0)
