"""What the builder writes in another form computes the same: zeros beside a tensor, a maximum with zeros, a square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from neuralmechanics.symmetry.domains.evaluate import outputs
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.contraction import Contraction
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.builder import Builder

Write = Callable[[Builder, Any], Any]


@pytest.mark.parametrize(
    ("write", "expected", "plain"),
    [
        (
            lambda d, x: d.cat([d.constant((2, 1), 0.0), x], 1),
            lambda x: torch.nn.functional.pad(x, (1, 0)),
            p.Concatenate,
        ),
        (
            lambda d, x: d.cat([x, d.constant((2, 2), 0.0), d.constant((2, 1), 0.0)], 1),
            lambda x: torch.nn.functional.pad(x, (0, 3)),
            p.Concatenate,
        ),
        (lambda d, x: d.larger(d.constant((3,), 0.0), x), lambda x: x.clamp(min=0), p.Maximum),
        (lambda d, x: d.larger(x, d.constant((), 0.0), False), lambda x: x.clamp(max=0), p.Maximum),
        (lambda d, x: d.contract(x, x, Contraction("ab", "ab", "b")), lambda x: (x * x).sum(0), p.Contract),
        (
            lambda d, x: d.contract(d.constant((5, 3), 2.0), x, Contraction("cb", "ab", "ca")),
            lambda x: 2 * x.sum(1).expand(5, 2),
            p.Contract,
        ),
        (
            lambda d, x: d.contract(x, d.constant((4, 7), 0.5), Contraction("ab", "cd", "bca")),
            lambda x: 3.5 * x.T[:, None].expand(3, 4, 2),
            p.Contract,
        ),
        (
            lambda d, x: d.contract(d.view(x, Reshape((2, 3, 1))), d.constant((4,), 0.5), Contraction("abc", "c", "b")),
            lambda x: 2 * x.sum(0),
            p.Contract,
        ),
    ],
)  # fmt: skip
def test_what_is_written_in_another_form_is_the_same(
    write: Write, expected: Callable[[Tensor], Tensor], plain: type
) -> None:
    builder = Builder()
    builder.fix(write(builder, builder.parameter("x", (2, 3))))
    program, x = builder.program(), torch.randn(2, 3, dtype=torch.float64)
    assert not any(isinstance(i.primitive, plain) for i in program.instructions)
    (found,) = outputs(program, {"x": x}, {})
    torch.testing.assert_close(found, expected(x))
