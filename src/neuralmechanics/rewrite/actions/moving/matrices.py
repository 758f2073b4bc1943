"""Orthogonal matrices by name: Haar-distributed ones, and Hadamard's, whose entries are all of one size."""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

__all__ = ["hadamard", "random_orthogonal"]


def random_orthogonal(
    width: int, generator: torch.Generator, *, keeps_ones: bool = False
) -> Float64[Tensor, "width width"]:
    """Q of Haar's measure on O(width); ``keeps_ones``: on those with Q·1 = 1."""
    if keeps_ones:
        ones = torch.full((width, 1), width**-0.5, dtype=torch.float64)
        frame = torch.linalg.qr(torch.cat([ones, torch.eye(width, dtype=torch.float64)[:, : width - 1]], 1))[0]
        inside = torch.eye(width, dtype=torch.float64)
        inside[1:, 1:] = random_orthogonal(width - 1, generator)
        turned: Tensor = frame @ inside @ frame.mT
        return turned
    noise = torch.randn(width, width, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(noise)
    found: Tensor = q * r.diagonal().sign()
    return found


def hadamard(width: int) -> Float64[Tensor, "width width"]:
    """H/√n with HHᵀ = n and entries ±1: Sylvester's doubling of one of Paley's; ``ValueError`` where neither has one.

    >>> torch.equal((hadamard(12) * 12**0.5).round().abs(), torch.ones(12, 12, dtype=torch.float64))
    True
    """
    doubled = 0
    core = width
    while (matrix := _paley(core)) is None:
        if core % 2:
            raise ValueError(
                f"no Hadamard matrix of width {width} is known here (2^k times 1, q + 1 or 2q + 2, q a prime); "
                'take matrix="random"'
            )
        core //= 2
        doubled += 1
    for _ in range(doubled):
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    unit: Tensor = matrix / width**0.5
    return unit


def _paley(width: int) -> Tensor | None:
    """Paley's matrices of width q + 1 (q ≡ 3 mod 4) and 2 (q + 1) (q ≡ 1 mod 4) for a prime q; [1] for 1."""
    if width == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if width % 4:
        return None
    if _is_prime(width - 1):
        skew = _bordered(width - 1, -1.0)
        return skew + torch.eye(width, dtype=torch.float64)
    half = width // 2
    if not _is_prime(half - 1) or (half - 1) % 4 != 1:
        return None
    symmetric, unit = _bordered(half - 1, 1.0), torch.eye(half, dtype=torch.float64)
    plus = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    minus = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
    return torch.kron(symmetric, plus) + torch.kron(unit, minus)


def _bordered(q: int, sign: float) -> Tensor:
    """The matrix of Legendre's symbol (i - j | q), with a row of ones and a column of ``sign``."""
    squares = {k * k % q for k in range(1, q)}
    symbol = torch.tensor([0.0] + [1.0 if k in squares else -1.0 for k in range(1, q)], dtype=torch.float64)
    index = (torch.arange(q)[:, None] - torch.arange(q)) % q
    out = torch.zeros(q + 1, q + 1, dtype=torch.float64)
    out[0, 1:], out[1:, 0], out[1:, 1:] = 1.0, sign, symbol[index]
    return out


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % k for k in range(2, int(n**0.5) + 1))
