"""The identity that every optimiser obeys."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.laws.state import LawState
from neuralmechanics.laws.step import Drives, Hyperparameters


class IdentityLaw:
    """X ← X + 2⟨θ,d⟩ + W for quadratic charges, X ← X + ⟨d,1_A⟩ for translations, whatever made d.

    For optimisers without a closed law (Adam and kin). Predicts nothing from symmetry: its distance from the
    measured charge is rounding alone. Needs `parameter_update`, and W when a charge is quadratic.
    Source: theory.md 3.3, "any optimiser".

    >>> law = IdentityLaw()
    >>> law.start(torch.tensor([4.0], dtype=torch.float64))  # θ = 2, d = 1
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> law.step(Hyperparameters(0.1), Drives(update_energy=one, parameter_update=2 * one))
    >>> law.value
    tensor([9.], dtype=torch.float64)
    """

    name = "identity"

    def __init__(self, quadratic: Bool[Tensor, " charges"] | None = None) -> None:
        self._state = LawState(self.name, quadratic)

    @property
    def value(self) -> Float64[Tensor, " charges"]:
        """The charges the law predicts now."""
        return self._state["charge"]

    def start(
        self, charge0: Float64[Tensor, " charges"], companion0: Float64[Tensor, " charges"] | None = None
    ) -> None:
        """Begin at `charge0`; the companion plays no part."""
        self._state.start(charge0)

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        X = self._state["charge"]
        moved = self._state.drive("parameter_update", drives)
        W = self._state.energy("update_energy", drives)
        after = X + torch.where(self._state["quadratic"], 2 * moved + W, moved)
        self._state.move(self._state.coefficients(hyper).active, charge=after)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the law remembers."""
        return self._state.save()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken."""
        self._state.load(state, ())
