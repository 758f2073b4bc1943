"""Where torch's step hooks really fire: the optimiser inside a wrapper, and the outermost of nested steps."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from torch.optim import Optimizer

__all__ = ["innermost", "nested_step"]

# Frames between a hook and the caller of `step` are few; a step inside a step is a `super().step()` nearby.
_FRAMES = 64


def innermost(optimizer: object) -> Iterator[Optimizer]:
    """The optimisers whose `step` runs torch's hooks: of a list each, of a wrapper (`.optimizer`) the one inside.

    Accelerate, Lightning and their kin hand out wrappers that run no hooks of their own. Raises ValueError for what
    neither runs hooks nor holds an optimiser that does.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    >>> [type(o).__name__ for o in innermost([sgd, sgd])]
    ['SGD']
    """
    if isinstance(optimizer, Sequence):
        found = {id(one): one for each in optimizer for one in innermost(each)}
        yield from found.values()
        return
    seen = optimizer
    while not _runs_hooks(seen):
        inside = getattr(seen, "optimizer", None)
        if inside is None or inside is seen:
            raise ValueError(
                f"{type(optimizer).__name__} runs no step hooks and holds no optimiser that does, so its steps cannot "
                "be seen; give the torch optimiser itself, or a list of them"
            )
        seen = inside
    assert isinstance(seen, Optimizer)
    yield seen


def nested_step(optimizer: Optimizer) -> bool:
    """Whether a hook was called from a step inside another step of the same optimiser (`super().step()`).

    Torch wraps the `step` of every class that was ever made, so a subclass that calls `super().step()` runs its hooks
    twice. Told from the stack alone: nothing is left behind when a step ends in an error.
    """
    wrapper = sys._getframe(2)  # torch's own wrapper, which called the hook that asks
    frame = wrapper.f_back
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if frame.f_code is wrapper.f_code and frame.f_locals.get("self") is optimizer:
            return True
        frame = frame.f_back
    return False


def _runs_hooks(optimizer: object) -> bool:
    hooked = getattr(type(optimizer), "step", None)
    return (
        isinstance(optimizer, Optimizer)
        and bool(getattr(hooked, "hooked", False))
        and hasattr(optimizer, "_optimizer_step_pre_hooks")
    )
