"""Under Adam and its kin steps go to the length of noise alone as the rate falls to zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.monitor.explaining.noise import WIDTH, followed

from neuralmechanics.monitor.explaining.forecasting.learning import Learned
from neuralmechanics.monitor.explaining.forecasting.optimiser import motion_of
from neuralmechanics.monitor.explaining.forecasting.uncorrelated import noise_limit, within_reach


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_of_noise_are_as_long_as_their_limit(momentum: float) -> None:
    """P(1-β)/(1+β) against |d|²/η² of a simulation with tangent noise."""
    run, _ = followed(
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1, betas=(momentum, 0.99)),
        700,
        norm=4.0,
        rows=2,
        every=50,
    )
    limit = noise_limit(run.symmetries, motion_of(run.config))
    assert limit == pytest.approx([WIDTH * (1 - momentum) / (1 + momentum)] * 2, rel=1e-12)
    energy = run.budget()["change"].sel(part="finite_step").isel(step=slice(4, None)).mean("step") / 50 / 1e-6
    assert energy.to_numpy() == pytest.approx(limit, rel=0.05)


def test_others_have_no_such_limit() -> None:
    for make in (lambda p: torch.optim.SGD(p, lr=0.1), lambda p: torch.optim.NAdam(p, lr=1e-3)):
        run, _ = followed(make, 20, norm=4.0, rows=2, every=5)
        assert np.isnan(noise_limit(run.symmetries, motion_of(run.config))).all()
    near = within_reach(np.array([8.0, 8.0, 8.0, np.nan]), np.array([2.0, 6.0, 11.0, 6.0]))
    assert np.isnan(near).tolist() == [True, False, True, True]


def test_the_logarithm_is_as_much_nearer_to_the_limit_as_the_rate_is_less() -> None:
    none, one = np.zeros(2), np.ones(2)
    known = Learned(100, one, 0.5 * one, one, none, none, one, none, none, none > 0, one, limit=np.array([2.0, np.nan]))
    steps, factor = np.array([100.0, 200.0, 300.0, 400.0]), np.array([1.0, 0.5, 0.0, 2.0])
    told = known.at(steps, factor=factor)
    assert told[:, 0] == pytest.approx([0.5, 1.0, 2.0, 0.5])  # in between by its logarithm, and never away from it
    assert told[:, 1] == pytest.approx([0.5] * 4)
    # The interval holds half of the way at either side.
    assert known.at(steps, 2.0, factor)[:, 0] == pytest.approx([0.5, 2.0, 8.0, 0.5])
