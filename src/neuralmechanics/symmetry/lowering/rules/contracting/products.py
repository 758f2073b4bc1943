"""Sums of products under other names than a matrix product's: each is written as products that have a rule already."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from torch import fx

from neuralmechanics.symmetry.lowering.rules.contracting.contractions import product
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import moved, reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import meta_shape
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value


@rule("inner")
def inner(d: Builder, node: fx.Node, x: Value, y: Value) -> Value:
    """Σ_k x[…, k] y[…, k] for every pair of the other entries; a number times a tensor."""
    if not x.shape or not y.shape:
        return d.mul(x, y)
    return summed_over(d, x, y, [len(x.shape) - 1], [len(y.shape) - 1])


@rule("tensordot")
def tensordot(d: Builder, node: fx.Node, x: Value, y: Value, dims_x: Sequence[int], dims_y: Sequence[int]) -> Value:
    """The sum over pairs of dimensions; what is left of x stands before what is left of y."""
    return summed_over(d, x, y, [k % len(x.shape) for k in dims_x], [k % len(y.shape) for k in dims_y])


def summed_over(d: Builder, x: Value, y: Value, dims_x: Sequence[int], dims_y: Sequence[int]) -> Value:
    """The sum of products over pairs of dimensions of equal size.

    Raises ``UnsupportedFormError`` where one of a pair has a single entry and the other more.
    """
    if any(x.shape[a] != y.shape[b] for a, b in zip(dims_x, dims_y, strict=True)):
        raise UnsupportedFormError(f"a sum over dimensions of other sizes, {x.shape} and {y.shape}")
    letters = ascii_letters[: len(x.shape)]
    other = list(ascii_letters[len(x.shape) : len(x.shape) + len(y.shape)])
    for a, b in zip(dims_x, dims_y, strict=True):
        other[b] = letters[a]
    left = [c for a, c in enumerate(letters) if a not in dims_x]
    right = [c for b, c in enumerate(other) if b not in dims_y]
    return d.contract(x, y, Contraction(letters, "".join(other), "".join(left + right)))


@rule("linalg_multi_dot", "chain_matmul")
def product_of_many(d: Builder, node: fx.Node, xs: Sequence[Any]) -> Any:
    """The product of several matrices, in whatever order it is taken; the first and the last may be vectors."""
    out = xs[0]
    for x in xs[1:]:
        out = product(d, out, x)
    return out


@rule("linalg_vecdot")
def vecdot(d: Builder, node: fx.Node, x: Value, y: Value, dim: int = -1) -> Value:
    """Σ_k x[k] y[k] along one dimension, the others broadcast; of real tensors (else the first is conjugated)."""
    if node.meta["val"].is_complex():
        raise UnsupportedFormError("a sum of products with a conjugate")
    both = d.mul(x, y)
    return d.reduce(both, (dim % len(both.shape),), False, False)


@rule("kron")
def kronecker(d: Builder, node: fx.Node, x: Value, y: Value) -> Value:
    """Every entry of x times the whole of y: blocks side by side, dimension by dimension."""
    rank = max(len(x.shape), len(y.shape))
    x, y = (reshape(d, v, (*(1 for _ in range(rank - len(v.shape))), *v.shape)) for v in (x, y))
    pairs = d.contract(
        x, y, Contraction(ascii_letters[:rank], ascii_letters[rank : 2 * rank], ascii_letters[: 2 * rank])
    )
    for k in range(rank):
        pairs = moved(d, pairs, rank + k, 2 * k + 1)
    return reshape(d, pairs, meta_shape(node))


@rule("matrix_exp", "linalg_matrix_exp")
def matrix_exponential(d: Builder, node: fx.Node, x: Value) -> Value:
    """exp(x + c·1) is a multiple of exp(x), and exp(p x p⁻¹) is p exp(x) p⁻¹: neither is looked for."""
    raise NotSoughtError("multiples and other bases of an exponential are not followed")
