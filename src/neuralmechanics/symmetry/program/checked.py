"""The primitives as rules call them, with every call checked before an interpreter sees it.

An ill-formed call (an operand that is no value, shapes that do not fit) is the rule's: the operation has a form that
the rule does not know, and is refused. Whatever an interpreter raises on a well-formed call is a fault of the
interpreter: were it refused too, its constraints would be lost, and a fault could pass for a symmetry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from functools import partial
from typing import Any

import numpy as np

from neuralmechanics.symmetry.program.primitives import Contraction, Domain
from neuralmechanics.symmetry.program.refusals import DomainError, NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.views import Expand, Permute, Reshape, View

__all__ = ["PRIMITIVES", "Checked", "is_value"]


def is_value(x: Any) -> bool:
    """Whether x is what an interpreter holds for a tensor."""
    return hasattr(x, "terms") and hasattr(x, "shape")


class Checked:
    """A domain whose primitives refuse ill-formed calls and turn errors of their own into ``DomainError``."""

    def __init__(self, domain: Any) -> None:
        self.domain = domain

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in PRIMITIVES:
            close = get_close_matches(name, PRIMITIVES, 1)
            hint = f"; {close[0]!r} is near" if close else ""
            raise AttributeError(f"there is no primitive {name!r} in neuralmechanics.symmetry.program.primitives{hint}")
        call = partial(_called, self.domain, name)  # holds the domain alone: a cycle would keep it until a collection
        self.__dict__[name] = call
        return call

    def innermost(self) -> Any:
        """The interpreter itself, behind what stands before it."""
        return _innermost(self.domain)


def _called(domain: Any, name: str, *args: Any, **settings: Any) -> Any:
    check = _CHECKS.get(name)
    if check is not None:
        check(*args, **settings)
    try:
        return getattr(domain, name)(*args, **settings)
    except (NotSoughtError, DomainError):
        raise
    except Exception as error:
        walk = type(_innermost(domain)).__name__
        raise DomainError(f"{walk}.{name} raised {type(error).__name__}: {error}") from error


def _innermost(domain: Any) -> Any:
    while hasattr(domain, "domain"):
        domain = domain.domain
    return domain


def _values(*xs: Any) -> None:
    for x in xs:
        if not is_value(x):
            raise UnsupportedFormError(f"{x!r} where a tensor is needed")


def _elementwise(*xs: Any) -> None:
    _values(*xs)
    try:
        np.broadcast_shapes(*(x.shape for x in xs))
    except ValueError:
        shapes = ", ".join(str(tuple(x.shape)) for x in xs)
        raise UnsupportedFormError(f"shapes {shapes} do not broadcast") from None


def _within(x: Any, dims: Sequence[Any]) -> None:
    rank = max(1, len(x.shape))
    for d in dims:
        if not isinstance(d, (int, np.integer)) or not -rank <= d < rank:
            raise UnsupportedFormError(f"dimension {d!r} of a tensor of shape {tuple(x.shape)}")


def _along(x: Any, dims: Any, *_: Any, **__: Any) -> None:
    _values(x)
    _within(x, [dims] if isinstance(dims, (int, np.integer)) else dims)


def _sizes(shape: Any) -> None:
    if not all(isinstance(n, (int, np.integer)) and n >= 0 for n in shape):
        raise UnsupportedFormError(f"{tuple(shape)!r} is no shape")


def _view(x: Any, view: View) -> None:
    _values(x)
    shape = tuple(x.shape)
    if isinstance(view, Reshape):
        _sizes(view.shape)
        fits = math.prod(view.shape) == math.prod(shape)
    elif isinstance(view, Permute):
        fits = sorted(view.order) == list(range(len(shape)))
    elif isinstance(view, Expand):
        _sizes(view.shape)
        front = len(view.shape) - len(shape)
        fits = front >= 0 and all(n in (1, m) for n, m in zip(shape, view.shape[front:], strict=True))
    else:
        fits = view.dim in range(len(shape)) and all(0 <= k < shape[view.dim] for k in view.positions)
    if not fits:
        raise UnsupportedFormError(f"{view} of a tensor of shape {shape}")


def _cat(xs: Sequence[Any], dim: int) -> None:
    _values(*xs)
    if not xs:
        raise UnsupportedFormError("a concatenation of nothing")
    _within(xs[0], [dim])
    rest = {tuple(n for d, n in enumerate(x.shape) if d != dim % max(1, len(x.shape))) for x in xs}
    if len(rest) > 1 or len({len(x.shape) for x in xs}) > 1:
        raise UnsupportedFormError(f"a concatenation of shapes {', '.join(str(tuple(x.shape)) for x in xs)}")


def _contract(x: Any, y: Any, how: Contraction) -> None:
    _values(x, y)
    sizes: dict[str, int] = {}
    for value, letters in ((x, how.x), (y, how.y)):
        if len(letters) != len(value.shape) or len(set(letters)) != len(letters):
            raise UnsupportedFormError(f"letters {letters!r} for a tensor of shape {tuple(value.shape)}")
        for letter, n in zip(letters, value.shape, strict=True):
            if sizes.get(letter, 1) not in (1, n) and n != 1:
                raise UnsupportedFormError(f"sizes {sizes[letter]} and {n} along {letter!r} of a sum of products")
            sizes[letter] = max(n, sizes.get(letter, 1))
    if not set(how.out) <= set(sizes) | {w.out for w in how.windows}:
        raise UnsupportedFormError(f"a sum of products {how.x},{how.y}->{how.out}")


def _pool(x: Any, dims: Sequence[int], shape: Sequence[int], *_: Any, **__: Any) -> None:
    _along(x, dims)
    _sizes(shape)


def _shaped(x: Any, *rest: Any) -> None:
    _values(x)
    _sizes(rest[-1])


def _placed(x: Any, source: Any, dim: int, shape: Sequence[int], *_: Any, **__: Any) -> None:
    _values(source, *([] if x is None else [x]))
    _within(source, [dim])
    _sizes(shape)


_CHECKS: dict[str, Callable[..., None]] = {
    "view": _view,
    "cat": _cat,
    "add": lambda x, y, scale=1.0: _elementwise(x, y),
    "add_number": lambda x, number, broken_by=None: _values(x),
    "scaled": lambda x, factor: _values(x),
    "mul": _elementwise,
    "power": lambda x, exponent: _values(x),
    "homogeneous": _elementwise,
    "nonlinear": _elementwise,
    "larger": _elementwise,
    "noise": _elementwise,
    "contract": _contract,
    "reduce": _along,
    "extremum": _along,
    "pool": _pool,
    "normalise": _along,
    "softmax": _along,
    "gather": _along,
    "select": lambda x, y, shape: _elementwise(x, y),
    "fix": _values,
    "masked": _shaped,
    "zero_padded": _along,
    "resized": _shaped,
    "deviation": _along,
    "positions": _along,
    "spread_along": _along,
    "placed": _placed,
    "routed": lambda stacked, rows, key: _values(stacked),
    "turned": lambda x, turn, shape: _values(x),
    "constant": lambda shape: _sizes(shape),
}
PRIMITIVES = frozenset(name for name in vars(Domain) if not name.startswith("_")) | {"routed", "turned", "unread"}
