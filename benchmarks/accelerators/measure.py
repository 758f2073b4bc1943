"""What following a training costs on an accelerator, and how exactly its laws hold there.

    python benchmarks/accelerators/measure.py cost   [--models vgg16 vgg16-bn] [--batch 256] [--out accelerator.json]
    python benchmarks/accelerators/measure.py errors [--training-steps 3000] [--momentum .9] [--learning-rate .1]

`cost`: milliseconds of a training step at 64×64 pixels with and without a monitor, in blocks of steps in turn, the
median over the blocks, by the clock with the device waited for at the ends of a block; heavy ball and AdamW, in float32
and under bfloat16 autocast, records between the blocks alone. Then the milliseconds of one record, and whether a step
between records made the processor wait for the device. `errors`: VGG-16-BN on
crops of photographs (`photographs.py`) under the paper's heavy ball, and the error of every law by kind and by layer.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig, build_model, train
from neuralmechanics.monitor import open_run

Batch = tuple[Tensor, Tensor]
SETTINGS: dict[str, dict[str, Any]] = {
    "exact law": {"laws": ["exact"]},
    "all laws": {},
    "all laws, residuals": {"residuals": True},
}
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "heavy ball": lambda ps: torch.optim.SGD(ps, lr=1e-4, momentum=0.9, weight_decay=5e-4),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=1e-5, weight_decay=0.1),
}


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


class Trained:
    """A network with its optimiser, followed or not, and its steps."""

    def __init__(self, name: str, kind: str, precision: str, batch: Batch) -> None:
        torch.manual_seed(0)
        self._batch, self._half = batch, precision == "bfloat16"
        self.model = build_model(name, input_shape=(3, 64, 64), classes=200).to(batch[0].device)
        self.optimizer = OPTIMIZERS[kind](self.model.parameters())

    def step(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16) if self._half else nullcontext():
            loss = loss_fn(self.model, self._batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def milliseconds(self, steps: int) -> float:
        """Of a step, by the clock."""
        torch.cuda.synchronize()
        begun = time.perf_counter()
        for _ in range(steps):
            self.step()
        torch.cuda.synchronize()
        return 1e3 * (time.perf_counter() - begun) / steps

    def waits(self, steps: int) -> int:
        """How often the processor was made to wait for the device within so many steps."""
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            for _ in range(steps):
                self.step()
            torch.cuda.set_sync_debug_mode("default")
        return sum("called a synchronizing" in str(warning.message) for warning in seen)


def cost(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a network, optimiser, precision and setting."""
    batch = torch.randn(options.batch, 3, 64, 64, device="cuda"), torch.randint(200, (options.batch,), device="cuda")
    rows = []
    for name in options.models:
        symmetries = None
        for kind in OPTIMIZERS:
            for precision in ("float32", "bfloat16"):
                bare = Trained(name, kind, precision, batch)
                if symmetries is None:
                    begun = time.perf_counter()
                    symmetries = nm.find_symmetries(bare.model, batch, loss_fn)
                    print(
                        f"# {name}: {symmetries.charges:,} charges in {time.perf_counter() - begun:.1f} s", flush=True
                    )
                rows += compared(bare, name, kind, precision, batch, symmetries, options)
                torch.cuda.empty_cache()
    return rows


def compared(
    bare: Trained, name: str, kind: str, precision: str, batch: Batch, symmetries: nm.Symmetries, options: Any
) -> list[dict[str, Any]]:
    """Every setting in turn with a training that nobody follows."""
    params = list(bare.model.parameters())
    with ExitStack() as stack:
        followed, monitors = {}, {}
        for setting, chosen in SETTINGS.items():
            if kind != "heavy ball" and "laws" in chosen:
                continue  # that law is of SGD
            followed[setting] = made = Trained(name, kind, precision, batch)
            monitors[setting] = stack.enter_context(
                nm.Monitor(made.model, made.optimizer, symmetries, every=10**9, strict=True, **chosen)
            )
        for each in (bare, *followed.values()):
            each.milliseconds(5)
        times: dict[str, list[float]] = {setting: [] for setting in ("bare", *followed)}
        for _ in range(options.blocks):
            for setting, each in {"bare": bare, **followed}.items():
                times[setting].append(each.milliseconds(options.steps))
        one = _pass(params)
        base = statistics.median(times["bare"])
        rows = []
        for setting, each in followed.items():
            more = statistics.median(a - b for a, b in zip(times[setting], times["bare"], strict=True))
            record = _milliseconds(monitors[setting].state_dict)
            rows.append(
                {"model": name, "optimizer": kind, "precision": precision, "batch": len(batch[0]), "setting": setting}
                | {"step_ms": base, "monitor_ms": more, "share": more / base, "pass_ms": one, "record_ms": record}
                | {"waits": each.waits(5)}
            )
            print(json.dumps(rows[-1]), flush=True)
        return rows


def _pass(params: list[nn.Parameter]) -> float:
    return _milliseconds(lambda: torch._foreach_norm(params))


def _milliseconds(work: Callable[[], object], repeats: int = 5) -> float:
    work()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - begun) / repeats


def errors(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a precision, family and law; the losses of the training beside them."""
    rows = []
    for precision in options.precisions:
        config = TrainConfig(
            model="vgg16-bn",
            data="photographs:photographs",
            steps=options.training_steps,
            batch_size=options.batch,
            device="cuda",
            precision=precision,
            initialisation="paper",
            optimizer=OptimizerConfig(
                learning_rate=options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
            ),
            record=RecordConfig(every=max(1, options.training_steps // 100)),
        )
        folder = options.folder / precision
        begun = time.perf_counter()
        result = train(config, folder)
        seconds = time.perf_counter() - begun
        run = open_run(folder)
        losses = run.scalars["loss"].dropna().to_numpy()
        print(f"# {precision}: {seconds:.0f} s, {result.performance}", flush=True)
        print(f"# losses {losses[:3]} … {losses[-3:]}", flush=True)
        print(run.errors(by="kind").to_string(), flush=True)
        print(*(note.message for note in run.warnings), sep="\n", flush=True)
        about = {"precision": precision, "seconds": seconds, "performance": asdict(result.performance)}
        table = json.loads(run.errors().to_json(orient="records"))
        rows.append(about | {"losses": [float(x) for x in losses], "errors": table})
    return rows


def _setting(options: argparse.Namespace) -> dict[str, Any]:
    names = ("batch", "learning_rate", "momentum", "weight_decay")
    return {name: getattr(options, name) for name in names} | {
        "steps": options.training_steps,
        "examples": "20,000 crops of the two photographs that scikit-learn ships, told apart by their 200 places",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("cost", "errors"))
    parser.add_argument("--models", nargs="+", default=["vgg16", "vgg16-bn"])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--blocks", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("accelerator.json"))
    parser.add_argument("--training-steps", type=int, default=3000)
    parser.add_argument("--learning-rate", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--folder", type=Path, default=Path("runs/accelerator"))
    options = parser.parse_args()
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    print(f"# {torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    rows = {"cost": cost, "errors": errors}[options.part](options)
    about = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version()}
    found = {"about": about, "part": options.part, "setting": _setting(options), "rows": rows}
    options.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
