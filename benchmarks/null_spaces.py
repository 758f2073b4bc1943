"""Symmetries that were found in a model beside the null space of its Jacobian, by brute force in float64.

Nothing of the engine is used to measure: J is the derivative of the logits at random points, over random batches.
translations = dim {v : J(θ)v = 0 at every θ}, diagonal = dim {D diagonal : J(θ)Dθ = 0 at every θ}, fibre = dim ker J
at one generic θ. Elements whose derivative vanishes everywhere (rows of a table that nothing reads) stand apart.
One singular value decomposition a model: at further points J is looked at within the kernel of the first alone.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from null_directions import completing
from tests.symmetry.agreement import diagonal_dimension, is_displaced, one_by_one, rank, set_parameters
from tests.symmetry.network import Network
from tests.symmetry.nullspace import Kernel, jacobian_rows, kernel, randomise, trainable
from tests.symmetry.precision import DoublePrecision

__all__ = ["Logits", "compared", "idealised"]

_POINTS, _MOST_POINTS = 4, 12
_CUT = 1e-9  # relative size below which J moves nothing along a direction
_TINY_EPS = 1e-20


class Logits(nn.Module):
    """A model that takes the tensors of a batch in order and returns its logits, all in float64."""

    def __init__(self, model: nn.Module, names: Sequence[str], logits_of: Callable[[Any, dict[str, Tensor]], Tensor]):
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.logits_of = logits_of

    def forward(self, *tensors: Tensor) -> Tensor:
        with DoublePrecision():
            return self.logits_of(self.model, dict(zip(self.names, tensors, strict=True)))


def idealised(model: nn.Module) -> nn.Module:
    """The model in float64 with every eps next to zero and rows of padding that are trained like others; in place.

    What eps breaks a little then holds to rounding, and the derivative is that of the function.
    """
    holders = [model, *model.modules(), *(m.config for m in model.modules() if hasattr(m, "config"))]
    for holder in holders:
        for name, value in list(vars(holder).items()):
            if name.endswith(("eps", "epsilon")) and type(value) is float and 0 < value < 0.1:
                setattr(holder, name, _TINY_EPS)
        if isinstance(holder, nn.Embedding):
            holder.padding_idx = None
    return model.double()


@dataclass(frozen=True, eq=False)
class _Measured:
    """Points, square factors of the Jacobians there without the elements that nothing reads, and which those are."""

    thetas: list[Tensor]
    jacobians: list[Tensor]
    lone: Tensor

    @property
    def kept(self) -> Tensor:
        return ~self.lone


def compared(model: Logits, draw: Callable[[torch.Generator], tuple[Tensor, ...]], found: Any) -> dict[str, Any]:
    """Dimensions by brute force beside what the families span, and the directions that no family explains by name."""
    more = _points(Network("", model, draw))
    thetas, jacobians = map(list, zip(*itertools.islice(more, _POINTS), strict=True))
    lone = torch.stack([j.norm(dim=0) / j.norm(dim=0).max() for j in jacobians]).amax(0) <= 1e-12
    measured = _Measured(thetas, [_restricted(j, lone) for j in jacobians], lone)
    first = kernel(measured.jacobians[0])
    translations, diagonal = _common(measured, first, more)
    families = [_generators(found, model, theta) for theta in thetas]
    moving = [[v for f, v in pairs if _scales(f)] for pairs in families[:3]]
    constant = [v[~lone] for f, v in families[0] if f.kind == "translation"]
    orbits = [_columns([v[~lone] for _, v in pairs], int((~lone).sum())) for pairs in families]
    place, fibre = _lowest(measured, first, rank(orbits[0]))
    return {
        "parameters": len(lone),
        "lone": int(lone.sum()),
        "translations": [rank(_columns(constant, int((~lone).sum()))), translations],
        "diagonal": [_diagonal(moving, thetas[:3], lone), diagonal],
        "fibre": [rank(orbits[place]), fibre.dimension],
        "clear": bool(fibre.clear),
        "gap": [fibre.kept, fibre.dropped],
        "false": _false(families, measured),
        "kernels": _named(model, draw, measured, place, completing(fibre.basis, orbits[place], _groups(model, lone))),
        "silent": _silent(model, lone),
    }


def _restricted(jacobian: Tensor, lone: Tensor) -> Tensor:
    return (jacobian / jacobian.abs().max())[:, ~lone]


def _lowest(measured: _Measured, first: Kernel, explained: int) -> tuple[int, Kernel]:
    """The least kernel of several points, for units that no input switches enlarge it; further ones only if needed."""
    place, least = 0, first
    for at, jacobian in list(enumerate(measured.jacobians))[1:]:
        if least.dimension <= explained:
            break
        other = kernel(jacobian)
        if other.dimension < least.dimension:
            place, least = at, other
    return place, least


def _points(network: Network) -> Iterator[tuple[Tensor, Tensor]]:
    """Generic points, and a square factor of J at each that has its kernel; J has three rows an element.

    Rows of one batch of words are far from independent, so that many more than elements are needed.
    """
    generator = torch.Generator().manual_seed(0)
    found = 0
    for tried in range(1, 4 * _MOST_POINTS):
        theta = randomise(network.module, generator)
        jacobian = jacobian_rows(network, generator, 3 * len(theta))
        if bool(jacobian.isfinite().all()) and 0 < float(jacobian.abs().max()) < 1e6:
            found += 1
            yield theta, torch.linalg.qr(jacobian, mode="r")[1]
        elif tried >= 4 * _POINTS and found < _POINTS:
            raise ValueError(f"only {found} of {tried} random points have finite derivatives below 1e6")


def _scales(family: Any) -> bool:
    return family.kind not in ("translation", "affine") and not is_displaced(family)


def _columns(vectors: list[Tensor], length: int) -> Tensor:
    return torch.stack(vectors, dim=1) if vectors else torch.zeros(length, 0, dtype=torch.float64)


def _diagonal(moving: list[list[Tensor]], thetas: list[Tensor], lone: Tensor) -> int:
    return diagonal_dimension([_columns(v, len(lone)) for v in moving], thetas, lone)


def _generators(found: Any, model: Logits, theta: Tensor) -> list[tuple[Any, Tensor]]:
    """Every generator of every family at θ, flat."""
    named = trainable(model)
    cut = torch.split(theta, [p.numel() for p in named.values()])
    prefix = len("model.")
    params = {n[prefix:]: x.reshape(p.shape) for (n, p), x in zip(named.items(), cut, strict=True)}
    return [(family, v) for family in found for v in one_by_one(family, params)]


def _false(families: list[list[tuple[Any, Tensor]]], measured: _Measured) -> list[str]:
    """Families of which a generator changes the logits somewhere."""
    out: dict[str, float] = {}
    for pairs, jacobian in zip(families, measured.jacobians, strict=False):
        size = torch.linalg.matrix_norm(jacobian)
        for family, v in pairs:
            change = float((jacobian @ v[measured.kept]).norm() / (size * v.norm().clamp_min(1e-300)))
            if change > _CUT:
                out[f"{family.kind} {family.name}"] = max(change, out.get(f"{family.kind} {family.name}", 0.0))
    return [f"{name}: {change:.1e}" for name, change in out.items()]


def _common(measured: _Measured, first: Kernel, more: Iterator[tuple[Tensor, Tensor]]) -> tuple[int, int]:
    """Dimensions of the kernels of J(θ) and of J(θ)·diag(θ) common to all points, within those of the first.

    Points are added until two in turn take nothing away.
    """
    kept = measured.kept
    constant = first.basis
    scaled = torch.linalg.qr(first.basis / measured.thetas[0][kept][:, None])[0]
    given = list(zip(measured.thetas[1:], measured.jacobians[1:], strict=True))
    further = ((theta, _restricted(jacobian, measured.lone)) for theta, jacobian in more)
    history = [(constant.shape[1], scaled.shape[1])]
    for theta, jacobian in itertools.islice(itertools.chain(given, further), _MOST_POINTS):
        constant = _within(jacobian, constant)
        scaled = _within(jacobian * theta[kept], scaled)
        history.append((constant.shape[1], scaled.shape[1]))
        if len(history) >= _POINTS and len(set(history[-3:])) == 1:
            break
    return history[-1]


def _within(jacobian: Tensor, basis: Tensor) -> Tensor:
    """An orthonormal basis of the vectors of a space that J does not see, judged by the sizes of J's columns."""
    if not basis.shape[1]:
        return basis
    sizes = jacobian.norm(dim=0)
    sizes = sizes / sizes.max()
    scale = sizes.clamp_min(1e-6)
    evened = torch.linalg.qr(basis * scale[:, None])[0]
    reduced = torch.linalg.qr((jacobian / scale) @ evened, mode="r")[1]
    _, values, right = torch.linalg.svd(reduced / torch.linalg.matrix_norm(jacobian / scale), full_matrices=True)
    values = torch.cat([values, values.new_zeros(right.shape[0] - len(values))])
    within = (evened @ right[values < _CUT].T) / scale[:, None]
    return torch.linalg.qr(within)[0]


def _groups(model: Logits, lone: Tensor) -> list[Tensor]:
    """The elements of each parameter, then those of each layer that has several."""
    named = trainable(model)
    number = torch.repeat_interleave(torch.arange(len(named)), torch.tensor([p.numel() for p in named.values()]))[~lone]
    layers: dict[str, list[int]] = {}
    for index, name in enumerate(named):
        layers.setdefault(name.rpartition(".")[0], []).append(index)
    singles = [number == index for index in range(len(named))]
    return singles + [torch.isin(number, torch.tensor(m)) for m in layers.values() if len(m) > 1]


def _named(
    model: Logits,
    draw: Callable[[torch.Generator], tuple[Tensor, ...]],
    measured: _Measured,
    place: int,
    directions: Tensor,
) -> dict[str, int]:
    """Kernels by what they move (of many, layers' numbers as #) and whether a finite step along them is unseen."""
    named = trainable(model)
    theta = measured.thetas[place]
    counts: Counter[str] = Counter()
    inputs = draw(torch.Generator().manual_seed(5))
    for column in directions.T:
        step = torch.zeros_like(theta)
        step[measured.kept] = column
        pieces = dict(zip(named, torch.split(step, [p.numel() for p in named.values()]), strict=True))
        moved = {n: float(x.square().sum()) for n, x in pieces.items() if bool((x != 0).any())}
        most = max(moved.values())
        labels = sorted(
            {re.sub(r"\d+", "#", n.removeprefix("model.")) for n, share in moved.items() if share > most / 1e3}
        )
        straight = _unseen(model, inputs, theta, step)
        counts[("straight: " if straight else "curved: ") + " + ".join(labels)] += 1
    return dict(counts.most_common())


def _unseen(model: Logits, inputs: tuple[Tensor, ...], theta: Tensor, step: Tensor) -> bool:
    """Whether θ + tξ gives the same logits as θ for a step as long as the moved elements themselves."""
    named = trainable(model)
    cut = [p.numel() for p in named.values()]
    length = theta[step != 0].norm() / step.norm()

    def logits(at: Tensor) -> Tensor:
        values = {n: x.reshape(p.shape) for (n, p), x in zip(named.items(), torch.split(at, cut), strict=True)}
        set_parameters(model, values)
        with torch.no_grad():
            out: Tensor = model(*inputs)
        return out

    before = logits(theta)
    return bool((logits(theta + length * step) - before).abs().max() <= 1e-8 * before.abs().max())


def _silent(model: Logits, lone: Tensor) -> dict[str, int]:
    """How many elements of each parameter nothing reads."""
    named = trainable(model)
    pieces = torch.split(lone, [p.numel() for p in named.values()])
    return {n.removeprefix("model."): int(x.sum()) for n, x in zip(named, pieces, strict=True) if bool(x.any())}
