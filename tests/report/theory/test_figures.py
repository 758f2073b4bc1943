"""The figures of the theory: named, drawn without pyplot, the same every time, and showing what they claim."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from neuralmechanics.report.theory.figures import FIGURES


def _pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def test_names() -> None:
    assert list(FIGURES) == ["fig2", "fig3", "fig4", "orders"]


@pytest.mark.slow
def test_fig4_is_deterministic_and_free_of_pyplot() -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    figure = FIGURES["fig4"]()
    first = _pixels(figure)
    assert np.array_equal(first, _pixels(FIGURES["fig4"]()))
    assert ("matplotlib.pyplot" in sys.modules) == loaded
    assert first[..., :3].min() < 60
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "Descent: $\\eta = 0.1$, 20 steps",
        "Momentum: $\\eta = 0.01$, $\\beta = 0.9$, 50 steps",
        "Rotation: $\\eta = 0.1$, 100 steps",
    ]
    # In the momentum panel the modified flow is by far the closest, as its line of distances shows.
    curves = [line.get_ydata() for line in figure.axes[4].lines]
    assert max(curves[2]) < 0.003 < 0.1 < min(max(curves[0]), max(curves[1]))


def test_fig2_gradients_cross_the_orbits_at_right_angles() -> None:
    figure = FIGURES["fig2"]()
    assert [axes.get_title() for axes in figure.axes] == [
        "Translation: softmax pair",
        "Scale: batch-norm neuron",
        "Rescale: path of two weights",
        "Scale, three weights: on a sphere",
    ]
    generators = (
        lambda x, y: (np.ones_like(x), np.ones_like(y)),
        lambda x, y: (x, y),
        lambda x, y: (x, -y),
    )
    for axes, generator in zip(figure.axes[:3], generators, strict=True):
        arrows = axes.collections[0]
        x, y = np.asarray(arrows.get_offsets()).T
        u, v = generator(x, y)
        assert np.abs(arrows.U * u + arrows.V * v).max() < 1e-12
        assert np.hypot(arrows.U, arrows.V).max() > 0.1


@pytest.mark.slow
def test_fig3_curves_lie_on_their_surfaces() -> None:
    figure = FIGURES["fig3"]()
    surfaces = (
        lambda p: p.sum(0),
        lambda p: (p**2).sum(0) - 1,
        lambda p: p[0] ** 2 + p[1] ** 2 - p[2] ** 2 - 0.36,
    )
    for axes, surface in zip(figure.axes, surfaces, strict=True):
        for line in axes.lines:
            assert np.abs(surface(np.array(line.get_data_3d()))).max() < 1e-4


@pytest.mark.slow
def test_the_order_plot_states_the_measured_slopes() -> None:
    texts = [text.get_text() for text in FIGURES["orders"]().axes[0].get_legend().get_texts()]
    slopes = [float(text.rsplit(" ", 1)[1]) for text in texts]
    assert slopes == pytest.approx([1, 2, 3, 4, 6, 8], abs=0.5)
