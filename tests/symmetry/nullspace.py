"""Brute-force symmetry dimensions of a network: null spaces of its float64 Jacobian, by singular values.

With J(θ) = ∂ observed/∂θ stacked over many random inputs:
translations = dim {v : J(θ) v = 0 for all θ};  diagonal = dim {D diagonal : J(θ) D θ = 0 for all θ};
fibre = dim ker J(θ) at a generic θ;  lone = elements whose gradient is identically zero, counted in the first two.
Nothing here shares code or ideas with the engine: no graph, no rules, only derivatives at random points.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .network import Network

_CUT = 1e-10  # relative singular value below which a direction is null
_EXTRA_ROWS = 12  # random rows beyond the number of parameters: the projection keeps the row space almost surely


@dataclass(frozen=True)
class Kernel:
    """The null space of a stacked matrix: dimension, orthonormal basis, and the spectral gap that certifies it."""

    dimension: int
    basis: Tensor  # [elements, dimension]
    kept: float  # smallest relative singular value counted as nonzero
    dropped: float  # largest one counted as zero
    dubious: int  # columns neither clearly zero nor clearly not: rounding blown up at a nearly constant channel

    @property
    def clear(self) -> bool:
        return not self.dubious and self.kept > 1e-8 and self.dropped < 1e-11


@dataclass(frozen=True)
class Truth:
    """Dimensions of the symmetries of a network, by brute force."""

    parameters: int
    translations: int
    diagonal: int
    fibre: int
    lone: int
    clear: bool  # every rank was decided by a gap of at least three decades
    gaps: tuple[float, ...]
    silent: Tensor = field(repr=False, compare=False)  # which elements are lone, [elements]
    moved: Tensor = field(repr=False, compare=False)  # which elements a translation or a diagonal symmetry moves

    @property
    def multiplicative(self) -> int:
        """Scale and rescale symmetries together."""
        return self.diagonal - self.lone


def elements(module: nn.Module) -> int:
    """Number of trainable elements, tied tensors once."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def randomise(module: nn.Module, generator: torch.Generator) -> Tensor:
    """Moves the module to a generic point, every element away from zero; returns the flat θ."""
    pieces = []
    for name, parameter in trainable(module).items():
        shape = parameter.shape
        low, high = (0.05, 0.3) if name.endswith("bias") or "bias_" in name else (0.5, 1.5)
        scale = 1.2 / math.sqrt(max(1, math.prod(shape[1:]))) if len(shape) > 1 else 1.0
        size = torch.rand(shape, generator=generator, dtype=torch.float64)
        sign = torch.randint(2, shape, generator=generator).double() * 2 - 1
        value = sign * (low + (high - low) * size) * scale
        parameter.data.copy_(value)
        pieces.append(value.flatten())
    return torch.cat(pieces)


def jacobian_rows(network: Network, generator: torch.Generator, rows: int) -> Tensor:
    """At least `rows` rows (or as many as span them) of ∂ observed/∂θ, over fresh random batches.

    From several batches in any case: within one, the statistics of a batch norm are numbers that weights can absorb.
    """
    parameters = list(trainable(network.module).values())
    blocks: list[Tensor] = []
    have = 0
    share = -(-rows // 6)
    while have < rows or len(blocks) < 6:
        observed = network.observed(network.batch(int(torch.randint(2**31, (), generator=generator)))).flatten()
        if observed.numel() > share:
            # Random combinations of all rows have the same kernel, almost surely, once there are enough of them.
            weights = torch.randn(share, observed.numel(), generator=generator, dtype=torch.float64)
            weights /= math.sqrt(observed.numel())
        else:
            weights = torch.eye(observed.numel(), dtype=torch.float64)
        blocks.append(_pull_back(observed, parameters, weights))
        have += weights.shape[0]
    return torch.cat(blocks)


def _pull_back(observed: Tensor, parameters: list[nn.Parameter], weights: Tensor) -> Tensor:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parts = torch.autograd.grad(
                observed, parameters, weights, is_grads_batched=True, allow_unused=True, retain_graph=True
            )
        return _flat(parts, parameters, weights.shape[0])
    except RuntimeError:  # an operation without a batching rule: one backward pass a row
        rows = [
            torch.autograd.grad(observed, parameters, weight, retain_graph=True, allow_unused=True)
            for weight in weights
        ]
        return torch.cat([_flat([g if g is None else g[None] for g in row], parameters, 1) for row in rows])


def _flat(parts: object, parameters: list[nn.Parameter], rows: int) -> Tensor:
    return torch.cat(
        [
            torch.zeros(rows, parameter.numel(), dtype=torch.float64) if part is None else part.reshape(rows, -1)
            for part, parameter in zip(parts, parameters, strict=True)  # type: ignore[call-overload]
        ],
        dim=1,
    ).detach()


def points(network: Network, seed: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Generic points θ with the Jacobian there; points where a norm met a constant channel are passed over."""
    generator = torch.Generator().manual_seed(seed)
    rows = elements(network.module) + _EXTRA_ROWS
    found = 0
    for _ in range(4 * count):
        theta = randomise(network.module, generator)
        jacobian = jacobian_rows(network, generator, rows)
        size = jacobian.abs().max()
        if not torch.isfinite(size) or size > 1e6 or size == 0:
            continue
        yield theta, jacobian
        found += 1
        if found == count:
            return
    raise AssertionError(f"no generic point found for {network!r}")


def kernel(matrix: Tensor) -> Kernel:
    """Null space by singular values of the column-equilibrated matrix; columns at rounding level count as zero."""
    size = matrix.norm(dim=0)
    zero = size <= 1e-12 * size.max()
    scaled = torch.where(zero, 0.0, matrix / size.where(~zero, torch.ones(())))
    _, values, right = svd(scaled)
    values = torch.cat([values, values.new_zeros(right.shape[0] - values.shape[0])]) / values.max()
    null = values < _CUT
    basis = right[null].T / size.where(~zero, torch.ones(()))[:, None]
    if basis.shape[1]:
        basis = torch.linalg.qr(basis)[0]
    kept = float(values[~null].min()) if (~null).any() else 1.0
    dropped = float(values[null].max()) if null.any() else 0.0
    dubious = int(((size > 1e-13 * size.max()) & (size < 1e-9 * size.max())).sum())
    return Kernel(int(null.sum()), basis, kept, dropped, dubious)


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition with whole bases; by QR iterations where to divide and conquer fails."""
    try:
        return torch.linalg.svd(matrix, full_matrices=True)  # type: ignore[no-any-return]
    except torch.linalg.LinAlgError:
        from scipy.linalg import svd as by_driver

        left, values, right = by_driver(matrix.numpy(), full_matrices=True, lapack_driver="gesvd")
        return torch.from_numpy(left), torch.from_numpy(values), torch.from_numpy(right)


def common_kernels(network: Network, seed: int = 0, most: int = 14) -> tuple[Kernel, Kernel, list[Kernel], Tensor]:
    """Kernels of J and of J·diag(θ) common to generic points, kernels of J at each point, and the lone elements.

    Points are added until both dimensions stay unchanged under three fresh ones: a generic point that removes
    nothing shows, off the measure-zero set, that the common kernel is reached.
    """
    plain = scaled = torch.zeros(0, elements(network.module), dtype=torch.float64)
    fibres: list[Kernel] = []
    history: list[tuple[int, int]] = []
    for theta, jacobian in points(network, seed, most):
        jacobian = jacobian / jacobian.abs().max()
        fibres.append(kernel(jacobian))
        plain = _compress(plain, jacobian)
        scaled = _compress(scaled, jacobian * theta)
        constant, diagonal = kernel(plain), kernel(scaled)
        history.append((constant.dimension, diagonal.dimension))
        lone = plain.norm(dim=0) <= 1e-12 * plain.norm(dim=0).max()
        unchanged = 10 if lone.any() else 4  # an element that is rectified away at few points seems read by nothing
        if len(set(history[-unchanged:])) == 1 and len(history) >= unchanged and constant.clear and diagonal.clear:
            break
    return constant, diagonal, fibres, lone


def affine_diagonal(network: Network, seed: int = 0, most: int = 14) -> int:
    """dim {(D, t) : J(θ)(Dθ + t) = 0 for all θ} without the translations D = 0, lone elements apart.

    As many as the diagonal symmetries where all scalings are about zero, more where some are about another point.
    """
    stack = torch.zeros(0, 2 * elements(network.module), dtype=torch.float64)
    plain = torch.zeros(0, elements(network.module), dtype=torch.float64)
    history: list[int] = []
    for theta, jacobian in points(network, seed, most):
        jacobian = jacobian / jacobian.abs().max()
        plain = _compress(plain, jacobian)
        stack = _compress(stack, torch.cat([jacobian * theta, jacobian], dim=1))
        lone = plain.norm(dim=0) <= 1e-12 * plain.norm(dim=0).max()
        both = kernel(stack[:, ~torch.cat([lone, lone])])
        history.append(both.dimension - kernel(plain[:, ~lone]).dimension)
        if len(history) >= 4 and len(set(history[-4:])) == 1 and both.clear:
            break
    return history[-1]


def _compress(stack: Tensor, rows: Tensor) -> Tensor:
    """A square factor with the kernel of both: the R of a QR decomposition, so nothing is squared."""
    return torch.linalg.qr(torch.cat([stack, rows]), mode="r")[1]


def lowest_fibre(network: Network, seed: int, reach: int, most: int = 24) -> int:
    """The least dim ker J(θ) over generic points, looked for until it is as low as ``reach``.

    Rectified units that never switch on the sampled inputs enlarge the kernel at a point; the least is nearest the
    truth, which every point bounds from above.
    """
    least = elements(network.module)
    for _, jacobian in points(network, seed, most):
        least = min(least, kernel(jacobian / jacobian.abs().max()).dimension)
        if least <= reach:
            break
    return least


def brute_force(network: Network, seed: int = 0) -> Truth:
    """The dimensions of every kind, measured at random points."""
    constant, diagonal, fibres, lone = common_kernels(network, seed)
    fibre = min(fibres, key=lambda k: k.dimension)
    return Truth(
        parameters=elements(network.module),
        translations=constant.dimension,
        diagonal=diagonal.dimension,
        fibre=fibre.dimension,
        lone=int(lone.sum()),
        clear=constant.clear and diagonal.clear,
        gaps=(constant.kept, constant.dropped, diagonal.kept, diagonal.dropped, fibre.kept, fibre.dropped),
        silent=lone,
        moved=moved_elements(constant, diagonal),
    )


def moved_elements(*kernels: Kernel) -> Tensor:
    """Elements that differ from zero in some vector of a null space."""
    sizes = [k.basis.norm(dim=1) if k.basis.shape[1] else torch.zeros(len(k.basis)) for k in kernels]
    return torch.stack(sizes).amax(0) > 1e-7


def moved_parameters(module: nn.Module, moved: Tensor) -> frozenset[str]:
    """The parameters that hold any of the elements."""
    named = trainable(module)
    pieces = torch.split(moved, [p.numel() for p in named.values()])
    return frozenset(name for name, piece in zip(named, pieces, strict=True) if bool(piece.any()))
