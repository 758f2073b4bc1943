"""Complex tensors: conjugates, adjoints, real and imaginary parts, pairs of real numbers."""

from __future__ import annotations

from string import ascii_letters

import torch
from torch import fx

from neuralmechanics.symmetry.lowering.rules.functions import bound, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import expand, meta_shape, reshape
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.function import PARTS, UNITS
from neuralmechanics.symmetry.program.attributes.views import Permute
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.value import Value


@rule("conj", "_conj", "_conj_physical", "real", "imag")
def other_part(d: Builder, node: fx.Node, x: Value) -> Value:
    """The conjugate, the real or the imaginary part: of a complex tensor another function, which scales alike."""
    value = node.args[0].meta["val"]  # type: ignore[union-attr]
    if not value.is_complex():
        return x
    ones = d.constant(tuple(1 for _ in x.shape), function=function_of("ones", lambda: torch.ones((1,) * len(x.shape))))
    part = bound(node)
    return d.mul(x, ones, function_of(part.name, lambda x, _: part.apply(x)))


@rule("view_as_complex")
def complex_pairs(d: Builder, node: fx.Node, x: Value) -> Value:
    """x[…, 0] + i x[…, 1]: a sum over the last dimension with two weights that no parameter moves."""
    return _paired(d, x)


def _paired(d: Builder, x: Value) -> Value:
    letters = ascii_letters[: len(x.shape)]
    units = d.constant((2,), function=function_of(UNITS, lambda: torch.tensor([1, 1j], dtype=torch.complex128)))
    return d.contract(x, units, Contraction(letters, letters[-1], letters[:-1]))


@rule("complex")
def complex_number(d: Builder, node: fx.Node, real: Value, imaginary: Value) -> Value:
    """a + i b: the pair of both as one number."""
    shape = meta_shape(node)
    parts = [reshape(d, expand(d, part, shape), (*shape, 1)) for part in (real, imaginary)]
    return _paired(d, d.cat(parts, len(shape)))


@rule("polar")
def from_polar(d: Builder, node: fx.Node, size: Value, angle: Value) -> Value:
    """r exp(i φ): linear in r, of an angle that may not change."""
    turn = d.nonlinear(angle, function=function_of("turn", lambda a: torch.polar(torch.ones_like(a), a)))
    return d.mul(size, turn)


@rule("view_as_real")
def real_pairs(d: Builder, node: fx.Node, x: Value) -> Value:
    """Real and imaginary part, both scaled alike, as two different functions of x."""
    two = d.constant((2,), function=function_of(UNITS, lambda: torch.tensor([1, 1j], dtype=torch.complex128)))
    parts = function_of(PARTS, lambda x, _: torch.view_as_real(x[..., 0]))
    return d.mul(reshape(d, x, (*x.shape, 1)), two, parts)


def conjugate(d: Builder, node: fx.Node, x: Value) -> Value:
    """Of a complex tensor the conjugate."""
    if not node.args[0].meta["val"].is_complex():  # type: ignore[union-attr]
        return x
    ones = d.constant(tuple(1 for _ in x.shape), function=function_of("ones", lambda: torch.ones((1,) * len(x.shape))))
    return d.mul(x, ones, function_of("conj", lambda x, _: x.conj()))


@rule("t", "numpy_T", "adjoint", "mT", "mH", "matrix_H")
def reversed_dims(d: Builder, node: fx.Node, x: Value) -> Value:
    rank = len(x.shape)
    name = str(node.target)
    if name.split(".")[1] in ("adjoint", "mH", "matrix_H"):
        x = conjugate(d, node, x)
    order = list(range(rank))
    if "numpy_T" in name or rank == 2:
        order = order[::-1]
    elif rank > 2:
        order[-2], order[-1] = order[-1], order[-2]
    return d.view(x, Permute(tuple(order)))
