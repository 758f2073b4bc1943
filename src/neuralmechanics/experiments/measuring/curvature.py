"""The largest Hessian eigenvalues, by the Lanczos process on Hessian-vector products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.derivatives.higher_derivatives import derivatives, record_gradient

if TYPE_CHECKING:
    from jaxtyping import Float64
    from torch import Tensor


def top_eigenvalues(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], count: int, *, iterations: int | None = None
) -> Float64[Tensor, " count"]:
    """The `count` algebraically largest eigenvalues of ∂²loss/∂θ², in falling order.

    Lanczos with full reorthogonalisation, `iterations` products (default 20 + 4·count, at most the dimension), each one
    reverse-over-reverse pass. The start vector is fixed, so the result is reproducible; the model behind `loss` and the
    random states are left as they were (dropout is redrawn alike in each product). Fewer eigenvalues than parameters
    asked for: the rest is NaN.

    >>> theta = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    >>> top_eigenvalues(lambda: (torch.tensor([4.0, 1.0, -2.0]) * theta**2).sum() / 2, [theta], 2)
    tensor([4.0000, 1.0000], dtype=torch.float64)
    """
    with left_as_found(loss), torch.enable_grad():
        _, gradients = record_gradient(loss, parameters, 2)
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dimension = flat.numel()
        wanted = min(iterations or 20 + 4 * count, dimension)
        start = torch.randn(dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        # In double precision, or the basis loses its orthogonality.
        basis = [(start / start.norm()).to(flat.device)]
        diagonal: list[Tensor] = []
        off: list[Tensor] = []
        for _ in range(wanted):
            product = _times(flat, parameters, basis[-1])
            diagonal.append(product @ basis[-1])
            for _ in range(2):  # twice is enough (Parlett)
                for vector in basis:
                    product = product - (product @ vector) * vector
            length = product.norm()
            # The Krylov space is exhausted: its eigenvalues are found, repeated ones once.
            if length < 1e-10 * torch.stack(diagonal).abs().max().clamp_min(1e-300):
                break
            off.append(length)
            basis.append(product / length)
    size = len(diagonal)
    tridiagonal = torch.diag(torch.stack(diagonal))
    if size > 1:
        sides = torch.stack(off[: size - 1])
        tridiagonal = tridiagonal + torch.diag(sides, 1) + torch.diag(sides, -1)
    values = torch.linalg.eigvalsh(tridiagonal).flip(0)[:count].detach().cpu()
    return torch.cat([values, values.new_full((count - len(values),), float("nan"))])


def _times(gradient: Tensor, parameters: Sequence[Tensor], vector: Tensor) -> Tensor:
    product = derivatives(gradient, parameters, vector.to(gradient.dtype), graph=False)
    return torch.cat([part.flatten() for part in product]).double()
