"""Frozen configurations from TOML and plain dictionaries: every key known, every value of its declared type."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from neuralmechanics.configuration.former_names import in_todays_words
from neuralmechanics.configuration.read_toml import read_toml

T = TypeVar("T")

_MOST = (1 << 63) - 1
_LONGEST = 80


def load_config(path: str | Path, kind: type[T]) -> T:
    """Read one configuration of type `kind` from a TOML file.

    Raises `ValueError` in one line for a file that is missing or not TOML, an unknown key (with the nearest known
    one), a value of a wrong type, and whatever the configuration itself refuses.
    """
    return config_from_dict(read_toml(path), kind)


def config_from_dict(values: Mapping[str, Any], kind: type[T], prefix: str = "") -> T:
    """Build `kind` from nested dictionaries; the keys in error messages are dotted paths.

    >>> from neuralmechanics.optimizers import OptimizerConfig
    >>> config_from_dict({"learning_rate": 1}, OptimizerConfig).learning_rate
    1.0
    >>> config_from_dict({"learning_rat": 1}, OptimizerConfig)
    Traceback (most recent call last):
    ValueError: unknown configuration key 'learning_rat'; the nearest known key is 'learning_rate'
    """
    if not prefix:
        values = in_todays_words(values)
    hints = typing.get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ValueError(unknown_key(prefix + key, [prefix + name for name in known]))
    for name, item in known.items():
        if name not in values and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"the configuration lacks {prefix + name!r}, which has no default")
    return kind(**{key: _convert(value, hints[key], prefix + key) for key, value in values.items()})


def require_types(config: Any, prefix: str = "") -> None:
    """Refuse a configuration made in Python of which a value has another type than its field, in the words of a file.

    What a file could say is taken: a list for a tuple, a whole number for a float; and numbers of numpy.
    """
    hints = typing.get_type_hints(type(config))
    for item in fields(config):
        value, hint, key = getattr(config, item.name), hints[item.name], prefix + item.name
        if not (isinstance(hint, type) and is_dataclass(hint)):
            _convert(value.item() if isinstance(value, np.generic) else value, hint, key)
        elif not isinstance(value, hint):
            raise ValueError(f"{key} must be of type {hint.__name__}, got {_shown(value)}")


def unknown_key(key: str, known: list[str]) -> str:
    """The one-line message for a key nobody knows."""
    nearest = difflib.get_close_matches(key[:_LONGEST], known, n=1, cutoff=0.0)
    return f"unknown configuration key {_shown(key)}; the nearest known key is {nearest[0]!r}"


def config_to_dict(config: Any) -> dict[str, Any]:
    """Nested plain values of a configuration, ready for JSON; `config_from_dict` inverts it.

    >>> from neuralmechanics.optimizers import OptimizerConfig
    >>> config_from_dict(config_to_dict(OptimizerConfig()), OptimizerConfig) == OptimizerConfig()
    True
    """
    return typing.cast(dict[str, Any], _plain(asdict(config)))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _convert(value: Any, hint: Any, key: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return None if value is None else _convert(value, options[0], key)
    if origin is typing.Literal:
        return _choice(value, typing.get_args(hint), key)
    if origin is tuple:
        return _tuple(value, typing.get_args(hint), key)
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} must be a table, got {_shown(value)}")
        return config_from_dict(value, typing.cast(type[Any], hint), key + ".")
    # TOML tells 1 from 1.0; who writes a learning rate of 1 does not.
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(bounded(key, value))
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ValueError(f"{key} must be of type {hint.__name__}, got {_shown(value)}")
    return bounded(key, value) if hint is int else value


def bounded(key: str, value: int) -> int:
    """The number, if torch can take it; `ValueError` beyond 64 bits."""
    if not -_MOST <= value <= _MOST:
        raise ValueError(f"{key} must lie within ±2^63, got a number of {len(hex(abs(value))) - 2} hexadecimal digits")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _choice(value: Any, choices: tuple[Any, ...], key: str) -> Any:
    if value not in choices:
        raise ValueError(f"{key} must be one of {', '.join(map(str, choices))}, got {_shown(value)}")
    return value


def _tuple(value: Any, hints: tuple[Any, ...], key: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{key} must be a list, got {_shown(value)}")
    if hints[-1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if len(hints) != len(value):
        raise ValueError(f"{key} must have {len(hints)} entries, got {_shown(value)}")
    return tuple(_convert(item, hint, key) for item, hint in zip(value, hints, strict=True))
