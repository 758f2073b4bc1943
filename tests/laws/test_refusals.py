"""What is given in the wrong kind, or outside its range, is refused in one line that names it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from neuralmechanics.laws import (
    DriveHistory,
    Drives,
    ExactLaw,
    FirstOrderLaw,
    Hyperparameters,
    ModifiedFlowLaw,
    RotationLaw,
    decay_strength,
    driven_path,
    effective_learning_rate,
    equilibrium_norm,
    equilibrium_rotation,
    half_life,
    norm_after,
    normal_form,
    oscillation_threshold,
    oscillator_path,
    relaxation_path,
    relaxation_rate,
    rotation_defect,
)
from neuralmechanics.laws.equilibrium import gradient_over_norm, memory_gain, steps_until, strength_of_noise
from neuralmechanics.optimizers import Sgd

ONES = torch.ones(2, dtype=torch.float64)
FORM = normal_form(Hyperparameters(0.1, 1e-3, 0.9), quadratic=False)
BALL: Any = Sgd(0.1, 5e-3, 0.9)
Wrong: Any = lambda value: value  # noqa: E731  what no type checker would let through


def begun() -> ExactLaw:
    law = ExactLaw()
    law.start(ONES)
    return law


REFUSED: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    f"{kind.__name__}: {name} {value!r}": (
        error,
        name,
        lambda kind=kind, name=name, value=value: kind(**({"learning_rate": 0.1} | {name: value})),
    )
    for kind in (Sgd, Hyperparameters)
    for name, value, error in [
        ("learning_rate", "0.1", TypeError),
        ("learning_rate", None, TypeError),
        ("learning_rate", [0.1], TypeError),
        ("learning_rate", -0.1, ValueError),
        ("learning_rate", float("nan"), ValueError),
        ("weight_decay", -1, ValueError),
        ("weight_decay", "1e-4", TypeError),
        ("momentum", "0.9", TypeError),
        ("momentum", True, TypeError),
        ("momentum", -0.5, ValueError),
        ("dampening", {}, TypeError),
        ("nesterov", "yes", TypeError),
        ("decoupled", 1, TypeError),
    ]
}
REFUSED |= {
    f"{function.__name__} of {given!r}": (error, name, lambda function=function, given=given: function(given))
    for function in (equilibrium_rotation, relaxation_rate, memory_gain, gradient_over_norm)
    for given, error, name in [(0.1, TypeError, "hyper"), (Sgd(0.1, 1e-3, 1.0), ValueError, "momentum")]
}
REFUSED |= {
    "noise of a memory that never fades": (ValueError, "momentum", lambda: strength_of_noise(1.0, Sgd(0.1, 0.0, 1.5))),
    "half-life of a text": (TypeError, "hyper", lambda: half_life(Wrong("a"), quadratic=True)),
    "a list of strengths": (TypeError, "strength", lambda: equilibrium_norm(BALL, Wrong([1.0]), "gradient")),
    "another response": (ValueError, "response", lambda: equilibrium_norm(BALL, 1.0, Wrong("adam"))),
    "norm of a text": (TypeError, "squared", lambda: norm_after(Wrong("4"), 0.0, 1.0, "normalised")),
    "steps to nothing": (TypeError, "settled", lambda: steps_until(1.0, Wrong(None), 1.0, "normalised")),
    "a list of squares": (TypeError, "squared", lambda: effective_learning_rate(BALL, Wrong([1.0]), "gradient")),
    "times in a list": (TypeError, "times", lambda: oscillator_path(Wrong([0.0, 1.0]), 1.0, FORM)),
    "whole times": (TypeError, "times", lambda: oscillator_path(torch.tensor([0, 1]), 1.0, FORM)),
    "a charge in text": (TypeError, "charge0", lambda: oscillator_path(ONES, Wrong("1"), FORM)),
    "no form": (TypeError, "form", lambda: oscillator_path(ONES, 1.0, Wrong(3))),
    "times in a tuple": (TypeError, "times", lambda: relaxation_path(Wrong((0.0, 1.0)), 1.0, 1.0)),
    "a rate in text": (TypeError, "rate", lambda: relaxation_path(ONES, 1.0, Wrong("1"))),
    "forces in a list": (TypeError, "forces", lambda: driven_path(1.0, FORM, Wrong([1.0]), 0.1)),
    "threshold of a text": (TypeError, "momentum", lambda: oscillation_threshold(Wrong("a"), quadratic=True)),
    "form of a number": (TypeError, "hyper", lambda: normal_form(Wrong(0.1), quadratic=True)),
    "strength of a number": (TypeError, "hyper", lambda: decay_strength(Wrong(0.1))),
    "a step of a number": (TypeError, "hyper", lambda: begun().step(Wrong(0.1), Drives(ONES))),
    "a drive in a list": (TypeError, "update_energy", lambda: begun().step(Hyperparameters(0.1), Drives(Wrong([1.0])))),
    "flags in a list": (TypeError, "quadratic", lambda: ExactLaw(Wrong([True, True])).start(ONES)),
    "a companion too few": (ValueError, "companion0", lambda: ExactLaw().start(ONES, ONES[:1])),
    "defect of lists": (TypeError, "after", lambda: rotation_defect(ONES, Wrong([1.0]), Hyperparameters(0.1))),
    "history of lists": (TypeError, "charge0", lambda: DriveHistory(Wrong([1.0]), [], Drives())),
    "history of a number": (TypeError, "hyperparameters", lambda: DriveHistory(ONES, Wrong(3), Drives())),
}
REFUSED |= {
    f"{law.__name__} of a list": (TypeError, "charge0", lambda law=law: law().start([1.0, 2.0]))
    for law in (ExactLaw, ModifiedFlowLaw, FirstOrderLaw, RotationLaw)
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_named_in_one_line(name: str) -> None:
    error, subject, call = REFUSED[name]
    with pytest.raises(error) as caught:
        call()
    assert subject in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_of_every_kind_and_tensors_are_taken() -> None:
    for number in (1, 0.5, torch.tensor(0.5), ONES[0].item()):
        assert Hyperparameters(number, number, number, number).learning_rate is number
    assert equilibrium_rotation(Sgd(0.1, 5e-3)) == pytest.approx(0.03162, abs=1e-5)
    assert torch.equal(driven_path(1.0, FORM, torch.ones(3), 0.1), driven_path(1.0, FORM, torch.ones(3).double(), 0.1))
