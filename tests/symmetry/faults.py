"""Functions that are made to raise, whatever holds them: a class, a table of handlers, a partial call.

The code of the function itself is replaced, so that nothing need be known of who calls it.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

__all__ = ["calls", "functions", "raising"]

Copies = tuple[types.FunctionType, ...]


@cache
def functions(package: str) -> dict[str, Copies]:
    """Every function and method that is written in the package, by module and name; closures of one text together.

    What is generated (the methods of dataclasses) is none of them.
    """
    top = importlib.import_module(package)
    names = [package, *(found.name for found in pkgutil.walk_packages(getattr(top, "__path__", ()), f"{package}."))]
    files = {name: importlib.import_module(name).__file__ for name in names}
    by_code: dict[tuple[str, str, int], list[types.FunctionType]] = defaultdict(list)
    gc.unfreeze()  # what is frozen is in no list
    objects = gc.get_objects()
    gc.freeze()
    for f in objects:
        if type(f) is types.FunctionType and files.get(f.__module__, "") == f.__code__.co_filename:
            by_code[f.__module__, f.__qualname__, f.__code__.co_firstlineno].append(f)
    named: dict[str, Copies] = {}
    for (module, name, line), copies in sorted(by_code.items()):
        key = f"{module}.{name}"
        named[key if key not in named else f"{key} in line {line}"] = tuple(copies)
    return named


def _relay(*args: Any, **settings: Any) -> Any:
    instead = "what is called instead"
    return instead(*args, **settings)  # type: ignore[operator]


@contextmanager
def _replaced(copies: Copies, before: Callable[[], None]) -> Iterator[None]:
    """Runs ``before`` ahead of every call."""
    codes = [f.__code__ for f in copies]
    for f, code in zip(copies, codes, strict=True):
        own = types.FunctionType(code, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
        own.__kwdefaults__ = f.__kwdefaults__
        constants = tuple(
            _preceded(own, before) if c == "what is called instead" else c for c in _relay.__code__.co_consts
        )
        f.__code__ = _relay.__code__.replace(co_consts=constants, co_freevars=code.co_freevars, co_name=code.co_name)
    try:
        yield
    finally:
        for f, code in zip(copies, codes, strict=True):
            f.__code__ = code


def _preceded(own: Callable[..., Any], before: Callable[[], None]) -> Callable[..., Any]:
    def run(*args: Any, **settings: Any) -> Any:
        before()
        return own(*args, **settings)

    return run


@contextmanager
def raising(copies: Copies, fault: Exception, at: int) -> Iterator[None]:
    """The call number ``at`` of the function raises; calls before it and after it do not."""
    made = 0

    def before() -> None:
        nonlocal made
        made += 1
        if made == at:
            raise fault

    with _replaced(copies, before):
        yield


def calls(run: Callable[[], object], named: Mapping[str, Copies]) -> dict[str, int]:
    """How often each of the functions is called while ``run`` runs; those that are not called are left out."""
    made: dict[str, int] = defaultdict(int)

    def counting(name: str) -> Callable[[], None]:
        def before() -> None:
            made[name] += 1

        return before

    with ExitStack() as stack:
        for name, copies in named.items():
            stack.enter_context(_replaced(copies, counting(name)))
        run()
    return dict(made)
