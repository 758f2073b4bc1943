"""Flows past the edge of stability against the time average of training: loss, sharpness, distance and charges.

    python benchmarks/edge_of_stability.py --model mlp
    python benchmarks/edge_of_stability.py --model vit --optimizer rmsprop --flows rod,edge
    python benchmarks/edge_of_stability.py --model pair --charges
    python benchmarks/edge_of_stability.py --acceptance --device cuda

A smooth network is trained on scikit-learn's digits, full batch, until ``--after`` steps beyond the first at which its
sharpness passes the edge: 2/η for descent, 2 for the preconditioned Hessian of RMSprop. From there each flow runs for
``--steps`` more, rod and edge flow from the rod between two iterates, the central flow from the average of ``--window``
iterates, which must span a cycle: an eigenvalue at the edge rises, lets the oscillation grow, and is thrown back, and
that average alone is what the central flow is an equation for. Losses are compared on average over all steps; of the
sharpness, rod and edge flow are asked for that of the iterates, the central flow for that of their averages over the
same window. With ``--acceptance`` all models, optimisers and flows run, and the table says what was asked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.flows import (
    CentralFlow,
    CentralRMSpropFlow,
    EdgeFlow,
    EdgeRMSpropFlow,
    GradientFlow,
    ModuleLoss,
    Path,
    RodFlow,
    RodRMSpropFlow,
    integrate,
    module_loss,
)
from neuralmechanics.flows.edge.unstable_space import largest_curvature
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Objective

Batch = tuple[Tensor, Tensor]
ALPHA, EPS = 0.99, 1e-8
RATES = {("mlp", "descent"): 0.5, ("pair", "descent"): 0.5, ("vit", "descent"): 0.2}
USUAL_RATE = 0.0005  # of RMSprop
AFTER = {("mlp", "descent"): 170, ("pair", "descent"): 170, ("vit", "descent"): 320}
WINDOW = {("mlp", "descent"): 41, ("pair", "descent"): 41, ("vit", "descent"): 161}
USUAL_AFTER, USUAL_WINDOW = 150, 121  # of RMSprop
SPARSE = 4  # of the points of an average, every fourth has its sharpness taken
ASKED = {"loss": 0.02, "sharpness": 0.03, "charges": 0.05}


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


@dataclass
class Training:
    """Iterates of full-batch training with their averages of squares, and sharpness where it is asked for."""

    loss: ModuleLoss
    optimizer: str
    rate: float
    states: list[Tensor] = field(default_factory=list)
    averages: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.layout = Layout.of(self.loss.theta0)
        self.objective = Objective(self.loss, self.layout)
        self.at = self.layout.flatten(self.loss.theta0)
        self.squares = torch.zeros_like(self.at)
        self.guess: Any = largest_curvature(self.objective)

    def step(self, *, record: bool = False) -> None:
        """One step; what is kept is the iterate before it and, as torch has it after, the average of squares."""
        if record:
            self.states.append(self.at)
        slope = self.objective.gradient(self.at)
        if self.optimizer == "rmsprop":
            self.squares = ALPHA * self.squares + (1 - ALPHA) * slope.square()
            slope = slope / (self.squares.sqrt() + EPS)
        self.at = self.at - self.rate * slope
        if record:
            self.averages.append(self.squares)

    def sharpness(self, x: Tensor, average: Tensor) -> float:
        """The largest eigenvalue of H, or of P⁻¹H."""
        if self.optimizer == "descent":
            return float(self.guess(x))
        root = (self.rate / (average.sqrt() + EPS)).sqrt()
        return largest_curvature(self.objective, root)(x)

    @property
    def threshold(self) -> float:
        """The edge."""
        return 2 / self.rate if self.optimizer == "descent" else 2.0

    def reach_the_edge(self) -> int:
        """Trains until the sharpness is past the edge, looked at every ten steps."""
        for onset in range(20_000):
            if onset % 10 == 0 and (onset or self.optimizer == "descent"):
                sharpness = self.sharpness(self.at, self.squares)
                if sharpness > self.threshold and (onset >= 20 or self.optimizer == "descent"):
                    return onset
            self.step()
        raise SystemExit(f"sharpness {sharpness:.3g} stays below {self.threshold:g}: raise --rate")


def flows_from(training: Training, loss: ModuleLoss, middle: int, half: int, wanted: list[str]) -> Iterator[Any]:
    """Each flow with its start: the average about ``middle``, or the rod that begins there."""
    layout, rate, states = training.layout, training.rate, training.states
    mean = torch.stack(states[middle - half : middle + half + 1]).mean(0)
    rod, swing = (states[middle] + states[middle + 1]) / 2, (states[middle + 1] - states[middle]) / 2
    average = torch.stack(training.averages[middle - half : middle + half + 1]).mean(0)
    named = {"swing": layout.unflatten(swing), "squares": layout.unflatten(training.averages[middle])}
    rms: dict[str, Any] = {"learning_rate": rate, "smoothing": ALPHA, "eps": EPS}
    made: dict[str, tuple[Any, Tensor]]
    if training.optimizer == "descent":
        made = {
            "central": (CentralFlow(loss, learning_rate=rate), mean),
            "rod": (RodFlow(loss, learning_rate=rate, swing=named["swing"]), rod),
            "edge": (EdgeFlow(loss, learning_rate=rate, swing=named["swing"]), rod),
            "gradient": (GradientFlow(loss), mean),
        }
    else:
        made = {
            "central": (CentralRMSpropFlow(loss, squares=layout.unflatten(average), **rms), mean),
            "rod": (RodRMSpropFlow(loss, **named, **rms), rod),
            "edge": (EdgeRMSpropFlow(loss, **named, **rms), rod),
        }
    for name in wanted:
        if name in made:
            yield name, made[name][0], layout.unflatten(made[name][1])


def compare(given: argparse.Namespace, model_name: str, optimizer: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Relative errors of each flow on one network under one optimiser, printed as they come."""
    device = torch.device(given.device)
    model, batch = build(model_name).to(device), digits(given.examples)
    loss = module_loss(model, squares, (batch[0].to(device), batch[1].to(device)))
    rate = given.rate or RATES.get((model_name, optimizer), USUAL_RATE)
    half = (given.window or WINDOW.get((model_name, optimizer), USUAL_WINDOW)) // 2
    after = given.after or AFTER.get((model_name, optimizer), USUAL_AFTER)
    training = Training(loss, optimizer, rate)
    onset = training.reach_the_edge()
    print(f"\n{model_name}, {optimizer}: {training.layout.size} parameters, past the edge at step {onset}", flush=True)
    for _ in range(after - half):
        training.step()
    for _ in range(given.steps + 2 * half + 2):
        training.step(record=True)
    sampled = range(0, given.steps + 1, given.every)
    real_loss, of_iterates, of_averages = averages_of(training, half, sampled)
    charges = find_symmetries(build(model_name), batch, squares) if given.charges else None
    times = [rate * step for step in sampled]
    for name, flow, start in flows_from(training, loss, half, half, given.flows.split(",")):
        begun = time.process_time()
        method = "euler" if name == "central" else "rk4"
        path = integrate(flow, start, times, None, method, step=rate, estimate_error=False)
        path.require_completed()
        errors, found = {}, []
        if name == "gradient":
            losses = path.losses.tolist()
            centres = [largest_curvature(training.objective)(training.layout.flatten(path.at(k))) for k in (0, -1)]
        else:
            found = [flow.oscillation(path.at(k), **path.beside(k)) for k in range(len(times))]
            losses = [about.loss for about in found]
            centres = [about.sharpness for about in found[::SPARSE]]
        errors["loss"] = average(losses) / real_loss - 1
        errors["sharpness"] = average(centres) / of_averages - 1
        if found:
            errors["sharpness of iterates"] = (
                average([about.sharpness_of_iterates for about in found[::SPARSE]]) / of_iterates - 1
            )
        if path.companions.get("swing"):
            # A rod is no average over a cycle: what it is asked for is what the iterates have.
            errors["sharpness"] = errors.pop("sharpness of iterates")
        if charges is not None:
            errors["charges"] = charges_error(training, path, found, charges, half)
        end = torch.stack(training.states[-2 * half - 1 :]).mean(0)
        if path.companions.get("swing"):
            end = (training.states[half + given.steps] + training.states[half + given.steps + 1]) / 2
        moved = float((end - training.layout.flatten(start)).norm())
        errors["distance"] = float((training.layout.flatten(path.final) - end).norm()) / moved
        line = "  ".join(f"{key} {value:+.2%}" for key, value in errors.items())
        print(
            f"  {flow.label}: {line}  ({path.evaluations} evaluations, {time.process_time() - begun:.0f} s)", flush=True
        )
        yield name, errors


def average(values: Sequence[float]) -> float:
    """The mean of points that begin and end an interval."""
    return float(torch.trapezoid(torch.tensor(values, dtype=torch.float64))) / (len(values) - 1)


def averages_of(training: Training, half: int, sampled: range) -> tuple[float, float, float]:
    """Loss of training over all steps, and its sharpness where that of the flows is looked at: on average of both ends
    of the rods there, and at the averages of iterates about them."""
    walked = range(half, half + sampled[-1] + 2)
    losses = [training.objective.value(training.states[k]) for k in walked]
    iterates, averaged = [], []
    for middle in (half + step for step in sampled[::SPARSE]):
        ends = [training.sharpness(training.states[k], training.averages[k]) for k in (middle, middle + 1)]
        iterates.append(sum(ends) / 2)
        window = slice(middle - half, middle + half + 1)
        mean, squares = (torch.stack(kept[window]).mean(0) for kept in (training.states, training.averages))
        averaged.append(training.sharpness(mean, squares))
    real_loss, of_iterates, of_averages = sum(losses) / len(losses), average(iterates), average(averaged)
    print(
        f"  training: loss {real_loss:.5f}, sharpness {of_iterates / training.threshold:.4f} of the edge, of averages "
        f"over {2 * half + 1} steps {of_averages / training.threshold:.4f}",
        flush=True,
    )
    return real_loss, of_iterates, of_averages


def charges_error(training: Training, path: Path, found: list[Any], charges: Any, half: int) -> float:
    """How far the predicted change of all charges is from the measured one, relative to it."""
    layout = training.layout

    def measured(step: int) -> Tensor:
        near = range(step, step + 2) if path.companions.get("swing") else range(step - half, step + half + 1)
        values = [charges.charge(layout.unflatten(training.states[k].cpu())).double() for k in near]
        return torch.stack(values).mean(0)

    def predicted(k: int) -> Tensor:
        value: Tensor = charges.charge({name: value.cpu() for name, value in path.at(k).items()}).double()
        return value + found[k].spread(charges) if found else value

    steps = len(training.states) - 2 - 2 * half
    moved = measured(half + steps) - measured(half)
    return float(((predicted(-1) - predicted(0)) - moved).norm() / moved.norm())


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mlp", "pair", "vit"), default="mlp")
    parser.add_argument("--optimizer", choices=("descent", "rmsprop"), default="descent")
    parser.add_argument("--flows", default="central,rod,edge,gradient")
    parser.add_argument("--rate", type=float, help="learning rate: .5 for descent (vit .2), .0005 for RMSprop")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--after", type=int, help="steps beyond the edge before the flows begin: 150 to 320")
    parser.add_argument("--window", type=int, help="steps of a cycle: 41, of the transformer 161, of RMSprop 121")
    parser.add_argument("--every", type=int, default=5, help="steps between two points of an average")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--charges", action="store_true")
    parser.add_argument("--acceptance", action="store_true", help="all models and optimisers, against what was asked")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.acceptance:
        for _ in compare(given, given.model, given.optimizer):
            pass
        return
    rows = []
    for model, optimizer in (("mlp", "descent"), ("vit", "descent"), ("mlp", "rmsprop"), ("vit", "rmsprop")):
        rows += [(model, optimizer, name, errors) for name, errors in compare(given, model, optimizer)]
    given.charges = True
    rows += [("pair", "descent", name, errors) for name, errors in compare(given, "pair", "descent")]
    print("\n| network | optimiser | flow | loss (2 %) | sharpness (3 %) | charges (5 %) |\n|---|---|---|---|---|---|")
    for model, optimizer, name, errors in rows:
        cells = [
            f"{errors[key]:+.2%}{'' if abs(errors[key]) <= bound else ' missed'}" if key in errors else ""
            for key, bound in ASKED.items()
        ]
        print(f"| {model} | {optimizer} | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
