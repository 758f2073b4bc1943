"""The path of a scale-free norm under the optimiser's motion, with its interval, and the rotation that goes with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from neuralmechanics.laws.equilibrium import Response, norm_after
from neuralmechanics.monitor.explaining.forecasting.learning import Learned, remembered
from neuralmechanics.monitor.explaining.forecasting.optimiser import Motion
from neuralmechanics.monitor.explaining.forecasting.settings import Ahead

__all__ = ["BANDS", "WIDTH", "bands_of", "path_of", "rotation"]

# Two standard errors: an interval that holds in 19 of 20 cases, where the errors are what they were in the past.
WIDTH = 2.0
_LEFT_OUT = 0.005  # of a norm: what slow steps and a constant momentum leave out, measured
BANDS = {"norm": 0.0, "low": -WIDTH, "high": WIDTH}


def bands_of(
    motion: Motion, known: Learned, future: Ahead, surprise: np.ndarray[Any, Any] | None
) -> dict[str, np.ndarray[Any, Any]]:
    """The path with its interval: the scatter of what was learned, and beside it what a forecast missed in the past."""
    bands = {name: path_of(motion, known, future, width) for name, width in BANDS.items()}
    if surprise is not None:
        missed = WIDTH * surprise * np.log2(future.steps / max(known.step, 1))[:, None]
        for name, sign in (("low", -1), ("high", 1)):
            own = np.log(bands[name] / bands["norm"])
            bands[name] = bands["norm"] * np.exp(sign * np.hypot(own, missed))
    return bands


def path_of(motion: Motion, known: Learned, future: Ahead, deviation: float) -> np.ndarray[Any, Any]:
    growth = known.at(future.steps.astype(float), deviation, future.factor)
    n, recent, rows = known.squared, known.recent, []
    before, η = known.step, known.rate_at
    for step, total, square, strength in zip(future.steps, future.sums, future.squares, growth, strict=True):
        if motion.second:
            recent = remembered(recent, 1 / n, float(step - before), motion.second, float(before))
            strength = strength / (n * recent)
        with np.errstate(invalid="ignore"):
            n = norm_after(n, known.decay * η * total, η**2 * square * strength, motion.response)
        # Steps that were seen to shorten a norm cannot go on so for ever: from where none is left nothing is known.
        n = np.where(n > 0, n, np.nan)
        rows.append(np.sqrt(n))
        before = int(step)
    path: np.ndarray[Any, Any] = np.stack(rows) * (1 + np.sign(deviation) * _LEFT_OUT)
    return path


def rotation(response: Response, energy: np.ndarray[Any, Any], squared: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """√(|d|²/n) from η²K."""
    power = {"gradient": 2, "normalised": 1, "proportional": 0}[response]
    with np.errstate(invalid="ignore", divide="ignore"):
        angle: np.ndarray[Any, Any] = np.sqrt(energy / squared**power)
    return angle
