"""What a flow costs: time of one field evaluation against one gradient, by flow and network width.

python benchmarks/flows.py --widths 16 128 512 --repeats 5
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from neuralmechanics.flows import AdamFlow, GradientFlow, ModifiedFlow, ModifiedLoss, module_loss
from neuralmechanics.flows.system import Flow


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
    arguments = parser.parse_args()
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
            took = seconds(lambda field=field, state=system.initial: field(state), arguments.repeats)
            unit = unit or took
            name = flow.label + (f" ({flow.route})" if isinstance(flow, ModifiedFlow) and flow.route else "")
            print(f"{width:>6} {system.layout.size:>11} {name:<38} {1e3 * took:>9.2f} {took / unit:>10.1f}", flush=True)


def _mean_square(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


if __name__ == "__main__":
    main()
