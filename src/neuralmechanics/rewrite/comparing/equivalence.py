"""Whether two checkpoints are one function: the symmetry that explains their difference, or what none does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.comparing.checkpoints import (
    Function,
    completed,
    read,
    require_checkpoints,
    rounding,
    untied_in,
    without_common_strangers,
)
from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.suspects import explained

__all__ = ["Equivalence", "assert_equivalent", "equivalent"]


@dataclass(frozen=True)
class Equivalence:
    """What became of one checkpoint in another.

    ``equal``: ``element`` brings ``before`` to ``after`` up to rounding. Else it does so but for ``tensors``, the
    smallest set that was found; ``alternatives`` are others of the same size. ``change``: ‖f(after) - f(before)‖ /
    ‖f(before)‖ on the batch. ``gaps``: how far each of ``tensors`` is from what it should be, relative to its size.
    ``bound``: what counts as rounding. ``located``: whether the search found these tensors as one place, of which it
    could leave none out; where it is false, some of them may be innocent. ``unjudged``: those of the tensors that stand
    beside the others because any values of them would be explained without these, as a bias without its weight.
    """

    equal: bool
    tensors: tuple[str, ...]
    change: float
    element: Element
    gaps: Mapping[str, float]
    alternatives: tuple[tuple[str, ...], ...] = ()
    bound: float = 0.0
    located: bool = True
    unjudged: tuple[str, ...] = ()

    @property
    def decided(self) -> bool:
        """Whether the answer is sure: an element was found, or the function is seen to differ, at known tensors.

        Where the function is not seen to differ, the batch does not reach the tensors (experts that no token chose), or
        they differ by a symmetry that is not looked for.
        """
        return self.equal or (self.located and not self.change <= self.bound)

    def __bool__(self) -> bool:
        return self.equal

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        return {
            "equal": self.equal,
            "decided": self.decided,
            "tensors": list(self.tensors),
            "gaps": dict(self.gaps),
            "change": self.change,
            "located": self.located,
            "unjudged": list(self.unjudged),
            "alternatives": [list(names) for names in self.alternatives],
            "element": self.element.summary().split("\n"),
        }

    def __str__(self) -> str:
        if self.equal:
            return f"equivalent: the output changes by {self.change:.1e} of its size\n{self.element.summary()}"
        named = ", ".join(f"{name} (off by {self.gaps[name]:.2g} of its size)" for name in self.tensors)
        if self.alternatives:
            shown = "; ".join(" and ".join(names) for names in self.alternatives[:4])
            named += f" (or, just as well: {shown})"
        if self.unjudged:
            named += f" (without the others, {', '.join(self.unjudged)} cannot be judged)"
        if not self.located and not self.change <= self.bound:
            return (
                f"undecided: the two are not equivalent, the output changes by {self.change:.1e} of its size, but "
                f"which tensors are at fault was not found; all others are explained without {named}"
            )
        if not self.decided:
            return (
                f"undecided: no symmetry that was looked for explains {named}, but the output changes by "
                f"{self.change:.1e} of its size, which is rounding: compare on a batch that reaches these tensors"
            )
        return (
            f"not equivalent: no symmetry of the model explains {named}; "
            f"the output changes by {self.change:.1e} of its size"
        )


def equivalent(
    model: nn.Module,
    batch: Any,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    loss_fn: LossFunction | None = None,
    *,
    tolerance: float | None = None,
) -> Equivalence:
    """The symmetry that takes ``before`` to ``after``, or the smallest set of tensors on which none does.

    Both are state dicts of ``model``. Tensors count as equal when they differ by ``tolerance`` of their size, by
    default 1000 roundings of the coarsest dtype (1e-9 in float64, 1e-4 in float32). Raises
    ``ValueError`` for a tolerance of 1 or more, and for checkpoints that lack parameters, or hold tensors that the
    model does not have (other than the same in both), other shapes or kinds of numbers, complex numbers or NaN.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    >>> before = model.state_dict()
    >>> after = before | {"0.weight": 2 * before["0.weight"], "0.bias": 2 * before["0.bias"]}
    >>> equivalent(model, torch.zeros(1, 3).double(), before, after | {"2.weight": before["2.weight"] / 2}).equal
    True
    >>> equivalent(model, torch.zeros(1, 3).double(), before, after).tensors
    ('2.weight',)
    """
    require_checkpoints(before, after)
    network = Network.of(model, batch, loss_fn)
    return compared(network, Function(model, batch, loss_fn), before, after, tolerance=tolerance)


def compared(
    network: Network,
    function: Function,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    *,
    tolerance: float | None = None,
) -> Equivalence:
    """The same for a network whose symmetries are known."""
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ValueError(f"tolerance is a part of a tensor's size, at least 0 and below 1; got {tolerance}")
    before, after = without_common_strangers(function.model, before, after)
    old, new = (completed(network, function.model, x, w) for x, w in ((before, "before"), (after, "after")))
    beside = _differing_beside(network, function, old, new)
    bound = rounding(old, new) if tolerance is None else tolerance
    names = [name for name in network.tensors if name in old]
    wanted, given = read(new, names), read(old, names)
    found = explained(network, wanted, given, bound)
    tensors = (*sorted(found.match.hidden), *beside)
    return Equivalence(
        equal=not tensors,
        tensors=tensors,
        change=function.change(old, new),
        element=found.match.element,
        gaps={name: found.match.gaps.get(name, 1.0) for name in tensors},
        alternatives=tuple((*sorted(other), *beside) for other in found.others),
        bound=bound,
        located=found.located,
        unjudged=tuple(sorted(found.unjudged)),
    )


def _differing_beside(
    network: Network, function: Function, old: Mapping[str, Tensor], new: Mapping[str, Tensor]
) -> list[str]:
    """Tensors that no symmetry moves and that change the output: buffers, and second names of tied parameters."""
    known = {*network.tensors, *network.tied}
    found = [name for name in untied_in(network, new) if name not in untied_in(network, old)]
    for name in (n for n in new if n not in known and n in old):
        if old[name].shape == new[name].shape and not bool((old[name] == new[name]).all()):
            found += [name] if function.change(old, {**old, name: new[name]}) > 0 else []
    return found


def assert_equivalent(
    model: nn.Module,
    batch: Any,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    loss_fn: LossFunction | None = None,
    *,
    tolerance: float | None = None,
) -> None:
    """Raises ``AssertionError`` with one line that names the tensors where the two are not equivalent: for tests."""
    __tracebackhide__ = True
    found = equivalent(model, batch, before, after, loss_fn, tolerance=tolerance)
    if not found.equal:
        raise AssertionError(str(found))
