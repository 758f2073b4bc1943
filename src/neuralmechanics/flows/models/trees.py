"""Rooted trees: the index set of the derivatives f', f'f', f''(f, f), … that series in the step size are made of.

A tree is the sorted tuple of its branches; the single node is ``()``. [τ1, …, τm] stands for the elementary
differential f⁽ᵐ⁾(F(τ1), …, F(τm)). Source: Hairer, Lubich, Wanner, Geometric Numerical Integration, chapter III.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from math import factorial
from typing import TypeAlias

__all__ = ["Tree", "cuts", "formula", "size", "symmetry", "trees"]

Tree: TypeAlias = tuple["Tree", ...]


@cache
def size(tree: Tree) -> int:
    """Number of nodes."""
    return 1 + sum(map(size, tree))


@cache
def symmetry(tree: Tree) -> int:
    """σ(τ): the number of relabellings that leave the tree as it is."""
    product = 1
    for branch, count in Counter(tree).items():
        product *= factorial(count) * symmetry(branch) ** count
    return product


@cache
def trees(nodes: int) -> tuple[Tree, ...]:
    """All rooted trees with so many nodes.

    >>> [len(trees(n)) for n in range(1, 9)]
    [1, 1, 2, 4, 9, 20, 48, 115]
    """
    if nodes == 1:
        return ((),)
    found: dict[Tree, None] = {}
    # A tree of n+1 nodes is one of n nodes with a leaf more; equal trees are sorted to equal tuples.
    for smaller in trees(nodes - 1):
        for grown in _grafts(smaller):
            found[grown] = None
    return tuple(found)


def _grafts(tree: Tree) -> Iterator[Tree]:
    yield _sorted((*tree, ()))
    for position, branch in enumerate(tree):
        for grown in _grafts(branch):
            yield _sorted((*tree[:position], grown, *tree[position + 1 :]))


def _sorted(branches: tuple[Tree, ...]) -> Tree:
    return tuple(sorted(branches, key=lambda branch: (size(branch), branch)))


@cache
def cuts(tree: Tree) -> tuple[tuple[Tree, Tree], ...]:
    """(what keeps the root, what falls off) for each edge of the tree."""
    found: list[tuple[Tree, Tree]] = []
    for position, branch in enumerate(tree):
        others = (*tree[:position], *tree[position + 1 :])
        found.append((others, branch))
        found.extend((_sorted((*others, rest)), fallen) for rest, fallen in cuts(branch))
    return tuple(found)


def formula(tree: Tree) -> str:
    """The elementary differential in letters.

    >>> [formula(tree) for tree in trees(3)]
    ["f''(f, f)", "f'f'f"]
    """
    if not tree:
        return "f"
    inner = [formula(branch) for branch in tree]
    return "f'" + inner[0] if len(tree) == 1 else "f" + "'" * len(tree) + f"({', '.join(inner)})"
