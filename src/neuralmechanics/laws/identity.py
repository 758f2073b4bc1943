"""The identity that every optimiser obeys."""

from __future__ import annotations

import torch

from neuralmechanics.laws.charge_law import ChargeLaw
from neuralmechanics.laws.step import Drives, Hyperparameters


class IdentityLaw(ChargeLaw):
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

    def step(self, hyper: Hyperparameters, drives: Drives) -> None:
        """Advance by one optimiser step."""
        X = self._state["charge"]
        moved = self._state.drive("parameter_update", drives)
        W = self._state.energy("update_energy", drives)
        after = X + torch.where(self._state["quadratic"], 2 * moved + W, moved)
        self._state.move(self._state.coefficients(hyper).active, charge=after)
