"""Steps at which a training became another: settings that jump, parameters that freeze, resumes, what was warned of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuralmechanics.monitor.warning import Note

if TYPE_CHECKING:
    import xarray as xr

Vector = np.ndarray[Any, Any]
_SETTINGS = ("learning_rate", "weight_decay", "momentum")
# A jump is so many times what the setting does from record to record beside it, and such a part of its size.
_STEEPER, _SHARE = 4.0, 0.05


@dataclass(frozen=True)
class ChangePoint:
    """A recorded step by which something changed: what kind of thing, and the change in words."""

    step: int
    kind: str
    text: str


def change_points(
    data: xr.Dataset, notes: Sequence[Note] = (), segments: Sequence[Mapping[str, Any]] = ()
) -> list[ChangePoint]:
    """All changes in the order of their steps. A schedule that moves smoothly is none; a drop or a restart is one."""
    found = [*_jumps(data), *_freezing(data)]
    found += [ChangePoint(int(s["start_step"]), "resume", "the training was resumed") for s in segments[1:]]
    found += [ChangePoint(note.step, "warning", note.message) for note in notes]
    return sorted(found, key=lambda change: change.step)


def _jumps(data: xr.Dataset) -> Iterator[ChangePoint]:
    steps = data["step"].to_numpy()
    for name in _SETTINGS:
        if name not in data or data[name].dims != ("step", "charge"):
            continue
        values = data[name].to_numpy().astype(np.float64)
        seen: set[tuple[int, str]] = set()
        for course in np.unique(values, axis=1).T:
            for row in jumps(course):
                text = f"{name.replace('_', ' ')} {course[row - 1]:.4g} → {course[row]:.4g}"
                if (row, text) not in seen:
                    seen.add((row, text))
                    yield ChangePoint(int(steps[row]), name.replace("_", " "), text)


def jumps(course: Vector) -> list[int]:
    """The positions whose value is far from the one before, compared with what the course does beside them.

    >>> import numpy as np
    >>> jumps(np.array([0.1, 0.1, 0.1, 0.01, 0.01])), jumps(np.linspace(0.1, 0.01, 20))
    ([3], [])
    """
    moved = np.abs(np.diff(course))
    before, after = np.r_[np.nan, moved[:-1]], np.r_[moved[1:], np.nan]
    beside = np.fmax(np.fmax(before, after), 0.0)
    size = np.maximum(np.abs(course[1:]), np.abs(course[:-1]))
    with np.errstate(invalid="ignore"):
        there = (moved > _STEEPER * np.nan_to_num(beside)) & (moved > _SHARE * size)
    return [int(k) + 1 for k in np.flatnonzero(there)]


def _freezing(data: xr.Dataset) -> Iterator[ChangePoint]:
    """Where charges stop being moved, and where they move again; a family at a time."""
    if "active" not in data or data["active"].dims != ("step", "charge"):
        return
    active, steps = data["active"].to_numpy().astype(np.float64), data["step"].to_numpy()
    # Before its first step nothing is known of a charge.
    was, now = active[:-1], active[1:]
    families = data["family"].to_numpy().astype(str)
    for changed, word in (((was == 1) & (now == 0), "frozen"), ((was == 0) & (now == 1), "moving again")):
        for row in np.flatnonzero(changed.any(axis=1)):
            names = list(dict.fromkeys(families[changed[row]].tolist()))
            more = f" and {len(names) - 1} more families" if len(names) > 1 else ""
            yield ChangePoint(int(steps[row + 1]), "freezing", f"{word}: {names[0]}{more}")
