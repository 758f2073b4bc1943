"""Operations under other names than their rules' own: the symmetries of each are those of its null space, all of them.

Each network is small, and everything that it holds is read, so that the brute-force null space is complete. The program
that a rule writes is executed as well, on numbers, beside the network itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.spread import one_in
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import lowered_program
from neuralmechanics.symmetry.domains.evaluate import outputs
from neuralmechanics.symmetry.finding.find import find_forward_symmetries

from ..agreement import judge
from ..network import Network, prepared


class Named(nn.Module):
    """A function of the input and of a few matrices."""

    def __init__(self, forward: Callable[..., Tensor], shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.run = forward
        self.weights = nn.ParameterList(torch.randn(shape) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x, *self.weights)


def hidden(x: Tensor, a: Tensor) -> Tensor:
    return torch.relu(x @ a.T)


TWO = ((4, 3), (2, 4))
SQUARE = ((4, 3), (4, 4))

Case = tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]


def over_tokens(x: Tensor, a: Tensor, kernel: Tensor, b: Tensor) -> Tensor:
    """A convolution along the first axis with one tap along the channels: these mix by any matrix."""
    values = (x @ a.T)[None, None]
    seen = functional.conv2d(values, kernel, padding=(1, 0)) + values.cumsum(2)
    return seen[0, 0] @ b.T


def over_heads(x: Tensor, a: Tensor, kernel: Tensor, b: Tensor) -> Tensor:
    """The same with one kernel a head."""
    values = (x @ a.T).reshape(1, x.shape[0], 2, 2).transpose(1, 2)
    seen = functional.conv2d(values, kernel, padding=(1, 0), groups=2) + values.cumsum(2)
    return seen.transpose(1, 2).reshape(x.shape[0], 4) @ b.T


def channels_last(x: Tensor, a: Tensor, b: Tensor, mixed: Tensor) -> Tensor:
    """A convolution of one tap whose positions are what the matrices call channels."""
    values = (x @ a.T)[None, :4]
    return torch.cat([functional.conv1d(values, mixed), values[:, :1]], 1)[0] @ b.T


CASES: dict[str, Case] = {
    "conv2d over tokens": (over_tokens, ((2, 3), (1, 1, 3, 1), (5, 2))),
    "conv2d over tokens by heads": (over_heads, ((4, 3), (2, 1, 3, 1), (5, 4))),
    "conv1d of one tap": (channels_last, ((3, 3), (4, 3), (2, 4, 1))),
    "inner": (lambda x, a, b: torch.inner(torch.relu(torch.inner(x, a)), b), TWO),
    "inner with a number": (lambda x, a, b, c: torch.inner(c, torch.relu(torch.inner(x, a)) @ b.T), (*TWO, ())),
    "tensordot of pairs": (lambda x, a, b: torch.tensordot(hidden(x, a), b, ([1], [-1])), TWO),
    "tensordot of two": (
        lambda x, a, b: torch.tensordot(hidden(x, a).reshape(-1, 2, 2), b.reshape(2, 2, 2), ([2, 1], [1, 2])),
        TWO,
    ),
    "tensordot of none": (lambda x, a, b: torch.tensordot(hidden(x, a), b, 0), TWO),
    "multi_dot": (lambda x, a, b: torch.linalg.multi_dot([x, a.T, b.T]), TWO),
    "multi_dot of vectors": (
        lambda x, a, b: torch.linalg.multi_dot([hidden(x, a)[0], b.T, x.new_ones(1)])[None],
        ((4, 3), (1, 4)),
    ),
    "vecdot": (lambda x, a, b: torch.linalg.vecdot(hidden(x, a)[:, None], b), TWO),
    "vecdot along another": (lambda x, a, b: torch.linalg.vecdot(hidden(x, a)[:, :, None], b.T, dim=1), TWO),
    "kron": (lambda x, a, b: torch.kron(hidden(x, a), b), TWO),
    "kron of other ranks": (lambda x, a, b: torch.kron(hidden(x, a), b[0]), ((4, 3), (1, 3))),
    "fliplr": (lambda x, a, b: hidden(x, a).fliplr() @ b.T, TWO),
    "flipud": (lambda x, a, b: hidden(x, a) @ b.flipud().T, TWO),
    "rot90": (lambda x, a, b: b @ torch.rot90(hidden(x, a)), TWO),
    "rot90 twice": (lambda x, a, b: hidden(x, a).rot90(2) @ b.T, TWO),
    "rot90 backwards": (lambda x, a, b: b @ hidden(x, a).rot90(-1, [0, 1]), TWO),
    "rot90 of the last": (lambda x, a, b: hidden(x, a)[:, None].rot90(5, [-1, -2])[..., 0] @ b.T, TWO),
    "hsplit": (lambda x, a, b: torch.cat(hidden(x, a).hsplit([3])[::-1], 1) @ b.T, TWO),
    "vsplit": (lambda x, a, b: torch.cat(b.vsplit(2)[::-1]) @ hidden(x, a).T, TWO),
    "dsplit": (lambda x, a, b: hidden(x, a)[None].dsplit(2)[1] @ b[:, :2].T + x[:, :1] * b[:, 2:].sum(), TWO),
    "vstack": (lambda x, a, b: torch.vstack([hidden(x, a).T[:1], hidden(x, a).T[1:]]).T @ b.T, TWO),
    "vstack of vectors": (lambda x, a, b: b @ torch.vstack(hidden(x, a).unbind(1)), TWO),
    "dstack": (lambda x, a, b: torch.dstack([hidden(x, a), hidden(-x, a)]).mean(2) @ b.T, TWO),
    "ravel": (lambda x, a, b: hidden(x, a).ravel().reshape(-1, 4) @ b.T, TWO),
    "as_strided": (lambda x, a, b: hidden(x, a).as_strided((3, 4), (8, 1), 4) @ b.T, TWO),
    "as_strided that overlaps": (lambda x, a, b: hidden(x, a).as_strided((7, 2, 4), (4, 4, 1)) @ b.T, TWO),
    "as_strided of other memory": (
        lambda x, a, b: hidden(x, a).T.as_strided((7, 2, 4), (4, 4, 1)).mean(1) @ b.T,
        TWO,
    ),
    "as_strided across rows": (lambda x, a, b: hidden(x, a).T.as_strided((6, 4), (5, 1)) @ b.T, TWO),
    "diagonal": (lambda x, a, b: hidden(x, a)[:, :, None].expand(-1, -1, 4).diagonal(0, 1, 2) @ b.T, TWO),
    "diagonal of a weight": (lambda x, a, b: hidden(x, a) * a.diagonal() @ b.T, ((3, 3), (2, 3))),
    "linalg.diagonal": (
        lambda x, a, b: torch.linalg.diagonal(hidden(x, a)[:, None] * b, offset=1, dim1=2, dim2=1),
        ((1, 3), (2, 1)),
    ),
    "trace": (lambda x, a, b: torch.stack([(hidden(x[k : k + 4], a) @ b).trace() for k in range(5)]), SQUARE),
    "diag": (lambda x, a, b: hidden(x, a) @ torch.diag(b[0]), ((4, 3), (1, 4))),
    "diag_embed": (lambda x, a, b: torch.diag_embed(hidden(x, a)).sum(-1) @ b.T, TWO),
    "diag_embed beside": (lambda x, a, b: torch.diag_embed(hidden(x, a), 1, 0, 2).sum(2).mT[..., :4, :].mT @ b.T, TWO),
    "diagonal_scatter": (
        lambda x, a, b: torch.diagonal_scatter(hidden(x, a)[:4], hidden(x, a)[4], 0, 1, 0) @ b.T,
        TWO,
    ),
    "new_empty_strided": (lambda x, a, b: (hidden(x, a) * b.new_empty_strided((8, 1), (1, 1)).fill_(2.0)) @ b.T, TWO),
    "logsumexp": (lambda x, a: torch.logsumexp(x @ (a.T - a[0][:, None]), 1), ((4, 3),)),
    "logsumexp keeping": (lambda x, a: x @ a.T - torch.logsumexp(x @ a.T, -1, keepdim=True), ((4, 3),)),
    "logsumexp over two": (lambda x, a: torch.logsumexp(torch.tanh(x[:, None] * a)[:, None], (-1, 2)), ((4, 3),)),
    "logsumexp of a scalar": (lambda x, a: torch.logsumexp(torch.tanh(x @ a.T).sum(), 0)[None], ((4, 3),)),
    "special.logsumexp": (lambda x, a: torch.special.logsumexp(torch.tanh(x @ a.T), 0, keepdim=True), ((4, 3),)),
    "glu": (lambda x, a, b: functional.glu(x @ a.T) @ b.T, ((8, 3), (2, 4))),
    "glu of an odd width": (lambda x, a, b: functional.glu(x @ a.T, 1) @ b.T, ((6, 3), (2, 3))),
    "glu along another": (lambda x, a, b: b @ functional.glu(a @ x.T, -2), ((6, 3), (2, 3))),
}


def network(name: str) -> Network:
    forward, shapes = CASES[name]
    torch.manual_seed(0)
    return Network(
        name,
        prepared(Named(forward, shapes)),
        lambda generator: (torch.randn(8, 3, generator=generator, dtype=torch.float64),),
    )


@pytest.mark.parametrize("name", one_in(3, CASES))
def test_its_symmetries_are_those_of_the_null_space(name: str) -> None:
    own = network(name)
    found = find_symmetries(own.module, own.batch())
    assert found.unknown == ()
    verdict = judge(own, found)
    assert verdict.truth.clear
    assert verdict.sound, verdict
    assert verdict.complete, verdict
    assert verdict.counted, verdict


@pytest.mark.parametrize("name", CASES)
def test_its_program_computes_the_same(name: str) -> None:
    own = network(name)
    (x,) = own.batch()
    params = {key: value.detach() for key, value in own.module.named_parameters()}
    program = lowered_program(own.module, (x,))
    names = {n for i in program.instructions for n in getattr(getattr(i.primitive, "function", None), "data", ())}
    if any("empty" in n for n in names):
        pytest.skip("what a tensor holds that nothing has been written to is not known")
    data: dict[str, Any] = {n: x if n.startswith("batch") else torch.tensor([1, 0]) for n in names}
    (computed,) = outputs(program, params, data)
    with torch.no_grad():
        assert torch.allclose(computed, own.module(x), rtol=1e-12, atol=1e-12)


# --- what torch lowers its own operations to; as these have no gradient, a twin in ATen's words has the null space

_P = torch.ops.prims
TWINS: dict[str, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    "elementwise": (
        lambda x, a, b: _P.div(_P.mul(x @ a.T, _P.abs(x @ a.T)), _P.exp(x[:, :1].expand(-1, 4))) @ _P.neg(b).T,
        lambda x, a, b: (x @ a.T) * (x @ a.T).abs() / x[:, :1].exp() @ -b.T,
    ),
    "sums and shapes": (
        lambda x, a, b: (
            _P.broadcast_in_dim(_P.sum(hidden(x, a), [0]), [2, 4], [1]) * _P.convert_element_type(b, torch.float64)
        ),
        lambda x, a, b: hidden(x, a).sum(0) * b,
    ),
    "transpose and largest": (
        lambda x, a, b: _P.amax(_P.transpose(hidden(x, a), [1, 0]), [1]) @ _P.cat([b[:1].T, b[1:].T], 1),
        lambda x, a, b: hidden(x, a).amax(0) @ b.T,
    ),
}


@pytest.mark.parametrize("name", TWINS)
def test_prims_are_the_operations_that_they_are_named_after(name: str) -> None:
    named, usual = TWINS[name]
    torch.manual_seed(0)
    own = Network(name, prepared(Named(usual, TWO)), network("inner").inputs)
    found = find_forward_symmetries(prepared(Named(named, TWO)), own.batch())
    assert found.unknown == ()
    verdict = judge(own, found)
    assert verdict.sound, verdict
    assert verdict.complete, verdict
