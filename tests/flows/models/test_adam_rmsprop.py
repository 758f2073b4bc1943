"""Acceptance 5: the second-order equations of Adam and RMSprop, against torch's and with eps inside the root."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from neuralmechanics.flows import AdamFlow, RMSpropFlow, sweep_learning_rates

from ..problems import point, valley

RATES, HORIZON, START = (0.0006, 0.0003), 0.06, point(1.3, 1.2)


class AdamInside(torch.optim.Optimizer):
    """Adam as the theory writes it: d = m̂/√(v̂ + eps), optionally with decoupled decay, or without bias correction."""

    def __init__(self, params, lr, betas, eps, decay=0.0, corrected=True):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "decay": decay, "corrected": corrected})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(m=torch.zeros_like(p), v=torch.zeros_like(p), n=0)
                state["n"] += 1
                state["m"].lerp_(p.grad, 1 - first)
                state["v"].lerp_(p.grad.square(), 1 - second)
                fill = [1 - beta ** state["n"] if group["corrected"] else 1.0 for beta in (first, second)]
                root = (state["v"] / fill[1] + group["eps"]).sqrt()
                p.sub_(group["lr"] * (state["m"] / fill[0] / root + group["decay"] * p))


def _orders(optimizer, make) -> tuple[float, float]:
    sweep = sweep_learning_rates(
        valley,
        START,
        optimizer=optimizer,
        learning_rates=RATES,
        horizon=HORIZON,
        flows=lambda rate: {"full": make(rate, True), "leading": make(rate, False)},
    )
    return sweep.orders["full"], sweep.orders["leading"]


@pytest.mark.parametrize("decay", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_adam_with_eps_inside_the_root(decay: float) -> None:
    full, leading = _orders(
        partial(AdamInside, betas=(0.6, 0.8), eps=1e-2, decay=decay),
        lambda rate, correction: AdamFlow(
            valley, learning_rate=rate, betas=(0.6, 0.8), eps=1e-2, eps_inside=True, correction=correction,
            weight_decay=decay, decoupled=True,
        ),
    )  # fmt: skip
    assert full == pytest.approx(2, abs=0.2)
    assert leading == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("inside", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_rmsprop_whose_start_is_not_corrected(inside: bool) -> None:
    if inside:
        optimizer = partial(AdamInside, betas=(0.0, 0.8), eps=1e-2, corrected=False)
    else:
        optimizer = partial(torch.optim.RMSprop, alpha=0.8, eps=0.1)
    full, leading = _orders(
        optimizer,
        lambda rate, correction: RMSpropFlow(
            valley, learning_rate=rate, smoothing=0.8, eps=1e-2 if inside else 0.1, eps_inside=inside,
            correction=correction,
        ),
    )  # fmt: skip
    assert full == pytest.approx(2, abs=0.2)
    assert leading == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("optimizer", [pytest.param(torch.optim.Adam, marks=pytest.mark.slow), torch.optim.AdamW])
def test_the_flows_matched_to_torchs_own_optimisers(optimizer: type[torch.optim.Optimizer]) -> None:
    sweep = sweep_learning_rates(
        valley,
        START,
        optimizer=partial(optimizer, betas=(0.6, 0.8), eps=0.1, weight_decay=0.5),
        learning_rates=RATES,
        horizon=HORIZON,
    )
    assert sweep.orders["Adam flow"] == pytest.approx(2, abs=0.2)
    assert sweep.orders["Adam flow, leading order"] == pytest.approx(1, abs=0.2)
    assert set(sweep.reasons["Adam flow"]) == {"completed"}
