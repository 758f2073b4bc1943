"""Backward error analysis: the vector field whose exact flow passes through an optimiser's iterates, as a series.

F = Σ_τ h^{|τ|-1} b(τ)/σ(τ) F(τ) over rooted trees, with F(τ) made of directional derivatives of f = -∇J. For descent
b comes from Σ_k h^{k-1}/k! D_F^{k-1} F = f. With momentum the iterates obey d_k = βd_{k-1} + hf, so on the slow
manifold Σ_k h^{k-1}/k! (1 - β(-1)^{k-1}) D_F^{k-1} F = f; Nesterov adds β(f - f∘φ_{-h}) on the right.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from functools import cache
from math import factorial

import torch
from torch import Tensor

from neuralmechanics.flows.equation.objective import derivative
from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.models.trees import Tree, cuts, size, symmetry, trees

__all__ = ["coefficients", "series_field"]


@cache
def coefficients(order: int, momentum: Fraction = Fraction(0), nesterov: bool = False) -> Mapping[Tree, Fraction]:
    """b(τ) of the modified field for every tree of at most ``order`` nodes, exact.

    >>> [str(b) for b in coefficients(3).values()]
    ['1', '-1/2', '1/6', '1/3']
    """
    b: dict[Tree, Fraction] = {}
    unit: dict[Tree, Fraction] = {(): Fraction(1)}
    for nodes in range(1, order + 1):
        # Each equation holds b(τ) once, times 1-β; every other tree in it is smaller and known.
        for tree in trees(nodes):
            total = unit.get(tree, Fraction(0))
            for k in range(2, nodes + 1):
                total -= (1 - momentum * (-1) ** (k - 1)) / factorial(k) * _lie(b, b, tree, k - 1)
            if nesterov:
                for j in range(1, nodes):
                    total -= momentum * Fraction((-1) ** j, factorial(j)) * _lie(b, unit, tree, j)
            b[tree] = total / (1 - momentum)
    return b


def _lie(b: Mapping[Tree, Fraction], w: Mapping[Tree, Fraction], tree: Tree, times: int) -> Fraction:
    """Coefficient at ``tree`` of D_F^times W, where b and w are the coefficients of F and W."""
    if times == 0:
        return w.get(tree, Fraction(0))
    # D_F puts F into one place of W after the other: at a tree it is the sum over the edges that may join the two.
    return sum((_lie(b, w, rest, times - 1) * b[fallen] for rest, fallen in cuts(tree)), Fraction(0))


def series_field(
    source: Callable[[Tensor], tuple[Tensor, Tensor]],
    weights: Mapping[Tree, Fraction],
    time_step: float,
    *,
    gradient: bool,
) -> Field:
    """x ↦ Σ_τ h^{|τ|-1} b(τ)/σ(τ) F(τ)(x), by nested directional derivatives, all in reverse mode.

    ``source(x)`` returns the point and f there, both on the tape. F([τ1, …, τm]) is the derivative of
    F([τ1, …, τ(m-1)]) in the direction F(τm), the other directions held: one backward pass a tree, 187 at order 8. A
    gradient field's derivatives are symmetric; any other field takes a few more passes, in a dummy covector.
    """
    # Some b(τ) are zero; their trees are made only where others consist of them.
    scale = {tree: float(b) * time_step ** (size(tree) - 1) / symmetry(tree) for tree, b in weights.items() if b != 0}
    needed = _with_parts(scale)
    extended = {tree[:-1] for tree in needed if tree}
    differentials = _gradient_differentials if gradient else _general_differentials

    def field(x: Tensor) -> Tensor:
        with torch.enable_grad():
            known = differentials(*source(x), needed, extended)
        return torch.stack([factor * known[tree] for tree, factor in scale.items()]).sum(0)

    return field


def _with_parts(wanted: Iterable[Tree]) -> list[Tree]:
    """The trees, what hangs below them and what is left of them without their last branch, smaller ones first."""
    found: set[Tree] = set()
    open_trees = list(wanted)
    while open_trees:
        tree = open_trees.pop()
        if tree not in found:
            found.add(tree)
            open_trees.extend(tree)
            if tree:
                open_trees.append(tree[:-1])
    return sorted(found, key=lambda tree: (size(tree), tree))


def _gradient_differentials(
    point: Tensor, f: Tensor, needed: Iterable[Tree], extended: Collection[Tree]
) -> dict[Tree, Tensor]:
    """F(τ) of a gradient field: ∇⟨F([τ1, …, τ(m-1)]), F(τm)⟩."""
    taped: dict[Tree, Tensor] = {(): f}
    known: dict[Tree, Tensor] = {(): f.detach()}
    # Smaller trees come first, so the parts of a tree are known when it is reached.
    for tree in needed:
        if tree:
            slope = derivative(taped[tree[:-1]].dot(known[tree[-1]]), point, graph=tree in extended)
            if tree in extended:
                taped[tree] = slope
            known[tree] = slope.detach()
    return known


def _general_differentials(
    point: Tensor, f: Tensor, needed: Iterable[Tree], extended: Collection[Tree]
) -> dict[Tree, Tensor]:
    """F(τ) of any field: the derivative in v of D_u1 … D_um ⟨f, v⟩, reverse over reverse."""
    # ⟨f, v⟩ is linear in v: its derivative in v is the vector that is wanted, at any v.
    covector = torch.zeros_like(f, requires_grad=True)
    slopes: dict[Tree, Tensor] = {(): derivative(f.dot(covector), point, graph=True)}
    known: dict[Tree, Tensor] = {(): f.detach()}
    for tree in needed:
        if tree:
            scalar = slopes[tree[:-1]].dot(known[tree[-1]])
            known[tree] = derivative(scalar, covector, graph=False)
            if tree in extended:
                slopes[tree] = derivative(scalar, point, graph=True)
    return known
