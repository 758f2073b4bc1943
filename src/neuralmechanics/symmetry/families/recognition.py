"""What a field given as a function is: constant, diagonal, about a point, symmetric; from its values alone.

A field that agrees with an affine map at random points, near and far, is taken for one; its matrix is read off its
values at unit vectors where it is not diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions import (
    Action,
    AffineDiagonal,
    Bilinear,
    Diagonal,
    Entries,
    Field,
    Form,
    Origin,
    Shift,
)
from neuralmechanics.symmetry.families.family import Kind
from neuralmechanics.symmetry.families.own_fields import Params, Probes

__all__ = ["Recognised", "recognised"]

_EXACT = 1e-10
_ENTRIES = 2048  # elements up to which a matrix over them is read, one call of the field each


@dataclass(frozen=True)
class Recognised:
    """The action that the field generates, where it has a charge; else its form and why there is none."""

    kind: Kind
    action: Action | None = None
    form: Form = "other"
    unfollowed: str = ""


def recognised(field: Field, probes: Probes, moved: tuple[str, ...], read: tuple[str, ...]) -> Recognised:
    """The form of the field."""
    if _constant(field, probes, moved):
        return Recognised("translation", Shift(_terms(_steps(field, probes.near[0], moved))))
    if not _affine(field, probes, moved):
        why = "its generator is neither constant nor linear in the parameters: laws are known for these alone"
        return Recognised("nonlinear", unfollowed=why)
    origin = {key: torch.zeros_like(p) for key, p in probes.params.items()}
    ones = {key: torch.ones_like(p) for key, p in probes.params.items()}
    constant = _cleaned(_steps(field, origin, moved), _steps(field, ones, moved))
    factors = _cleaned(_less(_steps(field, ones, moved), constant), _steps(field, ones, moved))
    displaced = any(bool((c != 0).any()) for c in constant.values())
    if not read and _diagonal(field, probes, moved, factors, constant):
        return _of_factors(factors, constant if displaced else {})
    if displaced:
        return Recognised("affine", unfollowed="its generator is Mθ + c with a matrix M that is not diagonal")
    if read:
        why = f"its generator reads {', '.join(read)}, which it does not move: it is no gradient of a charge"
        return Recognised("linear", unfollowed=why)
    return _of_matrix(field, probes, moved)


def _of_factors(factors: Params, constant: Params) -> Recognised:
    """Each element of θ + c times a number."""
    signs = {sign for f in factors.values() for sign in (-1.0, 1.0) if bool((f.sign() == sign).any())}
    kind: Kind = "rescale" if len(signs) > 1 else "scale"
    terms = _terms(factors)
    if not constant:
        return Recognised(kind, Diagonal(terms))
    if any(bool(((c != 0) & (factors[key] == 0)).any()) for key, c in constant.items()):
        why = "it adds constants to some elements and multiplies others: give it as two symmetries"
        return Recognised("affine", unfollowed=why)
    origins = []
    for key, c in constant.items():
        values = torch.where(factors[key] == 0, 0.0, c / factors[key].where(factors[key] != 0, 1.0))
        if bool((values != 0).any()):
            origins.append(Origin(key, _shrunk(values.cpu().numpy())))
    return Recognised(kind, AffineDiagonal(terms, tuple(origins)))


def _of_matrix(field: Field, probes: Probes, moved: tuple[str, ...]) -> Recognised:
    """Mθ with a matrix that is not diagonal."""
    count = sum(probes.params[key].numel() for key in moved)
    u, v = probes.far[0], probes.far[1]
    # For random u and v, ⟨u, Mv⟩ = ⟨v, Mu⟩ says that M is symmetric, opposite signs that it is antisymmetric.
    uv, vu = (_inner(a, _steps(field, b, moved)) for a, b in ((u, v), (v, u)))
    size = abs(uv) + abs(vu)
    if abs(uv + vu) <= _EXACT * size and abs(_inner(u, _steps(field, u, moved))) <= _EXACT * size:
        why = "its generator turns parameters (an antisymmetric matrix): rotations have no charge under gradient flow"
        return Recognised("linear", form="antisymmetric", unfollowed=why)
    if abs(uv - vu) > _EXACT * size:
        return Recognised("linear", unfollowed="its generator is Mθ with M not symmetric: no gradient of a charge")
    if count > _ENTRIES:
        why = f"its matrix is not diagonal and moves {count} elements: matrices of up to {_ENTRIES} are followed"
        return Recognised("linear", unfollowed=why)
    matrices, across = _read(field, probes, moved)
    if across:
        why = f"its generator moves {across[0]} by {across[1]}: charges are followed as sums over parameters"
        return Recognised("linear", unfollowed=why)
    return Recognised("linear", Bilinear(tuple(matrices)))


def _read(field: Field, probes: Probes, moved: tuple[str, ...]) -> tuple[list[Entries], tuple[str, str] | None]:
    """The nonzero entries of M in each parameter, and two parameters that it joins, if any."""
    zero = {key: torch.zeros_like(p) for key, p in probes.params.items()}
    out = []
    for key in moved:
        rows, columns, values = [], [], []
        for column in range(zero[key].numel()):
            unit = zero[key].clone()
            unit.view(-1)[column] = 1.0
            steps = _steps(field, zero | {key: unit}, moved)
            for other, step in steps.items():
                places = step.reshape(-1).nonzero().reshape(-1)
                if other != key and len(places):
                    return [], (other, key)
                if other == key:
                    rows += places.tolist()
                    columns += [column] * len(places)
                    values += step.reshape(-1)[places].tolist()
        out.append(Entries(key, np.array(rows, np.int64), np.array(columns, np.int64), np.array(values, float)))
    return out, None


def _constant(field: Field, probes: Probes, moved: tuple[str, ...]) -> bool:
    first = _steps(field, probes.near[0], moved)
    return all(
        _close(_steps(field, point, moved), first, 1e-13) for point in (*probes.near[1:], *probes.far, _zero(probes))
    )


def _affine(field: Field, probes: Probes, moved: tuple[str, ...]) -> bool:
    """ξ(x + y - z) = ξ(x) + ξ(y) - ξ(z), near and far."""
    # The third set joins both: a field may be affine near the point and far from it, by two different maps.
    for x, y, z in (probes.near, probes.far, (probes.far[0], probes.near[1], probes.far[2])):
        corner = {key: x[key] + y[key] - z[key] for key in x}
        at = [_steps(field, point, moved) for point in (x, y, z)]
        joined = {key: at[0][key] + at[1][key] - at[2][key] for key in moved}
        if not _close(_steps(field, corner, moved), joined, _EXACT):
            return False
    return all(bool(s.isfinite().all()) for s in _steps(field, _zero(probes), moved).values())


def _diagonal(field: Field, probes: Probes, moved: tuple[str, ...], factors: Params, constant: Params) -> bool:
    for point in (*probes.near, *probes.far):
        expected = {key: factors[key] * point[key] + constant[key] for key in moved}
        if not _close(_steps(field, point, moved), expected, _EXACT):
            return False
    return True


def _zero(probes: Probes) -> Params:
    return {key: torch.zeros_like(p) for key, p in probes.params.items()}


def _steps(field: Field, point: Params, moved: tuple[str, ...]) -> Params:
    """The field with zeros written out."""
    steps = field(point)
    return {key: steps[key].detach() if key in steps else torch.zeros_like(point[key]) for key in moved}


def _less(a: Params, b: Params) -> Params:
    return {key: a[key] - b[key] for key in a}


def _cleaned(a: Params, like: Params) -> Params:
    """Without what is rounding beside the largest entry of ``like``."""
    size = max(float(x.abs().max()) for x in (*like.values(), *a.values()))
    return {key: torch.where(x.abs() <= 1e-13 * size, 0.0, x) for key, x in a.items()}


def _close(a: Params, b: Params, tolerance: float) -> bool:
    size = max(float(x.abs().max()) for x in (*a.values(), *b.values()))
    return all(bool(((a[key] - b[key]).abs() <= tolerance * size).all()) for key in a)


def _inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float((a[key] * step).sum()) for key, step in b.items())


def _terms(factors: Params) -> tuple[SliceTerm, ...]:
    """The numbers as coefficients on slices, over as few dimensions as tell them apart."""
    out = []
    for key, values in factors.items():
        array = values.cpu().numpy()
        small = _shrunk(array)
        kept = tuple(d for d, n in enumerate(small.shape) if n > 1 or array.shape[d] == 1)
        flat = small.reshape(-1)
        places = np.flatnonzero(flat)
        if len(places):
            view = SliceView(key, tuple(array.shape), kept)
            out.append(SliceTerm(view, np.zeros(len(places), np.int64), places, flat[places]))
    return tuple(out)


def _shrunk(array: np.ndarray) -> np.ndarray:
    """One entry along every dimension in which the numbers are the same."""
    for d, n in enumerate(array.shape):
        first = np.take(array, [0], axis=d)
        if n > 1 and np.array_equal(array, np.broadcast_to(first, array.shape)):
            array = first
    return array
