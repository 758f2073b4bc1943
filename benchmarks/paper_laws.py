"""Errors of the laws on the paper's networks, and of the exact law where closed forms fail.

    python benchmarks/paper_laws.py vgg  [--steps 150] [--batch-size 32] [--out runs/paper_laws]
    python benchmarks/paper_laws.py long [--steps 20000]
    python benchmarks/paper_laws.py throughput [--steps 4] [--batch-size 32] [--models vgg16 vgg16-bn]

`vgg`: VGG-16 without and with batch norm on textures (64×64, 200 classes), λ ∈ {0, 1e-3}, β ∈ {0, .9}: column sums
of the last layer, norms of conv 2, conv 5 against conv 4; runs that exist are not made again. `long`: a small network
through a learning-rate drop, dampening .5, Nesterov, and 20,000 steps at β = .99, λ = 5e-4; with batch norm once with
torch's eps and once with 1e-12, and the exact law also with the residual that the formula of eps gives. Errors are the
largest over charges and records, relative to the initial charge. `throughput`: milliseconds of a training step on
textures with and without a monitor, blocks of steps in turn so that a busy machine slows all alike (medians; on a CPU
processor time, on a GPU the time that passes).
"""

from __future__ import annotations

import argparse
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from torch import nn

from neuralmechanics.experiments import (
    ImageConfig,
    OptimizerConfig,
    RecordConfig,
    ScheduleConfig,
    TrainConfig,
    build_model,
    cross_entropy,
    eps_errors,
    load_data,
    train,
)
from neuralmechanics.experiments.data import Batches
from neuralmechanics.experiments.sweep import Point
from neuralmechanics.experiments.training.runfolder import RESULT, read_json
from neuralmechanics.monitor import Monitor, open_run
from neuralmechanics.symmetry import find_symmetries

FAMILIES = {
    "translation": ("classifier.head.weight",),
    "scale": ("features.conv2",),
    "rescale": ("features.conv4 → features.conv5", "features.norm4 → features.conv5"),
}
LAWS = ["first_order", "exact", "identity", "modified_flow", "gradient_flow"]


def main() -> None:
    """Measure one part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("part", choices=("vgg", "long", "throughput"))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--models", nargs="+", default=["vgg16", "vgg16-bn"])
    parser.add_argument("--decays", nargs="+", type=float, default=[0.0, 1e-3])
    parser.add_argument("--momenta", nargs="+", type=float, default=[0.0, 0.9])
    parser.add_argument("--out", type=Path, default=Path("runs/paper_laws"))
    given = parser.parse_args()
    table = {"vgg": vgg, "long": long, "throughput": throughput}[given.part](given)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3g}" if value > 1 else f"{value:.2e}"))


def vgg(given: argparse.Namespace) -> pd.DataFrame:
    """One row a model, λ, β and shown family; one column a law."""
    rows = []
    for model in given.models:
        for decay in given.decays:
            for momentum in given.momenta:
                config = TrainConfig(
                    model=model,
                    data="textures",
                    steps=given.steps or 150,
                    batch_size=given.batch_size,
                    initialisation="paper",
                    optimizer=OptimizerConfig(
                        learning_rate=0.1 if momentum == 0 else 0.01, momentum=momentum, weight_decay=decay
                    ),
                    record=RecordConfig(every=5, residuals=True, metrics=()),
                )
                settings = {"model": model, "weight_decay": decay, "momentum": momentum}
                rows += [settings | row for row in _measure(config, given.out)]
    return pd.DataFrame(rows)


def long(given: argparse.Namespace) -> pd.DataFrame:
    """One row a setting, network, eps and kind; one column a law."""
    drop = ScheduleConfig("drops", milestones=(15.0,))
    settings = {
        "drop": (OptimizerConfig(learning_rate=0.05, momentum=0.9, weight_decay=1e-3), drop, 2000),
        "dampening .5": (
            OptimizerConfig(learning_rate=0.05, momentum=0.9, dampening=0.5, weight_decay=1e-3),
            ScheduleConfig(),
            2000,
        ),
        "nesterov": (
            OptimizerConfig(learning_rate=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
            ScheduleConfig(),
            2000,
        ),
        "β=.99 λ=5e-4": (
            OptimizerConfig(learning_rate=0.01, momentum=0.99, weight_decay=5e-4),
            ScheduleConfig(),
            given.steps or 20_000,
        ),
    }
    rows = []
    for name, (optimizer, schedule, steps) in settings.items():
        for model, eps in (("mlp", None), ("mlp-bn", None), ("mlp-bn", 1e-12)):
            config = TrainConfig(
                model=model, steps=steps, batch_size=64, precision="float64", optimizer=optimizer, schedule=schedule
            )
            about = {"setting": name, "model": model, "eps": "" if model == "mlp" else f"{eps or 1e-5:g}"}
            rows += [about | row for row in eps_errors(config, norm_eps=eps).to_dict("records")]
            print(f"# {name}, {model}, eps {about['eps']}: done", flush=True)
    return pd.DataFrame(rows)


def throughput(given: argparse.Namespace, blocks: int = 5) -> pd.DataFrame:
    """One row a network, one column what is recorded at every step; the last column the cost of all laws."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    steps = given.steps or (50 if device == "cuda" else 4)
    recorded: dict[str, dict[str, Any] | None] = {"bare": None, "exact": {"laws": ["exact"]}, "all laws": {}}
    data = load_data("textures", ImageConfig(train_limit=2 * given.batch_size, test_limit=8))
    batches = Batches(data, seed=0, augment=False, device=torch.device(device), dtype=torch.float32)
    batch = batches.probe(given.batch_size)
    rows = []
    for name in given.models:
        model = build_model(name, input_shape=data.input_shape, classes=data.classes, initialisation="paper")
        model = model.to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
        symmetries = find_symmetries(model, batch, cross_entropy)
        times: dict[str, list[float]] = {setting: [] for setting in recorded}
        for block in range(blocks + 1):
            for setting, options in recorded.items():
                monitor = nullcontext() if options is None else Monitor(model, optimizer, symmetries, None, **options)
                with monitor:
                    _block(model, optimizer, batch, 1)
                    seconds = _block(model, optimizer, batch, steps)
                if block:  # the first round warms caches
                    times[setting].append(1e3 * seconds)
        row: dict[str, object] = {"model": name, "device": device, "batch": given.batch_size}
        medians = {setting: median(found) for setting, found in times.items()}
        row |= {f"{setting} ms": found for setting, found in medians.items()}
        rows.append(row | {"cost %": 100 * (medians["all laws"] / medians["bare"] - 1)})
    return pd.DataFrame(rows)


def _block(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, steps: int) -> float:
    """Seconds a training step."""
    on_gpu = batch[0].is_cuda
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    began = clock()
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model, batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    if on_gpu:
        torch.cuda.synchronize()
    return (clock() - began) / steps


def _measure(config: TrainConfig, out: Path) -> list[dict[str, object]]:
    folder = out / Point({"model": config.model}, config).name
    if not (folder / RESULT).is_file():
        began = time.perf_counter()
        train(config, folder)
        print(f"# {folder.name}: {time.perf_counter() - began:.0f} s", flush=True)
    errors = open_run(folder).errors()
    rows = []
    for kind, wanted in FAMILIES.items():
        chosen = errors[errors["kind"] == kind]
        chosen = chosen[chosen["family"].str.endswith(wanted)]
        for family, part in chosen.groupby("family"):
            found = dict(zip(part["law"], part["max_error"], strict=True))
            rows.append(
                {"kind": kind, "family": family, "charges": part["charges"].iloc[0]}
                | {law: found.get(law, float("nan")) for law in LAWS}
                | {"loss": read_json(folder / RESULT)["loss"]}
            )
    return rows


if __name__ == "__main__":
    main()
