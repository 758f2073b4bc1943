"""The paper's trainings as published: learning rates, momenta, dampenings, decays, and what follows from them."""

from __future__ import annotations

import pytest

from neuralmechanics.experiments.paper import paper_sweep


def settings(figure: str, scale: str = "paper") -> list[tuple[object, ...]]:
    configs = [point.config for point in paper_sweep(figure, scale, "runs").points]  # type: ignore[arg-type]
    return [
        (c.model, c.optimizer.learning_rate, c.optimizer.momentum, c.optimizer.dampening, c.optimizer.weight_decay)
        for c in configs
    ]


def test_the_published_grids():
    decays = (0.0, 1e-4, 5e-4, 1e-3)
    assert set(settings("fig5")) == {(m, 0.1, 0.0, 0.0, d) for m in ("vgg16", "vgg16-bn") for d in decays}
    assert set(settings("momentum")) == {
        (model, 0.1, beta, alpha, decay)
        for model in ("vgg16", "vgg16-bn")
        for beta in (0.8, 0.9, 0.99)
        for alpha in (0.0, 0.01)
        for decay in decays
    }
    for figure, batch in (("fig1", 256), ("fig5", 256), ("momentum", 128)):
        configs = [point.config for point in paper_sweep(figure, "paper", "runs").points]
        assert {(c.batch_size, c.epochs, c.data, c.images.augment, c.initialisation) for c in configs} == {
            (batch, 100.0, "tiny-imagenet", True, "paper")
        }


@pytest.mark.parametrize("scale", ["smoke", "small", "paper"])
def test_some_charges_oscillate_and_some_do_not(scale):
    """The oscillator h(1+β)/2 q'' + (1−β) q' + λ q = 0 is underdamped iff hλ > (1−β)²/(2(1+β)), for norms half that."""
    points = settings("momentum", scale)
    ratio = [
        rate * (1 - alpha) * decay / ((1 - beta) ** 2 / (2 * (1 + beta))) for _, rate, beta, alpha, decay in points
    ]
    assert any(value > 1 for value in ratio)
    assert any(0 < value < 0.5 for value in ratio)
    if scale == "paper":
        # β = .99 with λ = 5e-4 and 1e-3: two networks, two dampenings; a norm oscillates at no smaller λ of the grid.
        assert sum(value > 1 for value in ratio) == 8
        assert sum(value > 0.5 for value in ratio) == 8
