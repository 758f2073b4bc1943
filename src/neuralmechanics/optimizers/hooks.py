"""Where torch's step hooks really fire: the optimiser inside a wrapper, and the outermost of nested steps."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

__all__ = ["StepHooks", "innermost", "nested_step", "uncompiled"]

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
    if isinstance(optimizer, type):
        raise TypeError(
            f"{optimizer.__name__} is a class; give the optimiser that was made of it and that the loop steps"
        )
    if isinstance(optimizer, Sequence):
        # One optimiser in two wrappers is one.
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
    wrapper = getattr(type(optimizer).step, "__code__", None)  # the same for every class that torch wraps
    frame, steps = sys._getframe(1), 0
    for _ in range(_FRAMES):
        steps += frame.f_code is wrapper and frame.f_locals.get("self") is optimizer
        if steps == 2 or frame.f_back is None:
            break
        frame = frame.f_back
    return steps == 2


class StepHooks:
    """A hook before and a hook after the steps of an optimiser, next to them: hooks of others run outside of the two.

    What those do to gradients, settings and parameters then lies before the step or after it, not within: a schedule,
    clipping, zeroed gradients, a projection.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        before: Callable[[Optimizer, Any, Any], None],
        after: Callable[[Optimizer, Any, Any], None],
    ) -> None:
        self._optimizer = optimizer
        self._before = optimizer.register_step_pre_hook(uncompiled(before))
        self._after = optimizer.register_step_post_hook(uncompiled(after))
        _ordered(optimizer._optimizer_step_post_hooks).move_to_end(self._after.id, last=False)

    def close_in(self) -> bool:
        """After a step: be the last before the next again. Whether others had come between in the step that ended."""
        hooks = _ordered(self._optimizer._optimizer_step_pre_hooks)
        between: bool = next(reversed(hooks)) != self._before.id
        if between:
            hooks.move_to_end(self._before.id)
        return between

    def remove(self) -> None:
        """Let go of the optimiser."""
        self._before.remove()
        self._after.remove()


def _ordered(hooks: Mapping[int, Any]) -> OrderedDict[int, Any]:
    # Torch's type says dict; what it makes is ordered, and lets an entry be moved to either end.
    if not isinstance(hooks, OrderedDict):
        raise TypeError(f"an optimiser keeps its hooks in an OrderedDict, here in a {type(hooks).__name__}")
    return hooks


def uncompiled(hook: Callable[[Optimizer, Any, Any], None]) -> Callable[[Optimizer, Any, Any], None]:
    """The hook kept out of the compiler: a compiled step calls it as it is and compiles only itself."""
    kept_out: Callable[[Optimizer, Any, Any], None] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return kept_out


def _runs_hooks(optimizer: object) -> bool:
    hooked = getattr(type(optimizer), "step", None)
    return (
        isinstance(optimizer, Optimizer)
        and bool(getattr(hooked, "hooked", False))
        and hasattr(optimizer, "_optimizer_step_pre_hooks")
    )
