"""Brackets by reverse mode against matrix algebra, the Jacobi identity, and nested brackets that must vanish."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from neuralmechanics.diagnostics.counting.lie_brackets import (
    Bracket,
    GeneralField,
    GradientField,
    Scaled,
    Sum,
    bracket_with_scale,
)


def _linear(matrix: Tensor) -> GeneralField:
    return GeneralField(lambda z: matrix @ z)


def _point(size: int) -> Tensor:
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


def _matrices(count: int, size: int) -> Tensor:
    return torch.randn(count, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_linear_fields_have_the_commutator() -> None:
    a, b, c = _matrices(3, 4)
    z = _point(4)
    # [Az, Bz] = (BA - AB)z
    once = b @ a - a @ b
    torch.testing.assert_close(Bracket(_linear(a), _linear(b)).value(z), once @ z)
    nested = Bracket(_linear(c), Bracket(_linear(a), _linear(b))).value(z)
    torch.testing.assert_close(nested, (once @ c - c @ once) @ z)


def test_jacobi_identity_of_nonlinear_fields() -> None:
    a, b, c = (GradientField(lambda z, m=m: torch.tanh(m @ z).square().sum()) for m in _matrices(3, 4))
    z = _point(4)
    cyclic = [Bracket(u, Bracket(v, w)).value(z) for u, v, w in ((a, b, c), (b, c, a), (c, a, b))]
    assert sum(cyclic).norm() < 1e-13 * max(x.norm() for x in cyclic)


def test_symmetric_derivative_agrees_with_the_general_one() -> None:
    matrix = _matrices(1, 5)[0]
    field = GradientField(lambda z: F.gelu(matrix @ z).square().sum())
    z, direction = _point(5), _matrices(1, 5)[0, 0]
    general = GeneralField(field.value).derivative(z, direction)
    torch.testing.assert_close(field.derivative(z, direction), general)
    mixture = Sum((Scaled(field, 2.0), Scaled(field, -0.5)))
    torch.testing.assert_close(mixture.derivative(z, direction), 1.5 * general)


def test_a_vanishing_bracket_keeps_the_scale_of_what_cancelled() -> None:
    a = _matrices(1, 5)[0]
    commuting = [_linear(a), _linear(a @ a), _linear(a @ a @ a), _linear(a)]
    for depth in (2, 3, 4):
        value, scale = bracket_with_scale(commuting[:depth], _point(5))
        assert value.norm() < 1e-13 * scale


def test_a_single_field_is_its_own_bracket() -> None:
    a = _matrices(1, 3)[0]
    value, scale = bracket_with_scale([_linear(a)], _point(3))
    torch.testing.assert_close(value, (a @ _point(3)).detach())
    assert scale == float(value.norm())
