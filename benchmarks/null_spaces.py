"""Symmetries that were found in a model beside the null space of its Jacobian, by brute force in float64.

Nothing of the engine is used to measure: J is the derivative of the logits at random points, over random batches.
translations = dim {v : J(θ)v = 0 at every θ}, diagonal = dim {D diagonal : J(θ)Dθ = 0 at every θ}, fibre = dim ker J
at one generic θ. Elements whose derivative vanishes everywhere (rows of a table that nothing reads) stand apart.
One singular value decomposition a model: fresh data, and J at further points, are looked at within its kernel alone.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from null_directions import completing
from tests.symmetry.agreement import diagonal_dimension, is_displaced, one_by_one, rank, set_parameters
from tests.symmetry.network import Network
from tests.symmetry.nullspace import Kernel, jacobian_rows, kernel, randomise, svd, trainable
from tests.symmetry.precision import DoublePrecision

__all__ = ["Ideal", "Logits", "compared", "idealised"]

_POINTS, _MOST_POINTS = 4, 96  # a function of one number of many parameters takes away one direction a point
_MOST_ROUNDS = 8
_CUT = 1e-9  # relative size below which J moves nothing along a direction
_TINY_EPS = 1e-20
_EPS_PLACES: dict[Any, int] = {  # where each norm takes its eps, if not by name
    functional.layer_norm: 4,
    functional.group_norm: 4,
    functional.rms_norm: 3,
    functional.batch_norm: 7,
    functional.instance_norm: 7,
}


class Logits(nn.Module):
    """A model that takes the tensors of a batch in order and returns its logits, all in float64."""

    def __init__(self, model: nn.Module, names: Sequence[str], logits_of: Callable[[Any, dict[str, Tensor]], Tensor]):
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.logits_of = logits_of

    def forward(self, *tensors: Tensor) -> Tensor:
        with Ideal():
            return self.logits_of(self.model, dict(zip(self.names, tensors, strict=True)))


class Ideal(DoublePrecision):
    """Everything in float64, and norms that are called with an eps of their own have next to none."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        place = _EPS_PLACES.get(function)
        if place is not None and len(args) > place:
            args = (*args[:place], _TINY_EPS, *args[place + 1 :])
        elif place is not None:
            kwargs = {**(kwargs or {}), "eps": _TINY_EPS}
        if function is torch.full and type(args[-1]) is float:
            kwargs = {"dtype": torch.float64, **(kwargs or {})}  # the least double, say, where the default is float32
        return super().__torch_function__(function, types, args, kwargs)


def idealised(model: nn.Module) -> nn.Module:
    """The model in float64 with every eps next to zero and rows of padding that are trained like others; in place.

    What eps breaks a little then holds to rounding, and the derivative is that of the function.
    """
    holders = [model, *model.modules(), *(m.config for m in model.modules() if hasattr(m, "config"))]
    for holder in holders:
        for name, value in list(vars(holder).items()):
            if name.endswith(("eps", "epsilon")) and type(value) is float and 0 < value < 0.1:
                setattr(holder, name, _TINY_EPS)
        if getattr(holder, "padding_idx", None) is not None and "weight" in getattr(holder, "_parameters", ()):
            holder.padding_idx = None  # a table, torch's own or one written anew
    return model.double()


@dataclass(frozen=True, eq=False)
class _Measured:
    """Points, Jacobians there without the elements that nothing reads, and which those are."""

    thetas: list[Tensor]
    jacobians: list[Tensor]
    lone: Tensor

    @property
    def kept(self) -> Tensor:
        return ~self.lone


def compared(model: Logits, draw: Callable[[torch.Generator], tuple[Tensor, ...]], found: Any) -> dict[str, Any]:
    """Dimensions by brute force beside what the families span, and the directions that no family explains by name."""
    network = Network("", model, draw)
    more = _points(network)
    thetas, jacobians = map(list, zip(*itertools.islice(more, _POINTS), strict=True))
    lone = torch.stack([j.norm(dim=0) / j.norm(dim=0).max() for j in jacobians]).amax(0) <= 1e-12
    measured, first = _clearest(network, _Measured(thetas, [_restricted(j, lone) for j in jacobians], lone))
    thetas = measured.thetas
    translations, diagonal, gap = _common(measured, first, more)
    families = [_generators(found, model, theta) for theta in thetas]
    moving = [[v for f, v in pairs if _scales(f)] for pairs in families[:3]]
    constant = [v[~lone] for f, v in families[0] if f.kind == "translation"]
    orbits = [_columns([v[~lone] for _, v in pairs], int((~lone).sum())) for pairs in families]
    place, fibre = _lowest(network, measured, first, rank(orbits[0]))
    return {
        "parameters": len(lone),
        "lone": int(lone.sum()),
        "translations": [rank(_columns(constant, int((~lone).sum()))), translations],
        "diagonal": [_diagonal(moving, thetas[:3], lone), diagonal],
        "fibre": [rank(orbits[place]), fibre.dimension],
        "clear": bool(fibre.clear and gap[0] > 1e-8 and gap[1] < 1e-10),
        "gap": [fibre.kept, fibre.dropped],
        "common gap": gap,
        "false": _false([[f for f, _ in pairs] for pairs in families], orbits, measured),
        "kernels": _named(model, draw, measured, place, completing(fibre.basis, orbits[place], _groups(model, lone))),
        "silent": _silent(model, lone),
    }


def _restricted(jacobian: Tensor, lone: Tensor) -> Tensor:
    return (jacobian / jacobian.abs().max())[:, ~lone]


def _clearest(network: Network, measured: _Measured) -> tuple[_Measured, Kernel]:
    """The points with one in front at which the singular values leave a clear gap, and the kernel there.

    At some points an exponential leaves little of what stands beside it, and J sees hardly anything of its parameters.
    """
    first = _settled(network, measured, 0)
    for place in range(len(measured.thetas)):
        found = _settled(network, measured, place) if place else first
        if found.clear:
            order = [place, *(k for k in range(len(measured.thetas)) if k != place)]
            jacobians = [measured.jacobians[k] for k in order]
            return _Measured([measured.thetas[k] for k in order], jacobians, measured.lone), found
    return measured, first


def _settled(network: Network, measured: _Measured, place: int) -> Kernel:
    """The kernel of J at a point: of the rows at hand, then of fresh ones within it, until these take nothing away.

    So there are no more rows than the rank needs, and fresh data have confirmed every direction that is left; also
    that they meet every element, as far as several rounds can: a word may be missing from one.
    """
    _put(network.module, measured.thetas[place])
    found = kernel(torch.linalg.qr(measured.jacobians[place], mode="r")[1])
    generator = torch.Generator().manual_seed(11 + place)
    jacobian = measured.jacobians[place]
    sizes = jacobian.norm(dim=0)
    rounds = 0
    while found.dimension:
        rounds += 1
        rows = _restricted(jacobian_rows(network, generator, found.dimension + len(sizes) // 8), measured.lone)
        sizes = torch.maximum(sizes, rows.norm(dim=0))  # an element that only fresh data meet has its size from them
        within = _Within(found.basis, _relative(sizes))
        within.add(rows)
        if within.dimension == found.dimension and (rounds >= _MOST_ROUNDS or bool((sizes > 0).all())):
            break
        kept, dropped = within.gap
        basis = within.basis()
        found = replace(
            found,
            dimension=basis.shape[1],
            basis=basis,
            kept=min(found.kept, kept),
            dropped=max(found.dropped, dropped),
        )
    return found


def _lowest(network: Network, measured: _Measured, first: Kernel, explained: int) -> tuple[int, Kernel]:
    """The least kernel of several points, for units that no input switches enlarge it; further ones only if needed."""
    place, least = 0, first
    for at, jacobian in list(enumerate(measured.jacobians))[1:]:
        if least.dimension <= explained:
            break
        if jacobian.shape[1] - rank(torch.linalg.qr(jacobian, mode="r")[1]) < least.dimension:
            place, least = at, _settled(network, measured, at)
    return place, least


def _points(network: Network) -> Iterator[tuple[Tensor, Tensor]]:
    """Generic points, and half as many rows again of J at each as there are elements."""
    generator = torch.Generator().manual_seed(0)
    found = 0
    for tried in range(1, 4 * _MOST_POINTS):
        theta = randomise(network.module, generator)
        jacobian = jacobian_rows(network, generator, len(theta) + len(theta) // 2)
        if bool(jacobian.isfinite().all()) and 0 < float(jacobian.abs().max()) < 1e6:
            found += 1
            yield theta, jacobian
        elif tried >= 4 * _POINTS and found < _POINTS:
            raise ValueError(f"only {found} of {tried} random points have finite derivatives below 1e6")


def _put(module: nn.Module, theta: Tensor) -> None:
    """Sets all parameters from one flat vector."""
    named = trainable(module)
    pieces = torch.split(theta, [p.numel() for p in named.values()])
    set_parameters(module, {n: x.reshape(p.shape) for (n, p), x in zip(named.items(), pieces, strict=True)})


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


def _false(families: list[list[Any]], orbits: list[Tensor], measured: _Measured) -> list[str]:
    """Families of which a generator changes the logits somewhere."""
    out: dict[str, float] = {}
    for pairs, orbit, jacobian in zip(families, orbits, measured.jacobians, strict=True):
        size = torch.linalg.matrix_norm(jacobian)
        changes = (jacobian @ orbit).norm(dim=0) / (size * orbit.norm(dim=0).clamp_min(1e-300))
        for family, change in zip(pairs, changes.tolist(), strict=True):
            if change > _CUT:
                out[f"{family.kind} {family.name}"] = max(change, out.get(f"{family.kind} {family.name}", 0.0))
    return [f"{name}: {change:.1e}" for name, change in out.items()]


def _common(
    measured: _Measured, first: Kernel, more: Iterator[tuple[Tensor, Tensor]]
) -> tuple[int, int, tuple[float, float]]:
    """Dimensions of the kernels of J(θ) and of J(θ)·diag(θ) common to all points, within those of the first; the gap.

    Points are added until two in turn take nothing away.
    """
    kept = measured.kept
    sizes = torch.stack([_sizes(jacobian) for jacobian in measured.jacobians]).amax(0)
    constant = _Within(first.basis, sizes)
    scaled = _Within(first.basis / measured.thetas[0][kept][:, None], sizes)
    given = list(zip(measured.thetas[1:], measured.jacobians[1:], strict=True))
    further = ((theta, _restricted(jacobian, measured.lone)) for theta, jacobian in more)
    history = [(constant.dimension, scaled.dimension)]
    for theta, jacobian in itertools.islice(itertools.chain(given, further), _MOST_POINTS):
        constant.add(jacobian)
        scaled.add(jacobian * theta[kept])
        history.append((constant.dimension, scaled.dimension))
        if len(history) >= _POINTS and len(set(history[-3:])) == 1:
            break
    gaps = constant.gap, scaled.gap
    return *history[-1], (min(g[0] for g in gaps), max(g[1] for g in gaps))


def _sizes(jacobian: Tensor) -> Tensor:
    """The lengths of the columns, relative to the longest, but not below a millionth."""
    return _relative(jacobian.norm(dim=0))


def _relative(sizes: Tensor) -> Tensor:
    """Sizes beside the largest; what no row has met may be of any, and as a small one it would hide the others."""
    evened = sizes / sizes.max()
    return torch.where(evened > 1e-12, evened.clamp_min(1e-6), 1.0)


class _Within:
    """The vectors of one space that several matrices do not see, judged by the sizes of their columns.

    All are looked at in the coordinates of that space, so that errors of one step do not grow in the next.
    """

    def __init__(self, basis: Tensor, sizes: Tensor) -> None:
        self._sizes = sizes
        self._evened = torch.linalg.qr(basis * sizes[:, None])[0]
        self._stack = torch.zeros(0, basis.shape[1], dtype=torch.float64)

    def add(self, jacobian: Tensor) -> None:
        """One more matrix."""
        evened = jacobian / self._sizes
        reduced = (evened @ self._evened) / torch.linalg.matrix_norm(evened)
        self._stack = torch.linalg.qr(torch.cat([self._stack, reduced]), mode="r")[1]

    @property
    def dimension(self) -> int:
        """How many are left."""
        return self._evened.shape[1] - int((self._values() > _CUT).sum())

    @property
    def gap(self) -> tuple[float, float]:
        """The smallest size of what is seen, and the largest of what is not."""
        values = self._values()
        seen, unseen = values[values > _CUT], values[values <= _CUT]
        return (float(seen.min()) if len(seen) else 1.0, float(unseen.max()) if len(unseen) else 0.0)

    def basis(self) -> Tensor:
        """An orthonormal basis of those that are left."""
        _, values, right = svd(self._stack)
        values = torch.cat([values, values.new_zeros(right.shape[0] - len(values))])
        return torch.linalg.qr((self._evened @ right[values <= _CUT].T) / self._sizes[:, None])[0]

    def _values(self) -> Tensor:
        return torch.linalg.svdvals(self._stack) if self._stack.numel() else self._stack.new_zeros(0)


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
    length = theta[step != 0].norm() / step.norm()

    def logits(at: Tensor) -> Tensor:
        _put(model, at)
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
