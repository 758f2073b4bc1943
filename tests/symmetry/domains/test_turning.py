"""Rotations, mixings through gains, and shears: found where they are, exact when finite, read back as written."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.symmetry.families.actions import Rotation, Shear
from neuralmechanics.symmetry.families.family import Family

from ..agreement import change
from ..blocks import Attention, Gated, Residual


def llama(gain: bool) -> nn.Module:
    """Two residual blocks read through root-mean-square norms, with or without gains."""

    def norm() -> nn.Module:
        return nn.RMSNorm(4, eps=1e-5, elementwise_affine=gain)

    return nn.Sequential(
        nn.Linear(3, 4),
        Residual(nn.Sequential(norm(), Attention(4, 2, 2, rotary=True))),
        Residual(nn.Sequential(norm(), Gated(4, 5, "silu"))),
        norm(),
        nn.Linear(4, 6),
    )


def layer_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5, eps=1e-5), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def scaled_rows() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.s, self.v = (nn.Parameter(torch.rand(*n) + 0.5) for n in ((3, 3), (3,), (3, 3)))

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(((x @ self.u) * (1 + self.s)) @ self.v)

    return Scaled()


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, int]] = {
    "stream without gains": (lambda: llama(False), (5, 4, 3), "orthogonal", 6),
    "stream with gains": (lambda: llama(True), (5, 4, 3), "orthogonal", 6),
    "centred": (layer_norm, (5, 3), "centred", 6),
    "gain between layers": (scaled_rows, (5, 3), "general", 6),
}


def found(name: str) -> tuple[nn.Module, Tensor, Symmetries]:
    factory, shape, _, _ = CASES[name]
    torch.manual_seed(0)
    module = factory().double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.rand(p.shape, dtype=torch.float64))
    x = torch.randn(shape, dtype=torch.float64)
    return module, x, find_symmetries(module, x)


@pytest.mark.parametrize("name", CASES)
def test_turns_are_found_and_exact(name: str) -> None:
    """exp(M) leaves the output unchanged to rounding, whatever the eps of norms, and has no charge."""
    module, x, symmetries = found(name)
    turns = [f.action for f in symmetries if isinstance(f.action, Rotation)]
    assert [(turn.group, turn.size) for turn in turns] == [CASES[name][2:]]
    for family in (f for f in symmetries if isinstance(f.action, Rotation | Shear)):
        assert family.exact
        assert family.charges == 0 == len(family.charge(dict(module.named_parameters())))
        amount = torch.linspace(-1, 1, family.size, dtype=torch.float64)
        assert change(module, lambda: module(x), family, amount) < 1e-12


def test_a_shear_is_answered_by_the_bias() -> None:
    """W + u(1/γ)ᵀ and b - u Σβ/γ, one u for each output of a weight that reads a centring norm."""
    symmetries = found("centred")[2]
    (shear,) = (f for f in symmetries if isinstance(f.action, Shear))
    assert (shear.kind, shear.size, shear.parameters) == ("affine", 4, ("2.weight", "2.bias"))


@pytest.mark.parametrize("name", CASES)
def test_read_back_as_written(name: str) -> None:
    module, _, symmetries = found(name)
    params = dict(module.named_parameters())
    again = Symmetries.from_dict(json.loads(json.dumps(symmetries.to_dict())))
    for one, other in zip(symmetries, again, strict=True):
        assert one.to_dict() == other.to_dict()
        assert type(one.action) is type(other.action)
        assert all(
            torch.equal(a, b) for a, b in zip(*(f.generator(params).values() for f in (one, other)), strict=True)
        )


@pytest.mark.parametrize("name", CASES)
def test_the_adjoint_is_the_derivative(name: str) -> None:
    """⟨(∂ξ/∂θ)ᵀ g, z⟩ against the central difference of ⟨g, ξ(θ + hz)⟩."""
    module, _, symmetries = found(name)
    params = {n: p.detach() for n, p in module.named_parameters()}
    g, z = ({n: torch.randn_like(p) for n, p in params.items()} for _ in range(2))

    def product(family: Family, step: float) -> float:
        moved = family.generator({n: p + step * z[n] for n, p in params.items()})
        return sum(float((g[n] * x).sum()) for n, x in moved.items())

    for family in (f for f in symmetries if isinstance(f.action, Rotation | Shear)):
        weights = torch.ones(family.size, dtype=torch.float64)
        exact = sum(float((a * z[n]).sum()) for n, a in family.adjoint(g, weights, params).items())
        assert (product(family, 1e-5) - product(family, -1e-5)) / 2e-5 == pytest.approx(exact, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(
    "reader", [nn.ReLU(), nn.Dropout(0.5), nn.LayerNorm(4), nn.RMSNorm(2)], ids=lambda m: type(m).__name__
)
def test_what_tells_channels_apart_ends_a_rotation(reader: nn.Module) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entry, self.norm, self.head = nn.Linear(3, 4), nn.RMSNorm(4, elementwise_affine=False), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.entry(x)
            other = reader(x.unflatten(-1, (2, 2))).flatten(-2) if isinstance(reader, nn.RMSNorm) else reader(x)
            return self.head(self.norm(x)) + other.square().sum(-1, keepdim=True).sin() * other[..., :1]

    symmetries = find_symmetries(Reads(), torch.randn(5, 3))
    assert not [f for f in symmetries if isinstance(f.action, Rotation)]


@pytest.mark.parametrize("zero", [False, True])
def test_a_gain_of_zero_moves_nothing(zero: bool) -> None:
    """W + (1/λ)vᵀ is no number where a gain is zero: then the finite transformation is the identity, and no nan."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.gain = nn.Linear(5, 6), nn.Linear(6, 3), nn.Parameter(torch.randn(6))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(functional.layer_norm(self.gain * self.first(x), (6,)).tanh())
            return out

    torch.manual_seed(0)
    model, x = Scaled().double(), torch.randn(4, 5).double()
    if zero:
        model.gain.data[2] = 0
    params = {name: p.detach() for name, p in model.named_parameters()}
    shears = [family for family in find_symmetries(model, x) if isinstance(family.action, Shear)]
    assert shears
    for family in shears:
        moved = family.transform(params, 1.0)
        assert torch.allclose(torch.func.functional_call(model, moved, (x,)), model(x), rtol=0, atol=1e-12)
        assert all(torch.equal(moved[n], p) for n, p in params.items()) == zero
        gradients = {n: torch.ones_like(p) for n, p in params.items()}
        adjoint = family.adjoint(gradients, 1.0, params)
        assert all(bool(t.isfinite().all()) for t in adjoint.values())
