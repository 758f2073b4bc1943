"""What following a training costs as it grows, and beside what others do at every step.

    python benchmarks/monitor_cost.py --millions 1 4 16 --charges 100 10000 --plot cost.png

Three tables, in passes of `torch._foreach_norm` over the parameters and milliseconds, everything in one process in
turns: the monitor against the number of parameters and of charges, against the paper's optimiser with its two integral
buffers (written from its formula, in torch's foreach form) and against histograms of all gradients as a tracker takes
them; and the memory that a monitor keeps between steps.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import neuralmechanics as nm

Batch = tuple[Tensor, Tensor]
Step = Callable[[], object]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def network(parameters: int, charges: int) -> nn.Module:
    """Two layers with one hidden unit a charge and as many inputs and outputs as make up the parameters."""
    outputs = 10
    return nn.Sequential(
        nn.Linear(max(1, parameters // charges - outputs - 1), charges), nn.ReLU(), nn.Linear(charges, outputs)
    )


def heavy_ball(model: nn.Module) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-8, momentum=0.9, weight_decay=1e-4)
    optimizer.step()
    return optimizer


class Integrals:
    """The paper's two integrals beside a heavy ball, ∫|g|² and ∫|θ'|² of every parameter, decayed as its laws are."""

    def __init__(self, optimizer: torch.optim.SGD) -> None:
        self._optimizer = optimizer
        self._params = [p for group in optimizer.param_groups for p in group["params"]]
        self._energies = [torch.zeros_like(p) for p in self._params]
        self._speeds = [torch.zeros_like(p) for p in self._params]

    @torch.no_grad()
    def step(self) -> None:
        group = self._optimizer.param_groups[0]
        gradients = [p.grad for p in self._params if p.grad is not None]
        keep, square = (1 - group["lr"] * group["weight_decay"]) ** 2, group["lr"] ** 2
        torch._foreach_mul_(self._energies, keep)
        torch._foreach_addcmul_(self._energies, gradients, gradients, square)
        self._optimizer.step()
        velocities = [self._optimizer.state[p]["momentum_buffer"] for p in self._params]
        torch._foreach_mul_(self._speeds, keep)
        torch._foreach_addcmul_(self._speeds, velocities, velocities, square)


def histograms(model: nn.Module) -> list[Tensor]:
    """64 bins of every gradient, between its least and its largest element."""
    found = []
    for parameter in model.parameters():
        assert parameter.grad is not None
        flat = parameter.grad.detach().flatten()
        found.append(torch.histc(flat, 64, float(flat.min()), float(flat.max())))
    return found


def turns(steps: dict[str, Step], rounds: int, repeats: int) -> dict[str, float]:
    """Milliseconds of the processor that each takes, the least of all rounds."""
    least = dict.fromkeys(steps, float("inf"))
    for _ in range(rounds):
        for name, step in steps.items():
            begun = time.process_time()
            for _ in range(repeats):
                step()
            least[name] = min(least[name], 1e3 * (time.process_time() - begun) / repeats)
    return least


def measured(parameters: int, charges: int, rounds: int, *, others: bool) -> dict[str, float]:
    """What each adds to a heavy ball's step, in milliseconds, and one pass over the parameters."""
    torch.manual_seed(0)
    model = network(parameters, charges)
    batch = torch.randn(4, model[0].in_features), torch.randint(10, (4,))  # type: ignore[index, arg-type, call-overload]
    symmetries = nm.find_symmetries(model, batch, loss_fn)
    loss_fn(model, batch).backward()
    params = list(model.parameters())
    bare, followed, own = heavy_ball(model), heavy_ball(model), heavy_ball(model)
    steps: dict[str, Step] = {"pass": lambda: torch._foreach_norm(params), "bare": bare.step}
    if others:
        steps |= {"integral buffers": Integrals(own).step, "histograms": lambda: (bare.step(), histograms(model))}
    with nm.Monitor(model, followed, symmetries, every=10**9, strict=True, laws=["exact"]):
        followed.step()
        found = turns(steps | {"exact law": followed.step}, rounds, 3)
    base = found.pop("bare")
    return {"pass": found.pop("pass")} | {name: value - base for name, value in found.items()}


def memory(parameters: int, charges: int) -> float:
    """What a monitor keeps between steps, as a share of the parameters."""
    model = network(parameters, charges)
    batch = torch.randn(4, model[0].in_features), torch.randint(10, (4,))  # type: ignore[index, arg-type, call-overload]
    symmetries = nm.find_symmetries(model, batch, loss_fn)
    loss_fn(model, batch).backward()
    optimizer = heavy_ball(model)
    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) is Tensor}
    with nm.Monitor(model, optimizer, symmetries, every=10**9, strict=True, laws=["exact"]):
        for _ in range(3):
            optimizer.step()
        return beyond(model, optimizer, before)


def beyond(model: nn.Module, optimizer: torch.optim.SGD, before: Collection[int]) -> float:
    """Tensors that are there now and were not before, nor are the training's own, as a share of the parameters."""
    gc.collect()
    kept = [each for each in gc.get_objects() if type(each) is Tensor and id(each) not in before]
    # Parameters, gradients and momenta are the training's own.
    own = [*model.parameters(), *(p.grad for p in model.parameters() if p.grad is not None)]
    own += [state["momentum_buffer"] for state in optimizer.state.values()]
    theirs = {each.untyped_storage().data_ptr() for each in own}
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in kept}
    storages = {where: size for where, size in storages.items() if where not in theirs}
    return sum(storages.values()) / sum(p.numel() * p.element_size() for p in model.parameters())


def table(title: str, sizes: Sequence[tuple[int, int]], rounds: int, *, others: bool) -> list[tuple[int, int, float]]:
    print(title)
    rows = []
    for parameters, charges in sizes:
        found = measured(parameters, charges, rounds, others=others)
        one = found.pop("pass")
        text = "  ".join(f"{name} {value:8.2f} ms {value / one:5.1f} passes" for name, value in found.items())
        print(f"  {parameters:>12,} parameters {charges:>8,} units: a pass {one:7.2f} ms  {text}", flush=True)
        rows.append((parameters, charges, found["exact law"]))
    return rows


def plot(path: Path, grown: Sequence[tuple[int, int, float]], split: Sequence[tuple[int, int, float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog([p for p, _, _ in grown], [ms for _, _, ms in grown], "o-", color="#0072B2")
    left.set(xlabel="parameters", ylabel="exact law, ms a step")
    right.semilogx([c for _, c, _ in split], [ms for _, _, ms in split], "o-", color="#D55E00")
    right.set(xlabel=f"hidden units, {split[0][0]:,} parameters", ylim=(0, None))
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, nargs="+", default=[1, 4, 16, 64, 200])
    parser.add_argument("--charges", type=int, nargs="+", default=[100, 1000, 10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--acceptance", action="store_true", help="the table of monitor_acceptance.py")
    options = parser.parse_args()
    if options.acceptance:
        import monitor_acceptance

        sys.exit(monitor_acceptance.main(["--rounds", "15", "--threads", str(options.threads)]))
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    sizes = [int(1e6 * m) for m in options.millions]
    grown = table("As the model grows", [(size, 1000) for size in sizes], options.rounds, others=True)
    middle = sizes[len(sizes) // 2]
    split = table("As charges grow", [(middle, c) for c in options.charges], options.rounds, others=False)
    print(f"memory kept between steps: {100 * memory(middle, 1000):.2f} % of {middle:,} parameters")
    if options.plot is not None:
        plot(options.plot, grown, split)


if __name__ == "__main__":
    main()
