"""Low-rank adapters B·A: their general linear gauge fixed, and the best average of several of one rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["average_adapters", "canonical_adapter"]

Adapter = tuple[Float[Tensor, "outputs rank"], Float[Tensor, "rank inputs"]]


def canonical_adapter(up: Float[Tensor, "outputs rank"], down: Float[Tensor, "rank inputs"]) -> Adapter:
    """The pair (U √S, √S Vᵀ) of one product: every (B G, G⁻¹ A) leads to it, for any invertible G.

    Balanced (BᵀB = A Aᵀ), diagonal, sorted by falling singular values; the largest entry of each column of U is
    positive. Columns of equal singular values stay free to turn into each other. Computed in float64 through factors
    of the pair, in O((outputs + inputs)·rank²).

    >>> up, down = torch.tensor([[2.0], [0.0]]), torch.tensor([[-2.0, 0.0]])
    >>> left, right = canonical_adapter(up, down)
    >>> torch.allclose(left, up) and torch.allclose(right, down)
    True
    """
    return average_adapters([(up, down)], rank=up.shape[1])


def average_adapters(
    adapters: Sequence[Adapter], rank: int | None = None, weights: Sequence[float] | None = None
) -> Adapter:
    """The canonical pair of the given rank whose product is nearest to Σ w B A (Eckart & Young 1936).

    Averaging the factors themselves would depend on each pair's gauge; this does not. ``weights`` are 1/n by default,
    ``rank`` that of the first pair. The products are never formed. Raises ``ValueError`` for shapes that do not fit.
    """
    shapes = [(b.shape[0], a.shape[1]) for b, a in adapters]
    unfit = next((k for k, (b, a) in enumerate(adapters) if b.shape[1] != a.shape[0] or shapes[k] != shapes[0]), None)
    if unfit is not None:
        b, a = adapters[unfit]
        raise ValueError(
            f"adapter {unfit} has factors of shapes {tuple(b.shape)} and {tuple(a.shape)}; {shapes[0][0]} outputs, "
            f"{shapes[0][1]} inputs and one rank inside are needed"
        )
    shares = [1 / len(adapters)] * len(adapters) if weights is None else list(weights)
    up = torch.cat([w * b.double() for w, (b, _) in zip(shares, adapters, strict=True)], 1)
    down = torch.cat([a.double() for _, a in adapters], 0)
    kept = adapters[0][0].shape[1] if rank is None else rank
    (left, over), (right, under) = torch.linalg.qr(up), torch.linalg.qr(down.mT)
    u, s, v = torch.linalg.svd(over @ under.mT)
    missing = kept - len(s)
    columns, rows, sizes = (left @ u)[:, :kept], (v @ right.mT)[:kept], s[:kept].sqrt()
    if missing > 0:  # a rank above that of the sum: what is added is zero
        columns = torch.nn.functional.pad(columns, (0, missing))
        rows = torch.nn.functional.pad(rows, (0, 0, 0, missing))
        sizes = torch.nn.functional.pad(sizes, (0, missing))
    largest = columns.gather(0, columns.abs().argmax(0, keepdim=True))[0]
    signs = torch.where(largest < 0, -1.0, 1.0)
    dtype = adapters[0][0].dtype
    return (columns * signs * sizes).to(dtype), (rows * (signs * sizes)[:, None]).to(dtype)
