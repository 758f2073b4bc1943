"""What the monitor costs against what it may cost: one table, one row a bound.

    python benchmarks/monitor_acceptance.py                  # all of it, some minutes on a quiet machine
    python benchmarks/monitor_acceptance.py --only passes    # passes | plain | small | records | training | growth

Steps with and without a monitor follow each other in one process, in turns, and the median of their differences is
taken, so that a busy machine slows both alike: read ratios there, and milliseconds on a quiet machine alone. A *pass*
is one `torch._foreach_norm` over the parameters. Settings are heavy ball, float32 and two threads, records far apart.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monitor_cost
import monitor_passes
import torch
from torch import Tensor, nn

import neuralmechanics as nm

Step = Callable[[], object]
_FAR, _SWITCH = 10**9, "NEURALMECHANICS_COMPILE"


@dataclass(frozen=True)
class Bound:
    """One line of the table: what was measured, what it may be at most, and the numbers behind it."""

    name: str
    value: float
    most: float
    unit: str
    notes: str = ""

    def show(self) -> bool:
        """Print the line; whether it holds."""
        holds = self.value <= self.most
        said = f"{self.value:10.3g} {self.unit:6s} ≤ {self.most:7.3g}   {'yes' if holds else 'NO '}"
        print(f"  {self.name:44s} {said}  {self.notes}", flush=True)
        return holds


def in_turns(steps: dict[str, Step], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Milliseconds by the clock that each takes, once a round, after a round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            begun = time.perf_counter()
            for _ in range(repeats):
                step()
            if number:
                times[name].append(1e3 * (time.perf_counter() - begun) / repeats)
    return times


def more(times: dict[str, list[float]], name: str, without: str) -> float:
    """The median of what one takes more than the other in the same round."""
    return statistics.median(a - b for a, b in zip(times[name], times[without], strict=True))


def followed(
    stack: contextlib.ExitStack, model: nn.Module, symmetries: nm.Symmetries, kind: str, options: dict[str, Any]
) -> Step:
    """The step of a new optimiser under a monitor that lives as long as the stack, on a copy of the model.

    A monitor that sees its parameters moved by anything else measures them anew, so that none shares its model.
    """
    own = alike(model)
    optimizer = monitor_passes.optimizer_of(kind, own)
    stack.enter_context(nm.Monitor(own, optimizer, symmetries, every=_FAR, strict=True, **options))
    optimizer.step()
    return optimizer.step


def alike(model: nn.Module) -> nn.Module:
    """A copy of a model with its gradients."""
    own = copy.deepcopy(model)
    for copied, parameter in zip(own.parameters(), model.parameters(), strict=True):
        copied.grad = None if parameter.grad is None else parameter.grad.clone()
    return own


def bare(kind: str, model: nn.Module) -> Step:
    optimizer = monitor_passes.optimizer_of(kind, model)
    optimizer.step()
    return optimizer.step


def found(name: str) -> tuple[nn.Module, monitor_passes.Batch, nm.Symmetries]:
    """A model with the gradients of one batch, and its symmetries."""
    model, batch = monitor_passes.models(name)
    symmetries = nm.find_symmetries(model, batch, monitor_passes.loss_fn)
    monitor_passes.loss_fn(model, batch).backward()
    return model, batch, symmetries


def passes(rounds: int) -> list[Bound]:
    """The paper's networks: each setting in passes, beside the paper's integrals and histograms of gradients."""
    bounds = []
    for name in ("vgg16", "vgg16-bn"):
        model, _, symmetries = found(name)
        params, own = list(model.parameters()), monitor_cost.heavy_ball(model)
        base = bare("sgd", model)
        steps: dict[str, Step] = {
            "pass": lambda params=params: torch._foreach_norm(params),
            "sgd": base,
            "adamw": bare("adamw", model),
            "integrals": monitor_cost.Integrals(own).step,
            "histograms": lambda base=base, model=model: (base(), monitor_cost.histograms(model)),
        }
        with contextlib.ExitStack() as stack:
            for setting, (kind, options) in monitor_passes.SETTINGS.items():
                steps[setting] = followed(stack, model, symmetries, kind, options)
            times = in_turns(steps, rounds, 3)
        one = statistics.median(times["pass"])
        cost = {s: more(times, s, kind) for s, (kind, _) in monitor_passes.SETTINGS.items()}
        most = max(3 * one, 6.0)
        beside = {other: more(times, other, "sgd") for other in ("integrals", "histograms")}
        say = {s: f"{value:.1f} ms, {value / one:.2f} passes of {one:.2f} ms" for s, value in (cost | beside).items()}
        bounds.append(Bound(f"{name}: exact law", cost["exact law"], most, "ms", say["exact law"]))
        wide = ("all laws", "all laws, residuals")
        bounds += [Bound(f"{name}: {setting}", cost[setting], 2 * most, "ms", say[setting]) for setting in wide]
        # Without a copy the update is read from θ and both moments: three passes.
        above = cost["AdamW, identity"] / one - 3
        bounds.append(Bound(f"{name}: AdamW above its three reads", above, 3, "passes", say["AdamW, identity"]))
        bounds.append(
            Bound(
                f"{name}: exact law against integrals",
                cost["exact law"] / beside["integrals"],
                1,
                "×",
                f"integral buffers {say['integrals']}; histograms {say['histograms']}",
            )
        )
    return bounds


def uncompiled(rounds: int) -> list[Bound]:
    """The same law where nothing can be compiled, in a process of its own."""
    command = [sys.executable, __file__, "--only", "alone", "--rounds", str(rounds)]
    done = subprocess.run(command, env={**os.environ, _SWITCH: "0"}, stdout=subprocess.PIPE, text=True, check=True)
    name, cost, one = done.stdout.splitlines()[-1].split()
    notes = f"{float(cost):.1f} ms, a pass {float(one):.2f} ms"
    return [Bound(f"{name}: exact law, plain version", float(cost) / float(one), 6, "passes", notes)]


def alone(rounds: int) -> None:
    """One line for `uncompiled`: the network, the law's milliseconds, a pass's."""
    model, _, symmetries = found("vgg16-bn")
    params = list(model.parameters())
    with contextlib.ExitStack() as stack:
        law = followed(stack, model, symmetries, "sgd", {"laws": ["exact"]})
        steps: dict[str, Step] = {"pass": lambda: torch._foreach_norm(params), "sgd": bare("sgd", model), "law": law}
        times = in_turns(steps, rounds, 3)
    print("vgg16-bn", more(times, "law", "sgd"), statistics.median(times["pass"]))


def small(rounds: int) -> list[Bound]:
    """A network so small that a step is calls and no arithmetic."""
    model, _, symmetries = found("mlp")
    with contextlib.ExitStack() as stack:
        steps = {"sgd": bare("sgd", model)}
        for setting, (kind, options) in list(monitor_passes.SETTINGS.items())[:2]:
            steps[setting] = followed(stack, model, symmetries, kind, options)
        times = in_turns(steps, 4 * rounds, 100)
    return [Bound(f"MLP of 470: {s}", more(times, s, "sgd"), 0.3, "ms") for s in ("exact law", "all laws")]


def records(rounds: int) -> list[Bound]:
    """What a record takes: milliseconds with 200,002 charges, bytes and memory for the paper's network."""
    bounds = []
    model, batch, symmetries = found("wide")
    with tempfile.TemporaryDirectory() as folder:
        lasted, disk, size = beside(model, batch, symmetries, Path(folder) / "run", 2 * rounds + 6)
    notes = f"of which {disk:.1f} ms are what the disk takes for {size / 1e6:.1f} MB, whoever writes them"
    bounds.append(Bound(f"a record of {symmetries.charges:,} charges", lasted, 20, "ms", notes))
    model, batch, symmetries = found("vgg16-bn")
    for laws in (["exact"], None):
        with tempfile.TemporaryDirectory() as folder:
            # 64 of them are put together: what lasts of each.
            sizes = recorded(model, batch, symmetries, Path(folder) / "run", laws, 64)
        named = "exact law" if laws else "all laws"
        alone, lasting = sizes[0] / 1e3, sizes[-1] / 1e3 / 64
        notes = f"until 64 are put together {alone:.0f} kB each"
        bounds.append(Bound(f"a record of vgg16-bn, {named}", lasting, 200, "kB", notes))
    bounds.append(Bound("memory kept for vgg16-bn", 100 * kept(model, symmetries), 2, "%"))
    return bounds


def recorded(
    model: nn.Module, batch: Any, symmetries: nm.Symmetries, path: Path, laws: list[str] | None, count: int
) -> list[int]:
    """The bytes of the shard of one record, and of those that a run of some records ends with.

    Gradients are those of the loss at the parameters as they are, on noise of the batch's size: of any others the
    symmetries would be broken, and each record the one of a loop that is wrong.
    """
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    inputs, targets = batch
    sizes = []
    with nm.Monitor(model, optimizer, symmetries, path, every=_FAR, strict=True, laws=laws) as monitor:
        for number in range(count - 1):  # the record of the start is the first
            optimizer.zero_grad()
            monitor_passes.loss_fn(model, (torch.randn_like(inputs), targets)).backward()
            optimizer.step()
            monitor.state_dict()
            if number == 4:
                sizes.append(max(path.glob("*/records-*")).stat().st_size)
    # What was to be put together is, when the monitor is closed.
    sizes.append(sum(file.stat().st_size for file in path.glob("*/records-*")))
    return sizes


def beside(
    model: nn.Module, batch: Any, symmetries: nm.Symmetries, path: Path, rounds: int
) -> tuple[float, float, int]:
    """Milliseconds that a step with its record takes more than a step without one, which comes after it: medians.

    Beside them those that as many bytes take to be written to the same disk and to be safe there, and their number.
    """
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    inputs, targets = batch
    times: dict[bool, list[float]] = {True: [], False: []}
    disk, data = [], b""
    with nm.Monitor(model, optimizer, symmetries, path, every=2, strict=True, laws=["exact"]) as monitor:
        for step in range(1, 2 * rounds + 1):
            optimizer.zero_grad()
            monitor_passes.loss_fn(model, (torch.randn_like(inputs), targets)).backward()
            begun = time.perf_counter()
            optimizer.step()
            monitor.flush()
            times[step % 2 == 0].append(1e3 * (time.perf_counter() - begun))
            if step % 2 == 0:
                data = max(path.glob("*/records-*")).read_bytes()
                disk.append(safe(data, path.parent / f"alone-{step}"))
    return statistics.median(times[True][2:]) - statistics.median(times[False][2:]), statistics.median(disk), len(data)


def safe(data: bytes, path: Path) -> float:
    """Milliseconds until a file with these bytes is on the disk."""
    begun = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())
    return 1e3 * (time.perf_counter() - begun)


def kept(model: nn.Module, symmetries: nm.Symmetries) -> float:
    """What a monitor that writes to a folder keeps between steps, as a share of the parameters."""
    optimizer = monitor_cost.heavy_ball(model)
    with tempfile.TemporaryDirectory() as folder:
        gc.collect()
        before = {id(each) for each in gc.get_objects() if type(each) is Tensor}
        laws = {"laws": ["exact"], "strict": True}
        with nm.Monitor(model, optimizer, symmetries, Path(folder) / "run", every=_FAR, **laws):
            for _ in range(3):
                optimizer.step()
            return monitor_cost.beyond(model, optimizer, before)


def training(rounds: int) -> list[Bound]:
    """Shares of whole steps: VGG-16-BN at batch 64, and a network shaped as GPT-2 small at 512 tokens under AdamW."""
    model, _, symmetries = found("vgg16-bn")
    batch = torch.randn(64, 3, 64, 64), torch.randint(200, (64,))
    bounds = [share("vgg16-bn at batch 64", model, batch, monitor_passes.loss_fn, symmetries, "sgd", 0.5, rounds)]
    from transformers import GPT2Config, GPT2LMHeadModel

    del model
    gpt, words = GPT2LMHeadModel(GPT2Config()), torch.randint(50257, (1, 512))

    def language(model: nn.Module, batch: Tensor) -> Tensor:
        loss: Tensor = model(input_ids=batch, labels=batch).loss
        return loss

    known = nm.find_symmetries(gpt, words, language)
    bounds.append(share("GPT-2 small at 512 tokens, AdamW", gpt, words, language, known, "adamw", 5, rounds))
    return bounds


def share(
    name: str,
    model: nn.Module,
    batch: Any,
    loss_fn: Callable[[nn.Module, Any], Tensor],
    symmetries: nm.Symmetries,
    kind: str,
    most: float,
    rounds: int,
) -> Bound:
    """What the monitor adds to an optimiser's step, as a share of the whole step of training."""
    begun = time.perf_counter()
    for _ in range(2):
        begun = time.perf_counter()
        model.zero_grad()
        loss_fn(model, batch).backward()
    compute = 1e3 * (time.perf_counter() - begun)
    with contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"laws": ["exact"]} if kind == "sgd" else {}
        steps = {"bare": bare(kind, model), "law": followed(stack, model, symmetries, kind, options)}
        times = in_turns(steps, rounds, 2)
    cost, whole = more(times, "law", "bare"), compute + statistics.median(times["bare"])
    return Bound(name, 100 * cost / whole, most, "%", f"{cost:.1f} ms of {whole:,.0f}")


def growth(rounds: int) -> list[Bound]:
    """Linear in parameters from 1 to 200 million, flat in charges: worst ratios of neighbours."""
    sizes = [(int(1e6 * m), 1000) for m in (1, 4, 16, 64, 200)]
    grown = monitor_cost.table("As the model grows", sizes, rounds, others=False)
    split = monitor_cost.table("As charges grow", [(16_000_000, c) for c in (100, 1000, 10_000)], rounds, others=False)
    large = [(p, ms) for p, _, ms in grown if p >= 4_000_000]
    slopes = [(b[1] / a[1]) / (b[0] / a[0]) for a, b in itertools.pairwise(large)]
    flat = max(ms for _, _, ms in split) / min(ms for _, _, ms in split)
    return [
        Bound("growth of cost over growth of parameters", max(slopes), 1.25, "×"),
        Bound("cost of 10,000 charges over that of 100", flat, 1.5, "×"),
    ]


PARTS: dict[str, Callable[[int], list[Bound]]] = {
    "passes": passes,
    "plain": uncompiled,
    "small": small,
    "records": records,
    "training": training,
    "growth": growth,
}


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=(*PARTS, "alone"), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(given)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    if options.only == ["alone"]:
        alone(options.rounds)
        return 0
    print(f"{options.threads} threads, {'compiled' if monitor_passes.library() is not None else 'plain'}", flush=True)
    missed = 0
    for part in options.only:
        missed += sum(not bound.show() for bound in PARTS[part](options.rounds))
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
