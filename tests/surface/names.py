"""Every public name of the package, one a line, with the signature that callers rely on."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any, get_origin

import neuralmechanics

__all__ = ["surface"]

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def surface() -> list[str]:
    """Names of `__all__` of the package and of the packages in it; classes with their public methods and properties."""
    lines = []
    for package in _packages():
        module = importlib.import_module(package)
        for name in sorted(getattr(module, "__all__", ())):
            lines += _told(f"{package}.{name}", getattr(module, name))
    return lines


def _packages() -> list[str]:
    inside = [f"neuralmechanics.{info.name}" for info in pkgutil.iter_modules(neuralmechanics.__path__) if info.ispkg]
    return ["neuralmechanics", *sorted(inside)]


def _told(path: str, thing: Any) -> Iterator[str]:
    if inspect.ismodule(thing):
        yield f"{path}: module"
    elif inspect.isclass(thing) and issubclass(thing, Enum):
        yield f"{path}: {', '.join(member.name for member in thing)}"
    elif inspect.isclass(thing):
        yield f"{path}{_signature(thing)}"
        for name, member in sorted(_members(thing).items()):
            yield from _member(f"{path}.{name}", member)
    elif callable(thing) and not _is_alias(thing):
        yield f"{path}{_signature(thing)}"
    else:
        yield f"{path}: {type(thing).__name__}"


def _members(thing: type) -> dict[str, Any]:
    """What the class and those bases of it that the package defines offer, as the class has it."""
    own = [base for base in reversed(thing.__mro__) if base.__module__.startswith("neuralmechanics")]
    return {name: member for base in own for name, member in vars(base).items() if not name.startswith("_")}


def _member(path: str, member: Any) -> Iterator[str]:
    plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    if isinstance(member, property) or type(member).__name__ == "cached_property":
        yield f"{path}: property"
    elif inspect.isfunction(plain):
        yield f"{path}{_signature(plain)}"


def _is_alias(thing: Any) -> bool:
    """Whether it is a name for a type, such as a union or a Literal."""
    if inspect.isroutine(thing):
        return False
    return get_origin(thing) is not None or getattr(thing, "__module__", "").startswith(("typing", "types"))


def _signature(thing: Any) -> str:
    """Names of the arguments, how they may be given, and their defaults; types are left to the type checker."""
    try:
        given = inspect.signature(thing)
    except (TypeError, ValueError):
        return "(…)"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in given.parameters.values()]
    text = str(given.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return _ADDRESS.sub("", text)
