"""What a flow costs: time of one field evaluation against one gradient, by flow and network width.

python benchmarks/flows.py --widths 16 128 512 --repeats 5
python benchmarks/flows.py --traced --widths 64 256: the series' warm evaluation beside torch.compile's
python benchmarks/flows.py --kinks 20 --hidden 8 --horizon 4: charge drift of a ReLU network on digits by tolerance
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from neuralmechanics.flows import (
    AdamFlow,
    GradientFlow,
    ModifiedFlow,
    ModifiedLoss,
    drift_by_kind,
    integrate,
    module_loss,
)
from neuralmechanics.flows.equation.objective import Loss
from neuralmechanics.flows.equation.straight_line import Warm
from neuralmechanics.flows.equation.system import Flow
from neuralmechanics.symmetry import find_symmetries


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Best of ``repeats``."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 128, 512])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinks", type=int, metavar="EXAMPLES", help="drift of a ReLU network on so many digits")
    parser.add_argument("--hidden", type=int, default=8)
    parser.add_argument("--horizon", type=float, default=4.0)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-4, 1e-6, 1e-8, 1e-10])
    parser.add_argument("--traced", action="store_true", help="the series against torch.compile")
    arguments = parser.parse_args()
    if arguments.traced:
        traced(arguments.widths, arguments.repeats)
        return
    if arguments.kinks:
        kinks(arguments.kinks, arguments.hidden, arguments.horizon, arguments.tolerances)
        return
    print(f"{'width':>6} {'parameters':>11} {'flow':<38} {'ms':>9} {'gradients':>10}")
    for width in arguments.widths:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10))
        batch = torch.randn(128, 64), torch.randn(128, 10)
        loss = module_loss(model, _mean_square, batch)
        flows: list[Flow] = [
            GradientFlow(loss),
            ModifiedLoss(loss, learning_rate=0.01),
            ModifiedFlow(loss, learning_rate=0.01, momentum=0.9),
            *(ModifiedFlow(loss, learning_rate=0.01, order=order, route="map") for order in (2, 4, 8)),
            *(ModifiedFlow(loss, learning_rate=0.01, order=order, route="derivatives") for order in (2, 3, 4)),
            AdamFlow(loss, learning_rate=0.01),
        ]
        unit = None
        for flow in flows:
            system = flow.system(loss.theta0)
            field = next(system.pieces(0.0, 1.0)).field
            took = seconds(partial(field, system.initial), arguments.repeats)
            unit = unit or took
            name = flow.label + (f" ({flow.route})" if isinstance(flow, ModifiedFlow) and flow.route else "")
            print(f"{width:>6} {system.layout.size:>11} {name:<38} {1e3 * took:>9.2f} {took / unit:>10.1f}", flush=True)


def traced(widths: list[int], repeats: int) -> None:
    """A warm evaluation of the series beside the field as it is and beside ``torch.compile``'s, in processor time.

    Two parameters first, where calls are all there is, then networks of the widths.
    """
    torch.set_num_threads(1)
    print("| network | parameters | order | as it is | warm | compiled | warm / compiled | compiling |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in [0, *widths, *_KINDS]:
        torch.manual_seed(0)
        loss, start = _smooth(kind) if isinstance(kind, int) else _of_kind(kind)
        name = kind if isinstance(kind, str) else f"width {kind}" if kind else "valley"
        for order in (2, 3, 4):
            system = ModifiedFlow(loss, learning_rate=0.05, order=order, route="derivatives").system(start)
            field = next(system.pieces(0.0, 1.0)).field
            assert isinstance(field, Warm)
            x = system.initial
            for _ in range(200):
                field(x)
            assert field.line is not None
            begun = time.process_time()
            compiled = torch.compile(make_fx(field.field)(x))
            with torch.no_grad():
                compiled(x)
                compiling = time.process_time() - begun
                # In turns, so that what else the machine does falls on all of them.
                best = [float("inf")] * 3
                for _ in range(4 * repeats):
                    for k, work in enumerate((field.field, field, compiled)):
                        best[k] = min(best[k], _processor_time(partial(work, x), 5))
            own, warm, fast = (1e3 * taken for taken in best)
            print(
                f"| {name} | {len(x):,} | {order} | {own:.2f} ms | {warm:.2f} ms | {fast:.2f} ms | {warm / fast:.1f} "
                f"| {compiling:.0f} s |",
                flush=True,
            )


def _smooth(width: int) -> tuple[Loss, dict[str, Tensor]]:
    """Rosenbrock's valley, or a tanh network of this width on 64 points."""
    if not width:
        valley = {"x": torch.tensor([0.4, 0.7], dtype=torch.float64)}
        return lambda p: (1 - p["x"][0]) ** 2 + 2 * (p["x"][1] - p["x"][0] ** 2) ** 2, valley
    model = nn.Sequential(nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 4)).double()
    batch = torch.randn(64, 16, dtype=torch.float64), torch.randn(64, 4, dtype=torch.float64)
    loss = module_loss(model, _mean_square, batch)
    return loss, loss.theta0


class _Last(nn.Module):
    """A GRU over four steps of four numbers; what it says last."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.layer(x.view(-1, 4, 4))[0][:, -1])
        return found


class _Again(nn.Module):
    """A layer whose values are forgotten, and computed again in the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(checkpoint(lambda z: torch.tanh(self.inner(z)), x, use_reentrant=False))
        return found


_KINDS: dict[str, Callable[[], nn.Module]] = {
    "GRU": _Last,
    "group norm and SiLU": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.Flatten(), nn.Linear(32, 4)
    ),
    "checkpointed": _Again,
}


def _of_kind(kind: str) -> tuple[Loss, dict[str, Tensor]]:
    batch = torch.randn(64, 16, dtype=torch.float64), torch.randn(64, 4, dtype=torch.float64)
    loss = module_loss(_KINDS[kind]().double(), _mean_square, batch)
    return loss, loss.theta0


def _processor_time(work: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times


def kinks(examples: int, hidden: int, horizon: float, tolerances: list[float]) -> None:
    """Gradient flow of a ReLU network on digits, from kink to kink: charge drift and distance from the tightest run."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    batch = torch.tensor(digits.data[:examples] / 16), torch.tensor(digits.target[:examples])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10)).double()
    loss = module_loss(model, _cross_entropy, batch)
    symmetries = find_symmetries(model, batch, _cross_entropy)
    paths, took = [], []
    for tolerance in tolerances:
        start = time.perf_counter()
        flow = GradientFlow(loss)
        paths.append(integrate(flow, loss.theta0, [0.0, horizon], symmetries, "dopri5", rtol=tolerance, atol=tolerance))
        took.append(time.perf_counter() - start)
    print(
        f"{'tolerance':>10} {'rescale drift':>14} {'distance':>10} {'events':>7} {'slides':>7} "
        f"{'evaluations':>12} {'s':>7}"
    )
    for tolerance, path, seconds_taken in zip(tolerances, paths, took, strict=True):
        drift = drift_by_kind(path.require_completed(), symmetries.kinds)["rescale"]
        last = paths[-1].final
        distance = max(float((path.final[name] - last[name]).abs().max()) for name in last)
        events = 0 if path.event_times is None else len(path.event_times)
        print(
            f"{tolerance:>10.0e} {drift:>14.1e} {distance:>10.1e} {events:>7} {path.slides:>7} {path.evaluations:>12} "
            f"{seconds_taken:>7.1f}"
        )


def _cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


if __name__ == "__main__":
    main()
