"""What is drawn of layers: medians over their groups, in the units that the axis names."""

from __future__ import annotations

import base64
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from neuralmechanics.report.page.charts.chart import Block
from neuralmechanics.report.page.charts.layers import layer_charts


def test_angles_are_radians_and_rates_are_rates() -> None:
    """A step of a tenth of the norm across it turns by a tenth of a radian, which is 5.7 degrees."""
    turn = np.array([[0.1, 0.3, 0.2, 1e-3], [0.2, 0.4, 0.6, 2e-3]])
    coordinates = {"step": [5, 10], "layer": ("charge", ["a", "a", "a", "b"])}
    values = {"rotation": (("step", "charge"), turn), "effective_learning_rate": (("step", "charge"), 10 * turn)}
    run, block = SimpleNamespace(turning=lambda: xr.Dataset(values, coords=coordinates)), Block()
    rotation, rate = layer_charts(run, block)  # type: ignore[arg-type]
    for chart, unit, size in ((rotation, "radians a step", 1.0), (rate, "effective learning rate", 10.0)):
        spec = chart.choices["all"].spec
        assert spec["layout"]["yaxis"]["title"]["text"] == unit
        drawn = [np.frombuffer(base64.b64decode(block.arrays[trace["y"]]), dtype="<f4") for trace in spec["traces"]]
        assert [trace["layer"] for trace in spec["traces"]] == ["a", "b"]
        assert np.stack(drawn) == pytest.approx(size * np.array([[0.2, 0.4], [1e-3, 2e-3]]), rel=1e-6)
