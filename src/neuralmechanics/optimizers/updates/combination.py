"""An update as a combination of what torch leaves behind, so that sums of its products follow from sums of theirs.

Every tensor here is Σ c·t over a few tensors t that lie in memory after a step: the parameter, its gradient, its
momentum. ⟨d,d⟩, ⟨θ_k,d⟩, ⟨g,θ_k⟩ are then combinations of the products of those, each of which is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from neuralmechanics.optimizers.hyperparameters.setting import Setting

__all__ = ["Combination", "Part", "combined", "form", "heavy_ball", "step"]

Number = float | Tensor
# θ_{k+1}, its gradient, the momentum, a copy of θ_k, θ_{k+1} minus that copy, the terms of Adam's step and its kin's.
Part = Literal["after", "gradient", "velocity", "before", "moved", "adam", "adam_slope"]
Combination = Mapping[Part, Number]


def combined(*terms: tuple[Number, Combination]) -> dict[Part, Number]:
    """Σ c·x over combinations x.

    >>> combined((2.0, {"after": 1.0}), (-1.0, {"after": 1.0, "velocity": 3.0}))
    {'after': 1.0, 'velocity': -3.0}
    """
    out: dict[Part, Number] = {}
    for factor, terms_of in terms:
        for part, coefficient in terms_of.items():
            scaled = factor * coefficient
            out[part] = out[part] + scaled if part in out else scaled
    return out


def form(a: Combination, b: Combination) -> dict[tuple[Part, Part], Number]:
    """⟨a,b⟩ as a combination of ⟨t,u⟩, each pair of tensors once, in alphabetic order."""
    out: dict[tuple[Part, Part], Number] = {}
    for left, one in a.items():
        for right, other in b.items():
            pair = (left, right) if left <= right else (right, left)
            out[pair] = out[pair] + one * other if pair in out else one * other
    return out


def heavy_ball(setting: Setting) -> dict[Part, Number]:
    """d = -ηv."""
    return {"velocity": -setting.learning_rate}


def step(setting: Setting, slope: Combination, parameter: Part, *, momentum: bool) -> dict[Part, Number]:
    """d = -η(g + λθ_k + βv), from θ_k ("before") or θ_{k+1} ("after"): then all of it over 1 - ηλ."""
    eta, decay = setting.learning_rate, setting.weight_decay
    terms: list[tuple[Number, Combination]] = [(1.0, slope)]
    if isinstance(decay, Tensor) or decay != 0:
        terms.append((decay, {parameter: 1.0}))
    if momentum:
        terms.append((setting.momentum, {"velocity": 1.0}))
    factor = -eta / (1.0 - eta * decay) if parameter == "after" else -eta
    return combined((factor, combined(*terms)))
