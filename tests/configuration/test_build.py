"""Frozen values from dictionaries: types, required settings, and the way back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pytest

from neuralmechanics.configuration.build import config_from_dict, config_to_dict


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = ()
    rate: float | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    mode: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)


def test_there_and_back() -> None:
    value = Outer("x", "b", Inner((1, 2), 0.5))
    assert config_to_dict(value) == {"name": "x", "mode": "b", "inner": {"sizes": [1, 2], "rate": 0.5}}
    assert config_from_dict(config_to_dict(value), Outer) == value
    assert config_to_dict(Outer("x")) == {"name": "x", "mode": "a", "inner": {"sizes": []}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "the configuration lacks 'name', which has no default"),
        ({"name": "x", "mode": "c"}, "mode must be one of a, b, got 'c'"),
        ({"name": "x", "inner": {"sizes": [1.5]}}, "inner.sizes must be of type int, got 1.5"),
        ({"name": "x", "inner": {"size": []}}, "'inner.size'; the nearest known key is 'inner.sizes'"),
        ({"name": "x", "inner": {"sizes": [1 << 70]}}, "inner.sizes must lie within ±2^63"),
    ],
)  # fmt: skip
def test_faults_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as error:
        config_from_dict(values, Outer)
    assert message in str(error.value)
