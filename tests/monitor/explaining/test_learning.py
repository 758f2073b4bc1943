"""The small formulas behind a forecast, each against what it stands for."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuralmechanics.monitor.explaining.forecasting.learning import _mean_product, remembered
from neuralmechanics.monitor.explaining.forecasting.optimiser import Motion
from neuralmechanics.monitor.explaining.forecasting.settings import Changes, ahead
from neuralmechanics.optimizers import Sgd


def test_the_mean_of_a_product_of_lines_is_its_integral() -> None:
    middle = (np.arange(1000) + 0.5) / 1000
    for a, b, c, d in ((0.0, 1.0, 0.0, 1.0), (0.0, 1.0, 1.0, 0.0), (2.0, -1.0, 0.5, 3.0)):
        values = (a + (b - a) * middle) * (c + (d - c) * middle)
        assert float(_mean_product(*map(np.array, (a, b, c, d)))) == pytest.approx(values.mean(), rel=1e-5)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_running_mean_without_the_bias_of_its_start_goes_on(kept: float) -> None:
    """Three steps of 2 and five of 7, as Adam sums them and divides by 1 - β^k."""
    total, corrected = 0.0, []
    for step, value in enumerate([2.0] * 3 + [7.0] * 5, 1):
        total = kept * total + (1 - kept) * value
        corrected.append(total / (1 - kept**step))
    found = remembered(np.array([corrected[2]]), np.array([7.0]), 5.0, kept, 3.0)
    assert float(found[0]) == pytest.approx(corrected[-1], rel=1e-12)


def test_what_momentum_makes_of_decay_and_of_rates() -> None:
    """Σ over what the part of decay takes: 1/(1-β), Nesterov's 1/((1-β)(1+β)), and none of an adaptive optimiser's."""
    heavy, ahead_of = Sgd(0.1, momentum=0.8), Sgd(0.1, momentum=0.8, nesterov=True)
    sgd = [Motion("gradient", hyper, follows_sgd=True, gain=None) for hyper in (heavy, ahead_of)]
    assert [one.decay_share for one in sgd] == pytest.approx([5.0, 1 / (0.2 * 1.8)])
    others = {r: Motion(r, heavy, follows_sgd=False, gain=None) for r in ("normalised", "proportional")}  # type: ignore[arg-type]
    assert [one.decay_share for one in others.values()] == [1.0, 1.0]
    rate, squared = np.array([0.1]), np.array([4.0])
    told = [float(one.effective_rate(rate, squared)[0]) for one in (sgd[0], *others.values())]
    assert told == pytest.approx([0.1 / (0.2 * 4), 0.05, 0.1])


def test_a_record_holds_the_rate_of_its_own_step() -> None:
    """Of records at every step the steps ahead have the rates recorded behind each: η², and ηλ in units of now."""
    rates = np.array([1.0, 1.0, 0.5, 0.25, 0.125])
    data = xr.Dataset(
        {
            "learning_rate": (("step", "charge"), rates[:, None]),
            "weight_decay": (("step", "charge"), np.array([0.1, 0.1, 0.1, 0.2, 0.2])[:, None]),
        },
        coords={"step": np.arange(5)},
    )
    found = ahead(data, 1, 4, Changes(), 1.0)
    assert found.steps.tolist() == [2, 3, 4]
    assert found.squares == pytest.approx([0.25, 0.0625, 0.015625])
    assert found.sums == pytest.approx([0.5, 0.5, 0.25])
    assert (found.factor.tolist(), found.decay_share.tolist()) == ([0.5, 0.25, 0.125], [1.0, 2.0, 2.0])
