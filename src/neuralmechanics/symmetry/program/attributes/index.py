"""What decides which entries are picked."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Index", "Places"]


@dataclass(frozen=True)
class Places:
    """The first entries that are picked, where the model's code holds them: they may be all, unknown to the capture."""

    first: tuple[int, ...]


@dataclass(frozen=True)
class Index:
    """Values of the program, by their indices, and ``how`` the places follow from them, where not as they stand."""

    values: tuple[int, ...]
    how: Hashable = ()
