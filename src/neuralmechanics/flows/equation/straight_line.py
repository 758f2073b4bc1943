"""A field that is evaluated often: its operations recorded once, then run one after another without Python in between.

Nested derivatives of a small network cost more in calls than in arithmetic. All that a loss, its backward passes and
theirs do at one point is a list of elementary operations on tensors; where that list is the same at every point, it is
all that has to be run at the next.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from neuralmechanics.flows.equation.recording import NotStraightError, Recording
from neuralmechanics.flows.equation.system import Field

__all__ = ["Warm", "straight_line"]

# Recording takes as long as some hundred evaluations.
_PATIENCE = 100
# Of more parameters than this the arithmetic outweighs the calls.
_MOST_PARAMETERS = 100_000
# At so many points in a row the line is compared with the field before it takes its place: to rounding, for the
# operations are the same.
_COMPARISONS, _ROUNDING = 3, 1e-11
# And after so many evaluations by the line once more: a loss that changes while it is integrated is no function.
_AGAIN = 64


class Warm:
    """x ↦ field(x): the first hundred times as it is, then by the straight line of its operations, where it has one.

    A field keeps its own way for good where its operations may be others at another point (Python looks at numbers),
    where it draws random numbers, writes into a tensor that it reads, or differs from its line by more than rounding.
    So it does for a single evaluation inside a mode, such as one that holds the branch of a kink.
    """

    def __init__(self, field: Field, patience: int = _PATIENCE) -> None:
        self.field, self.patience = field, patience
        self.line: Field | None = None
        self._agreed = self._seen = self._since = 0
        self._own_way = False

    def __call__(self, x: Tensor) -> Tensor:
        if self._own_way or _watched() or x.numel() > _MOST_PARAMETERS:
            return self.field(x)
        if self.line is not None and self._agreed >= _COMPARISONS:
            self._since += 1
            if self._since < _AGAIN:
                return self.line(x)
            return self._once_more(self.line, x)
        found = self.field(x)
        self._seen += 1
        # A point where the field has no value tells nothing about the line.
        if self._seen >= self.patience and bool(torch.isfinite(found).all()):
            self._compare(x, found)
        return found

    def _compare(self, x: Tensor, found: Tensor) -> None:
        if self.line is None:
            self.line = straight_line(self.field, x)
        if self.line is None:
            self._own_way = True
            return
        if _same(self.line(x), found):
            self._agreed += 1
        else:
            self._own_way, self.line = True, None

    def _once_more(self, line: Field, x: Tensor) -> Tensor:
        found = self.field(x)
        self._since = 0
        if bool(torch.isfinite(found).all()) and not _same(line(x), found):
            self._own_way, self.line = True, None
            warnings.warn(
                f"within {_AGAIN} evaluations of the flow its loss has become another function (data or a state that "
                "changes?); a flow is that of one loss: leave fixed what it depends on beside the parameters",
                stacklevel=2,
            )
        return found


def _same(one: Tensor, other: Tensor) -> bool:
    distance, size = (float(v.abs().max()) for v in (one - other, other))
    return distance <= _ROUNDING * size


def straight_line(field: Field, x: Tensor) -> Field | None:
    """The operations of ``field`` at x as a field of its own; None where they cannot be the same at every point.

    >>> line = straight_line(lambda x: x.square() + 1, torch.tensor([2.0]))
    >>> line(torch.tensor([3.0]))
    tensor([10.])
    >>> straight_line(lambda x: x if x.sum() > 0 else -x, torch.tensor([2.0]))
    """
    recording = Recording(x)
    try:
        replay = recording.of(field)
        with torch.no_grad():
            replay(x)
    except NotStraightError:
        return None
    except RuntimeError:
        # An operation that is not to be had without its writing, or a view of what now lies otherwise in memory.
        return None
    return _interpreted(replay, x)


def _interpreted(replay: Callable[[Tensor], Tensor], x: Tensor) -> Field | None:
    """The line in torch's own interpreter; None where that does not take it."""
    with warnings.catch_warnings(), torch.no_grad(), _as_it_is():
        # Deprecated in favour of compilers that take a minute where this takes a tenth of a second.
        warnings.simplefilter("ignore")
        try:
            run = torch.jit.trace(replay, (x,), check_trace=False)  # type: ignore[no-untyped-call]
        except RuntimeError:
            return None

    def line(x: Tensor) -> Tensor:
        with torch.no_grad(), _as_it_is():
            found: Tensor = run(x)
        return found

    return line


def _as_it_is() -> AbstractContextManager[None]:
    """The interpreter does not rewrite what it runs: on some devices it would fuse operations, and round otherwise."""
    mode: AbstractContextManager[None] = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    return mode


def _watched() -> bool:
    """Whether somebody changes or counts what torch does: a mode, or a transform such as ``vmap``."""
    modes = torch._C._len_torch_function_stack() + torch._C._len_torch_dispatch_stack()
    return modes > 0 or torch._C._functorch.peek_interpreter_stack() is not None
