"""Heads whose values turn in front of a gain that has entries of its own for each of them, however it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.actions.moving.turning import mixed_space
from neuralmechanics.symmetry.families.actions import Rotation

from ..agreement import amounts, change, judge
from ..network import Network, prepared

HEADS, WIDTH, EPS = 2, 3, 1e-20


def rms(x: Tensor, dims: tuple[int, ...] = (-1,)) -> Tensor:
    return x * torch.rsqrt(x.square().mean(dims, keepdim=True) + EPS)


def flat(a: Tensor) -> Tensor:
    return a.transpose(1, 2).flatten(2)


def fused(a: Tensor, gain: Tensor) -> Tensor:
    """BitNet: one norm for all heads, one behind the other."""
    return functional.rms_norm(flat(a), (HEADS * WIDTH,), gain, EPS)


def about_one(a: Tensor, gain: Tensor) -> Tensor:
    return rms(flat(a)) * (1 + gain)


def beside_heads(a: Tensor, gain: Tensor) -> Tensor:
    return flat(rms(a, (1, 3)) * gain.view(HEADS, 1, WIDTH))


def of_each_head(a: Tensor, gain: Tensor) -> Tensor:
    return flat(rms(a) * gain.view(HEADS, 1, WIDTH))


def before_the_norm(a: Tensor, gain: Tensor) -> Tensor:
    return rms(flat(a) * gain)


def without_norm(a: Tensor, gain: Tensor) -> Tensor:
    return flat(a) * gain


def centred(a: Tensor, gain: Tensor) -> Tensor:
    return functional.layer_norm(flat(a), (HEADS * WIDTH,), gain, None, EPS)


def rectified(a: Tensor, gain: Tensor) -> Tensor:
    return torch.relu(rms(flat(a)) * gain)


def shared_in_another_order(a: Tensor, gain: Tensor) -> Tensor:
    return rms(flat(a)) * torch.cat([gain[:WIDTH], gain[:WIDTH]])


def rolled(a: Tensor, gain: Tensor) -> Tensor:
    return rms(flat(a)) * gain.roll(1)


def normed_over_heads(a: Tensor, gain: Tensor) -> Tensor:
    return flat(rms(a, (1,)) * gain.view(HEADS, 1, WIDTH))


def also_summed(a: Tensor, gain: Tensor) -> Tensor:
    x = rms(flat(a)) * gain
    return torch.cat([x[..., :-1], x[..., -1:] + x.sum(-1, keepdim=True)], -1)


def averaged(a: Tensor, gain: Tensor) -> Tensor:
    return (rms(flat(a)) * gain).unflatten(-1, (HEADS, WIDTH)).mean(-2).repeat(1, 1, HEADS)


def of_the_other_head(a: Tensor, gain: Tensor) -> Tensor:
    return rms(flat(a)) * gain.view(HEADS, WIDTH).flip(0).reshape(-1)


def of_the_first_head(a: Tensor, gain: Tensor) -> Tensor:
    return flat(rms(a, (1, 3)) * gain.view(HEADS, 1, WIDTH)[[0, 0]])


def of_channels_in_another_order(a: Tensor, gain: Tensor) -> Tensor:
    return flat(rms(a, (1, 3)) * gain.view(HEADS, 1, WIDTH)[..., [1, 0, 2]])


def of_each_token(a: Tensor, gain: Tensor) -> Tensor:
    return flat(rms(a[:, :, :HEADS], (1, 3)) * gain.view(1, HEADS, WIDTH))


def behind_heads_that_were_exchanged(a: Tensor, gain: Tensor) -> Tensor:
    return (rms(flat(a)).unflatten(-1, (HEADS, WIDTH)).roll(1, -2) * gain.view(HEADS, WIDTH)).flatten(2)


Behind = Callable[[Tensor, Tensor], Tensor]
TURNING: dict[Behind, tuple[str, int]] = {
    fused: ("orthogonal", 6),
    about_one: ("orthogonal", 6),
    beside_heads: ("orthogonal", 6),
    of_each_head: ("orthogonal", 6),
    before_the_norm: ("orthogonal", 6),
    without_norm: ("general", 12),
    centred: ("centred", 2),
}
STILL: tuple[Behind, ...] = (
    rectified,
    shared_in_another_order,
    rolled,
    normed_over_heads,
    also_summed,
    averaged,
    of_the_other_head,
    of_the_first_head,
    of_channels_in_another_order,
    of_each_token,
    behind_heads_that_were_exchanged,
)


class Heads(nn.Module):
    """Attention, and between its heads and their output what is tested."""

    def __init__(self, behind: Behind) -> None:
        super().__init__()
        self.behind, width = behind, HEADS * WIDTH
        self.q, self.k, self.v = (nn.Linear(5, width, bias=False) for _ in range(3))
        self.o = nn.Linear(width, 4, bias=False)
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        heads = (f(x).unflatten(-1, (HEADS, WIDTH)).transpose(1, 2) for f in (self.q, self.k, self.v))
        a = functional.scaled_dot_product_attention(*heads)
        out: Tensor = self.o(self.behind(a, self.gain))
        return out


def network(behind: Behind) -> Network:
    def inputs(generator: torch.Generator) -> tuple[Tensor]:
        return (torch.randn(24, 4, 5, generator=generator, dtype=torch.float64),)

    return Network(behind.__name__, prepared(Heads(behind)), inputs)


@pytest.mark.parametrize("behind", TURNING)
def test_values_of_each_head_turn(behind: Behind) -> None:
    """As many symmetries as the null space has, each exact as a finite transformation."""
    n = network(behind)
    symmetries = find_symmetries(n.module, n.batch(), n.loss_fn)
    turns = [f.action for f in symmetries if isinstance(f.action, Rotation)]
    assert [(turn.group, turn.size) for turn in turns] == [TURNING[behind]]
    verdict = judge(n, symmetries)
    assert verdict.truth.clear
    assert verdict.sound, verdict
    assert verdict.complete, verdict
    generator = torch.Generator().manual_seed(1)
    for family in symmetries:
        moved = change(n.module, lambda: n.observed(n.batch()), family, amounts(family, generator, 0.3))
        assert moved < 1e-12, family


@pytest.mark.parametrize("behind", STILL)
def test_what_tells_channels_apart_turns_none(behind: Behind) -> None:
    n = network(behind)
    symmetries = find_symmetries(n.module, n.batch(), n.loss_fn)
    assert not [f for f in symmetries if isinstance(f.action, Rotation)]
    assert judge(n, symmetries).sound


def test_a_rewrite_reads_the_gains_of_each_head() -> None:
    """A matrix for each head, as a change of the tensors, does what the space's own transformation does."""
    n = network(fused)
    with torch.no_grad():
        for parameter in n.module.parameters():
            parameter.uniform_(0.5, 1.5)
    params = {name: p.detach() for name, p in n.module.named_parameters()}
    (space,) = (s for s in find_symmetries(n.module, n.batch()).channel_spaces if s.group == "orthogonal")
    element = space.random_element(torch.Generator().manual_seed(2)).matrix
    assert element is not None
    moved = space.transform(params, element)
    for change_of in mixed_space(space, element).changes:
        assert torch.allclose(change_of.apply(params[change_of.tensor], params), moved[change_of.tensor])
    batch = n.batch()
    before = n.observed(batch)
    after = torch.func.functional_call(n.module, moved, batch)
    assert torch.allclose(before, after, rtol=1e-12)
