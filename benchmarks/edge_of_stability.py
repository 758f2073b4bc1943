"""Flows past the edge of stability against the time average of training: loss, sharpness, distance and charges.

    python benchmarks/edge_of_stability.py --model mlp --steps 500
    python benchmarks/edge_of_stability.py --model pair --charges

A smooth network is trained on scikit-learn's digits by full-batch gradient descent until ``--after`` steps beyond the
first at which its sharpness passes 2/η. From the average of the iterates there, over ``--window`` steps, each flow runs
for ``--steps`` more, and its predictions are compared with the averages of the training over the same window.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.experiments.measuring.curvature import top_eigenvalues
from neuralmechanics.flows import CentralFlow, GradientFlow, Path, integrate, module_loss
from neuralmechanics.flows.equation.layout import Layout

Batch = tuple[Tensor, Tensor]


def squares(model: nn.Module, batch: Batch) -> Tensor:
    """½|f(x) - y|², the mean over examples."""
    return (model(batch[0]) - batch[1]).square().sum(1).mean() / 2


class TinyTransformer(nn.Module):
    """Four patches of a digit, one attention block and one feed-forward block with GELU, no norms."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(16, width)
        self.position = nn.Parameter(0.1 * torch.randn(4, width))
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.value, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.reshape(-1, 2, 4, 2, 4).transpose(2, 3).reshape(-1, 4, 16)
        h = self.embed(patches) + self.position
        weights = torch.softmax(self.query(h) @ self.key(h).transpose(1, 2) / h.shape[-1] ** 0.5, -1)
        h = h + self.out(weights @ self.value(h))
        h = h + self.down(nn.functional.gelu(self.up(h)))
        return self.head(h.mean(1))


def build(name: str) -> nn.Module:
    """The network by name: two tanh layers, a linear pair before one of them, or a small transformer."""
    torch.manual_seed(0)
    if name == "mlp":
        return nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 10)).double()
    if name == "pair":
        return nn.Sequential(nn.Linear(64, 8), nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 10)).double()
    return TinyTransformer().double()


def digits(count: int) -> Batch:
    """The first digits, standardised, with one-hot answers."""
    from sklearn.datasets import load_digits

    data = load_digits()
    x = torch.tensor(data.data[:count])
    x = x - x.mean(0)
    return x / x.std(), nn.functional.one_hot(torch.tensor(data.target[:count]), 10).double()


class Training:
    """Iterates of gradient descent with their losses and sharpnesses."""

    def __init__(self, model: nn.Module, batch: Batch, rate: float, charges: Any) -> None:
        self.params = list(model.parameters())
        self.names = [name for name, _ in model.named_parameters()]
        self.loss: Callable[[], Tensor] = lambda: squares(model, batch)
        self.rate, self.charges = rate, charges
        self.losses: list[float] = []
        self.sharpnesses: list[float] = []
        self.states: list[Tensor] = []
        self.values: list[Tensor] = []

    def step(self, *, record: bool) -> None:
        """One step of descent."""
        value = self.loss()
        slopes = torch.autograd.grad(value, self.params)
        if record:
            self.losses.append(value.item())
            self.sharpnesses.append(self.sharpness())
            self.states.append(torch.cat([p.detach().reshape(-1) for p in self.params]))
            if self.charges is not None:
                named = dict(zip(self.names, (p.detach() for p in self.params), strict=True))
                self.values.append(self.charges.charge(named))
        with torch.no_grad():
            for p, slope in zip(self.params, slopes, strict=True):
                p -= self.rate * slope

    def sharpness(self) -> float:
        """The largest eigenvalue of the Hessian."""
        return float(top_eigenvalues(self.loss, self.params, 1, iterations=24)[0])


def averages(values: Tensor, steps: int, half: int, every: int) -> Tensor:
    """Means over the window about each recorded step."""
    return torch.stack([values[k : k + 2 * half + 1].mean(0) for k in range(0, steps + 1, every)])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mlp", "pair", "vit"), default="mlp")
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--after", type=int, default=170)
    parser.add_argument("--window", type=int, default=41)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--method", default="euler")
    parser.add_argument("--charges", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, batch = build(given.model), digits(given.examples)
    loss = module_loss(model, squares, batch)
    symmetries = find_symmetries(model, batch, squares) if given.charges else None
    training = Training(model, batch, given.rate, symmetries)
    half, onset = given.window // 2, 0
    while onset % 10 or training.sharpness() < 2 / given.rate:
        training.step(record=False)
        onset += 1
        if onset > 20_000:
            raise SystemExit(f"sharpness {training.sharpness():.3g} stays below 2/η = {2 / given.rate:g}: raise --rate")
    print(f"{given.model}: {sum(p.numel() for p in training.params)} parameters, sharpness passes 2/η at step {onset}")
    for _ in range(given.after - half):
        training.step(record=False)
    for _ in range(given.steps + 2 * half + 1):
        training.step(record=True)
    states = averages(torch.stack(training.states), given.steps, half, 10)
    start = Layout.of(loss.theta0).unflatten(states[0])
    times = [given.rate * step for step in range(0, given.steps + 1, 10)]
    central = CentralFlow(loss, learning_rate=given.rate)
    for flow in (central, GradientFlow(loss)):
        begun = time.process_time()
        method = given.method if flow is central else "rk4"
        path = integrate(flow, start, times, symmetries, method, step=given.rate, estimate_error=False)
        print(f"\n{flow.label}: {path.reason}, {path.evaluations} evaluations, {time.process_time() - begun:.0f} s")
        report(training, states, path, flow, central, given, half)


def report(
    training: Training,
    states: Tensor,
    path: Path,
    flow: CentralFlow | GradientFlow,
    central: CentralFlow,
    given: argparse.Namespace,
    half: int,
) -> None:
    """Relative errors of one flow."""
    found = [central.oscillation(path.at(k)) for k in range(len(path.times))]
    oscillates = flow is central
    losses = torch.tensor([o.loss for o in found]) if oscillates else path.losses
    sharp = torch.tensor([o.sharpness for o in found])
    real = averages(torch.tensor(training.losses), given.steps, half, 10)
    real_sharp = averages(torch.tensor(training.sharpnesses), given.steps, half, 10)
    final = Layout.of(path.final).flatten(path.final)
    print(
        f"  loss {float(losses.mean()):.6f} of {float(real.mean()):.6f}: {float(losses.mean() / real.mean() - 1):+.2%}"
    )
    print(f"  windows' loss: mean |error| {float((losses / real - 1).abs().mean()):.2%}")
    print(
        f"  sharpness {float(sharp.mean()):.4f} of {float(real_sharp.mean()):.4f}: "
        f"{float(sharp.mean() / real_sharp.mean() - 1):+.2%}, largest {float((sharp / real_sharp - 1).abs().max()):.2%}"
    )
    print(f"  distance {float((final - states[-1]).norm()):.4f} of {float((states[-1] - states[0]).norm()):.4f} moved")
    print(f"  eigenvalues at the edge at the end: {int((found[-1].values > 0.999 * central.threshold).sum())}")
    if training.charges is not None and path.charges is not None:
        values = averages(torch.stack(training.values), given.steps, half, 10)
        spread = torch.stack([o.spread(training.charges) for o in found]) if oscillates else torch.zeros_like(values)
        predicted = path.charges + spread
        moved, miss = values[-1] - values[0], (predicted[-1] - predicted[0]) - (values[-1] - values[0])
        error = float(miss.norm() / moved.norm())
        print(f"  charges: moved {float(moved.norm()):.5f} in all, predicted within {error:.2%}")
        size = float(values[0].norm())
        print(f"  relative to their size {size:.4f}: moved {float(moved.norm()) / size:.2%}")


if __name__ == "__main__":
    main()
