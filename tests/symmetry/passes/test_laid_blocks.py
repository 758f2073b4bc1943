"""Heads that are taken apart and put together again along the channels: they are the channels of all heads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.domains.evaluate import evaluated
from neuralmechanics.symmetry.families.actions import Rotation
from neuralmechanics.symmetry.passes.joining.parts import with_whole_tensors
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Permute, Reshape, Take
from neuralmechanics.symmetry.program.builder import Builder

from ..agreement import judge
from ..network import Network, prepared

HEADS, WIDTH = 2, 3


def split(x: Tensor) -> Tensor:
    return x.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)


def scores(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax(split(q) @ split(k).mT, -1)


def chunked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """DiffLlama: both heads' values, side by side, are read by each head's scores; the heads are subtracted."""
    both = torch.cat(torch.chunk(split(v), 2, dim=1), -1).repeat(1, 2, 1, 1)
    one, other = torch.chunk(scores(q, k) @ both, 2, dim=1)
    return (one - 0.3 * other).squeeze(1)


def twice(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same where each part of the values is read by a call of its own."""
    parts = [x.repeat(1, 2, 1, 1) for x in torch.chunk(split(v), 2, dim=1)]
    read = [functional.scaled_dot_product_attention(split(q), split(k), x) for x in parts]
    one, other = torch.chunk(torch.cat(read, -1), 2, dim=1)
    return (one - 0.3 * other).squeeze(1)


def twice_causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    parts = [x.expand(-1, 2, -1, -1) for x in torch.chunk(split(v), 2, dim=1)]
    read = [functional.scaled_dot_product_attention(split(q), split(k), x, is_causal=True) for x in parts]
    one, other = torch.chunk(torch.cat(read, -1), 2, dim=1)
    return (one - 0.3 * other).squeeze(1)


def twice_masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    kept = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).tril()
    parts = [x.repeat(1, 2, 1, 1) for x in torch.chunk(split(v), 2, dim=1)]
    read = [functional.scaled_dot_product_attention(split(q), split(k), x, attn_mask=kept) for x in parts]
    one, other = torch.chunk(torch.cat(read, -1), 2, dim=1)
    return (one - 0.3 * other).squeeze(1)


def unbound(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = v.unflatten(-1, (HEADS, WIDTH))
    return scores(q, k).mean(1) @ torch.cat([heads[:, :, 0], heads[:, :, 1]], -1)


def last_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    heads = v.unflatten(-1, (HEADS, WIDTH))
    return scores(q, k).mean(1) @ torch.cat([heads[:, :, 1], heads[:, :, 0]], -1)


def stacked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores(q, k).mean(1) @ torch.stack(split(v).unbind(1), 2).flatten(2)


def of_two_scores(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each head's values are read by its own scores."""
    one, other = (a @ x for a, x in zip(scores(q, k).unbind(1), split(v).unbind(1), strict=True))
    return torch.cat([one, other], -1)


def one_scaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    one, other = split(v).unbind(1)
    return scores(q, k).mean(1) @ torch.cat([one, 2 * other], -1)


def one_alone(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    one, other = split(v).unbind(1)
    return scores(q, k).mean(1) @ torch.cat([one.tanh(), other], -1)


def causal_and_not(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    one, other = split(v).unbind(1)
    q, k = (split(x).mean(1) for x in (q, k))
    return torch.cat(
        [
            functional.scaled_dot_product_attention(q, k, one, is_causal=True),
            functional.scaled_dot_product_attention(q, k, other),
        ],
        -1,
    )


def later_tokens(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    one, other = split(v).unbind(1)
    return scores(q, k).mean(1) @ torch.cat([one, other.roll(1, 1)], -1)


Reading = Callable[[Tensor, Tensor, Tensor], Tensor]
WHOLE: tuple[Reading, ...] = (chunked, twice, twice_causal, twice_masked, unbound, stacked)
TORN: dict[Reading, list[int]] = {  # how many turns are left of each head's channels
    of_two_scores: [3, 3],
    one_scaled: [3, 3],
    one_alone: [3],
    causal_and_not: [3, 3],
    later_tokens: [3, 3],
    last_first: [3, 3],  # one permutation and both would turn together, but entries in another order stay apart
}


class Read(nn.Module):
    """Values that are read by length, and then by a map."""

    def __init__(self, reading: Reading) -> None:
        super().__init__()
        self.reading = reading
        self.q, self.k, self.v = (nn.Linear(7, HEADS * WIDTH, bias=False) for _ in range(3))
        self.norm = nn.RMSNorm(HEADS * WIDTH, elementwise_affine=False)
        self.o = nn.Linear(HEADS * WIDTH, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.o(self.norm(self.reading(self.q(x), self.k(x), self.v(x))))
        return out


def network(reading: Reading) -> Network:
    def inputs(generator: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(24, 4, 7, generator=generator, dtype=torch.float64),)

    return Network(reading.__name__, prepared(Read(reading)), inputs)


def turns(reading: Reading) -> list[int]:
    n = network(reading)
    symmetries = find_symmetries(n.module, n.batch(), n.loss_fn)
    verdict = judge(n, symmetries)
    assert verdict.sound, verdict
    if reading in WHOLE:
        assert verdict.truth.clear
        assert verdict.complete, verdict
    found = [f.action for f in symmetries if isinstance(f.action, Rotation)]
    return [turn.size for turn in found if any(t.parameter == "v.weight" for t in turn.terms)]


@pytest.mark.parametrize("reading", WHOLE)
def test_all_channels_turn_together(reading: Reading) -> None:
    """As many symmetries as the null space has: the rotations of six channels, not of three and three."""
    assert turns(reading) == [15]


@pytest.mark.parametrize("reading", TORN)
def test_channels_that_are_told_apart_stay_apart(reading: Reading) -> None:
    assert turns(reading) == TORN[reading]


@pytest.mark.parametrize("inside", [(0, 1), (1,), (1, 0, 0)])
@pytest.mark.parametrize(("along", "dim"), [(1, 2), (2, 1), (0, 3), (3, 0)])
def test_blocks_side_by_side_are_the_tensor_rearranged(inside: tuple[int, ...], along: int, dim: int) -> None:
    d = Builder()
    x = d.parameter("x", (6, 6, 6, 6))
    blocks = [d.view(x, Take(along, tuple(2 * k + j for j in inside))) for k in range(3)]
    d.fix(d.cat(blocks, dim))
    program = with_whole_tensors(d.program())
    assert not any(isinstance(i.primitive, p.Concatenate) for i in program.instructions)
    value = torch.randn(6, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.cat([value.index_select(along, torch.tensor([2 * k + j for j in inside])) for k in range(3)], dim)
    ((_, (result,)),) = evaluated(program, {"x": value}, {}).fixed
    assert isinstance(result, torch.Tensor)
    assert torch.equal(result, expected)


def test_heads_that_were_split_before_leave_a_reshape() -> None:
    d = Builder()
    x = d.parameter("x", (2, 5, 6))
    heads = d.view(d.view(x, Reshape((2, 5, 2, 3))), Permute((0, 2, 1, 3)))
    d.fix(d.cat([d.view(heads, Take(1, (k,))) for k in range(2)], 3))
    program = with_whole_tensors(d.program())
    views = [i.primitive.view for i in program.instructions if isinstance(i.primitive, p.Rearrange)]
    assert views == [Reshape((2, 1, 5, 6))]
