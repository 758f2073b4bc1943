"""Which channel of one network is which of another: an assignment, with the signs and factors that go with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from neuralmechanics.rewrite.comparing.parts.matrices import Pair
from neuralmechanics.symmetry.families.spaces import Direction

__all__ = ["Match", "assigned", "match_channels", "pair_costs"]

_PASSES = 6  # over all flips of one or two signs
_MANY_SIGNS = 8  # directions of one component beyond which their signs are read off and then improved


@dataclass(frozen=True)
class Match:
    """Channel k of the first is channel ``permutation[k]`` of the second, times ``factors[d, k]`` along direction d."""

    permutation: Int64[Tensor, " width"]
    factors: Float64[Tensor, "directions width"]
    cost: float


@dataclass(frozen=True)
class _Class:
    """Rows that are multiplied alike: their products ⟨a_i, b_j⟩ and squares."""

    powers: tuple[float, ...]
    products: Float64[Tensor, "width width"]
    own: Float64[Tensor, "width 1"]
    other: Float64[Tensor, "1 width"]


def match_channels(
    pairs: Sequence[Pair],
    exponents: Sequence[tuple[float, ...]],
    directions: Sequence[Direction],
    extra: Float64[Tensor, "width width"] | None = None,
    *,
    free: bool = True,
) -> Match:
    """The assignment of least Σ ‖a_k - f b_p(k)‖² over permutations p and factors f of the directions.

    Where factors are ``free`` they are those that make lengths equal, and rows count in units of their mean length;
    else only signs are chosen. ``extra`` is added to the costs.
    """
    costs, factors = pair_costs(pairs, exponents, directions, free=free)
    if extra is not None:
        costs = costs + extra
    permutation = assigned(costs)
    rows = torch.arange(len(permutation))
    return Match(permutation, factors[:, rows, permutation], float(costs[rows, permutation].sum()))


def assigned(costs: Float64[Tensor, "width width"]) -> Int64[Tensor, " width"]:
    """The permutation of least total cost (Hungarian method)."""
    return torch.as_tensor(linear_sum_assignment(costs.numpy())[1])


def pair_costs(
    pairs: Sequence[Pair], exponents: Sequence[tuple[float, ...]], directions: Sequence[Direction], *, free: bool
) -> tuple[Float64[Tensor, "width width"], Float64[Tensor, "directions width width"]]:
    """The cost of every channel as every other, and the factors at which it is reached."""
    n = len(pairs[0][0])
    costs = torch.zeros(n, n, dtype=torch.float64)
    factors = torch.ones(len(directions), n, n, dtype=torch.float64)
    classes = list(_classes(pairs, exponents, directions, free))
    for numbers, members in _components(classes, len(directions)):
        scales = [d for d in numbers if directions[d].kind == "scale" and free]
        logs = _log_factors(members, scales)
        sizes = [(sum(c.powers[d] * log for d, log in zip(scales, logs, strict=True))) for c in members]
        reached = [size.exp() if isinstance(size, Tensor) else torch.ones(()) for size in sizes]
        # In the units of the first network's mean length, or as they are.
        units = [float(c.own.mean()) if free and float(c.own.mean()) > 0 else 1.0 for c in members]
        weighted = [f * c.products / u for c, f, u in zip(members, reached, units, strict=True)]
        signs = [d for d in numbers if directions[d].kind == "sign"]
        overlap, chosen = _best_signs(members, weighted, signs)
        lengths = [(c.own + f**2 * c.other) / u for c, f, u in zip(members, reached, units, strict=True)]
        # ‖a - f b‖² = ‖a‖² + f²‖b‖² - 2 f⟨a, b⟩ for all pairs at once.
        costs += sum(lengths, torch.zeros(n, n, dtype=torch.float64)) - 2 * overlap
        for d, log in zip(scales, logs, strict=True):
            factors[d] = log.exp()
        for d, sign in chosen.items():
            factors[d] = sign
    return costs, factors


def _classes(
    pairs: Sequence[Pair], exponents: Sequence[tuple[float, ...]], directions: Sequence[Direction], free: bool
) -> Iterator[_Class]:
    grouped: dict[tuple[float, ...], list[Pair]] = {}
    for pair, powers in zip(pairs, exponents, strict=True):
        active = tuple(p if d.kind == "sign" or free else 0.0 for p, d in zip(powers, directions, strict=True))
        grouped.setdefault(active, []).append(pair)
    for powers, members in grouped.items():
        a, b = (torch.cat([pair[side] for pair in members], 1) for side in (0, 1))
        yield _Class(powers, a @ b.mT, a.square().sum(1)[:, None], b.square().sum(1)[None])


def _components(classes: Sequence[_Class], count: int) -> Iterator[tuple[list[int], list[_Class]]]:
    """Directions that share rows, with these rows; rows that no direction multiplies each by themselves."""
    root = list(range(count))

    def find(d: int) -> int:
        while root[d] != d:
            d = root[d]
        return d

    touched = [[d for d, p in enumerate(c.powers) if p] for c in classes]
    for first, *others in (t for t in touched if t):
        for other in others:
            root[find(other)] = find(first)
    for top in sorted({find(d) for d in range(count)}):
        members = [c for c, t in zip(classes, touched, strict=True) if t and find(t[0]) == top]
        if members:
            yield [d for d in range(count) if find(d) == top], members
    for c, t in zip(classes, touched, strict=True):
        if not t:
            yield [], [c]


def _log_factors(members: Sequence[_Class], scales: Sequence[int]) -> list[Tensor]:
    """log f of each direction, for every pair of channels, so that Σ p log f is the ratio of lengths: least squares."""
    if not scales:
        return []
    powers = torch.tensor([[c.powers[d] for d in scales] for c in members], dtype=torch.float64)
    # Rows of zeros have no length that could be compared: they have no say.
    tiny = 1e-280
    known = torch.stack([(c.own > tiny) & (c.other > tiny) for c in members]).double()
    logs = torch.stack([((c.own.clamp(min=tiny)).log() - (c.other.clamp(min=tiny)).log()) / 2 for c in members])
    matrix = torch.einsum("cd,ce,cij->ijde", powers, powers, known)
    right = torch.einsum("cd,cij,cij->ijd", powers, known, logs)
    if len(scales) == 1:
        solved = torch.where(matrix[..., 0] > 0, right / matrix[..., 0].clamp(min=tiny), 0.0)
    else:
        solved = (torch.linalg.pinv(matrix, hermitian=True) @ right[..., None])[..., 0]
    return list(solved.clamp(-40, 40).movedim(-1, 0))


def _best_signs(
    members: Sequence[_Class], weighted: Sequence[Tensor], signs: Sequence[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """The greatest Σ ± ⟨a_i, b_j⟩ over the signs of the directions, for every pair, and these signs."""
    zero = torch.zeros_like(members[0].products)
    if not signs:
        return sum(weighted, zero), {}
    best: Tensor | None = None
    chosen = {d: torch.ones_like(zero) for d in signs}
    if len(signs) > _MANY_SIGNS:
        return _flipped(members, weighted, signs, *_read_signs(members, weighted, signs))
    for choice in itertools.product((1.0, -1.0), repeat=len(signs)):
        flips = dict(zip(signs, choice, strict=True))
        # To an even power a sign is none.
        parity = [np.prod([flips[d] for d in signs if c.powers[d] % 2]) for c in members]
        total = sum((float(s) * w for s, w in zip(parity, weighted, strict=True)), zero)
        better = torch.ones_like(zero, dtype=torch.bool) if best is None else total > best
        best = total if best is None else torch.maximum(best, total)
        for d, s in flips.items():
            chosen[d] = torch.where(better, s, chosen[d])
    return (zero if best is None else best), chosen


def _read_signs(
    members: Sequence[_Class], weighted: Sequence[Tensor], signs: Sequence[int]
) -> tuple[Tensor, dict[int, Tensor]]:
    """Signs after which as many classes as are independent have positive products, the largest classes first.

    Elimination modulo 2 on the parities of the classes, for all pairs of channels at once: of channels that are the
    same up to signs it is their signs.
    """
    order = sorted(range(len(members)), key=lambda k: -float(weighted[k].abs().sum()))
    rows: list[tuple[int, set[int], Tensor]] = []  # pivot, directions, whether their product is -1
    for k in order:
        odd = {d for d in signs if members[k].powers[d] % 2}
        negative = weighted[k] < 0
        for pivot, other, value in rows:
            if pivot in odd:
                odd, negative = odd ^ other, negative ^ value
        if odd:
            rows.append((min(odd), odd, negative))
    chosen = {d: torch.ones_like(members[0].products) for d in signs}
    for pivot, odd, negative in reversed(rows):
        value = torch.where(negative, -1.0, 1.0).to(torch.float64)
        for d in odd - {pivot}:
            value = value * chosen[d]
        chosen[pivot] = value
    best = torch.zeros_like(members[0].products)
    for member, part in zip(members, weighted, strict=True):
        for d in (d for d in signs if member.powers[d] % 2):
            part = part * chosen[d]
        best = best + part
    return best, chosen


def _flipped(
    members: Sequence[_Class], weighted: Sequence[Tensor], signs: Sequence[int], best: Tensor, chosen: dict[int, Tensor]
) -> tuple[Tensor, dict[int, Tensor]]:
    """Better signs by flipping one or two directions at a time while any pair of channels gains by it."""
    odd = [{d for d in signs if c.powers[d] % 2} for c in members]
    moves = [{d} for d in signs] + [set(two) for two in itertools.combinations(signs, 2)]

    def parts() -> list[Tensor]:
        found = []
        for w, own in zip(weighted, odd, strict=True):
            for d in own:
                w = w * chosen[d]
            found.append(w)
        return found

    for _ in range(_PASSES):
        gained = False
        for move in moves:
            lost = [part for part, own in zip(parts(), odd, strict=True) if len(own & move) % 2]
            better = sum(lost, torch.zeros_like(best)) < -1e-12 * best.abs()
            if bool(better.any()):
                gained = True
                chosen = {d: torch.where(better, -v, v) if d in move else v for d, v in chosen.items()}
        best = sum(parts(), torch.zeros_like(best))
        if not gained:
            break
    return best, chosen
