"""Charges in closed form for constant hyperparameters, and the thresholds at which they begin to oscillate."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.laws.coefficients import require_hyperparameters, resolve
from neuralmechanics.laws.continuous.normal_form import step_oscillator
from neuralmechanics.laws.continuous.oscillator import Modes, growth, modes
from neuralmechanics.laws.step import Hyperparameters
from neuralmechanics.optimizers.hyperparameters.bounds import require_number


@dataclass(frozen=True)
class NormalForm:
    """x'' + 2γx' + ω²x = f in natural time t = Σh, with x'(0) = slope0 · x(0)."""

    damping: float
    frequency_squared: float
    slope0: float

    @property
    def regime(self) -> str:
        """How a displaced charge returns: overdamped, critical or underdamped."""
        discriminant = self.damping**2 - self.frequency_squared
        return "overdamped" if discriminant > 0 else "underdamped" if discriminant < 0 else "critical"


def normal_form(hyper: Hyperparameters, *, quadratic: bool) -> NormalForm:
    """γ, ω² and the initial slope of a charge under the modified flow, from plain numbers.

    Heavy ball: γ = (1-β)/(h(1+β)), ω² = 2pλ/(h(1+β)), slope0 = -pλ/(1+β), p = 2 for quadratic charges, else 1.
    `first_step` adds torch's undampened start. ValueError when h = η(1-α) is not positive: time stands still.
    Source: theory.md 3.2.

    >>> normal_form(Hyperparameters(0.1, 1e-3, 0.9), quadratic=False).regime
    'overdamped'
    >>> normal_form(Hyperparameters(0.1, 1e-3, 0.99), quadratic=False).regime
    'underdamped'
    """
    require_hyperparameters(hyper)
    c = resolve(hyper, torch.zeros(1, dtype=torch.float64))
    oscillator = step_oscillator(c, torch.tensor([quadratic]))
    h = float(c.learning_rate * (1 - c.dampening))
    if h <= 0:
        raise ValueError(f"the natural time step η(1-α) is {h}; give learning_rate > 0 and dampening < 1")
    kick = oscillator.kick * c.restart
    # In one step the charge goes ησ, which takes the natural time h = η(1-α): the slope in t is σ/(1-α).
    start = -float((oscillator.offset + kick) / oscillator.inertia) / float(1 - c.dampening)
    # Γ and Ω² count time in steps; t counts it in h, once in γ and twice in ω².
    return NormalForm(float(oscillator.damping) / h, float(c.learning_rate * oscillator.stiffness) / h**2, start)


def oscillator_path(
    times: Float64[Tensor, " times"], charge0: float, form: NormalForm, force: float = 0.0
) -> Float64[Tensor, " times"]:
    """x(t) for a constant force, from x(0) = `charge0`:  x = e^{-γt}[C x₀ + S(x'(0) + γx₀)] + f∫₀ᵗ e^{-γu}S du.

    (C, S) = (cosh κt, sinh(κt)/κ) | (1, t) | (cos st, sin(st)/s), κ² = γ²-ω² = -s². Finite at any time.
    For `force` = 0 it is the charge under decay; for n, r with a steady speed, f = 2|θ'|² and x → f/ω².
    Source: theory.md 3.2; paper, appendix on the harmonic oscillator.

    >>> form = normal_form(Hyperparameters(0.1, 1e-3, 0.9), quadratic=False)
    >>> oscillator_path(torch.tensor([0.0, 10.0], dtype=torch.float64), 1.0, form)
    tensor([1.0000, 0.9123], dtype=torch.float64)
    """
    _require(times=times, form=form, charge0=charge0, force=force)
    at = _modes(form, times)
    start = torch.full_like(times, charge0)
    return at.position(start, form.slope0 * start, torch.full_like(times, force))


def driven_path(
    charge0: float, form: NormalForm, forces: Float64[Tensor, " steps"], time_step: float
) -> Float64[Tensor, " steps_and_one"]:
    """x at 0, h, 2h, … with the force held at `forces[k]` in step k: the homogeneous path + ∫K(t-s)f(s)ds.

    The convolution itself, O(steps²): the independent check on the one-step propagator. Source: theory.md 3.2.
    """
    _require(form=form, forces=forces, charge0=charge0, time_step=time_step)
    steps = len(forces)
    times = torch.arange(steps + 1, dtype=torch.float64) * time_step
    kernel = _modes(form, times).response.diff()  # ∫K over each step before now
    path = oscillator_path(times, charge0, form)
    forces = forces.to(kernel)
    driven = [kernel[:k].flip(0) @ forces[:k] for k in range(1, steps + 1)]
    return path + torch.stack([torch.zeros((), dtype=torch.float64), *driven])


def relaxation_path(
    times: Float64[Tensor, " times"], charge0: float, rate: float, force: float = 0.0
) -> Float64[Tensor, " times"]:
    """x' = -rx + f:  x(t) = e^{-rt}x(0) + f(1-e^{-rt})/r, the charges of gradient flow and of theory 3.1.

    Gradient flow r = pλ/(1-β); first order (β = 0) r = pλ and f = η⟨g,g⟩.

    >>> relaxation_path(torch.tensor([0.0, 2.0], dtype=torch.float64), 1.0, rate=0.0, force=3.0)
    tensor([1., 7.], dtype=torch.float64)
    """
    _require(times=times, charge0=charge0, rate=rate, force=force)
    return torch.exp(-rate * times) * charge0 + force * times * growth(-rate * times)


def oscillation_threshold(momentum: float, *, quadratic: bool, nesterov: bool = False, discrete: bool = False) -> float:
    """The value of hλ above which a charge oscillates, coupled decay; half as much for a quadratic charge.

    Continuous: (1-β)²/(2(1+β)); Nesterov (1-β)²/(D + √(D² - β²(1-β)²)), D = (1+β) - β(1-β).
    Exact discrete: (1-√β)²; Nesterov ((1-β)/(1+β))². Source: theory.md 3.2; the Nesterov pair from the
    discriminants of the modified flow and of z² - (1+β)(1-pηλ)z + β(1-pηλ).

    >>> f"{oscillation_threshold(0.99, quadratic=False):.3e}, {oscillation_threshold(0.99, quadratic=True):.3e}"
    '2.513e-05, 1.256e-05'
    """
    require_number("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; thresholds need 0 <= momentum < 1")
    β, μ = momentum, 1 - momentum
    if discrete:
        threshold = (μ / (1 + β)) ** 2 if nesterov else (μ / (1 + β**0.5)) ** 2  # 1-√β without cancellation
    elif nesterov:
        D = (1 + β) - β * μ
        # (D - √…)/β² in the form that does not cancel.
        threshold = μ**2 / (D + (D**2 - (β * μ) ** 2) ** 0.5)
    else:
        threshold = μ**2 / (2 * (1 + β))
    return threshold / 2 if quadratic else threshold


def _require(**given: object) -> None:
    """TypeError for what is no tensor of real numbers (times, forces), no normal form, or no number (the others)."""
    for name, value in given.items():
        if name in ("times", "forces"):
            if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
                kind = value.dtype if isinstance(value, Tensor) else f"a {type(value).__name__}"
                raise TypeError(f"{name} is {kind}; give a tensor of real numbers, as torch.tensor([0.0, 1.0]) is")
        elif name == "form":
            if not isinstance(value, NormalForm):
                raise TypeError(f"form is a {type(value).__name__}; give what normal_form(…) returns")
        else:
            require_number(name, value)


def _modes(form: NormalForm, times: Tensor) -> Modes:
    constants = (form.damping, form.frequency_squared)
    γ, ω2 = (torch.full((), constant, dtype=torch.float64, device=times.device) for constant in constants)
    return modes(γ, ω2, times)
