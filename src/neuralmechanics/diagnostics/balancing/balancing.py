"""The point of least norm on an orbit, where all rescale and linear charges vanish: exact cross-layer equalisation."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.diagnostics.balancing.orbit import Direction, Orbit, inner, masked
from neuralmechanics.diagnostics.balancing.preconditioner import preconditioner
from neuralmechanics.symmetry.families.family import Family

__all__ = ["Balance", "UnbalancedWarning", "balance", "balanced", "pair_balance"]

_FARTHEST = 14.0  # log-scale beyond which the least norm is taken as not attained: the sides differ by e^28
_TOLERANCE = 1e-13
_LONGEST = 2.0  # greatest log-scale of one step


class UnbalancedWarning(UserWarning):
    """Some charges cannot be brought to zero by any finite transformation."""


@dataclass(frozen=True)
class Balance:
    """The balanced parameters, the norm Σ θ² of what moved before and after, and what had to stay.

    Gains that are stored about another point than zero, as 1 + w, count with their own size: Σ (1 + w)².

    ``unattained`` names the directions whose infimum is not attained (a zero outgoing slice: scaling down what comes in
    would lower the norm for ever); they are left alone. ``imbalance`` is the greatest |charge| / size of the others.
    """

    params: dict[str, Tensor]
    norm_before: float
    norm_after: float
    imbalance: float
    steps: int
    unattained: tuple[str, ...]


def balance(symmetries: Iterable[Family], params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """argmin Σ θ² over the orbit of ``params`` under all rescale and linear families: the same function, balanced.

    Directions without a minimum are left alone with an ``UnbalancedWarning``; ``balanced`` returns them instead.

    >>> import torch, neuralmechanics as nm
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2)).double()
    >>> symmetries = nm.find_symmetries(model, torch.zeros(5, 3).double())
    >>> params = balance(symmetries, dict(model.named_parameters()))
    >>> bool(symmetries.charge(params).abs().max() < 1e-12)
    True
    """
    result = balanced(symmetries, params)
    if result.unattained:
        shown = ", ".join(result.unattained[:3]) + (", …" if len(result.unattained) > 3 else "")
        warnings.warn(
            f"{len(result.unattained)} directions have no point of least norm (one side is zero) and stay as they are: "
            f"{shown}; give these slices nonzero weights to balance them",
            UnbalancedWarning,
            stacklevel=2,
        )
    return result.params


def balanced(symmetries: Iterable[Family], params: Mapping[str, Tensor], *, most_steps: int = 200) -> Balance:
    """The balanced point with an account of how it was reached.

    Σ θ² is convex along every one-parameter group of log-scales and symmetric matrices, so any point with zero
    charges is the least one (Kempf & Ness 1979). Newton's method on the orbit, its Hessian ⟨Xθ, Yθ⟩ applied through the
    generators inside conjugate gradients: memory of a few copies of the moved parameters, in float64. Isolated linear
    pairs are solved in closed form first. Scale families do not move. Raises ``KeyError`` for a missing parameter,
    ``ValueError`` for parameters that are complex, not finite or on the meta device.
    """
    orbit = Orbit.of(symmetries)
    origins = orbit.origins(start := _wide(orbit, params))
    start |= {name: start[name] + c for name, c in origins.items()}
    allowed = [_attained(family, start) for family in orbit.families]
    # Directions along which the descent fled to infinity are taken out, and it begins anew without them.
    while True:
        reached, steps, travelled = _descend(orbit, start, allowed, most_steps)
        narrowed = [_narrowed(a, t) for a, t in zip(allowed, travelled, strict=True)]
        if all(torch.equal(a, b) for a, b in zip(allowed, narrowed, strict=True)):
            break
        allowed = narrowed
    moved = {name: (reached[name] - origins.get(name, 0.0)).to(params[name].dtype) for name in orbit.parameters}
    return Balance(
        params={name: p.detach() for name, p in params.items()} | moved,
        norm_before=orbit.norm(start),
        norm_after=orbit.norm(reached),
        imbalance=_greatest(orbit, reached, allowed),
        steps=steps,
        unattained=tuple(n for f, a in zip(orbit.families, allowed, strict=True) for n in _names(f, a)),
    )


def pair_balance(
    p: Float64[Tensor, "blocks width width"], n: Float64[Tensor, "blocks width width"]
) -> Float64[Tensor, "blocks width width"]:
    """log A of the symmetric A with A P A = A⁻¹ N A⁻¹: half the logarithm of the geometric mean of P⁻¹ and N."""
    root, inverse_root = _spectral(p, 0.5), _spectral(p, -0.5)
    # M = A², the one positive matrix with M P M = N.
    mean = inverse_root @ _spectral(root @ n @ root, 0.5) @ inverse_root
    values, vectors = torch.linalg.eigh((mean + mean.mT) / 2)
    out: Tensor = 0.5 * vectors @ torch.diag_embed(values.log()) @ vectors.mT
    return out


def _spectral(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    # Rounding may leave an eigenvalue of a positive matrix below zero.
    powers = values.clamp(min=torch.finfo(values.dtype).tiny) ** power
    out: Tensor = vectors @ torch.diag_embed(powers) @ vectors.mT
    return out


def _wide(orbit: Orbit, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Float64 copies of what moves."""
    out = {}
    for name in orbit.parameters:
        if name not in params:
            raise KeyError(f"parameter {name!r} is missing; pass dict(model.named_parameters()) of the same model")
        value = params[name].detach()
        if value.is_complex() or value.is_meta:
            what = "complex" if value.is_complex() else "on the meta device"
            raise ValueError(f"parameter {name!r} is {what}; balance needs real numbers: load the weights first")
        if not bool(value.isfinite().all()):
            raise ValueError(f"parameter {name!r} holds values that are not finite; balance needs finite ones")
        out[name] = value.double()
    return out


def _attained(family: Family, params: Mapping[str, Tensor]) -> Bool[Tensor, "*entries"]:
    """Which entries of the family's directions have a least norm: charges without a side that is zero alone.

    A linear block (X, Y) → (AX, A⁻ᵀY) has one iff X, Y and YᵀX have one rank; failing that its diagonal may have one.
    """
    positive, negative = family.action.sides(params)
    if positive.ndim == 1:
        return _two_sided(positive, negative)
    diagonal = _two_sided(positive.diagonal(dim1=1, dim2=2), negative.diagonal(dim1=1, dim2=2))
    out = torch.diag_embed(diagonal)
    for block, (p, n) in enumerate(zip(positive, negative, strict=True)):
        x, y = _range(p), _range(n)
        if x.shape == y.shape and (x.shape[1] == len(p) or _transversal(x, y)):
            out[block] = True
    return out


def _two_sided(positive: Tensor, negative: Tensor) -> Tensor:
    least, most = torch.minimum(positive, negative), torch.maximum(positive, negative)
    # These are squares: of sides whose weights differ by a factor of 1e15 the smaller is rounding beside the other.
    return (least > 1e-30 * most) | (most == 0)


def _range(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    # An eigenvalue is known to about as many roundings of the greatest as the matrix has rows.
    out: Tensor = vectors[:, values > 1e-14 * len(values) * values[-1].clamp(min=0)]
    return out


def _transversal(x: Tensor, y: Tensor) -> bool:
    # The least cosine between two ranges that are read off squares, and so known to √ε.
    return x.shape[1] == 0 or bool(torch.linalg.svdvals(y.mT @ x)[-1] > 1e-8)


def _narrowed(allowed: Tensor, travelled: Tensor) -> Tensor:
    """Without the directions that went too far: charges, blocks off the diagonal, then the diagonal's entries."""
    far = travelled.abs() > _FARTHEST
    if allowed.ndim == 1:
        return allowed & ~far
    unit = torch.eye(allowed.shape[1], dtype=torch.bool, device=allowed.device)
    gone = far.any(dim=2)
    full = allowed.all(dim=2).all(dim=1)
    diagonal = torch.where(full[:, None], True, ~gone)
    return torch.where((gone.any(dim=1))[:, None, None], allowed & unit & diagonal[:, :, None], allowed)


def _names(family: Family, allowed: Tensor) -> list[str]:
    """The charges that stay; of a block the first of them."""
    stuck = ~allowed.reshape(len(allowed), -1).all(dim=1)
    per_block = len(family.labels) // max(len(allowed), 1)
    return [str(family.labels[k * per_block]) for k in torch.nonzero(stuck).reshape(-1).tolist()]


def _greatest(orbit: Orbit, params: Mapping[str, Tensor], allowed: list[Tensor]) -> float:
    entries = masked(orbit.imbalance(params), allowed)
    return max((float(x.max()) for x in entries if x.numel()), default=0.0)


def _descend(
    orbit: Orbit, start: dict[str, Tensor], allowed: list[Tensor], most_steps: int
) -> tuple[dict[str, Tensor], int, Direction]:
    """Newton steps until all allowed charges vanish to rounding; also how far each direction was followed."""
    params, travelled = _closed_forms(orbit, start, allowed)
    best, best_imbalance, idle = params, _greatest(orbit, params, allowed), 0
    step, flight = 0, 0.0
    # Long steps with small charges are a flight to infinity along which the norm hardly falls any more.
    while step < most_steps and (best_imbalance > _TOLERANCE or flight >= 1e-3) and idle < 4:
        step += 1
        direction = _newton(orbit, params, allowed)
        size = max((float(x.abs().max()) for x in direction if x.numel()), default=0.0)
        flight = max((float(x.abs().max()) for x in direction if x.ndim == 1), default=0.0)
        length = _line_search(orbit, params, direction, min(1.0, _LONGEST / max(size, 1e-300)))
        params = orbit.move(params, direction, length)
        travelled = [t + length * x for t, x in zip(travelled, direction, strict=True)]
        imbalance = _greatest(orbit, params, allowed)
        # Far from the minimum the norm falls while the worst ratio may not: only small steps count as idle.
        idle = idle + 1 if imbalance >= 0.5 * best_imbalance and size < 1e-3 else 0
        if imbalance < best_imbalance or size >= 1e-3:
            best, best_imbalance = params, imbalance
        if any(bool((t.abs() > _FARTHEST).any()) for t in travelled):
            break
    return best, step, travelled


def _closed_forms(
    orbit: Orbit, params: dict[str, Tensor], allowed: list[Tensor]
) -> tuple[dict[str, Tensor], Direction]:
    """Every block of full rank balanced by itself, one family after another."""
    travelled: Direction = []
    for position, family in enumerate(orbit.families):
        if allowed[position].ndim == 1:
            travelled.append(torch.zeros_like(allowed[position], dtype=torch.float64))
            continue
        positive, negative = family.action.sides(params)
        least = [torch.linalg.eigvalsh(m) for m in (positive, negative)]
        regular = allowed[position].all(dim=2).all(dim=1)
        for values in least:
            regular &= values[:, 0] > 1e-12 * values[:, -1]
        # Identities in the place of blocks that are left out: they are balanced, and do not move.
        unit = torch.eye(positive.shape[-1], dtype=torch.float64, device=positive.device).expand_as(positive)
        keep = regular[:, None, None]
        logarithm = pair_balance(torch.where(keep, positive, unit), torch.where(keep, negative, unit))
        params = params | orbit.flow(family, params, logarithm, 1.0)
        travelled.append(logarithm)
    return params, travelled


def _newton(orbit: Orbit, params: Mapping[str, Tensor], allowed: list[Tensor]) -> Direction:
    """X with 2⟨Xθ, Yθ⟩ = -⟨Yθ, θ⟩ for all Y, by preconditioned conjugate gradients on the allowed directions."""
    solve = preconditioner(orbit, params, allowed)
    residual = [-m for m in masked(orbit.moments(params, params), allowed)]
    solution = [torch.zeros_like(r) for r in residual]
    scaled = solve(residual)
    search, energy = scaled, inner(residual, scaled)
    # The energy is a square: ten digits of the residual, as many as a Newton step is good for.
    size, goal = energy, 1e-20 * energy
    for _ in range(400):
        if not energy > goal:
            break
        image = masked(orbit.moments(orbit.velocity(params, search), params), allowed)
        curvature = 2 * inner(search, image)
        if curvature <= 1e-13 * size:  # flat to rounding: a direction that moves nothing
            break
        rate = energy / curvature
        solution = [x + rate * s for x, s in zip(solution, search, strict=True)]
        residual = [r - 2 * rate * h for r, h in zip(residual, image, strict=True)]
        scaled = solve(residual)
        ratio, energy = 1 / energy, inner(residual, scaled)
        ratio *= energy
        search = [z + ratio * s for z, s in zip(scaled, search, strict=True)]
        # |search|² as the preconditioner measures it, carried along: its two parts are orthogonal there.
        size = energy + ratio**2 * size
    return solution


def _line_search(orbit: Orbit, params: Mapping[str, Tensor], direction: Direction, length: float) -> float:
    """The first halving of ``length`` at which the norm falls, or does not rise beyond rounding."""
    now = orbit.norm(params)
    slope = 2 * inner(orbit.moments(params, params), direction)
    for _ in range(40):
        # Armijo's condition; near the minimum a rise of the norm within rounding is none.
        if orbit.norm(orbit.move(params, direction, length)) <= now + 1e-4 * length * slope + 1e-14 * now:
            break
        length /= 2
    return length
