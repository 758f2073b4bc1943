"""Families beside the spaces as parts that are solved for: rotary pairs, linear blocks, rotations, factors, shifts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, Step
from neuralmechanics.rewrite.comparing.parts.matrices import Pair, fit_matrix
from neuralmechanics.rewrite.comparing.parts.regions import Region, family_regions
from neuralmechanics.rewrite.comparing.parts.units import Tensors, Usable
from neuralmechanics.slices import SliceTerm
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import Action, ComplexPairs, LinearBlocks, Rotation
from neuralmechanics.symmetry.families.actions.terms.gain import gain_values

__all__ = [
    "FamilyUnit",
    "SolvedUnit",
    "conjugate_gradients",
    "family_unit",
    "is_scaling",
    "is_shift",
    "solved_through",
]

_SINGULAR = 1e-8  # determinants below this part of what they are the sum of are none

Solver = Callable[[Tensors, Tensors, Sequence[bool], bool], Tensor | None]


@dataclass(eq=False)
class FamilyUnit:
    """The group of one family; ``regions`` are its places, ``solver`` finds the amount from those that are usable."""

    family: Family
    regions: tuple[Region, ...]
    solver: Solver

    def __post_init__(self) -> None:
        self.name = self.family.name

    def known(self, usable: Usable) -> float:
        """The part of its places that are usable."""
        return sum(usable(self, k) for k in range(len(self.regions))) / max(len(self.regions), 1)

    def solve(self, a: Tensors, b: Tensors, usable: Usable, *, free: bool) -> tuple[Step, ...]:
        """One step, or none where nothing determines the amount."""
        there = [usable(self, k) for k in range(len(self.regions))]
        amount = self.solver(a, b, there, free) if any(there) else None
        return () if amount is None else (FamilyStep(self.family, amount),)


@dataclass(eq=False)
class SolvedUnit(FamilyUnit):
    """Shears whose direction solves M u = 1 for a map M, as a value's answers to what a norm removes: u = M⁻¹1.

    Once the rows of M are centred 1 is no output of M, and u but a direction that M does not see. The translations
    that centre them, ``opening``, are taken back for as long as the shear lasts: they do not turn it.
    """

    opening: tuple[Family, ...] = ()

    def solve(self, a: Tensors, b: Tensors, usable: Usable, *, free: bool) -> tuple[Step, ...]:
        """The shear between two translations."""
        opened: list[Step] = [FamilyStep(f, _opening(f, b)) for f in self.opening]
        moved = b
        for step in opened:
            moved = step.transform(moved)
        found = super().solve(a, moved, usable, free=free)
        return (*opened, *found, *(back for step in reversed(opened) for back in step.inverse())) if found else ()


def _opening(family: Family, params: Tensors) -> Tensor:
    """Some translation, of the size of what it moves."""
    sizes = [float(params[name].square().mean()) ** 0.5 for name in family.parameters]
    noise = torch.randn(family.action.weights_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return max(sizes, default=1.0) * noise


def solved_through(family: Family) -> tuple[str, ...]:
    """The weights of the map through which a shear's direction is solved for; none of any other family."""
    solved = getattr(family.action, "solved", None)
    return solved.inputs if solved is not None else ()


def is_shift(family: Family) -> bool:
    """Whether its amounts are added."""
    return family.action.additive


def is_scaling(family: Family) -> bool:
    """Whether its amounts are factors of single channels."""
    return bool(family.action.factor_terms)


def family_unit(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> FamilyUnit | None:
    """The family as a unit; None where its action has no solver."""
    action = family.action
    regions = family_regions(family, shapes)
    if action.factor_terms:
        whole = tuple(Region(term.view.parameter) for term in action.factor_terms)
        return FamilyUnit(family, whole, partial(_factors, action))
    if action.additive:
        return FamilyUnit(family, regions, partial(_shifts, action))
    # How a matrix is fitted is a matter of this package, and differs: an action does not know of other checkpoints.
    if isinstance(action, ComplexPairs):
        return FamilyUnit(family, regions, partial(_complex_factors, action))
    if isinstance(action, LinearBlocks):
        return FamilyUnit(family, regions, partial(_blocks, action))
    # Of slices and heads a space has the same group, but where pairs turn.
    turned = action.terms if isinstance(action, Rotation) and action.pairs else action.legs
    legs = tuple(Region(term.parameter) for term in turned)
    return FamilyUnit(family, legs, partial(_rotation, action)) if legs else None


def _complex_factors(action: ComplexPairs, a: Tensors, b: Tensors, there: Sequence[bool], free: bool) -> Tensor:
    """a z' = z for what is multiplied, a z̄ = z̄' for what is divided by ā: least squares, a pair at a time."""
    above, below = (torch.zeros(action.blocks, dtype=torch.complex128) for _ in range(2))
    for term, usable in zip(action.terms, there, strict=True):
        if not usable:
            continue
        index = torch.as_tensor(term.slices)
        wanted, given = (torch.complex(*(rows[index[:, k]] for k in (0, 1))) for rows in _channels(term, a, b))
        forward = torch.as_tensor(term.signs > 0)[:, None]
        x, y = torch.where(forward, given, wanted.conj()), torch.where(forward, wanted, given.conj())
        blocks = torch.as_tensor(term.blocks)
        # Every tensor counts alike, however large its entries are.
        size = float(x.abs().square().sum()) or 1.0
        above.index_add_(0, blocks, (x.conj() * y).sum(1) / size)
        below.index_add_(0, blocks, (x.abs().square().sum(1) / size).to(torch.complex128))
    found = torch.where(below.abs() > 0, above / torch.where(below.abs() > 0, below, 1.0), 1.0)
    # Zero is no element of the group: pairs that nothing determines stay as they are.
    found = torch.where(found.abs() > 0, found, 1.0)
    return torch.view_as_real(found if free else found / found.abs())


def _channels(term: object, a: Tensors, b: Tensors) -> tuple[Tensor, Tensor]:
    name = term.view.parameter  # type: ignore[attr-defined]
    return term.channels(a[name]), term.channels(b[name])  # type: ignore[attr-defined]


def _blocks(action: LinearBlocks, a: Tensors, b: Tensors, there: Sequence[bool], free: bool) -> Tensor:
    """Each block's matrix by itself."""
    out = torch.eye(action.width, dtype=torch.float64).repeat(action.blocks, 1, 1)
    for block in range(action.blocks):
        forward: list[Pair] = []
        dual: list[Pair] = []
        for term, usable in zip(action.terms, there, strict=True):
            if not usable:
                continue
            left, right = _channels(term, a, b)
            for k in (term.blocks == block).nonzero()[0]:
                index = torch.as_tensor(term.slices[k])
                (forward if term.signs[k] > 0 else dual).append((left[index], right[index]))
        if forward or dual:
            out[block] = fit_matrix("general linear", forward, dual, free=free)[0]
    return out


def _rotation(action: Action, a: Tensors, b: Tensors, there: Sequence[bool], free: bool) -> Tensor | None:
    """The matrix of the family's own group that brings the usable dimensions nearest."""
    if isinstance(action, Rotation) and action.pairs:
        return _turned(action, a, b, there)
    forward: list[Pair] = []
    dual: list[Pair] = []
    for term, usable in zip(action.legs, there, strict=True):
        if not usable:
            continue
        left, right = (t[term.parameter].movedim(term.dim, 0).reshape(action.channels, -1) for t in (a, b))
        # The matrix acts between the gains, as D A D⁻¹: without them it is A alone that is fitted.
        gain = gain_values(term.dressing, b, right)
        if gain is not None and bool((gain == 0).any()):
            return None  # nothing is mixed through a gain of zero
        if gain is not None:
            left, right = left / gain[:, None], right / gain[:, None]
        (dual if term.dual else forward).append((left, right))
    if action.along_ones:
        return _blind(action.channels, forward, dual) if free else None
    return fit_matrix(action.matrix_group, forward, dual, free=free)[0]


def _turned(action: Rotation, a: Tensors, b: Tensors, there: Sequence[bool]) -> Tensor | None:
    """A rotation of each pair, for each copy by itself."""
    pairs: list[Pair] = []
    for term in (term for term, usable in zip(action.terms, there, strict=True) if usable):
        left, right = (term.rows(t[term.parameter], action.copies) for t in (a, b))
        gain = gain_values(term.dressing, b, right)
        if gain is not None and bool((gain == 0).any()):
            return None  # nothing is mixed through a gain of zero
        pairs.append((left, right) if gain is None else (left / gain[:, None], right / gain[:, None]))
    each = [_paired(action, [(x[k], y[k]) for x, y in pairs]) for k in range(math.prod(action.copies))]
    return torch.stack(each).reshape(*action.copies, action.channels, action.channels)


def _paired(action: Action, pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """A rotation of each pair: z = e^{iφ} z'."""
    out = torch.eye(action.channels, dtype=torch.float64)
    for i, j in action.pairs:
        total = torch.zeros((), dtype=torch.complex128)
        for wanted, given in pairs:
            total = total + (torch.complex(wanted[i], wanted[j]) * torch.complex(given[i], given[j]).conj()).sum()
        turn = total / total.abs() if total.abs() > 0 else torch.ones((), dtype=torch.complex128)
        out[i, i] = out[j, j] = turn.real
        out[i, j], out[j, i] = -turn.imag, turn.imag
    return out


def _blind(
    width: int, forward: Sequence[tuple[Tensor, Tensor]], dual: Sequence[tuple[Tensor, Tensor]]
) -> Tensor | None:
    """A = 1 + 1·vᵀ with A X' = X and Aᵀ Y = Y': least squares for v; none where that A has no inverse."""
    left = torch.zeros(width, width, dtype=torch.float64)
    right = torch.zeros(width, dtype=torch.float64)
    for wanted, given in forward:
        left += width * given @ given.mT
        right += given @ (wanted - given).sum(0)
    for wanted, given in dual:
        total = wanted.sum(0)
        left += total.square().sum() * torch.eye(width, dtype=torch.float64)
        right += (given - wanted) @ total
    v = torch.linalg.pinv(left, hermitian=True) @ right
    # det A = 1 + Σ v. Not `<=`: NaN has no inverse either.
    if not abs(1 + float(v.sum())) > _SINGULAR * (1 + float(v.abs().sum())):
        return None
    matrix: Tensor = torch.eye(width, dtype=torch.float64) + v.expand(width, width)
    return matrix


def _factors(action: Action, a: Tensors, b: Tensors, there: Sequence[bool], free: bool) -> Tensor:
    """log f by least squares on the logarithms of the ratios of lengths of slices."""
    a, b = action.point(a), action.point(b)
    above, below, sides = (torch.zeros(action.charges, dtype=torch.float64) for _ in range(3))
    for term, usable in zip(action.factor_terms, there, strict=True):
        if not usable:
            continue
        charges, powers = torch.as_tensor(term.charges), torch.as_tensor(term.coefficients)
        own, other, both = (_slice_products(term, x, y) for x, y in ((a, a), (b, b), (a, b)))
        seen = (own > 0) & (other > 0)
        ratio = torch.where(seen, (own.clamp(min=1e-300) / other.clamp(min=1e-300)).log() / 2, 0.0)
        above.index_add_(0, charges, torch.where(seen, powers * ratio, 0.0))
        below.index_add_(0, charges, torch.where(seen, powers.square(), 0.0))
        weight = both / (own * other).sqrt().clamp(min=1e-300)
        sides.index_add_(0, charges, torch.where(powers.round() % 2 == 1, weight, 0.0))
    amount = torch.where(below > 0, above / below.clamp(min=1e-300), 0.0).clamp(-40, 40).exp()
    amount = amount if free else torch.ones_like(amount)
    return torch.where(sides < 0, -amount, amount) if action.signed else amount


def _slice_products(term: SliceTerm, x: Tensors, y: Tensors) -> Tensor:
    name, view = term.view.parameter, term.view
    product = (x[name] * y[name]).reshape(view.shape)
    sums = (product.sum(dim=view.summed) if view.summed else product).reshape(-1)
    return sums[torch.as_tensor(term.slices)]


def _shifts(action: Action, a: Tensors, b: Tensors, there: Sequence[bool], free: bool) -> Tensor:
    """The shift u of least ‖a - b - J u‖ over the usable tensors, by conjugate gradients."""
    names = action.parameters
    kept = {name for name, usable in zip(names, there, strict=True) if usable}
    gap = {name: a[name] - b[name] for name in kept}
    probe = torch.zeros(action.weights_shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        image = action.generator(b, probe)
        fields = [image[name] for name in kept if image[name].requires_grad]
    targets = [name for name in kept if image[name].requires_grad]

    def adjoint(values: Mapping[str, Tensor]) -> Tensor:
        given = [values[name] for name in targets]
        return torch.autograd.grad(fields, probe, given, retain_graph=True)[0]

    def normal(u: Tensor) -> Tensor:
        return adjoint(action.generator(b, u)) if targets else torch.zeros_like(u)

    return conjugate_gradients(normal, adjoint(gap)) if targets else torch.zeros(action.weights_shape).double()


def conjugate_gradients(normal: Callable[[Tensor], Tensor], right: Tensor, most: int | None = None) -> Tensor:
    """x with N x = right for a positive semidefinite N, the one of least norm."""
    x, residual = torch.zeros_like(right), right.clone()
    search, energy = residual.clone(), float(residual.square().sum())
    start = energy
    for _ in range(4 * right.numel() + 10 if most is None else most):
        # Not `<=`: NaN ends the search as well.
        if not energy > 1e-30 * start:
            break
        image = normal(search)
        curvature = float((search * image).sum())
        if not curvature > 0:
            break
        rate = energy / curvature
        x, residual = x + rate * search, residual - rate * image
        before, energy = energy, float(residual.square().sum())
        search = residual + energy / before * search
    return x
