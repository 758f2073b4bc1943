"""What breaks a symmetry by a little: a constant such as a norm's eps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Breaking"]


@dataclass(frozen=True)
class Breaking:
    """A constant that breaks a symmetry: its name, its value, and the operation (with its place) that holds it."""

    constant: str
    value: float
    where: str

    def __str__(self) -> str:
        return f"{self.constant}={self.value:g} of {self.where}"
