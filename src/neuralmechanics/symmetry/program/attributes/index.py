"""What decides which entries are picked."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["Index"]


@dataclass(frozen=True)
class Index:
    """Values of the program, by their indices, and ``how`` the places follow from them, where not as they stand."""

    values: tuple[int, ...]
    how: Hashable = ()
