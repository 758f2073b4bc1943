"""What centring norms forget, made level: one place on the orbit of A = 1 + 1·vᵀ, whatever else acts on its readers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.parts.units import SpaceUnit
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import RotationTerm
from neuralmechanics.symmetry.families.actions.terms.gain import gain_values

__all__ = ["levelled"]

_LEAST = 1e-14

Form = Float64[Tensor, "width width"]


def levelled(
    network: Network, family: Family, params: Mapping[str, Tensor], hidden: Collection[str] = ()
) -> Tensor | None:
    """The matrix A = 1 + 1·vᵀ that makes level what a centring norm forgets: one place on the orbit of each network.

    Tensors X [channels, …] go to A X and others, such as a norm's bias over its gain, Y to A⁻ᵀY. A form S that only
    A changes goes to A⁻ᵀ S A⁻¹: the sum of Y Yᵀ over what nothing else stretches, and of Q Kᵀ over queries and keys of
    a head, whose own basis drops out. With z = S 1, y = 1ᵀz and b = z/y, whose sum is 1, v = (±z/√|y| - 1)/n leads to
    b' = 1/n and |y'| = n², whatever v' has been applied before. ``hidden`` tensors are no part of S. None of another
    action, where y is zero, and where a gain is hidden.
    """
    action = family.action
    if not action.along_ones or not action.legs:
        return None
    width = action.channels
    readers: dict[str, Tensor] = {}
    gains = {name for term in action.legs for name, _ in term.dressing} | set(action.inputs)
    if not gains.isdisjoint(hidden):
        return None
    for term in action.legs:
        if term.dual and term.parameter not in hidden:
            value = params[term.parameter].double().movedim(term.dim, 0)
            gain = gain_values(term.dressing, params, value)
            if gain is not None and bool((gain == 0).any()):
                return None
            value = value if gain is None else value / gain.reshape(-1, *[1] * (value.ndim - 1))
            readers[term.parameter] = value.movedim(0, term.dim)
    terms = {term.parameter: term for term in action.legs if term.dual}
    form = torch.zeros(width, width, dtype=torch.float64)
    size = 0.0
    for part in _forms(network, family, readers, terms):
        form, size = form + part, size + float(part.abs().sum())
    sums = form.sum(1)
    total = float(sums.sum())
    if abs(total) <= _LEAST * size:
        return None
    v = (sums * (1 if total > 0 else -1) / abs(total) ** 0.5 - 1) / width
    blind: Tensor = torch.eye(width, dtype=torch.float64) + v.expand(width, width)
    return blind


def _forms(
    network: Network, family: Family, readers: Mapping[str, Tensor], terms: Mapping[str, RotationTerm]
) -> Iterator[Form]:
    """Y Yᵀ of the readers that nothing else stretches, Q Kᵀ of those that a space mixes on their other side."""
    dims = {name: term.dim for name, term in terms.items()}
    spaces = {unit.name: unit for unit in network.units if isinstance(unit, SpaceUnit)}
    mixing: dict[str, SpaceUnit] = {}
    for name, value in readers.items():
        bent = {
            who
            for who in network.stretched(name, family, dims[name])
            if who not in spaces or not _turns_all(spaces[who], terms[name])
        }
        if not bent:
            rows = value.movedim(dims[name], 0).reshape(value.shape[dims[name]], -1)
            yield rows @ rows.mT
        mixing |= {who: spaces[who] for who in bent if who in spaces}
    for unit in mixing.values():
        entries = enumerate(unit.space.entries)
        there = [(k, e) for k, e in entries if e.mixes and e.parameter in readers and e.axis != dims[e.parameter]]
        for copy in unit.copies:
            sides: list[list[Tensor]] = [[], []]
            for k, entry in there:
                rows = unit.rows(k, copy, readers)
                sides[entry.inverse_transposed] += [rows] if readers[entry.parameter].ndim == 2 else []
            yield from (one.mT @ other for one in sides[0] for other in sides[1])


def _turns_all(unit: SpaceUnit, term: RotationTerm) -> bool:
    """Whether the space turns Y, its gains divided out, by matrices that keep the all-ones vector: S goes to Q S Qᵀ.

    Then z = S 1 goes to Q z, and what is level before is level after.
    """
    acting = [e for e in unit.space.entries if e.parameter == term.parameter and e.mixes]
    return unit.space.group == "ones-preserving orthogonal" and all(
        e.axis == term.dim and e.dressing == term.dressing for e in acting
    )
