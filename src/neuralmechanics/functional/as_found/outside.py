"""State outside the model that its code fills: global containers and functions that remember their results.

It belongs to the program, not to the model, and is left alone, but for tensors of a capture: these have no data and
would make the next call of the model return nonsense.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections import deque
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.as_found.containers import KeptClass, KeptList, KeptMapping
from neuralmechanics.functional.as_found.tensors import is_transient

__all__ = ["CACHE", "KeptNames", "KeptVariable", "Memory", "Outside", "holds_transient", "is_foreign"]

CACHE = functools._lru_cache_wrapper
_LINK = "_lru_list_elem"
_MISSING: Any = object()


class Outside:
    """A container outside the model: put back where it has come to hold a tensor of a capture."""

    def __init__(self, kept: KeptMapping | KeptList | KeptClass) -> None:
        self._kept = kept

    def restore(self) -> None:
        if holds_transient(self._kept.now()):
            self._kept.restore()


class KeptNames:
    """Variables of a Python module that code names: reset where they have come to hold a tensor of a capture."""

    def __init__(self, space: dict[str, Any], names: Iterable[str]) -> None:
        self._space = space
        self._before = {name: space.get(name, _MISSING) for name in names}

    def restore(self) -> None:
        for name, value in self._before.items():
            now = self._space.get(name, _MISSING)
            if now is value or not holds_transient([now]):
                continue
            if value is _MISSING:
                del self._space[name]
            else:
                self._space[name] = value


class KeptVariable:
    """A context variable: set to what it gave before where it has come to hold a tensor of a capture."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self._variable = variable
        self._before = variable.get() if _has_value(variable) else _MISSING

    def restore(self) -> None:
        if _has_value(self._variable) and holds_transient([self._variable.get()]):
            # There is no way back to "never set" but by the token of a `set` that somebody else called.
            self._variable.set(None if self._before is _MISSING else self._before)


def _has_value(variable: ContextVar[Any]) -> bool:
    try:
        variable.get()
    except LookupError:
        return False
    return True


class Memory:
    """A function that remembers its results (``functools.lru_cache``): emptied where one of them has no data."""

    def __init__(self, function: Any) -> None:
        self._function = function
        self._before = function.cache_info()

    def restore(self) -> str | None:
        """The function's name where its results had to be forgotten: single ones cannot be taken out."""
        # The counts first: a walk over all that a cache refers to is dear, and most were not called at all.
        if self._function.cache_info() == self._before or not holds_transient([self._function]):
            return None
        self._function.cache_clear()
        name = getattr(self._function, "__qualname__", "a cached function")
        return f"{getattr(self._function, '__module__', '?')}.{name}"


def holds_transient(values: Iterable[Any]) -> bool:
    """Whether a tensor of a capture is among the values, or in containers and plain objects among them."""
    waiting, seen = list(values), set[int]()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            if is_transient(value):
                return True
            continue
        if id(value) in seen or isinstance(value, nn.Module):
            continue
        seen.add(id(value))
        kind = type(value)
        # `lru_cache` does not show its results; the garbage collector sees them, in links of a private type.
        if isinstance(value, (dict, list, tuple, set, frozenset, deque, CACHE)) or kind.__name__ == _LINK:
            waiting += gc.get_referents(value)
        elif hasattr(value, "__dict__") and not isinstance(value, type) and not is_foreign(kind.__module__):
            waiting += vars(value).values()
    return False


# Nobody's layers live in these packages: their objects and functions keep no state of a model.
_FOREIGN = sys.stdlib_module_names | {"torch", "numpy", "pandas", "scipy", "sympy", "matplotlib", "neuralmechanics"}
# Containers and records of the standard library may be part of one.
_RECORDS = frozenset({"argparse", "collections", "types", "weakref"})


def is_foreign(module: str | None) -> bool:
    """Whether what is defined in that Python module is not followed."""
    package = "" if module is None else module.partition(".")[0]
    return package in _FOREIGN and package not in _RECORDS
