"""The ranges that hyperparameters lie in; a number outside is refused under its own name."""

from __future__ import annotations

from math import isfinite

__all__ = ["require_fraction", "require_nonnegative", "require_positive", "require_rmsprop"]


def require_positive(name: str, value: float) -> None:
    """Refuse anything but a finite number above 0."""
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a finite number above 0")


def require_nonnegative(name: str, value: float) -> None:
    """Refuse anything but a finite number of at least 0."""
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}, expected a finite number, 0 or more")


def require_fraction(name: str, value: float) -> None:
    """Refuse anything outside [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 <= {name} < 1")


def require_rmsprop(learning_rate: float, smoothing: float, eps: float, weight_decay: float) -> None:
    """Refuse what RMSprop cannot have: rates that are not above 0, an average that forgets nothing, a negative eps."""
    require_positive("learning_rate", learning_rate)
    require_positive("smoothing", smoothing)
    require_fraction("smoothing", smoothing)
    require_nonnegative("eps", eps)
    require_nonnegative("weight_decay", weight_decay)
