"""Second-order equations of Adam and RMSprop: what memory of gradients and of their squares adds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective, derivative
from neuralmechanics.flows.equation.system import Field, Piece, System
from neuralmechanics.optimizers.hyperparameters.bounds import require_fraction, require_nonnegative, require_positive

__all__ = ["AdamFlow", "RMSpropFlow"]

# A moving average's start-up, ρ^n, is over when it no longer shows in float64 sums.
_FORGOTTEN = 1e-12


@dataclass(frozen=True)
class AdamFlow:
    """θ' = -g/R - h/R [b1 w - b2 (g r/R) w + ½(1 - g r/R) w], w = (H+λ)g/R: Adam to O(h²), from its first step.

    R = √(g²+eps) and r = g/R with ``eps_inside``, R = |g|+eps and r = sign g as in torch. b1, b2 are the mean ages of
    the gradients in the two averages, β/(1-β) once started and Σ_{l<=n}(β^l - β^{n+1})/(1-β^{n+1}) at step n: the
    field is constant over each step until then. ``decoupled`` is AdamW. ``correction=False`` keeps -g/R alone: O(h).
    Source: Cattaneo, Klusowski, Shigida 2024, On the implicit bias of Adam.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    eps_inside: bool = False
    correction: bool = True

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.eps, self.weight_decay)
        require_fraction("betas[0]", self.betas[0])
        require_fraction("betas[1]", self.betas[1])

    @property
    def label(self) -> str:
        """A few words for tables and legends."""
        return "Adam flow" if self.correction else "Adam flow, leading order"

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        memory = _Memory(self.betas[0], self.betas[1], corrected=True)
        decay = (0.0, self.weight_decay) if self.decoupled else (self.weight_decay, 0.0)
        return _adaptive_system(
            self.loss, theta0, self.learning_rate, memory, self.eps, decay, self.eps_inside, self.correction
        )


@dataclass(frozen=True)
class RMSpropFlow:
    """The same for RMSprop without momentum: v ← ρv + (1-ρ)g², θ ← θ - ηg/(√v + eps), v_0 = 0.

    torch does not correct the start of v, so the first steps are up to 1/√(1-ρ) longer: v ≈ (1-ρ^{n+1})g² at step n,
    and earlier steps enter w with their own lengths. A start-up step n costs n extra vector operations.
    """

    loss: Loss
    _: KW_ONLY
    learning_rate: float
    smoothing: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    eps_inside: bool = False
    correction: bool = True

    def __post_init__(self) -> None:
        _check(self.learning_rate, self.eps, self.weight_decay)
        require_fraction("smoothing", self.smoothing)

    @property
    def label(self) -> str:
        """A few words for tables and legends."""
        return "RMSprop flow" if self.correction else "RMSprop flow, leading order"

    def system(self, theta0: Mapping[str, Tensor]) -> System:
        """The equation started from θ0."""
        memory = _Memory(0.0, self.smoothing, corrected=False)
        return _adaptive_system(
            self.loss,
            theta0,
            self.learning_rate,
            memory,
            self.eps,
            (self.weight_decay, 0.0),
            self.eps_inside,
            self.correction,
        )


def _check(learning_rate: float, eps: float, weight_decay: float) -> None:
    require_positive("learning_rate", learning_rate)
    require_positive("eps", eps)
    require_nonnegative("weight_decay", weight_decay)


@dataclass(frozen=True)
class _Memory:
    """The two moving averages; ``corrected`` divides them by the sum of their weights, as Adam does."""

    mean: float
    square: float
    corrected: bool

    @property
    def startup(self) -> int:
        """Steps until the averages have forgotten that they were started."""
        # The slower of the two averages is the last to forget.
        slowest = max(self.mean, self.square)
        return math.ceil(math.log(_FORGOTTEN) / math.log(slowest)) if slowest > 0 else 1

    def filled(self, step: int | None) -> float:
        """Sum of the weights in the average of squares, 1 if divided out."""
        return 1.0 if step is None or self.corrected else 1 - self.square ** (step + 1)


def _age(beta: float, step: int | None) -> float:
    """Mean age, in steps, of the gradients in a corrected average at a step (None: for ever started)."""
    if beta == 0:
        return 0.0
    if step is None:
        return beta / (1 - beta)
    # Σ l·β^l(1-β) over l = 0 … n, divided by the sum of the weights, 1 - β^{n+1}.
    left = beta ** (step + 1)
    return (beta * (1 - beta**step) / (1 - beta) - step * left) / (1 - left)


def _adaptive_system(
    loss: Loss,
    theta0: Mapping[str, Tensor],
    h: float,
    memory: _Memory,
    eps: float,
    decay: tuple[float, float],
    eps_inside: bool,
    correction: bool,
) -> System:
    layout = Layout.of(theta0)
    coupled, decoupled = decay
    objective = Objective(loss, layout, coupled)

    def field_at(step: int | None) -> Field:
        filled = memory.filled(step)

        def field(x: Tensor) -> Tensor:
            point, recorded = objective.recorded_gradient(x, 2 if correction else 1)
            g = recorded.detach()
            root, R = _root(g, filled, eps, eps_inside)
            D = decoupled * x + g / R
            if not correction:
                return -D
            with torch.enable_grad():
                # w = (H+λ)D, reverse over reverse; the tape is kept where another product follows.
                w = derivative(recorded.dot(D), point, graph=not memory.corrected and step is not None)
            w = w.detach()
            if memory.corrected or step is None:
                # Past steps were as long as this one, so the sum over them is the mean age times w.
                z = _age(memory.square, step) * w
            else:
                # Uncorrected averages made the first steps longer: each enters with its own length.
                earlier = _weighted_displacements(g, memory, step, eps, eps_inside)
                with torch.enable_grad():
                    z = derivative(recorded.dot(earlier), point, graph=False)
            # r = 2 g dR/dv, the response of R to the average of squares; 0 where the gradient is.
            r = torch.where(root > 0, g / root.clamp(min=torch.finfo(g.dtype).tiny), torch.zeros_like(g))
            lag = _age(memory.mean, step) * w / R - g * r * z / R**2
            bend = decoupled * D + (w / R) * (1 - filled * g * r / R)
            return -D - h * (lag + bend / 2)

        return field

    start = objective.require(layout.flatten(theta0), 2 if correction else 1)
    return System(layout, start, _stepwise(field_at, h, memory.startup), h)


def _root(g: Tensor, filled: float, eps: float, eps_inside: bool) -> tuple[Tensor, Tensor]:
    """(what dR/dv = 1/(2·root) divides by, R) at v = filled·g²."""
    if eps_inside:
        R = (filled * g.square() + eps).sqrt()
        return R, R
    root = math.sqrt(filled) * g.abs()
    return root, root + eps


def _weighted_displacements(g: Tensor, memory: _Memory, step: int, eps: float, eps_inside: bool) -> Tensor:
    """Σ_{l=1..n} (ρ^l - ρ^{n+1}) g/R_{n-l}: the steps that lie between the averaged gradients and now."""
    total = torch.zeros_like(g)
    for age in range(1, step + 1):
        weight = memory.square**age - memory.square ** (step + 1)
        if weight < _FORGOTTEN:
            break
        total = total + weight * g / _root(g, memory.filled(step - age), eps, eps_inside)[1]
    return total


def _stepwise(
    field_at: Callable[[int | None], Field], h: float, startup: int
) -> Callable[[float, float], Iterator[Piece]]:
    """One field a step during start-up, then the steady one."""

    def pieces(start: float, end: float) -> Iterator[Piece]:
        # A start within rounding of a step is that step, not the end of the one before.
        step = max(0, math.floor(start / h + 1e-9))
        while start < end:
            last = step >= startup
            finish = end if last else min(end, (step + 1) * h)
            if finish > start:
                yield Piece(start, finish, field_at(None if last else step))
            start, step = finish, step + 1

    return pieces
