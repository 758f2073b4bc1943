"""The constants with which the steps of SGD enter its continuous models, heavy ball or Nesterov, coupled decay."""

from __future__ import annotations

from neuralmechanics.optimizers.hyperparameters.bounds import require_fraction, require_nonnegative, require_positive
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["first_step", "initial_speed", "loss_correction", "require_modelled", "transient_shift"]


def require_modelled(sgd: Sgd[float]) -> Sgd[float]:
    """The hyperparameters, if a continuous model of them exists; else a ValueError that names the one at fault."""
    require_positive("learning_rate", sgd.learning_rate)
    require_nonnegative("weight_decay", sgd.weight_decay)
    require_fraction("momentum", sgd.momentum)
    require_fraction("dampening", sgd.dampening)
    if sgd.nesterov and (sgd.momentum == 0 or sgd.dampening != 0):
        raise ValueError(
            f"nesterov=True with momentum={sgd.momentum}, dampening={sgd.dampening}: "
            "it needs momentum > 0 and dampening = 0, as in torch"
        )
    if sgd.decoupled:
        raise ValueError("decoupled=True: the continuous models have coupled weight decay alone, as torch's SGD has")
    return sgd


def first_step(sgd: Sgd[float]) -> float:
    """c in θ_1 - θ_0 = -c h G_0: 1/(1-α) for heavy ball, 1 + β for Nesterov."""
    if sgd.nesterov:
        return 1 + sgd.momentum
    return 1 / (1 - sgd.dampening) if sgd.momentum else 1.0


def transient_shift(sgd: Sgd[float]) -> float:
    """c in θ̃_0 = θ_0 + c h G_0, the start from which the motion without the initial layer is shadowed.

    The layer's displacements θ_1-θ_0 + hG/(1-β) decay like β^k, so they sum to their first over 1-β.
    """
    return (1 / (1 - sgd.momentum) - first_step(sgd)) / (1 - sgd.momentum)


def loss_correction(sgd: Sgd[float]) -> float:
    """c in L̃ = J + c|∇J|²: h(1+β)/(4(1-β)²), for Nesterov h(1-β+2β²)/(4(1-β)²).

    >>> loss_correction(Sgd(learning_rate=0.4))  # η/4 without momentum
    0.1
    """
    beta = sgd.momentum
    numerator = 1 - beta + 2 * beta**2 if sgd.nesterov else 1 + beta
    return sgd.time_step * numerator / (4 * (1 - beta) ** 2)


def initial_speed(sgd: Sgd[float]) -> float:
    """c in θ'(0) = -c G_0 for the second-order flow: the one whose initial layer moves θ as far as torch's.

    The layer of m θ'' + μθ' = -G displaces by (θ'(0) + G/μ) m/μ. Equal displacements give
    c = (2·first_step - 1)/(1+β): 1/(1+β) heavy ball, (1+2β)/(1+β) Nesterov, (1+α)/((1-α)(1+β)) with dampening.
    """
    return (2 * first_step(sgd) - 1) / (1 + sgd.momentum)
