"""The engine held against the oracle: soundness of every generator, and dimensions of every kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.symmetry import Family, Symmetries
from neuralmechanics.symmetry.families.actions import AffineDiagonal, ComplexPairs, LinearBlocks, Rotation, Shear

from .network import Network
from .nullspace import Truth, brute_force, jacobian_rows, lowest_fibre, randomise, trainable

SOUND = 1e-9  # largest |Jξ| / (|J| |ξ|) of a true symmetry in float64, eps at 1e-20
_CUT = 1e-9  # relative singular value below which generators are dependent


@dataclass(frozen=True)
class Verdict:
    """What the engine found beside what is true."""

    name: str
    truth: Truth
    count: Mapping[str, int]
    translations: int  # rank of the constant generators, lone elements apart
    diagonal: int  # dimension of the diagonal generators in the span, lone elements apart
    silent: int  # lone elements that lie in the span of the generators
    displaced: int  # rank that scalings about another point than zero add to all others
    independent: int  # rank of the translations, plus dimension of all diagonal generators and of displaced ones
    orbit: int  # rank of all generators at one point
    violation: float  # largest |Jξ| / (|J| |ξ|)
    violator: str
    unknown: tuple[str, ...]

    @property
    def sound(self) -> bool:
        return self.violation < SOUND

    @property
    def equal(self) -> bool:
        """Translations and diagonal symmetries complete and independent."""
        t = self.truth
        mine = (self.translations, self.diagonal, self.silent)
        return mine == (t.translations - t.lone, t.multiplicative, t.lone)

    @property
    def counted(self) -> bool:
        """Every counted charge is independent of the others (where no linear block hides the diagonal)."""
        if self.count.get("linear", 0):
            return True
        return sum(self.count.get(kind, 0) for kind in ("translation", "scale", "rescale")) == self.independent

    @property
    def complete(self) -> bool:
        """Every continuous symmetry at a generic point explained."""
        return self.equal and self.orbit == self.truth.fibre

    def __str__(self) -> str:
        t = self.truth
        return (
            f"{self.name}: translations {self.translations} of {t.translations - t.lone}, "
            f"diagonal {self.diagonal} of {t.multiplicative}, lone {self.silent} of {t.lone}, "
            f"independent {self.independent}, orbit {self.orbit} of {t.fibre}, violation {self.violation:.1e} "
            f"{self.violator}, count {dict(self.count)}, unknown {list(self.unknown)}"
        )


def one_by_one(family: Family, params: Mapping[str, Tensor]) -> list[Tensor]:
    """Every generator of the family at θ, each as a flat vector over all parameters."""
    shape = family.generator_shape
    vectors = []
    for position in range(int(torch.tensor(shape).prod())):
        weights = torch.zeros(shape, dtype=torch.float64)
        weights.view(-1)[position] = 1.0
        vectors.append(flatten(family.generator(params, weights), params))
    return vectors


def flatten(moved: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
    stray = set(moved) - set(params)
    if stray:
        raise AssertionError(f"a generator moves {sorted(stray)}, which are no trainable parameters")
    return torch.cat([moved.get(name, torch.zeros_like(p)).detach().double().flatten() for name, p in params.items()])


def rank(matrix: Tensor) -> int:
    """Numerical rank with columns brought to length one."""
    if not matrix.numel():
        return 0
    size = matrix.norm(dim=0)
    matrix = matrix[:, size > 0] / size[size > 0]
    if not matrix.numel():
        return 0
    values = torch.linalg.svdvals(matrix)
    return int((values > _CUT * values[0]).sum())


def diagonal_dimension(generators: list[Tensor], points: list[Tensor], lone: Tensor) -> int:
    """dim {D diagonal : some fixed combination of the generators equals Dθ at every point}, lone elements apart.

    `generators[j]` holds the generators at `points[j]` as columns. Dividing by θ, the combinations whose quotient is
    the same at all points are the diagonal ones; those that vanish there are none.
    """
    if not generators[0].shape[1]:
        return 0
    kept = ~lone
    quotients = [g[kept] / p[kept, None] for g, p in zip(generators, points, strict=True)]
    columns = quotients[0].shape[1]
    agree = torch.cat([quotients[0] - other for other in quotients[1:]])
    size = torch.cat(quotients).norm(dim=0)
    size = torch.where(size > 0, size, 1.0)
    reference = float(torch.linalg.matrix_norm(torch.cat(quotients) / size, 2))
    values = torch.linalg.svdvals(agree / size)
    nullity = columns - int((values > _CUT * reference).sum())
    vanishing = columns - rank(torch.cat(quotients))
    return nullity - vanishing


def judge(network: Network, symmetries: Symmetries, seed: int = 0) -> Verdict:
    """Measures everything; judges nothing."""
    truth = brute_force(network, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    constant = torch.zeros(0)
    moving: list[Tensor] = []
    thetas: list[Tensor] = []
    orbit, displaced, violation, violator = 0, 0, 0.0, ""
    while len(thetas) < 3:
        theta = randomise(network.module, generator)
        params = {name: p.detach() for name, p in trainable(network.module).items()}
        vectors = [(family, v) for family in symmetries for v in one_by_one(family, params)]
        jacobian = jacobian_rows(network, generator, len(theta) + 12)
        if not jacobian.isfinite().all() or jacobian.abs().max() > 1e6:
            continue
        size = torch.linalg.matrix_norm(jacobian, 2)
        for family, v in vectors:
            if v.norm() == 0:
                raise AssertionError(f"{network.name}: a generator of {family!r} vanishes")
            error = float((jacobian @ v).norm() / (size * v.norm()))
            if error > violation:
                violation, violator = error, repr(family)
        thetas.append(theta)
        shifted = [v for f, v in vectors if f.kind not in ("translation", "affine") and not is_displaced(f)]
        displaced = rank(_columns([v for f, v in vectors if f.kind != "affine"], len(theta)))
        displaced -= rank(_columns([v for f, v in vectors if f.kind != "affine" and not is_displaced(f)], len(theta)))
        constant = _columns([v for family, v in vectors if family.kind == "translation"], len(theta))
        moving.append(_columns(shifted, len(theta)))
        orbit = max(orbit, rank(_columns([v for _, v in vectors], len(theta))))
    if orbit < truth.fibre:
        truth = replace(truth, fibre=min(truth.fibre, lowest_fibre(network, seed + 2, orbit)))
    lone = truth.silent
    everything = torch.cat([constant, moving[-1]], dim=1)  # displaced ones move no lone elements
    units = torch.eye(len(lone), dtype=torch.float64)[:, lone]
    none = torch.zeros_like(lone)
    return Verdict(
        name=network.name,
        truth=truth,
        count=symmetries.count(),
        translations=rank(constant[~lone]),
        diagonal=diagonal_dimension(moving, thetas, lone),
        silent=rank(everything) + truth.lone - rank(torch.cat([everything, units], dim=1)),
        displaced=displaced,
        independent=rank(constant) + diagonal_dimension(moving, thetas, none) + displaced,
        orbit=orbit,
        violation=violation,
        violator=violator,
        unknown=tuple(str(u) for u in symmetries.unknown),
    )


def is_displaced(family: Family) -> bool:
    """Whether it scales about another point than zero."""
    return isinstance(family.action, AffineDiagonal)


def _columns(vectors: list[Tensor], length: int) -> Tensor:
    return torch.stack(vectors, dim=1) if vectors else torch.zeros(length, 0, dtype=torch.float64)


def amounts(family: Family, generator: torch.Generator, decades: float) -> Tensor:
    """A random group element: shifts of order one, factors within ± `decades`, well-conditioned matrices."""
    if isinstance(family.action, Rotation | Shear):
        return torch.randn(family.generator_shape, generator=generator, dtype=torch.float64)
    if isinstance(family.action, ComplexPairs):
        size = 10.0 ** (decades * (2 * torch.rand(family.charges, generator=generator).double() - 1))
        angle = 6.28 * torch.rand(family.charges, generator=generator).double()
        return torch.stack([size * angle.cos(), size * angle.sin()], dim=1)
    if isinstance(family.action, LinearBlocks):
        noise = torch.randn(family.generator_shape, generator=generator, dtype=torch.float64)
        unit = torch.eye(family.action.width, dtype=torch.float64)
        return torch.linalg.qr(noise)[0] @ (unit + 0.1 * torch.randn(noise.shape, generator=generator).double())
    uniform = 2 * torch.rand(len(family.labels), generator=generator, dtype=torch.float64) - 1
    if family.kind in ("translation", "affine"):
        return uniform
    return 10.0 ** (decades * uniform)


def set_parameters(module: nn.Module, params: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in params:
                parameter.copy_(params[name])


def change(
    module: nn.Module, observe: Any, family: Family, a: float | Tensor, relative_to: Tensor | None = None
) -> float:
    """Largest change of what is observed under the finite transformation, relative to its largest entry."""
    before = {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}
    moved = family.transform(before, a)
    with torch.no_grad():
        base = observe() if relative_to is None else relative_to
        try:
            set_parameters(module, moved)
            after = observe()
        finally:
            set_parameters(module, before)
    return float((after - base).abs().max() / base.abs().max())
