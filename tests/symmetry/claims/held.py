"""What is false in a claim: the families whose finite transformation or gradient shows a change above rounding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.symmetry import Family

from ..agreement import amounts, set_parameters
from ..nullspace import randomise, trainable
from .entry import Claim
from .failing import CONDITIONAL

ROUNDING = 1e-9  # of the largest entry: float64 leaves 1e-13 in these networks, a false family 1e-3 and more
_NEGLIGIBLE = 1e-12  # a constant that breaks a family, such as a norm's eps, at the size given to it here
_DECADES = 0.5


@dataclass(frozen=True)
class Falsehood:
    """A claimed family, where it was tried, and the relative change."""

    family: str
    place: str
    change: float

    def __str__(self) -> str:
        return f"{self.family}: {self.change:.1e} {self.place}"


def search(claim: Claim) -> Symmetries:
    return find_symmetries(claim.build(), claim.batch(), claim.loss)


def falsehoods(claim: Claim, symmetries: Symmetries, tries: int = 3) -> list[Falsehood]:
    """Every family at the given and at two random parameters, on the given and on other data, by several amounts."""
    generator = torch.Generator().manual_seed(5)
    found: list[Falsehood] = []
    for place, params, batch in _places(claim, generator):
        found += [Falsehood("coverage", f"{name} is called unused, at {place}", size) for name, size in
                  _moving(claim, symmetries, params, batch)]  # fmt: skip
        for family in symmetries:
            if any(breaking.value > _NEGLIGIBLE for breaking in family.broken_by):
                continue  # said to be broken, with the constant that breaks it
            found += [
                Falsehood(repr(family), f"finite, {place}", change)
                for change in _changes(claim, family, params, batch, generator, tries)
                if not change < ROUNDING
            ]
            residual = _residual(claim, family, params, batch)
            if not residual < ROUNDING:
                found.append(Falsehood(repr(family), f"⟨g, ξ⟩, {place}", residual))
    return found


def _places(claim: Claim, generator: torch.Generator) -> Iterator[tuple[str, dict[str, Tensor], Any]]:
    module = claim.build()
    params = {name: p.detach().clone() for name, p in trainable(module).items()}
    yield "given parameters, given data", params, claim.batch(0)
    yield "given parameters, other data", params, claim.batch(1)
    for number in (1, 2):
        randomise(module, generator)
        params = {name: p.detach().clone() for name, p in trainable(module).items()}
        if claim.name not in CONDITIONAL:
            yield f"random parameters {number}, other data", params, claim.batch(1 + number)


def evaluate(claim: Claim, params: Mapping[str, Tensor], batch: Any) -> tuple[nn.Module, Tensor]:
    """A fresh module at the parameters, and what must stay unchanged there; all random draws as before."""
    module = claim.build()
    set_parameters(module, params)
    torch.manual_seed(3)
    if claim.loss is not None:
        return module, claim.loss(module, batch)
    result = module(**batch) if isinstance(batch, Mapping) else module(*batch)
    return module, torch.cat([piece.flatten() for piece in _tensors(result)])


def _tensors(result: Any) -> Iterator[Tensor]:
    """The floating-point tensors of a nested output, complex ones as pairs of real numbers."""
    if isinstance(result, Tensor):
        if result.is_complex():
            yield torch.view_as_real(result)
        elif result.is_floating_point():
            yield result
    elif isinstance(result, (Mapping, tuple, list)):
        for value in result.values() if isinstance(result, Mapping) else result:
            yield from _tensors(value)


def _changes(
    claim: Claim, family: Family, params: dict[str, Tensor], batch: Any, generator: torch.Generator, tries: int
) -> list[float]:
    base = evaluate(claim, params, batch)[1].detach()
    changes = []
    for _ in range(tries):
        moved = family.transform(params, amounts(family, generator, _DECADES))
        after = evaluate(claim, moved, batch)[1].detach()
        changes.append(float((after - base).abs().max() / base.abs().max().clamp(min=1e-30)))
    return changes


def gradient(claim: Claim, params: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
    """∂/∂θ of the loss, or of the output under fixed random weights."""
    module, value = evaluate(claim, params, batch)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    names = trainable(module)
    total = value if claim.loss is not None else (value * weights).sum()
    if total.requires_grad:
        total.backward()  # reentrant checkpoints refuse torch.autograd.grad
    return {name: p.grad.detach() for name, p in names.items() if p.grad is not None}


def _residual(claim: Claim, family: Family, params: dict[str, Tensor], batch: Any) -> float:
    """Largest |⟨g, ξ⟩| / (|g| |ξ|) over the generators of the family."""
    g = _real(gradient(claim, params, batch), params)
    floor = 1e-3 * float(evaluate(claim, params, batch)[1].detach().abs().max())  # a gradient of rounding has no angle
    largest = 0.0
    for ray in _rays(family, params):
        largest = max(largest, float((g @ ray).abs() / (g.norm() * ray.norm()).clamp(min=max(floor, 1e-30))))
    return largest


def _real(pieces: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Tensor:
    """All entries as real numbers, those that are absent as zeros, complex ones as pairs."""
    whole = [pieces.get(name, torch.zeros_like(p)).detach() for name, p in params.items()]
    return torch.cat([(torch.view_as_real(p) if p.is_complex() else p).flatten() for p in whole])


def _rays(family: Family, params: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """Every generator of the family at θ."""
    for position in range(family.size):
        weights = torch.zeros(family.generator_shape, dtype=torch.float64)
        weights.view(-1)[position] = 1.0
        yield _real(family.generator(params, weights), params)


def _moving(claim: Claim, symmetries: Symmetries, params: dict[str, Tensor], batch: Any) -> Iterator[tuple[str, float]]:
    """Parameters that are called unused though the loss has a gradient there."""
    unused = [c.parameter for c in symmetries.coverage if c.status == "unused"]
    g = gradient(claim, params, batch) if unused else {}
    for name in unused:
        if name in g and g[name].abs().max() > 0:
            yield name, float(g[name].abs().max())
