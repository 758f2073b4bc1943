"""What is measured beside the charges: norms, raw weights, phase space, gradients, curvature (the reference's metrics).

Each record is one file `metrics/step-<step>.safetensors` of named arrays, published by rename; the step counts updates
already made, so gradients and curvature are those of the parameters at that step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neuralmechanics.experiments.config import RecordConfig
from neuralmechanics.experiments.measuring.curvature import top_eigenvalues
from neuralmechanics.experiments.measuring.evaluation import Performance
from neuralmechanics.experiments.seeds import generator
from neuralmechanics.files import read_regular
from neuralmechanics.monitor.store.atomic import make_folder, publish

if TYPE_CHECKING:
    import xarray
    from torch import Tensor, nn

_RECORD_BYTES = 4 << 30
# How many elements of each parameter, one after another, make up the metric weights-subset.
OWNERS = "weights-subset/parameter"


class Metrics:
    """Collects the metrics of `config` for one run; `before` and `after` enclose the optimiser's step."""

    def __init__(self, folder: Path | None, config: RecordConfig, model: nn.Module, seed: int) -> None:
        self._folder = folder
        self._config = config
        self._wanted = frozenset(config.metrics) if folder is not None else frozenset()
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._chosen = {
            # Drawn from seed and name: the same elements whatever else is measured.
            name: torch.randperm(p.numel(), generator=generator(seed, "subset", name))[: config.subset].sort().values
            for name, p in self._parameters.items()
        }
        self._record: dict[str, Tensor] = {}
        self._position: Tensor | None = None

    def before(self, step: int, loss: Callable[[], Tensor]) -> None:
        """Measure what needs the gradients and parameters that the coming update uses; `loss` recomputes the loss."""
        self._record, self._position = {}, None
        if step % self._config.every or not self._wanted - {"performance"}:
            return
        if "gradient-norm" in self._wanted:
            self._record["gradient-norm"] = torch.stack([_gradient(p).norm() for p in self._parameters.values()])
        if "weights-subset" in self._wanted:
            self._record["weights-subset"] = self._subset()
        if "phase-space" in self._wanted:
            self._position = self._subset()
        for name, parameter in self._parameters.items():
            if "weights" in self._wanted:
                self._record[f"weights/{name}"] = parameter.detach().clone()
            if "gradients" in self._wanted:
                self._record[f"gradients/{name}"] = _gradient(parameter).clone()
        if "hessian" in self._wanted:
            self._record["hessian"] = top_eigenvalues(loss, list(self._parameters.values()), self._config.eigenvalues)

    def after(self, step: int, time_step: float) -> None:
        """Measure what needs the updated parameters, and write the record begun at `step`; h = `time_step`."""
        if self._position is not None:
            self._record["phase-space/position"] = self._position
            self._record["phase-space/velocity"] = (self._subset() - self._position) / time_step
        self._write(step)

    def performance(self, step: int, performance: Performance) -> None:
        """Write an evaluation made after `step` updates."""
        if "performance" in self._wanted:
            values = {"loss": performance.loss, "top1": performance.top1, "top5": performance.top5}
            self._record = {f"performance/{k}": torch.tensor(v, dtype=torch.float64) for k, v in values.items()}
            self._write(step, kind="performance")

    def _subset(self) -> Tensor:
        parts = [p.detach().flatten()[self._chosen[n].to(p.device)] for n, p in self._parameters.items()]
        return torch.cat(parts).double()

    def _write(self, step: int, kind: str = "step") -> None:
        if not self._record or self._folder is None:
            return
        from safetensors.torch import save

        make_folder(self._folder)
        arrays = {name: value.cpu().contiguous() for name, value in self._record.items()}
        owners = {OWNERS: json.dumps({name: len(chosen) for name, chosen in self._chosen.items()})}
        metadata = owners if "weights-subset" in arrays else None
        publish(self._folder / f"{kind}-{step:09d}.safetensors", save(arrays, metadata))
        self._record = {}


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()


def open_metrics(run: str | Path) -> xarray.Dataset:
    """All metric records of the run at `run`: one variable a metric, with its own step coordinate.

    Variables are named as the metrics (`gradient-norm`, `performance/top1`, `phase-space/velocity` …); those
    measured at updates have the dimension `step`, evaluations `evaluation`. Raises `ValueError` when there are none.
    """
    import xarray

    folder = Path(run) / "metrics"
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {}
    for kind, dimension in (("step", "step"), ("performance", "evaluation")):
        paths = sorted(folder.glob(f"{kind}-*.safetensors"))
        records = [_read(path) for path in paths]
        if records:
            coordinates[dimension] = [_step(path) for path in paths]
        for name in records[0] if records else ():
            stack = _stacked(paths, records, name)
            variables[name] = ((dimension, *(f"{name}[{axis}]" for axis in range(stack.ndim - 1))), stack)
    if "weights-subset" in variables and (owners := _owners(sorted(folder.glob("step-*.safetensors"))[0])):
        coordinates[OWNERS] = (variables["weights-subset"][0][1], owners)
    if not variables:
        raise ValueError(f"{str(run)!r} holds no metrics; train with record.metrics")
    return xarray.Dataset(variables, coordinates)


def _owners(path: Path) -> list[str]:
    """The parameter of each element of weights-subset; none where the file does not say."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            count = len(file.get_tensor("weights-subset"))
            counts = json.loads((file.metadata() or {}).get(OWNERS, "{}"))
        # No more than there are elements: a damaged count must not fill the memory.
        owners = [str(name) for name, number in counts.items() for _ in range(min(int(number), count + 1))]
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"metrics file {str(path)!r} is damaged: {error}; remove it to read the others") from None
    return owners if len(owners) == count else []


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        record: dict[str, Tensor] = load(read_regular(path, _RECORD_BYTES))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"metrics file {str(path)!r} is damaged: {error}; remove it to read the others") from None
    return record


def _step(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f"metrics file {str(path)!r} names no step; remove it")
    return int(digits)


def _stacked(paths: list[Path], records: list[dict[str, Tensor]], name: str) -> Any:
    for path, record in zip(paths, records, strict=True):
        if name not in record or record[name].shape != records[0][name].shape:
            raise ValueError(f"metrics file {str(path)!r} does not hold {name!r} as {paths[0].name} does; remove it")
    return torch.stack([record[name] for record in records]).numpy()
