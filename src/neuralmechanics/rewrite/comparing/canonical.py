"""One representative of each orbit, and numbers that are equal on the whole of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.comparing.checkpoints import completed, read
from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, Step, space_steps
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.matching import Solver, distance_between
from neuralmechanics.rewrite.comparing.solving.reduced import left_open, reduced

__all__ = ["canonical", "canonical_tensors", "fingerprint"]

_SAME = 1e-6
_AMOUNT = 0.3  # of a random element of a family
_UNFIXED = (
    "no canonical form: of another network of the same orbit it comes out {off:.1e} of its size away, because some "
    "channels cannot be told apart or nothing fixes {what}; compare with `equivalent` instead"
)


def canonical(
    model: nn.Module, batch: Any, params: Mapping[str, Tensor], loss_fn: LossFunction | None = None
) -> dict[str, Tensor]:
    """The network of the same function at one fixed place of its orbit: equal, up to rounding, for equivalent networks.

    Scales and general linear groups by least norm; permutations, signs and rotations by coming nearest, part after
    part, to one network of random numbers that depends on nothing but names and shapes. Raises ``ValueError`` where a
    randomly transformed copy does not lead to the same place (channels that are alike).
    """
    network, tensors = _tensors(model, batch, params, loss_fn)
    found = canonical_tensors(network, tensors)
    _require_same(network, found, canonical_tensors(network, _elsewhere(network, tensors)))
    return {**params, **{name: found[name].to(value.dtype) for name, value in params.items() if name in found}}


def canonical_tensors(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same for float64 tensors, unchecked."""
    start = reduced(network, tensors)
    draw = torch.Generator().manual_seed(0)
    reference = {
        name: torch.randn(value.shape, generator=draw, dtype=torch.float64) for name, value in sorted(tensors.items())
    }
    solver = Solver(network, frozenset(), reference, start.params, free=False)
    solver.known = set(network.late)
    solver.in_turn()
    return solver.b


def fingerprint(
    model: nn.Module, batch: Any, params: Mapping[str, Tensor], loss_fn: LossFunction | None = None
) -> dict[str, Tensor]:
    """Invariants of the whole symmetry group: the singular values of every tensor at the point of least norm.

    A tensor is unfolded to a matrix by its first dimension; of a vector, and of experts in one tensor, there is the
    length. Permutations, signs and rotations do not change them, and all else has been fixed. Equal, up to rounding,
    for equivalent networks; two that differ by more are not equivalent. Raises ``ValueError`` as ``canonical`` does.
    """
    network, tensors = _tensors(model, batch, params, loss_fn)
    found = _invariants(network, tensors)
    _require_same(network, found, _invariants(network, _elsewhere(network, tensors)))
    return found


def _invariants(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = reduced(network, tensors).params
    apart = {e.parameter for s in network.symmetries.channel_spaces for e in s.entries if e.beside}
    values = {name: _singular_values(value, apart=name in apart) for name, value in found.items()}
    for place in (place for s in network.symmetries.spaces for place in zip(*s.blocks, strict=True)):
        # Blocks change places as well: the greatest first.
        ordered = sorted((values[name] for name in place), key=lambda v: -float(v.max()))
        values |= dict(zip(place, ordered, strict=True))
    return values


def _singular_values(value: Tensor, *, apart: bool) -> Tensor:
    """Of a matrix; the length alone of a vector, and of what turns differently for each index of another dimension."""
    if value.ndim < 2 or apart:
        length: Tensor = torch.linalg.vector_norm(value)
        return length.reshape(1)
    values: Tensor = torch.linalg.svdvals(value.reshape(len(value), -1))
    return values


def _tensors(
    model: nn.Module, batch: Any, params: Mapping[str, Tensor], loss_fn: LossFunction | None
) -> tuple[Network, dict[str, Tensor]]:
    network = Network.of(model, batch, loss_fn)
    whole = completed(network, model, params, "params")
    return network, read(whole, [name for name in network.tensors if name in whole])


def _elsewhere(network: Network, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another network of the orbit: random elements of every exact family and of every space."""
    draw = torch.Generator().manual_seed(1)
    steps: list[Step] = []
    for family in network.families:
        if family.exact:
            steps += [FamilyStep(family, chosen) for _, chosen in family.action.random_elements(_AMOUNT, draw)]
    for space in network.symmetries.spaces:
        steps += space_steps(space, space.random_element(draw))
    return Element(tuple(steps)).transform(tensors)


def _require_same(network: Network, one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    off = distance_between(one, other)
    if not off <= _SAME:
        family = left_open(network)
        what = f"family {family.name!r}" if family is not None else "them"
        raise ValueError(_UNFIXED.format(off=off, what=what))
