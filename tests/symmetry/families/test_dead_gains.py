"""At a gain of zero only what keeps its channels from all others exists: the rest moves nothing, or is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neuralmechanics.rewrite import canonical, equivalent
from neuralmechanics.symmetry import Family, find_symmetries

WIDTH, DEAD = 6, (2, 4)
WORDS = torch.arange(8)[None]


class Stream(nn.Module):
    """A stream of an embedding and one branch, which norms with gains read."""

    def __init__(self, norm: type[nn.Module], bias: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, WIDTH)
        self.norm, self.up, self.down = norm(WIDTH), nn.Linear(WIDTH, 8, bias=bias), nn.Linear(8, WIDTH, bias=bias)
        self.last, self.head = norm(WIDTH), nn.Linear(WIDTH, 11, bias=False)

    def forward(self, words):
        x = self.embedding(words)
        x = x + self.down(torch.tanh(self.up(self.norm(x))))
        return self.head(self.last(x))


def network(norm: type[nn.Module], bias: bool, dead: tuple[str, ...]):
    torch.manual_seed(0)
    model = Stream(norm, bias).double()
    symmetries = find_symmetries(model, WORDS)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or "last" in name:
                p.uniform_(0.5, 1.5)
            if name in dead:
                p[list(DEAD)] = 0.0
    return model, symmetries, {name: p.detach() for name, p in model.named_parameters()}


def turned(families: tuple[Family, ...], params):
    """The parameters after a random element of each rotation, and by how much it moved them."""
    for family in families:
        if family.action.gains:
            weights = torch.randn(family.generator_shape, generator=torch.Generator().manual_seed(1))
            params = family.transform(params, 0.5 * weights)
    return params


@pytest.mark.parametrize("dead", [("norm.weight",), ("last.weight",), ("norm.weight", "last.weight")])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", [nn.RMSNorm, nn.LayerNorm])
def test_what_is_left_of_rotations_is_exact(norm, bias, dead):
    model, symmetries, params = network(norm, bias, dead)
    rotations = [f for f in symmetries.families if f.action.gains]
    assert rotations
    out = model(WORDS)
    moved = turned(symmetries.families, params)
    assert all(p.isfinite().all() for p in moved.values())
    torch.testing.assert_close(torch.func.functional_call(model, moved, (WORDS,)), out, rtol=0, atol=1e-12)
    for family in rotations:
        weights = torch.ones(family.generator_shape, dtype=torch.float64)
        velocity = family.generator(params, weights)
        assert all(v.isfinite().all() for v in velocity.values())
        names = tuple(velocity)
        _, change = torch.autograd.functional.jvp(
            lambda *moved, names=names: torch.func.functional_call(
                model, {**params, **dict(zip(names, moved, strict=True))}, (WORDS,)
            ),
            tuple(params[n] for n in names),
            tuple(velocity[n].double() for n in names),
        )
        assert change.abs().max() < 1e-12
        slopes = family.action.adjoint(velocity, weights, params)
        assert all(v.isfinite().all() for v in slopes.values())
    # Under an RMS norm the other channels are still turned among each other: something moves.
    if norm is nn.RMSNorm:
        assert any((moved[n] - p).abs().max() > 0.1 for n, p in params.items())


def test_a_matrix_that_mixes_dead_channels_with_others_is_refused():
    _, symmetries, params = network(nn.RMSNorm, False, ("norm.weight",))
    (family,) = (f for f in symmetries.families if f.action.gains)
    (space,) = (s for s in symmetries.spaces if s.group == "orthogonal")
    mixed = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64))[0]
    for act in (family.transform, space.transform):
        with pytest.raises(ValueError, match=r"the gain 'norm.weight'.* has entries of zero: .*; fold the gains first"):
            act(params, mixed)
    apart = torch.eye(WIDTH, dtype=torch.float64)
    apart[2, 2] = apart[4, 4] = 0.0
    apart[2, 4], apart[4, 2] = 1.0, -1.0
    for act in (family.transform, space.transform):
        assert all(p.isfinite().all() for p in act(params, apart).values())


@pytest.mark.parametrize(("norm", "bias"), [(nn.RMSNorm, False), (nn.LayerNorm, True)])
def test_two_networks_with_gains_of_zero_are_compared(norm, bias):
    model, symmetries, params = network(norm, bias, ("norm.weight",))
    assert equivalent(model, WORDS, params, turned(symmetries.families, params)).equal
    other = {n: p + 0.1 * torch.randn_like(p) if n == "down.weight" else p for n, p in params.items()}
    found = equivalent(model, WORDS, params, other)
    assert not found.equal
    assert found.tensors == ("down.weight",)
    with pytest.raises(ValueError, match=r"the gain 'norm.weight'.* has entries of zero: .*; fold the gains first"):
        canonical(model, WORDS, params)
