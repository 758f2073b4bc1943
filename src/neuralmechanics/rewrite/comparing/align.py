"""One network brought as near to another as symmetries allow: alignment, distance, interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.comparing.checkpoints import (
    Function,
    completed,
    read,
    require_checkpoints,
    without_common_strangers,
)
from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.steps import space_steps
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.descending import descended
from neuralmechanics.rewrite.comparing.solving.matching import Solver, distance_between, matched
from neuralmechanics.rewrite.comparing.solving.reduced import reduced
from neuralmechanics.symmetry import Element as SpaceElement

__all__ = ["Alignment", "align", "aligned", "aligned_checkpoint", "distance", "interpolate"]

_SAME = 1e-7  # relative gap of every tensor below which two networks are one orbit
_SWEEPS = 60
_STARTS = 4
_STEPS = 40


@dataclass(frozen=True)
class Alignment:
    """The element g that brings b to a, and how far apart they remain where both are of least norm."""

    element: Element
    distance: float


def align(
    model: nn.Module,
    batch: Any,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    loss_fn: LossFunction | None = None,
    *,
    starts: int = _STARTS,
    steps: int = _STEPS,
) -> Element:
    """The symmetry g of the model after which b, trained apart from a, is nearest to it.

    Networks of one orbit are recognised, and g is exact. Else both are brought to their points of least norm, where
    only permutations, signs, phases and rotations remain: these are found space after space, by assignment and by
    Procrustes, until the distance falls no more; of several ``starts`` the nearest is kept (the joint problem is not
    convex). The same is done where a and b are, without scales; of the two, that is kept half way to which the network
    computes more nearly the mean of both on the batch, and from it as many ``steps`` of descent are taken on what is
    missing there (each one sweep over the group and one gradient; 0: none). With a ``loss_fn`` that gives one number
    it is the loss half way that is made small.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    >>> a = model.state_dict()
    >>> b = a | {"0.weight": -a["0.weight"], "0.bias": -a["0.bias"], "2.weight": -a["2.weight"]}
    >>> g = align(model, torch.zeros(1, 3).double(), a, b)
    >>> all(torch.equal(a[name], value) for name, value in g.transform(b).items())
    True
    """
    return aligned_checkpoint(model, batch, a, b, loss_fn, starts, steps).element


def distance(
    model: nn.Module, batch: Any, a: Mapping[str, Tensor], b: Mapping[str, Tensor], loss_fn: LossFunction | None = None
) -> float:
    """min over g of ‖g·b - a‖ / ‖a‖ between the points of least norm of both orbits: 0 for equivalent networks.

    The minimum is searched as ``align`` does: for networks that are not equivalent it is an upper bound.
    """
    return aligned_checkpoint(model, batch, a, b, loss_fn, steps=0).distance


def interpolate(
    model: nn.Module,
    batch: Any,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    t: float,
    loss_fn: LossFunction | None = None,
) -> dict[str, Tensor]:
    """(1 - t) a + t g·b with g as of ``align``: the state dict of a at t = 0, a network that computes b at t = 1."""
    moved = align(model, batch, a, b, loss_fn).transform(b)
    out = {}
    for name, value in a.items():
        mixed = name in moved and value.is_floating_point()
        out[name] = ((1 - t) * value.double() + t * moved[name].double()).to(value.dtype) if mixed else value
    return out


def aligned_checkpoint(
    model: nn.Module,
    batch: Any,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    loss_fn: LossFunction | None,
    starts: int = _STARTS,
    steps: int = _STEPS,
) -> Alignment:
    """``align`` and ``distance`` at once."""
    require_checkpoints(a, b)
    network = Network.of(model, batch, loss_fn)
    a, b = without_common_strangers(model, a, b)
    old, new = (completed(network, model, x, w) for x, w in ((a, "a"), (b, "b")))
    names = [name for name in network.tensors if name in old]
    return aligned(network, read(old, names), read(new, names), starts, Function(model, batch, loss_fn), steps)


def aligned(
    network: Network,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    starts: int = _STARTS,
    function: Function | None = None,
    steps: int = 0,
) -> Alignment:
    """The same for float64 tensors of a network whose symmetries are known; ``steps`` need a function."""
    same = matched(network, a, b)
    if same.off <= _SAME:
        return Alignment(same.element, distance_between(a, same.element.transform(b)))
    loose = Network.from_symmetries(network.symmetries, network.tied, exact=False)
    target, start = reduced(loose, a), reduced(loose, b)
    moved, apart = _nearest(loose, target.params, start.params, starts)
    there = target.element.inverse().compose(moved).compose(start.element)
    here, _ = _nearest(loose, a, b, starts)
    between = _Between(a, b, function)
    nearest = min((there, here), key=between)
    if function is None or steps <= 0:
        return Alignment(nearest, apart)
    further, _ = descended(loose, a, nearest.transform(b), between.objective, steps)
    return Alignment(further.compose(nearest), apart)


@dataclass(frozen=True)
class _Between:
    """How far an element leaves two networks apart: as functions half way, or as tensors where there is no function."""

    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    function: Function | None

    def __call__(self, element: Element) -> float:
        moved = element.transform(self.b)
        if self.function is None:
            return distance_between(self.a, moved)
        found = self.function({name: (value + moved[name]) / 2 for name, value in self.a.items()})
        return float(self._missing(found, self.function))

    def objective(self, half: Mapping[str, Tensor]) -> tuple[float, Mapping[str, Tensor]]:
        """The same of a network half way, with its gradient."""
        function = self.function
        if function is None:
            raise AssertionError("no function")
        return function.pulled(half, lambda output: self._missing(output, function))

    @cached_property
    def _mean(self) -> Tensor:
        return (self.function(self.a) + self.function(self.b)) / 2 if self.function is not None else torch.zeros(())

    def _missing(self, output: Tensor, function: Function) -> Tensor:
        """By how much a loss is above the mean of both ends; of any other output the distance to the mean."""
        if function.loss_fn is not None and output.numel() == 1:
            return (output - self._mean).sum()
        distance: Tensor = torch.linalg.vector_norm(output - self._mean)
        return distance


def _nearest(network: Network, a: Mapping[str, Tensor], b: Mapping[str, Tensor], starts: int) -> tuple[Element, float]:
    """The permutations, signs and rotations after which b is nearest to a, of several starts, and the distance."""
    found: list[tuple[float, Element]] = []
    for number in range(max(starts, 1)):
        solver = Solver(network, frozenset(), a, b, free=False)
        solver.known = set(network.late)
        _begin(solver, number)
        solver.finish(_SWEEPS)
        found.append((solver.off(), Element(tuple(solver.steps))))
    distance, element = min(found, key=lambda pair: pair[0])
    return element, distance


def _begin(solver: Solver, number: int) -> None:
    """From what the entries say one after another; from where b is; then from random permutations."""
    if number == 0:
        solver.in_turn()
        return
    solver.hold_all()
    draw = torch.Generator().manual_seed(number)
    for space in solver.network.symmetries.spaces if number > 1 else ():
        order = space.random_element(draw).permutation
        solver.apply(tuple(space_steps(space, SpaceElement(permutation=order))))
