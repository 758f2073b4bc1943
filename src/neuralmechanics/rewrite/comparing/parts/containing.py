"""Whether the groups of a model's spaces contain a family, which then needs no solution of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.parts.units import SpaceUnit
from neuralmechanics.symmetry import Element, Family

__all__ = ["contain_factors", "contain_matrices", "made_of_families"]

_SAME = 1e-9
_ROUNDS = 40  # of subtraction: spaces that share tensors share what is left


def contain_matrices(units: Sequence[SpaceUnit], family: Family) -> bool:
    """Whether a space's group of matrices contains the matrices of a family: by width, kind and tensors.

    All of a space's tensors move at once: a family that moves fewer is not among its elements.
    """
    action = family.action
    if not action.matrix_group:
        return False
    general = action.matrix_group == "general linear"
    spaces = (unit.space for unit in units if unit.space.mixes and unit.space.width == action.channels)
    return any(
        (space.group == "general linear" or not general)
        and set(family.parameters) == {e.parameter for e in space.entries if e.mixes}
        for space in spaces
    )


def made_of_families(unit: SpaceUnit, families: Sequence[Family], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether families that move parts of a space's tensors make up its general linear group, one matrix in each.

    A packed projection that reads two streams by different rows: each stream has matrices of its own, and those that
    are the same in both are the space's.
    """
    space, names = unit.space, {e.parameter for e in unit.space.entries if e.mixes}
    parts = [f for f in families if f.action.channels == space.width and set(f.parameters) < names]
    parts = [f for f in parts if f.action.matrix_group == "general linear"]
    if space.group != "general linear" or space.copies_shape or len(parts) < 2 or not names <= set(shapes):
        return False
    draw = torch.Generator().manual_seed(0)
    start = {n: torch.randn(shapes[n], generator=draw, dtype=torch.float64) for n in sorted(names)}
    matrix = torch.randn(space.width, space.width, generator=draw, dtype=torch.float64)
    wanted, moved = space.transform(start, Element(matrix=matrix)), start
    for family in parts:
        # A family's matrix is the space's, or its inverse transpose where it counts its own readers as writers.
        tried = [family.transform(moved, amount) for amount in (matrix, torch.linalg.inv(matrix).mT)]
        moved = min(tried, key=lambda found: _entries_off(found, wanted))
    return _entries_off(moved, wanted) == 0


def _entries_off(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> int:
    return sum(int((~torch.isclose(a[n], b[n], rtol=_SAME, atol=_SAME)).sum()) for n in b)


def contain_factors(units: Sequence[SpaceUnit], family: Family, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether factors of the spaces' directions do what the family does, for one of its elements drawn at random."""
    action = family.action
    if not action.factor_terms or action.centred is not action:
        return False
    touching = [u for u in units if set(u.space.parameters) & set(family.parameters)]
    names = {name for unit in touching for name in unit.space.parameters} | set(family.parameters)
    names &= set(shapes)
    draw = torch.rand(action.charges, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1
    rest = {name: torch.zeros(shapes[name], dtype=torch.float64) for name in names}
    ones = {name: torch.ones(shapes[name], dtype=torch.float64) for name in family.parameters}
    for name, value in action.generator(ones, draw).items():
        rest[name] = value.clone()
    for _ in range(_ROUNDS):
        for unit in touching:
            _subtract(unit, rest)
        if all(float(value.abs().max()) < _SAME for value in rest.values() if value.numel()):
            return True
    return False


def _subtract(unit: SpaceUnit, rest: dict[str, Tensor]) -> None:
    """Takes away the logarithms of factors that come nearest to what is left, channel by channel."""
    space = unit.space
    entries = [k for k, e in enumerate(space.entries) if e.parameter in rest]
    scales = [d.exponents for d in (space.directions[k] for k in unit.directions) if d.kind == "scale"]
    if space.group == "general linear":
        scales.append(tuple(0.0 if not e.mixes else -1.0 if e.inverse_transposed else 1.0 for e in space.entries))
    if not scales or not entries:
        return
    powers = torch.tensor([[exponents[k] for exponents in scales] for k in entries], dtype=torch.float64)
    for copy in unit.copies:
        means = torch.stack([unit.rows(k, copy, rest).mean(1) for k in entries])
        logs = torch.linalg.pinv(powers) @ means
        for k, found in zip(entries, powers @ logs, strict=True):
            unit.add_(k, copy, rest[space.entries[k].parameter], -found)
