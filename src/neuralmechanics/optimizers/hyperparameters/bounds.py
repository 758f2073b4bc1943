"""The ranges that hyperparameters lie in; a number outside is refused under its own name."""

from __future__ import annotations

from math import isfinite

__all__ = [
    "require_fraction",
    "require_nonnegative",
    "require_number",
    "require_positive",
    "require_rmsprop",
    "require_whole",
]


def require_number(name: str, value: object) -> None:
    """Refuse what is no real number: a text, a list, a truth value, a tensor of several entries."""
    one = hasattr(value, "__float__") and not isinstance(value, bool) and not getattr(value, "shape", ())
    if not one:
        raise TypeError(f"{name} is {value!r}, a {type(value).__name__}; give one number")


def require_whole(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least `least`."""
    require_number(name, value)
    number = float(value)  # type: ignore[arg-type]
    if not (number.is_integer() and number >= least):
        raise ValueError(f"{name} is {value}, expected a whole number, {least} or more")


def require_positive(name: str, value: float) -> None:
    """Refuse anything but a finite number above 0."""
    require_number(name, value)
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, expected a finite number above 0")


def require_nonnegative(name: str, value: float) -> None:
    """Refuse anything but a finite number of at least 0."""
    require_number(name, value)
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"{name} is {value}, expected a finite number, 0 or more")


def require_fraction(name: str, value: float) -> None:
    """Refuse anything outside [0, 1)."""
    require_number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected 0 <= {name} < 1")


def require_rmsprop(learning_rate: float, smoothing: float, eps: float, weight_decay: float) -> None:
    """Refuse what RMSprop cannot have: rates that are not above 0, an average that forgets nothing, a negative eps."""
    require_positive("learning_rate", learning_rate)
    require_positive("smoothing", smoothing)
    require_fraction("smoothing", smoothing)
    require_nonnegative("eps", eps)
    require_nonnegative("weight_decay", weight_decay)
