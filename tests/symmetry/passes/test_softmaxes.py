"""Softmax written out is seen to be one where it is one, and nowhere else.

Every function of scores below is rewritten by the passes; what the program computes must stay what torch computes, and
its symmetries those of the null space. What only looks like a softmax keeps its exponentials.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.spread import one_in
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import lowered_program
from neuralmechanics.symmetry.domains.evaluate import outputs
from neuralmechanics.symmetry.program import primitives as p

from ..agreement import Verdict, judge
from ..network import Network, prepared

Function = Callable[[Tensor], Tensor]


class Scored(nn.Module):
    """A function of the scores of three things, of which a common shift is a question."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.a, self.function = nn.Linear(2, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.a(x))


def shaped(z: Tensor) -> Tensor:
    """[8, 3] as [2, 4, 3]."""
    return z.unflatten(0, (2, 4))


def stable(z: Tensor, largest: Tensor) -> Tensor:
    e = (z - largest).exp()
    return e / e.sum(-1, keepdim=True)


SOFTMAXES: dict[str, Function] = {
    "quotient": lambda z: z.exp() / z.exp().sum(1, keepdim=True),
    "without the dimension": lambda z: (z.exp().mT / z.exp().sum(1)).mT,
    "unsqueezed": lambda z: z.exp() / z.exp().sum(1)[:, None],
    "expanded": lambda z: z.exp() / z.exp().sum(1)[:, None].expand(-1, 3),
    "reciprocal": lambda z: z.exp().sum(-1, keepdim=True).reciprocal() * z.exp(),
    "negative power": lambda z: z.exp() * z.exp().sum(-1, keepdim=True) ** -1,
    "mean": lambda z: z.exp() / z.exp().mean(1, keepdim=True) / 3,
    "twice the sum": lambda z: z.exp() / (2 * z.exp().sum(1, keepdim=True)),
    "einsum": lambda z: torch.einsum("bk,b->bk", z.exp(), 1 / z.exp().sum(1)),
    "along another dimension": lambda z: (shaped(z).exp() / shaped(z).exp().sum(2, True)).permute(2, 0, 1),
    "of the transpose": lambda z: (z.T.exp() / z.exp().sum(1)).T,
    "a product first": lambda z: (z.exp() @ torch.arange(6.0).double().view(3, 2)) / z.exp().sum(1, keepdim=True),
    "two products first": lambda z: (
        (2 * z.exp() @ torch.arange(6.0).double().view(3, 2)) @ torch.ones(2, 2).double() / z.exp().sum(1)[:, None]
    ),
    "a product and a sum first": lambda z: (z.exp() * torch.tensor([1.0, -2.0, 0.0]).double()).sum(1) / z.exp().sum(1),
    "largest taken off": lambda z: stable(z, z.amax(-1, keepdim=True)),
    "largest taken off, without gradient": lambda z: stable(z, z.max(-1, keepdim=True).values.detach()),
    "mean taken off": lambda z: stable(z, z.mean(-1, keepdim=True)),
    "softmax of a difference": lambda z: torch.softmax(z - z.amax(-1, keepdim=True).detach(), -1),
    "over two dimensions": lambda z: shaped(z).exp() / shaped(z).exp().sum((1, 2), keepdim=True),
    "over all": lambda z: z.exp() / z.exp().sum(),
    "exponential of log_softmax": lambda z: functional.log_softmax(z, 1).exp(),
    "exponential of a difference": lambda z: (z - z.exp().sum(1, keepdim=True).log()).exp(),
    "exponential of logsumexp": lambda z: z.exp() * (-z.logsumexp(1, keepdim=True)).exp(),
    "exponential of a logarithm": lambda z: (z.softmax(1).log() * 2).exp(),
    "log of the quotient": lambda z: (z.exp() / z.exp().sum(1, keepdim=True)).log(),
    "difference from the log of a sum": lambda z: z - z.exp().sum(1, keepdim=True).log(),
    "sum with the negative": lambda z: -z.exp().sum(1, keepdim=True).log() + z,
    "difference from logsumexp": lambda z: z - z.logsumexp(1)[:, None],
    "negative of the difference": lambda z: -(z.logsumexp(1, keepdim=True) - z),
    "difference from the log of a mean": lambda z: z - z.exp().mean(1, keepdim=True).log(),
    "log of a sum of differences": lambda z: (z - z[:, :1]).exp().sum(1).log(),
    "powers of two": lambda z: z.exp2() / z.exp2().sum(1, keepdim=True),
    "over the batch": lambda z: z.exp() / z.exp().sum(0),
}

PENDING = {
    "einsum": "a sum of products that sums nothing is no product here",
    "of the transpose": "the scores and their transpose are two values",
}

OTHERS: dict[str, Function] = {
    "quotient by another sum": lambda z: z.exp() / (2 * z).exp().sum(1, keepdim=True),
    "quotient by a sum of the other sign": lambda z: z.exp() / (-z).exp().sum(1, keepdim=True),
    "quotient by a part of the sum": lambda z: z.exp() / z.exp()[:, :2].sum(1, keepdim=True),
    "quotient by one more": lambda z: z.exp() / (1 + z.exp().sum(1, keepdim=True)),
    "quotient by the square of the sum": lambda z: z.exp() / z.exp().sum(1, keepdim=True) ** 2,
    "quotient by the sum of squares": lambda z: z.exp() / (z.exp() ** 2).sum(1, keepdim=True),
    "quotient by a largest one": lambda z: (z.exp() / z.exp().amax(1, keepdim=True)).cumsum(1),
    "sum of other rows": lambda z: z.exp() / z.exp().sum(1, keepdim=True).flip(0),
    "sum along the other side": lambda z: z[:3].exp() / z[:3].exp().sum(1),
    "sum of a masked part": lambda z: z.exp() / (z.exp() * torch.tensor([1.0, 1.0, 0.5]).double()).sum(1, keepdim=True),
    "square over the sum": lambda z: z.exp() ** 2 / z.exp().sum(1, keepdim=True),
    "logarithm taken off twice": lambda z: z - 2 * z.exp().sum(1, keepdim=True).log(),
    "logarithm of a square": lambda z: z - (z.exp() ** 2).sum(1, keepdim=True).log(),
    "logarithm taken off another": lambda z: 2 * z - z.logsumexp(1, keepdim=True),
    "logarithm of other rows": lambda z: z - z.logsumexp(1, keepdim=True).roll(1, 0),
    "sum over the batch, read by row": lambda z: z[:3].exp() / z[:3].exp().sum(0)[:, None],
    "another function": lambda z: z.exp() / (torch.tanh(z).exp().sum(1, keepdim=True)),
    "exponential": lambda z: z.exp().cumsum(1),
}


def network(function: Function) -> Network:
    torch.manual_seed(0)
    return Network(
        "scores",
        prepared(Scored(function)),
        lambda generator: (torch.randn(8, 2, generator=generator, dtype=torch.float64),),
    )


def primitives(function: Function) -> set[type]:
    own = network(function)
    return {type(i.primitive) for i in lowered_program(own.module, own.batch()).instructions}


def assert_same_values(function: Function) -> None:
    """The program computes what the model does."""
    own = network(function)
    (x,) = own.batch()
    params = {key: value.detach() for key, value in own.module.named_parameters()}
    program = lowered_program(own.module, (x,))
    names = {n for i in program.instructions for n in getattr(getattr(i.primitive, "function", None), "data", ())}
    data = {n: x for n in names if n.startswith("batch")}
    with torch.no_grad():
        expected = own.module(x)
        data |= {n: constant for n in names - set(data) for constant in _constants(function)}
    (computed,) = outputs(program, params, data)
    assert torch.allclose(computed, expected, rtol=1e-12, atol=1e-12)


def _constants(function: Function) -> list[Tensor]:
    """The tensors that a function is written with, found by running it; at most one."""
    found: list[Tensor] = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, called, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = called(*args, **(kwargs or {}))
            if called is torch.tensor or called is torch.arange:
                found.append(out)
            return out

    with Watch():
        function(torch.zeros(8, 3, dtype=torch.float64))
    return found


def judged(function: Function) -> Verdict:
    own = network(function)
    found = find_symmetries(own.module, own.batch())
    assert found.unknown == ()
    return judge(own, found)


@pytest.mark.parametrize(
    "name",
    one_in(
        2,
        [
            pytest.param(name, marks=pytest.mark.xfail(reason=PENDING[name], strict=True)) if name in PENDING else name
            for name in SOFTMAXES
        ],
    ),
)
def test_softmaxes_are_seen(name: str) -> None:
    assert p.Softmax in primitives(SOFTMAXES[name])
    assert not primitives(SOFTMAXES[name]) & {p.Exponential, p.Logarithm} or "log of the" in name
    verdict = judged(SOFTMAXES[name])
    assert verdict.sound, verdict
    assert verdict.equal, verdict


@pytest.mark.parametrize("name", PENDING)
def test_one_that_is_not_seen_yet_claims_nothing(name: str) -> None:
    """Rows of scores shift together in truth; unseen they are exponentials over a sum, of which no shift is told."""
    assert p.Exponential in primitives(SOFTMAXES[name])
    assert p.Softmax not in primitives(SOFTMAXES[name])
    verdict = judged(SOFTMAXES[name])
    assert verdict.sound, verdict
    assert (verdict.translations, verdict.truth.translations) == (0, 3)
    assert verdict.count == dict.fromkeys(("translation", "scale", "rescale", "linear"), 0)


@pytest.mark.parametrize("name", one_in(2, OTHERS))
def test_nothing_else_is_taken_for_one(name: str) -> None:
    assert p.Softmax not in primitives(OTHERS[name]) or "logarithm" in name
    verdict = judged(OTHERS[name])
    assert verdict.sound, verdict


@pytest.mark.parametrize("name", one_in(2, [*SOFTMAXES, *OTHERS]))
def test_values_stay_what_they_are(name: str) -> None:
    function = (SOFTMAXES | OTHERS)[name]
    if "gradient" not in name:
        assert_same_values(function)
