"""Where the squared norm n = |θ_A|² of scale-free weights settles, how fast, and how far they turn there in a step.

Decay shortens n by a part of it, steps lengthen it by what they are long, and where both are equal the weights turn at
a rate that only learning rate, decay and momentum set. How long a step is depends on n in one of three ways, its
`response`: "gradient", the length of a gradient of a scale-free loss, ∝ 1/|θ| (SGD); "normalised", the same
whatever θ is (Adam, Lion, Muon); "proportional" to |θ| (LARS, LAMB). Source: theory 3.5; Kosson et al., "Rotational
equilibrium" (2024); Wan et al., "Spherical motion dynamics" (2021).

In every function `strength` is |d|²/η² at unit norm: K of W = |d|² = η²K/n, η²K, η²Kn for the three responses.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_args

import numpy as np

from neuralmechanics.optimizers.hyperparameters.bounds import require_number
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = [
    "Response",
    "alignment",
    "effective_learning_rate",
    "equilibrium_norm",
    "equilibrium_rotation",
    "gradient_over_norm",
    "half_life",
    "memory_gain",
    "norm_after",
    "relaxation_rate",
    "settled_norm",
    "steps_until",
    "strength_of_noise",
]

Response = Literal["gradient", "normalised", "proportional"]
Value = TypeVar("Value", float, np.ndarray[Any, Any])


def alignment(momentum: float) -> float:
    """⟨s,v⟩/|s|² of Nesterov's step s = G + βv for gradients that are not correlated from step to step."""
    memory = 1 / (1 - momentum**2)
    return ((1 + momentum) + momentum**3 * memory) / ((1 + momentum) ** 2 + momentum**4 * memory)


def memory_gain(hyper: Sgd[float]) -> float:
    """How many times |d|² the norm grows by in a step, momentum's memory included.

    1 - 2β⟨v,d⟩… summed up: (1+β)/(1-β) for the heavy ball and for means of gradients such as Adam's, whatever the
    correlation of the gradients; Nesterov 1 + 2β²r/(1-β) with r of `alignment`.

    >>> memory_gain(Sgd(0.1, momentum=0.9))
    19.000000000000004
    """
    β = _fading(hyper)
    if hyper.nesterov and β:
        return 1 + 2 * β * β * alignment(β) / (1 - β)
    return (1 + β) / (1 - β)


def relaxation_rate(hyper: Sgd[float]) -> float:
    """How much of itself a squared norm loses to decay in a step: 2hλ/(1-β); decoupled 1 - (1-ηλ)² as a rate."""
    β = _fading(hyper)
    η, λ = hyper.learning_rate, hyper.weight_decay
    # Without momentum coupled decay is decoupled decay: θ - η(g + λθ) = (1 - ηλ)θ - ηg.
    if hyper.decoupled or β == 0:
        return float(-2 * np.log(abs(1 - η * λ))) if η * λ != 1 else float("inf")
    return 2 * hyper.time_step * λ / (1 - β)


def equilibrium_rotation(hyper: Sgd[float]) -> float:
    """The angle of one step in equilibrium, √(|d|²/n): √(2hλ/(1+β)); AdamW √(2ηλ(1-β)/(1+β)) with β its first.

    Whatever the gradients are. 0 without decay, where nothing settles.

    >>> f"{equilibrium_rotation(Sgd(0.1, 5e-3)):.5f} {equilibrium_rotation(Sgd(0.02, 5e-3, 0.9)):.5f}"
    '0.03162 0.01026'
    >>> f"{equilibrium_rotation(Sgd(0.01, 0.1, 0.9, decoupled=True)):.5f}"  # AdamW, first moment .9
    '0.01026'
    """
    β = _fading(hyper)
    η, λ = hyper.learning_rate, hyper.weight_decay
    if hyper.decoupled:
        return float(np.sqrt(2 * η * λ * (1 - β) / (1 + β)))
    if hyper.nesterov and β:
        return float(np.sqrt(2 * η * λ / (1 - β + 2 * β * β * alignment(β))))
    return float(np.sqrt(2 * hyper.time_step * λ / (1 + β)))


def strength_of_noise(energy: Value, hyper: Sgd[float]) -> Value:
    """|v|² of gradients of squared length `energy` that are not correlated: a²|g|²/(1-β²), Nesterov's |G + βv|²."""
    β = _fading(hyper)
    if hyper.nesterov and β:
        return energy * ((1 + β) ** 2 + β**4 / (1 - β * β))
    gain = 1 - hyper.dampening if β else 1.0
    return energy * (gain * gain / (1 - β * β))


def gradient_over_norm(hyper: Sgd[float]) -> float:
    """|g|/|θ| where SGD has settled, for gradients that are not correlated: √(2λ/η), heavy ball √(2λ(1-β)/(η(1-α))).

    It rises as the rate falls, which is why gradients grow near the end of a decaying schedule: with |g| = ĝ/|θ| both
    |θ| ∝ η^(1/4) and |g| follow. Of Adam and its kin it is √(2λ/η) of their steps instead, |θ| ∝ η^(1/2), and nothing
    is said of gradients but that they are ĝ/|θ|. Source: Defazio, "Why gradients rapidly increase near the end of
    training" (2025).

    >>> f"{gradient_over_norm(Sgd(0.1, 5e-3)):.4f} {gradient_over_norm(Sgd(0.02, 5e-3, 0.9)):.4f}"
    '0.3162 0.2236'
    """
    # |d|/|θ| over |d|/|g|: the angle of a step, over how long a step of unit gradients is.
    return equilibrium_rotation(hyper) / (hyper.learning_rate * float(np.sqrt(strength_of_noise(1.0, hyper))))


def equilibrium_norm(hyper: Sgd[float], strength: Value, response: Response) -> Value:
    """|θ| where decay and steps balance; infinite without decay, nan for a proportional response, which has none.

    SGD n² = ηK/(2λ), heavy ball n² = η(1+β)K/(2(1-α)λ), AdamW n = ηK(1+β)/(2λ(1-β)).

    >>> heavy_ball = Sgd(0.02, 5e-3, 0.9)
    >>> f"{equilibrium_norm(Sgd(0.1, 5e-3), 399.0, 'gradient'):.2f}"
    '7.95'
    >>> f"{equilibrium_norm(heavy_ball, strength_of_noise(399.0, heavy_ball), 'gradient'):.2f}"
    '9.45'
    >>> f"{equilibrium_norm(Sgd(0.01, 0.1, decoupled=True), 400.0, 'normalised'):.2f}"
    '4.47'
    """
    _require(response, strength=strength)
    rate = strength * 0 + relaxation_rate(hyper)
    return settled_norm(rate, hyper.learning_rate**2 * memory_gain(hyper) * strength, response)


def settled_norm(rate: Value, growth: Value, response: Response) -> Value:
    """|θ| at which what decay takes in a step, `rate` of n, is what steps add, `growth` = η²K·gain at unit norm."""
    _require(response, rate=rate, growth=growth)
    # From n² = growth/rate, or n = growth/rate, with |θ| = √n.
    power = 0.25 if response == "gradient" else 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        settled: Value = np.divide(growth, rate) ** power
    return settled * float("nan") if response == "proportional" else settled


def norm_after(squared: Value, decay: Value, growth: Value, response: Response) -> Value:
    """n after steps of which the rates add up to `decay` = Σ 2hλ/(1-β) and η²K·gain to `growth`.

    dn = -rn + G/n, -rn + G, (G - r)n: n² relaxes at 2r, n at r, ln n drifts. Exact for slow steps, any number.

    >>> f"{norm_after(4.0, 0.0, 6.0, 'normalised'):.9g} {norm_after(3.0, 0.0, 8.0, 'gradient'):.9g}"
    '10 5'
    """
    _require(response, squared=squared, decay=decay, growth=growth)
    if response == "proportional":
        out: Value = squared * np.exp(growth - decay)
        return out
    power = 2 if response == "gradient" else 1
    exponent = power * decay
    kept = np.exp(-exponent)
    # (1 - e^-x)/x without cancellation.
    mean = np.where(np.abs(exponent) > 1e-8, -np.expm1(-exponent) / np.where(exponent == 0, 1.0, exponent), 1.0)
    after: Value = (squared**power * kept + power * growth * mean) ** (1 / power)
    return after


def steps_until(squared: Value, settled: Value, rate: Value, response: Response, within: float = 0.05) -> Value:
    """Steps until |θ| is within a part of where it settles; 0 where it is, infinite where it never comes there.

    `squared` and `settled` are |θ|² now and then, `rate` what decay takes of it in a step.
    """
    _require(response, squared=squared, settled=settled, rate=rate, within=within)
    power = 4 if response == "gradient" else 2
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt(np.divide(squared, settled))
        # |θ|⁴ (or |θ|²) comes near its end at one rate, so a margin of |θ| is asked for as one of its power.
        allowed = np.where(ratio > 1, (1 + within) ** power - 1, 1 - (1 - within) ** power)
        away = np.abs(ratio**power - 1)
        needed = np.log(np.maximum(away, 1e-300) / allowed)
        later = needed / (rate * power / 2)
        found: Value = np.where(needed <= 0, later * 0, later)
    return found


def effective_learning_rate(hyper: Sgd[float], squared: Value, response: Response) -> Value:
    """The rate on the sphere of directions: h/((1-β)n) of gradients, η/|θ| of normalised steps, η of proportional."""
    _require(response, squared=squared)
    if response == "gradient":
        return hyper.time_step / (1 - _fading(hyper)) / squared
    if response == "normalised":
        out: Value = hyper.learning_rate / np.sqrt(squared)
        return out
    return squared * 0 + hyper.learning_rate


def half_life(hyper: Sgd[float], *, quadratic: bool) -> float:
    """Steps in which decay alone halves a charge: ln 2 over phλ/(1-β), p = 2 for quadratic charges; infinite without.

    >>> round(half_life(Sgd(0.1, 1e-3, 0.9), quadratic=False), 1)
    693.1
    """
    rate = relaxation_rate(hyper) / (1 if quadratic else 2)
    return float(np.log(2) / rate) if rate else float("inf")


def _fading(hyper: Sgd[float]) -> float:
    """β of a memory that fades; ValueError for β ≥ 1, which adds up all gradients there ever were: nothing settles."""
    if not isinstance(hyper, Sgd):
        raise TypeError(f"hyper is a {type(hyper).__name__}; give Sgd(learning_rate, weight_decay, momentum, …)")
    if hyper.momentum >= 1:
        raise ValueError(f"momentum is {hyper.momentum}; nothing settles unless 0 <= momentum < 1")
    return hyper.momentum


def _require(response: object, **numbers: object) -> None:
    """Refuse responses that there are not, and what is neither a number nor an array of numbers."""
    if response not in get_args(Response):
        raise ValueError(f"response is {response!r}; it is one of {', '.join(get_args(Response))}")
    for name, value in numbers.items():
        if not isinstance(value, np.ndarray):
            require_number(name, value)
