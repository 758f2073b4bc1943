"""The exact laws against torch.optim.SGD in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neuralmechanics.laws import Drives, ExactLaw, Hyperparameters, IdentityLaw, replay

LAWS = {
    "exact": lambda quadratic: ExactLaw(quadratic),
    "identity": lambda quadratic: ExactLaw(quadratic, measured_residual=True),
    "any optimiser": lambda quadratic: IdentityLaw(quadratic),
}


@pytest.mark.parametrize("run_name", ["grid", "eventful"])
@pytest.mark.parametrize("law", LAWS)
def test_reproduces_torch_to_rounding(law, run_name, request):
    run = request.getfixturevalue(run_name)
    predicted = replay(LAWS[law](run.quadratic), run.history)
    error = run.error(predicted)
    print(law, run_name, f"{error.max():.2e}")
    assert error.max() < 1e-12
    assert (run.charges[-1] - run.charges[0]).abs().max() > 0.1  # the charges did move
