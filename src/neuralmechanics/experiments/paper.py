"""The paper's experiments as grids of trainings, at three sizes.

`paper`: the published settings (theory 4): VGG-16 on Tiny ImageNet for 100 epochs; needs the data and a GPU.
`small`: the same grids with a small VGG on textures and digits; about an hour on two cores.
`smoke`: on digits alone with fewer points; minutes on two cores.

The small sizes train for far fewer steps, so their weight decays are ten times the published ones: what decides how far
a charge decays is η λ × steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from neuralmechanics.experiments.config import TrainConfig
from neuralmechanics.experiments.sweep.grid import Point, Sweep, expand

Scale = Literal["smoke", "small", "paper"]
Table = Mapping[str, Any]
Grid = tuple[Table, Mapping[str, Sequence[Any]]]


@dataclass(frozen=True)
class _Size:
    """What one scale puts in place of the paper's networks, data and lengths."""

    plain: str
    normed: str
    images: Table
    length: Table
    batch: int
    every: int
    decays: tuple[float, ...]
    rate_with_momentum: float
    decays_with_momentum: tuple[float, ...]
    momenta: tuple[float, ...]
    dampenings: tuple[float, ...]
    milestones: tuple[float, ...]
    charges: int | None = None

    def base(
        self, learning_rate: float, *, momentum: float = 0.0, batch: int | None = None, weights: bool = False
    ) -> dict[str, Any]:
        """The part of the configuration that all experiments share; `weights`: raw ones are recorded too."""
        return {
            **self.images,
            **self.length,
            "batch_size": batch or self.batch,
            "optimizer": {"learning_rate": learning_rate, "momentum": momentum},
            "record": {"every": self.every, "metrics": ["performance", *(["weights-subset"] if weights else [])]}
            | ({"subset": 16} if weights else {})
            | ({} if self.charges is None else {"charges": self.charges}),
        }


_SIZES: dict[str, _Size] = {
    "smoke": _Size(
        plain="vgg-small",
        normed="vgg-small-bn",
        images={"data": "digits"},
        length={"steps": 400},
        batch=64,
        every=5,
        decays=(0.0, 5e-3),
        rate_with_momentum=0.02,
        decays_with_momentum=(0.0, 2e-2),
        momenta=(0.9, 0.99),
        dampenings=(0.0, 0.01),
        milestones=(3.0, 6.0),
    ),
    "small": _Size(
        plain="vgg-small",
        normed="vgg-small-bn",
        images={"data": "textures", "images": {"size": 32, "train_limit": 8000, "test_limit": 1000}},
        length={"epochs": 8.0},
        batch=64,
        every=10,
        decays=(0.0, 1e-3, 5e-3, 1e-2),
        rate_with_momentum=0.01,
        decays_with_momentum=(0.0, 1e-3, 5e-3, 1e-2),
        momenta=(0.8, 0.9, 0.99),
        dampenings=(0.0, 0.01),
        milestones=(3.0, 6.0),
    ),
    "paper": _Size(
        plain="vgg16",
        normed="vgg16-bn",
        images={"data": "tiny-imagenet", "images": {"augment": True}, "initialisation": "paper"},
        length={"epochs": 100.0, "checkpoint_every": 2000},
        batch=256,
        every=50,
        decays=(0.0, 1e-4, 5e-4, 1e-3),
        rate_with_momentum=0.1,
        decays_with_momentum=(0.0, 1e-4, 5e-4, 1e-3),
        momenta=(0.8, 0.9, 0.99),
        dampenings=(0.0, 0.01),
        milestones=(30.0, 60.0),
        # VGG-16-BN has 17,000 charges: all of them at 800 records of each of 67 runs are 50 GB and more.
        charges=16,
    ),
}


def _fig1(size: _Size, scale: str) -> list[Grid]:
    return [
        (
            size.base(0.1, weights=True) | {"model": size.normed},
            {"optimizer.weight_decay": [1e-4 if scale == "paper" else 1e-3]},
        )
    ]


def _fig5(size: _Size, scale: str) -> list[Grid]:
    return [(size.base(0.1, weights=True), {"model": [size.plain, size.normed], "optimizer.weight_decay": size.decays})]


def _momentum(size: _Size, scale: str) -> list[Grid]:
    models = [size.normed] if scale == "smoke" else [size.plain, size.normed]
    grid = {
        "model": models,
        "optimizer.momentum": size.momenta,
        "optimizer.dampening": size.dampenings,
        "optimizer.weight_decay": size.decays_with_momentum,
    }
    return [(size.base(size.rate_with_momentum, batch=size.batch // 2), grid)]


def _phase(size: _Size, scale: str) -> list[Grid]:
    norms = size.base(0.01, momentum=0.9, batch=size.batch // 2) | {"model": size.normed}
    # As for λ: so many times fewer steps need a larger η to get anywhere.
    layers = size.base(0.001 if scale == "paper" else 0.02, momentum=0.9, batch=size.batch // 2) | {"model": "fc-bn"}
    if scale == "paper":
        norms |= {"data": "cifar100"}
        layers |= {"data": "mnist", "images": {}}
    else:
        layers |= {"data": "digits", "images": {}}
    decays = [0.0, 1e-2, 1e-1] if scale == "smoke" else [0.0, 1e-1, 1e-2, 1e-3, 1e-4]
    return [
        (norms, {"optimizer.weight_decay": [1e-4 if scale == "paper" else 1e-3]}),
        (layers, {"optimizer.weight_decay": decays}),
    ]


def _schedules(size: _Size, scale: str) -> list[Grid]:
    base = size.base(0.02, momentum=0.9, batch=size.batch // 2) | {"model": size.normed}
    base["optimizer"]["weight_decay"] = 1e-4 if scale == "paper" else 1e-3
    base["schedule"] = {"milestones": list(size.milestones)}
    return [(base, {"schedule.name": ["drops", "double-batch", "linear-scaling", "halve"]})]


_EXPERIMENTS: dict[str, Callable[[_Size, str], list[Grid]]] = {
    "fig1": _fig1,
    "fig5": _fig5,
    "momentum": _momentum,
    "performance": _fig5,
    "phase": _phase,
    "schedules": _schedules,
    "sums": _fig5,
}

PAPER_FIGURES = tuple(_EXPERIMENTS)

# Which families the paper shows, as parts of their names: last columns, filters of conv 2, conv 5 on conv 4.
SHOWN_FAMILIES = {"translation": ("head.weight",), "scale": ("conv2",), "rescale": ("conv4 → ", "conv5")}


# What tells the trainings of all figures apart; a training has the same name in whichever figure it is shown.
_NAMED = {
    "model": ("model",),
    "lr": ("optimizer", "learning_rate"),
    "momentum": ("optimizer", "momentum"),
    "dampening": ("optimizer", "dampening"),
    "weight_decay": ("optimizer", "weight_decay"),
    "schedule": ("schedule", "name"),
}


def paper_sweep(figure: str | Sequence[str], scale: Scale, out: str | Path) -> Sweep:
    """The trainings behind a figure, or several, at `scale`, in the folder `out`; what figures share is one point.

    >>> len(paper_sweep("momentum", "paper", "runs").points), len(paper_sweep("fig5", "paper", "runs").points)
    (48, 8)
    >>> len(paper_sweep(["fig1", "fig5", "performance", "sums"], "paper", "runs").points)
    8
    """
    points: dict[str, Point] = {}
    for name in [figure] if isinstance(figure, str) else figure:
        if name not in _EXPERIMENTS:
            raise ValueError(f"no trainings are known for figure {name!r}; known are {', '.join(PAPER_FIGURES)}")
        if scale not in _SIZES:
            raise ValueError(f"unknown scale {scale!r}; known are {', '.join(_SIZES)}")
        for base, grid in _EXPERIMENTS[name](_SIZES[scale], scale):
            for point in expand(base, {key: list(values) for key, values in grid.items()}):
                named = Point(_values(point.config), point.config)
                points[named.name] = named
    return Sweep(tuple(points.values()), Path(out), data_first=True)


def _values(config: TrainConfig) -> dict[str, Any]:
    return {key: reduce(getattr, path, config) for key, path in _NAMED.items()}
