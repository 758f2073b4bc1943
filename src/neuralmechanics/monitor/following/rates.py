"""The learning rates of parameters side by side: charges whose parameters differ in them remember their ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from neuralmechanics.monitor.following.members import Role
from neuralmechanics.optimizers import StepWatch

# Ratios that a schedule leaves alone differ by the roundings of two numbers.
_SAME = 1e-12


class Rates:
    """η of every parameter as its group held it when an iteration began, where any differ: else nothing is kept.

    The law of a charge whose parameters differ in η remembers C = Σ (η_p/η)⟨θ_p,v_p⟩, with η the largest of all. A
    schedule that multiplies all rates alike leaves it; where the ratios change, C has to be measured anew.
    """

    def __init__(self, watches: Sequence[StepWatch]) -> None:
        self._watches = watches
        self.of: dict[str, float] = {}
        self.largest = 1.0
        self._ratios: dict[str, float] = {}

    def begin(self) -> bool:
        """To be called when an iteration begins: whether ratios are others than when it was last called."""
        even = len({rate for watch in self._watches for rate in watch.rates()}) <= 1
        if even and not self._ratios:
            return False
        held = {name: s.learning_rate for watch in self._watches for name, s in watch.settings().items()}
        self.of = {name: rate for name, rate in held.items() if not isinstance(rate, Tensor)}
        self.largest = max(self.of.values(), default=1.0)
        ratios = {name: rate / self.largest if self.largest > 0 else 0.0 for name, rate in self.of.items()}
        before, self._ratios = self._ratios, {} if even else ratios
        return ratios.keys() != before.keys() or any(abs(r - before[name]) > _SAME for name, r in ratios.items())

    def forget(self) -> None:
        """What laws remember was taken with other ratios: all is to be measured when the next step begins."""
        self._ratios = {}

    def held(self, roles: Mapping[str, Role]) -> bool:
        """Whether an iteration moved every parameter with the rate that it began with."""
        return all(
            role.setting is None or self.of.get(name) == role.setting.learning_rate
            for name, role in roles.items()
            if role.setting is None or not isinstance(role.setting.learning_rate, Tensor)
        )
