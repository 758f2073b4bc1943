"""The largest eigenpairs of a symmetric map, known by its products with vectors alone, repeated ones included."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["largest_eigenpairs"]

Product = Callable[[Tensor], Tensor]

# Below so many dimensions the whole matrix costs no more than the iteration.
_DENSE = 48
# Directions whose length after orthogonalisation is below this share of what they were are rounding.
_DEPENDENT = 1e-8
# The space is grown to so many times the number of pairs, and then cut to twice that number.
_WIDEST = 8


def largest_eigenpairs(
    product: Product,
    size: int,
    count: int,
    *,
    start: Float64[Tensor, "size started"] | None = None,
    tolerance: float = 1e-6,
    most_products: int = 4000,
    device: torch.device | None = None,
) -> tuple[Float64[Tensor, " count"], Float64[Tensor, "size count"]]:
    """The ``count`` algebraically largest eigenvalues, falling, and orthonormal eigenvectors as columns.

    Rayleigh-Ritz on a space that grows by the residuals of its best pairs (block Davidson), so that an eigenvalue is
    found as often as it occurs. ``start`` holds guesses, such as the eigenvectors at a point nearby. ``device`` is that
    of the vectors; eigenvalues come back to the processor. Ends when every residual |Av - λv| is below ``tolerance``
    times the largest |λ|: the eigenvalues' error is then its square over the gap. Raises ``ArithmeticError`` where
    that takes more than ``most_products`` products.

    >>> matrix = torch.diag(torch.tensor([1.0, 3.0, 3.0, -7.0], dtype=torch.float64))
    >>> largest_eigenpairs(lambda v: matrix @ v, 4, 2)[0]
    tensor([3., 3.], dtype=torch.float64)
    """
    if not 1 <= count <= size:
        raise ValueError(f"count is {count}, expected 1 to {size}, the number of dimensions")
    if size <= max(_DENSE, (_WIDEST + 2) * count):
        return _dense(product, size, count, device)
    # One more than is wanted: the gap below the last decides how fast it is found.
    block = count + 1
    basis = _orthonormal(_guesses(start, size, block).to(device))
    images = _images(product, basis)
    products = block
    while True:
        values, inner = torch.linalg.eigh(_symmetric(basis.T @ images))
        values, inner = values.flip(0), inner.flip(1)
        scale = float(values.abs().max().clamp(min=1e-300))
        rest = images @ inner[:, :block] - basis @ inner[:, :block] * values[:block]
        missed = rest.norm(dim=0) / scale > tolerance
        if not bool(missed[:count].any()):
            return values[:count].cpu(), basis @ inner[:, :count]
        if products >= most_products:
            raise ArithmeticError(
                f"the {count} largest eigenvalues were not found with {products} products (residual "
                f"{float(rest[:, :count].norm(dim=0).max()) / scale:.1e}, tolerance {tolerance:.1e}): loosen tolerance"
            )
        if basis.shape[1] + block > _WIDEST * block:
            # More than is wanted, so that the next best are not lost; images follow by linearity, at no product.
            basis, images = basis @ inner[:, : 2 * block], images @ inner[:, : 2 * block]
        fresh = _orthonormal(rest[:, missed], basis)
        basis, images = torch.cat([basis, fresh], 1), torch.cat([images, _images(product, fresh)], 1)
        products += fresh.shape[1]


def _guesses(start: Tensor | None, size: int, count: int) -> Tensor:
    # On the processor, so that the start is the same on every device.
    known = torch.empty(size, 0, dtype=torch.float64) if start is None else start[:, :count].cpu()
    random = torch.randn(size, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([known, random], 1)[:, :count]


def _orthonormal(columns: Tensor, against: Tensor | None = None) -> Tensor:
    """An orthonormal basis of the columns' span beyond ``against``, without those that are rounding."""
    found = columns[:, :0] if against is None else against
    first = found.shape[1]
    for column in columns.T:
        length = column.norm()
        for _ in range(2):  # twice is enough (Parlett)
            column = column - found @ (found.T @ column)
        if column.norm() > _DEPENDENT * length:
            found = torch.cat([found, (column / column.norm())[:, None]], 1)
    return found[:, first:]


def _images(product: Product, columns: Tensor) -> Tensor:
    if not columns.shape[1]:
        return columns
    return torch.stack([product(column) for column in columns.T], 1)


def _dense(product: Product, size: int, count: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    matrix = _images(product, torch.eye(size, dtype=torch.float64, device=device))
    values, vectors = torch.linalg.eigh(_symmetric(matrix))
    return values.flip(0)[:count].cpu(), vectors.flip(1)[:, :count]


def _symmetric(matrix: Tensor) -> Tensor:
    # Symmetric to rounding alone, and eigh reads one triangle.
    return (matrix + matrix.T) / 2
