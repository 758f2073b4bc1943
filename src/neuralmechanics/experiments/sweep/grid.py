"""A grid of trainings: a base configuration and, for some of its keys, the values to try in every combination."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from zlib import crc32

from neuralmechanics.configuration.build import config_from_dict, config_to_dict, unknown_key
from neuralmechanics.configuration.read_toml import read_toml
from neuralmechanics.experiments.config import TrainConfig

_KEYS = ("base", "grid", "out")
_MOST_POINTS = 100_000


@dataclass(frozen=True)
class Point:
    """One training of a sweep: the grid's values there, its configuration, its folder's name."""

    values: Mapping[str, Any]
    config: TrainConfig

    @property
    def name(self) -> str:
        """Readable and stable: it depends on this point alone, so a grid may grow around it."""
        text = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.values.items())
        short = re.sub(r"[^\w.,=+-]+", "_", text)[:80]
        content = json.dumps(config_to_dict(self.config), sort_keys=True)
        return f"{short or 'base'}-{crc32(content.encode()):08x}"


@dataclass(frozen=True)
class Sweep:
    """The points of a sweep and the folder that holds their runs."""

    points: tuple[Point, ...]
    out: Path
    data_first: bool = False
    """load every data set before the first training: a missing one ends the sweep, and no two workers decode it"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))  # the name of a folder is a folder

    def folder(self, point: Point) -> Path:
        """Where the run of `point` lies."""
        return self.out / point.name


def expand(base: Mapping[str, Any], grid: Mapping[str, Sequence[Any]]) -> tuple[Point, ...]:
    """Every combination of the grid's values over `base`; keys are dotted paths of `TrainConfig`.

    >>> points = expand({"model": "mlp"}, {"optimizer.momentum": [0.0, 0.9], "seed": [0, 1, 2]})
    >>> len(points), points[-1].config.optimizer.momentum, points[-1].config.seed
    (6, 0.9, 2)
    """
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"grid.{key} must be a list of the values to try, got {values!r}")
    size = prod(len(values) for values in grid.values())
    if size > _MOST_POINTS:
        raise ValueError(f"the grid has {size} points; a sweep has at most {_MOST_POINTS}")
    points = []
    for combination in itertools.product(*grid.values()):
        chosen = dict(zip(grid, combination, strict=True))
        # A deep copy: no two points share a table.
        content = json.loads(json.dumps(dict(base)))
        for key, value in chosen.items():
            _set(content, key, value)
        points.append(Point(chosen, config_from_dict(content, TrainConfig)))
    names = [point.name for point in points]
    if len(set(names)) < len(names):
        raise ValueError("the grid holds the same training twice; give each value once")
    return tuple(points)


def load_sweep(path: str | Path, out: str | Path | None = None) -> Sweep:
    """The sweep in a TOML file with tables `base` and `grid`; its folder is `out`, the file's `out`, or runs/<name>."""
    content = read_toml(path)
    for key in content:
        if key not in _KEYS:
            raise ValueError(unknown_key(key, list(_KEYS)))
    for key in ("base", "grid"):
        if not isinstance(content.get(key, {}), dict):
            raise ValueError(f"{key} must be a table, got {content[key]!r}")
    if not content.get("grid"):
        raise ValueError(
            f"{str(path)!r} has no [grid]: a table of keys with lists of values, as optimizer.momentum = [0, 0.9]"
        )
    if not isinstance(content.get("out", ""), str):
        raise ValueError(f"out must be the name of a folder, got {content['out']!r}")
    folder = out or content.get("out") or Path("runs") / Path(path).stem
    return Sweep(expand(content.get("base", {}), dict(_flat(content["grid"]))), Path(folder))


def _flat(tables: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tables.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise ValueError(f"grid key {key!r} goes through {table!r}, which is no table")
    content[last] = value
