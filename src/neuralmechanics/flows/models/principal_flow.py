"""The principal flow: descent's modified flow resummed along the Hessian's eigenvectors, for small problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective, derivative
from neuralmechanics.flows.equation.system import System, steady
from neuralmechanics.optimizers.hyperparameters.bounds import require_nonnegative, require_positive

__all__ = ["PrincipalFlow"]


@dataclass(frozen=True)
class PrincipalFlow:
    """θ' = Σ_i log|1 - hλ_i|/(hλ_i) ⟨G, u_i⟩ u_i over the eigenpairs of the Hessian of J.

    It sums the terms f'f'…f of all orders and leaves out the derivatives of the Hessian: exact on quadratics with
    hλ < 1, error O(h²) elsewhere. Beyond hλ = 1 the logarithm is complex, log|1 - hλ| + iπ; its real part carries the
    growth or decay, and growth sets in at hλ = 2. The imaginary part is the alternation of sign: it is dropped, unless
    ``alternating``, which follows θ = x + iy with the gradient continued as g(x) + iH(x)y. Then descent on a quadratic
    is met at every step, sign included; between the steps x turns. At hλ = 1 descent lands on the minimum in one
    step and no flow does: the field is infinite there.
    Cost: one dense Hessian, ``largest`` parameters at most. Source: Rosca, Wu, Qin, Dherin 2023.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    weight_decay: float = 0.0
    alternating: bool = False
    largest: int = 2000
    label: str = "principal flow"

    def __post_init__(self) -> None:
        require_positive("learning_rate", self.learning_rate)
        require_nonnegative("weight_decay", self.weight_decay)

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0; refuses problems whose dense Hessian would be too large."""
        layout = Layout.of(theta0)
        if layout.size > self.largest:
            raise ValueError(
                f"the principal flow needs a dense Hessian of {layout.size} parameters, above largest={self.largest}: "
                "use ModifiedFlow(order=n), or raise largest"
            )
        objective = Objective(self.loss, layout, self.weight_decay)

        start = objective.require(layout.flatten(theta0), 2)
        if not self.alternating:
            return System(layout, start, steady(lambda x: self._real(objective, x)), self.learning_rate)
        # A turn of π a step: a sixteenth of a step resolves it.
        field, state = (lambda z: self._complex(objective, z, layout.size)), torch.cat([start, torch.zeros_like(start)])
        return System(layout, state, steady(field), self.learning_rate / 16)

    def _real(self, objective: Objective, x: Tensor) -> Tensor:
        slope, _, factor, vectors = self._eigenpairs(objective, x)
        return torch.mv(vectors, factor * torch.mv(vectors.T, slope))

    def _complex(self, objective: Objective, state: Tensor, size: int) -> Tensor:
        """(log|1 - z| + iπ[z > 1])/z times the components of g + iHy, real parts before imaginary ones."""
        x, y = torch.split(state, size)
        slope, curvature, factor, vectors = self._eigenpairs(objective, x)
        reach = self.learning_rate * curvature
        turn = torch.where(reach > 1, torch.pi / reach.clamp_min(1.0), torch.zeros_like(reach))
        real, imaginary = torch.mv(vectors.T, slope), curvature * torch.mv(vectors.T, y)
        return torch.cat(
            [
                torch.mv(vectors, factor * real - turn * imaginary),
                torch.mv(vectors, factor * imaginary + turn * real),
            ]
        )

    def _eigenpairs(self, objective: Objective, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradient, eigenvalues λ, log|1 - hλ|/(hλ) and eigenvectors of the Hessian."""
        slope, hessian = _dense_hessian(objective, x)
        curvature, vectors = torch.linalg.eigh(hessian)
        reach = self.learning_rate * curvature
        # log|1 - z|/z = -1 - z/2 - … where the quotient would lose its digits.
        tiny = reach.abs() < 1e-8
        safe = torch.where(tiny, torch.ones_like(reach), reach)
        factor = torch.where(tiny, -1 - reach / 2, _log_distance(safe) / safe)
        return slope, curvature, factor, vectors


def _log_distance(reach: Tensor) -> Tensor:
    """log|1 - z| without cancellation for small z."""
    below = torch.log1p(-reach.clamp(max=0.5))
    return torch.where(reach < 0.5, below, torch.log((1 - reach).abs()))


def _dense_hessian(objective: Objective, x: Tensor) -> tuple[Tensor, Tensor]:
    point, slope = objective.recorded_gradient(x, 2)
    with torch.enable_grad():
        rows = [derivative(slope[i], point, graph=False) for i in range(slope.numel())]
    # Rows are symmetric to rounding alone, and eigh reads one triangle: both halves count.
    hessian = torch.stack(rows)
    return slope.detach(), (hessian + hessian.T) / 2
