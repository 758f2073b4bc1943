"""Sums of products: matrix products, einsum, bilinear forms, running sums."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.capture.captured import operation_name
from neuralmechanics.symmetry.lowering.rules.functions import function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.complex_parts import conjugate
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import GROUPS, TRIANGLE, Function
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError, UnsupportedFormError
from neuralmechanics.symmetry.program.value import Value


@rule("linear")
def linear(d: Builder, node: fx.Node, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """y = x Wᵀ + b: rows of W go with y, columns against x, b with y."""
    outer = ascii_letters[: len(x.shape) - 1]
    out = d.contract(x, weight, Contraction(outer + "z", "yz", outer + "y"))
    return out if bias is None else d.add(out, bias)


def product(d: Builder, x: Value, y: Value) -> Value:
    """The matrix product with broadcast batch dimensions."""
    if len(x.shape) == 1 and len(y.shape) == 1:
        return d.contract(x, y, Contraction("z", "z", ""))
    if len(x.shape) == 1:
        batch = ascii_letters[: len(y.shape) - 2]
        return d.contract(x, y, Contraction("z", batch + "zy", batch + "y"))
    if len(y.shape) == 1:
        batch = ascii_letters[: len(x.shape) - 1]
        return d.contract(x, y, Contraction(batch + "z", "z", batch))
    rank = max(len(x.shape), len(y.shape)) - 2
    left, x = _batch(d, x, y, rank)
    right, y = _batch(d, y, x, rank)
    out = ascii_letters[:rank] if rank else ""
    return d.contract(x, y, Contraction(left + "xz", right + "zy", out + "xy"))


def _batch(d: Builder, x: Value, other: Any, rank: int) -> tuple[str, Any]:
    """Batch letters of x; dimensions of size one that the other operand widens are dropped."""
    batch = len(x.shape) - 2
    kept = []
    for k in range(batch):
        place = rank - batch + k
        theirs = place - (rank - (len(other.shape) - 2))
        wide = other.shape[theirs] if theirs >= 0 else 1
        if x.shape[k] == 1 and wide != 1:
            continue
        kept.append(k)
    letters = "".join(ascii_letters[rank - batch + k] for k in kept)
    if len(kept) == batch:
        return letters, x
    return letters, reshape(d, x, [*(x.shape[k] for k in kept), *x.shape[-2:]])


@rule("matmul", "mm", "bmm", "mv", "dot", "vdot", "linalg_matmul")
def matmul(d: Builder, node: fx.Node, x: Value, y: Value) -> Value:
    return product(d, conjugate(d, node, x) if "vdot" in str(node.target) else x, y)


@rule("addmm", "baddbmm", "addbmm", "addmv")
def addmm(
    d: Builder, node: fx.Node, bias: Value | None, x: Value, y: Value, beta: float = 1, alpha: float = 1
) -> Value:
    """β·bias + α·x y."""
    out = product(d, x, y)
    if operation_name(node).rstrip("_") == "aten.addbmm":
        out = d.reduce(out, (0,), False, False)
    out = d.scaled(out, float(alpha))
    # With β = 0 torch does not read the bias at all.
    return expand(d, d.add(out, bias, float(beta)), meta_shape(node)) if beta else out


@rule("outer", "ger")
def outer(d: Builder, node: fx.Node, x: Value, y: Value) -> Value:
    return d.contract(x, y, Contraction("a", "b", "ab"))


@rule("einsum")
def einsum(d: Builder, node: fx.Node, equation: str, operands: Sequence[Any], **__: object) -> Any:
    """Any einsum, two operands at a time, from the left."""
    text = equation.replace(" ", "")
    inputs, _, out = text.partition("->")
    letters = inputs.split(",")
    spare = [c for c in ascii_letters if c not in text]
    widest = max((len(x.shape) - len(s.replace("...", "")) for s, x in zip(letters, operands, strict=True)), default=0)
    # Letters for what an ellipsis stands for; operands share them from the right, as they broadcast.
    dots = "".join(spare[:widest])

    def written(term: str, rank: int) -> str:
        return term.replace("...", dots[len(dots) - (rank - len(term.replace("...", ""))) :] if "..." in term else "")

    terms = [written(s, len(x.shape)) for s, x in zip(letters, operands, strict=True)]
    if "->" not in text:
        # Without an arrow: the ellipsis, then letters that occur once, in alphabetical order.
        joined = "".join(terms)
        out = dots + "".join(sorted(c for c in set(joined) - set(dots) if joined.count(c) == 1))
    out = out.replace("...", dots)
    if any(len(set(t)) != len(t) for t in terms):
        raise NotSoughtError("diagonals of a tensor are not followed", hides=True)
    value, held = operands[0], terms[0]
    if len(operands) == 1:
        # A sum over one tensor is a product with the number one.
        return d.contract(value, d.constant((), 1.0), Contraction(held, "", out))
    for k, (other, term) in enumerate(zip(operands[1:], terms[1:], strict=True)):
        # A letter that nothing further reads is summed as soon as its operands have met.
        later = set(out).union(*map(set, terms[k + 2 :]))
        result = out if k == len(operands) - 2 else "".join(c for c in dict.fromkeys(held + term) if c in later)
        value = d.contract(value, other, Contraction(held, term, result))
        held = result
    return value


@rule("bilinear")
def bilinear(d: Builder, node: fx.Node, x: Value, y: Value, weight: Value, bias: Value | None = None) -> Value:
    outer_letters = ascii_letters[: len(x.shape) - 1]
    half = d.contract(x, weight, Contraction(outer_letters + "x", "oxy", outer_letters + "oy"))
    out = d.contract(half, y, Contraction(outer_letters + "oy", outer_letters + "y", outer_letters + "o"))
    return out if bias is None else d.add(out, bias)


@rule("_grouped_mm")
def grouped(
    d: Builder, node: fx.Node, x: Value, weight: Value, ends: Value | None = None, bias: Value | None = None, *_: object
) -> Value:
    """x[s] W[e(s)] for rows sorted by expert, ``ends`` saying where each expert's rows end."""
    if ends is None:
        return product(d, x, weight)
    if len(x.shape) != 2 or len(weight.shape) != 3 or bias is not None:
        raise UnsupportedFormError("rows of a matrix in groups are understood only with one matrix a group")
    d.fix(ends)
    chosen = d.gather(weight, 0, x.shape[:1], [ends], _groups(x.shape[0], node.args[2]), GROUPS)
    return d.contract(x, chosen, Contraction("az", "azy", "ay"))


rule("grouped_mm_fallback", prefix="transformers.")(grouped)


def _groups(rows: int, ends: Any) -> Function:
    """The group of each row, by where each group ends."""

    def places(ends: torch.Tensor) -> torch.Tensor:
        # A group's end is the first row behind it, which is of the next group already.
        return torch.searchsorted(ends, torch.arange(rows, dtype=ends.dtype, device=ends.device), right=True)

    return function_of(GROUPS, places, ends, settings=rows)


@rule("cumsum")
def accumulated(d: Builder, node: fx.Node, x: Value, dim: int, **__: object) -> Value:
    """A lower-triangular matrix of ones along ``dim``."""
    if not x.shape:
        return x
    rank, n = len(x.shape), x.shape[dim]
    dim %= rank
    letters = ascii_letters[:rank]
    ones = function_of(TRIANGLE, lambda: torch.ones(n, n, dtype=torch.float64).tril(), settings=n)
    triangle = d.constant((n, n), nonnegative=True, function=ones)
    return d.contract(x, triangle, Contraction(letters, "z" + letters[dim], letters.replace(letters[dim], "z")))
