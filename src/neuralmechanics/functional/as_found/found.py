"""``left_as_found``: whatever runs a model inside, the model, its random numbers and its caches are as before."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.functional.as_found.randomness import kept_randomness
from neuralmechanics.functional.as_found.reach import Reach

__all__ = ["EmptiedCacheWarning", "RunState", "left_as_found"]


_WITHIN = ("neuralmechanics", "contextlib")


class EmptiedCacheWarning(UserWarning):
    """A function outside the model that remembers its results had remembered a tensor without data."""


@contextmanager
def left_as_found(*roots: Any, parameters: bool = True) -> Iterator[None]:
    """Puts back, to the bit, what running the roots (a model, its loss, batches) inside has changed.

    Parameters, buffers and every other tensor that they refer to: values, memory, gradients, ``requires_grad``, hooks.
    Attributes of every submodule and of objects in them, containers, closures and defaults of hooks and of the loss:
    which entries they have and which object each is. Modes of each submodule; classes of lazy ones. The random states
    of Python, numpy and torch. Global containers and ``lru_cache`` functions that the code names are cleaned of tensors
    of a capture; an ``EmptiedCacheWarning`` names each function whose results had to be forgotten for that.

    ``parameters`` False: parameters are known not to be written into (as in a capture on fake tensors) and are not
    copied; all else is. Cost: one copy of the tensors, and a walk over the attributes.

    >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    >>> with left_as_found(model):
    ...     _ = model.eval()(torch.ones(3, 2)), model.train()(torch.ones(3, 2)), torch.rand(1)
    >>> int(model[0].num_batches_tracked)
    0
    """
    reach = Reach(roots, parameters=parameters, outside=True)
    restore_randomness = kept_randomness()
    try:
        yield
    finally:
        for kept in reach.kept:
            kept.restore()
        with torch.no_grad():
            for tensor in reach.tensors:
                tensor.restore()
        restore_randomness()
        for container in reach.outside:
            container.restore()
        emptied = [name for memory in reach.memories if (name := memory.restore()) is not None]
    # Outside of `finally`: a warning that is turned into an error must not hide what the run itself raised.
    for name in emptied:
        warnings.warn(
            f"{name} remembered a tensor of the capture, which has no data; its cache was emptied by cache_clear() and "
            "fills again with real results when it is called next",
            EmptiedCacheWarning,
            stacklevel=_outermost(),
        )


def _outermost() -> int:
    """Frames between a warning raised by the caller and the line of the program that called the package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _WITHIN:
        level, frame = level + 1, frame.f_back
    return level


class RunState:
    """What the runs of a model pass on to the next one, so that each of them can begin from the same state.

    A function of the parameters is evaluated many times: counters, caches, moving averages and buffers must not carry
    one evaluation into the next, and a graph that is still to be differentiated must keep the tensors it was built on.
    Parameters, and what else is ``fixed``, stay themselves.
    """

    def __init__(self, *roots: Any, fixed: Iterable[Tensor] = ()) -> None:
        reach = Reach(roots, parameters=False, outside=False)
        self._kept = reach.kept
        fixed_ones = {id(tensor) for tensor in fixed}
        own = ((kept, value) for kept in reach.kept for value in kept.contents() if isinstance(value, Tensor))
        self._places = [(k, x) for k, x in own if not isinstance(x, nn.Parameter) and id(x) not in fixed_ones]

    @contextmanager
    def fresh(self, cast: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> Iterator[None]:
        """The model on copies of its buffers and other tensors, each passed through ``cast``; afterwards as before."""
        copies: dict[int, Tensor] = {}
        try:
            for kept, tensor in self._places:
                # One copy of a tensor that stands in several places: a write to it is seen in all.
                if id(tensor) not in copies:
                    copy = cast(tensor.detach()).clone()
                    # A copy is a leaf; what history the tensor had is of an earlier run and stays out.
                    copies[id(tensor)] = copy.requires_grad_(tensor.requires_grad and tensor.is_leaf)
                kept.replace(tensor, copies[id(tensor)])
            yield
        finally:
            for kept in self._kept:
                kept.restore()
