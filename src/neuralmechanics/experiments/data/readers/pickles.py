"""Plain values and arrays of bytes out of pickles, by reading their text: nothing is imported, called or executed.

The pickle format is a small stack language whose words can call any function. The words that build numbers, texts,
lists, dictionaries and NumPy arrays are followed here; for those that call, only the two calls by which NumPy writes an
array are known, and both are recorded as values instead of made. Source: Python's `pickletools`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

__all__ = ["read_pickle"]

_ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
_BUFFER = ("numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer")
_NAMES = {*_ARRAY, *_BUFFER, "numpy ndarray", "numpy dtype", "_codecs encode"}
_VALUES = (
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"),
    *("STRING", "SHORT_BINSTRING", "BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_IGNORED = ("PROTO", "FRAME", "STOP")
_MARK = object()


@dataclass(frozen=True)
class _Name:
    """The name of something that the pickle would have imported."""

    name: str


@dataclass
class _Made:
    """An array or a type of numbers as the pickle describes it; `values` is set later, as its state."""

    kind: str
    values: Any = None


def read_pickle(content: bytes) -> Any:
    """The value that a pickle of protocol 0 to 5 describes, arrays of unsigned bytes as NumPy arrays.

    Texts are `str`, also those that Python 2 wrote. Raises `ValueError` for whatever is not such a value.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(BytesIO(content)):
            _follow(opcode.name, argument, stack, memo)
        if len(stack) != 1:
            raise ValueError(f"it leaves {len(stack)} values where one was expected")
        return _finished(stack[0])
    except (ValueError, TypeError, LookupError, OverflowError, UnicodeError, RecursionError, AttributeError) as error:
        raise ValueError(f"no pickle of plain values: {' '.join(str(error).split())[:200]}") from None


def _follow(word: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if word in _IGNORED:
        return
    if word in _VALUES:
        stack.append(argument)
    elif word in _CONSTANTS:
        stack.append(_CONSTANTS[word]())
    elif word in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[argument] = stack[-1]
    elif word == "MEMOIZE":
        # Numbered as Python's own reader numbers them: by how many there are.
        memo[len(memo)] = stack[-1]
    elif word in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif word == "MARK":
        stack.append(_MARK)
    elif word in _BUILDERS:
        _BUILDERS[word](stack)
    elif word in ("GLOBAL", "STACK_GLOBAL"):
        # The module lies below the name.
        name = argument if word == "GLOBAL" else " ".join(reversed([str(stack.pop()), str(stack.pop())]))
        if name not in _NAMES:
            raise ValueError(f"it asks for {name.replace(' ', '.')!r}; nothing in a data set is executed")
        stack.append(_Name(name))
    else:
        raise ValueError(f"it uses {word}, which no array or list needs")


def _marked(stack: list[Any]) -> list[Any]:
    """What was put since the last mark, taken off with the mark."""
    start = len(stack) - 1
    while stack[start] is not _MARK:
        start -= 1
        if start < 0:
            raise ValueError("a mark is missing")
    values = stack[start + 1 :]
    del stack[start:]
    return values


def _append(stack: list[Any], values: list[Any]) -> None:
    if not isinstance(stack[-1], list):
        raise ValueError("it appends to what is no list")
    stack[-1].extend(values)


def _set_items(stack: list[Any], values: list[Any]) -> None:
    if not isinstance(stack[-1], dict) or len(values) % 2:
        raise ValueError("it sets items of what is no dictionary")
    stack[-1].update(zip(values[::2], values[1::2], strict=True))


def _take(stack: list[Any], count: int) -> list[Any]:
    if len(stack) < count:
        raise ValueError("it takes more than there is")
    values = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return values


def _dictionary(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


def _reduce(stack: list[Any]) -> None:
    """A call, recorded: an array to be filled, a type of numbers, or bytes written as a text."""
    called, arguments = _take(stack, 2)
    name = called.name if isinstance(called, _Name) else ""
    if name in _ARRAY:
        stack.append(_Made("array"))
    elif name in _BUFFER:
        buffer, kind, shape, order = arguments
        stack.append(_Made("array", (1, shape, kind, order == "F", buffer)))
    elif name == "numpy dtype":
        stack.append(_Made("dtype", arguments[0]))
    elif name == "_codecs encode" and arguments[1] in ("latin1", "latin-1"):
        stack.append(arguments[0].encode("latin-1"))
    else:
        raise ValueError(f"it calls {name or called!r}; nothing in a data set is executed")


def _build(stack: list[Any]) -> None:
    """The state of what was made: of a type of numbers it says nothing about bytes."""
    made, state = _take(stack, 2)
    if not isinstance(made, _Made):
        raise ValueError("it gives a state to what is no array")
    if made.kind == "array":
        made.values = state
    stack.append(made)


_BUILDERS: dict[str, Callable[[list[Any]], None]] = {
    "APPEND": lambda stack: _append(stack, _take(stack, 1)),
    "APPENDS": lambda stack: _append(stack, _marked(stack)),
    "SETITEM": lambda stack: _set_items(stack, _take(stack, 2)),
    "SETITEMS": lambda stack: _set_items(stack, _marked(stack)),
    "LIST": lambda stack: stack.append(_marked(stack)),
    "DICT": lambda stack: stack.append(_dictionary(_marked(stack))),
    "TUPLE": lambda stack: stack.append(tuple(_marked(stack))),
    "TUPLE1": lambda stack: stack.append(tuple(_take(stack, 1))),
    "TUPLE2": lambda stack: stack.append(tuple(_take(stack, 2))),
    "TUPLE3": lambda stack: stack.append(tuple(_take(stack, 3))),
    "REDUCE": _reduce,
    "BUILD": _build,
}


def _finished(value: Any) -> Any:
    """The value with its arrays in place; only the values of one dictionary can be arrays."""
    if isinstance(value, dict):
        return {key: _array(item) if isinstance(item, _Made) else item for key, item in value.items()}
    return _array(value) if isinstance(value, _Made) else value


def _array(made: _Made) -> np.ndarray[Any, np.dtype[np.uint8]]:
    _, shape, kind, by_columns, content = made.values
    if made.kind != "array" or not isinstance(kind, _Made) or kind.values not in ("u1", "|u1"):
        raise ValueError("an array in it does not hold unsigned bytes")
    if isinstance(content, str):
        content = content.encode("latin-1")
    if not all(isinstance(side, int) and side >= 0 for side in shape) or len(content) != prod(shape):
        raise ValueError(f"an array in it promises {shape} bytes and holds {len(content)}")
    # A copy: what torch looks at must be writable.
    flat = np.frombuffer(content, np.uint8)
    return flat.reshape(shape, order="F" if by_columns else "C").copy(order="C")
