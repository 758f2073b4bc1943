"""A list of calls of operations, written one a line."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from .case import ATEN, Case

__all__ = ["Table"]


class Table:
    """The calls of the operations of one file of rules."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def call(self, name: str, overload: str, *args: Any, **kwargs: Any) -> None:
        """``aten.name.overload(*args, **kwargs)``."""
        self.cases.append(Case(name, getattr(getattr(ATEN, name), overload), args, kwargs))

    def of(self, library: str, name: str, *args: Any) -> None:
        """An operation of another library, where that is installed."""
        if find_spec(library.strip(".")) is not None:
            import transformers.integrations.moe  # noqa: F401 - registers the operation

            operation = getattr(getattr(torch.ops, library.strip(".")), name).default
            self.cases.append(Case(name, operation, args, {}, library))

    def python(self, name: str, function: Any, *args: Any) -> None:
        """A function of numbers."""
        self.cases.append(Case(name, function, args, {}, prefix=""))
