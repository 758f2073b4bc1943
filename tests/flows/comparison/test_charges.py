"""Acceptance 6 and 7: charges under gradient flow and descent, the table flow × kind, balance beyond the edge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuralmechanics.flows import (
    GradientFlow,
    ModifiedFlow,
    ModifiedLoss,
    MomentumFlow,
    descend,
    drift_by_kind,
    drift_table,
    integrate,
    law_rate,
    velocity,
)
from neuralmechanics.flows.comparison.sweep import slope

from ..problems import DenseCharges, charges_of, network_loss, point

KINDS = ("relu", "batch_norm", "softmax")


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_flow_keeps_charges_as_well_as_it_is_solved(kind: str) -> None:
    loss = network_loss(kind)
    charges = charges_of(loss, kind)
    flow, drifts, tolerances = GradientFlow(loss), [], (1e-4, 1e-6, 1e-8)
    # Long enough for three units to switch, so that not they but the tolerance sets most steps.
    horizon = 2.0 if kind == "relu" else 0.5
    for accuracy in tolerances:
        path = integrate(
            flow,
            loss.theta0,
            [0, horizon / 2, horizon],
            charges,
            "dopri5",
            rtol=accuracy,
            atol=accuracy,
            estimate_error=False,
        )
        drifts.append(max(drift_by_kind(path.require_completed(), charges.kinds).values()))
        assert drifts[-1] < 20 * accuracy
    if kind == "softmax":
        # A linear charge is kept by every Runge-Kutta method, to rounding.
        assert max(drifts) < 1e-13
    else:
        assert slope(torch.tensor(tolerances), torch.tensor(drifts)) == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("kind", ["relu", "batch_norm"])
def test_descent_drifts_in_proportion_to_the_learning_rate(kind: str) -> None:
    loss = network_loss(kind)
    charges = charges_of(loss, kind)
    rates = (0.02, 0.01, 0.005)
    drifts = []
    for rate in rates:
        run = descend(
            loss, loss.theta0, lambda p, rate=rate: torch.optim.SGD(p, lr=rate), round(0.2 / rate), charges, every=5
        )
        quadratic = run.charges[:, charges.quadratic]
        drifts.append((quadratic[-1] - quadratic[0]).norm())
    assert slope(torch.tensor(rates), torch.stack(drifts)) == pytest.approx(1, abs=0.1)


def test_translations_survive_descent_and_only_decay_with_weight_decay() -> None:
    loss = network_loss("softmax")
    charges = charges_of(loss, "softmax")
    rate, decay = 0.1, 0.2
    run = descend(loss, loss.theta0, lambda p: torch.optim.SGD(p, lr=rate, weight_decay=decay), 20, charges)
    expected = run.charges[0] * (1 - rate * decay) ** torch.arange(21, dtype=torch.float64)[:, None]
    assert torch.allclose(run.charges, expected, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_closed_laws_are_the_velocity_of_the_charges(kind: str, decay: float) -> None:
    """Q' from the law equals 2⟨θ, Mθ'⟩ from the flow's own field, at the same point, to rounding."""
    loss = network_loss(kind)
    charges = charges_of(loss, kind)
    for flow in (
        GradientFlow(loss, weight_decay=decay),
        MomentumFlow(loss, momentum=0.7, weight_decay=decay),
        ModifiedLoss(loss, learning_rate=0.2, weight_decay=decay),
        ModifiedLoss(loss, learning_rate=0.02, momentum=0.7, weight_decay=decay, nesterov=True),
        ModifiedFlow(loss, learning_rate=0.02, momentum=0.7, weight_decay=decay),
    ):
        motion = velocity(flow, loss.theta0)
        factor = torch.where(charges.quadratic, 2.0, 1.0).double()
        moved = factor * charges.pair(motion, loss.theta0)
        law = law_rate(flow, loss.theta0, charges)
        assert torch.allclose(moved, law, rtol=1e-9, atol=1e-11)


def test_the_table_of_flows_and_kinds() -> None:
    loss = network_loss("batch_norm")
    charges = charges_of(loss, "batch_norm")
    rate, horizon = 0.01, 0.2
    run = descend(loss, loss.theta0, lambda p: torch.optim.SGD(p, lr=rate), 20, charges)
    table = drift_table(
        {
            "gradient flow": GradientFlow(loss, time_step=rate),
            "modified loss": ModifiedLoss(loss, learning_rate=rate),
            "modified flow": ModifiedFlow(loss, learning_rate=rate),
            "order 4": ModifiedFlow(loss, learning_rate=rate, order=4),
        },
        loss.theta0,
        [0, horizon],
        charges,
        step=rate / 4,
        paths={"descent": run},
    )
    assert list(table.columns) == ["scale", "translation"]
    assert table.loc["gradient flow", "scale"] < 1e-6
    assert table.loc["descent", "scale"] > 1e-4
    # The order in the learning rate at which they come close is measured in the next test.
    for name, close in (("modified loss", 0.1), ("modified flow", 0.1), ("order 4", 1e-2)):
        assert table.loc[name, "scale"] == pytest.approx(table.loc["descent", "scale"], rel=close)
    assert (table["translation"] < 1e-12).all()
    with pytest.raises(ValueError, match="has no charges"):
        drift_by_kind(integrate(GradientFlow(loss), loss.theta0, [0, 0.1]), charges.kinds)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_flow_of_order_n_breaks_the_charges_as_descent_does_up_to_the_same_order(order: int) -> None:
    """|Q_flow - Q_descent| = O(η^n) at equal time: the trajectory is that close and Q is smooth."""
    loss = network_loss("batch_norm")
    charges = charges_of(loss, "batch_norm")
    rates, horizon, differences = (0.01, 0.005, 0.0025), 0.16, []
    for rate in rates:
        count = round(horizon / rate)
        run = descend(loss, loss.theta0, lambda p, rate=rate: torch.optim.SGD(p, lr=rate), count, charges, every=count)
        flow = ModifiedFlow(loss, learning_rate=rate, order=order)
        path = integrate(flow, loss.theta0, [0, horizon], charges, "dopri5-fixed", step=0.01, estimate_error=False)
        differences.append((path.charges[-1] - run.charges[-1])[charges.quadratic].norm())
    assert slope(torch.tensor(rates), torch.stack(differences)) == pytest.approx(order, abs=0.15)


def _path_loss(params: dict[str, Tensor]) -> Tensor:
    x, y = params["x"]
    return (x * y - 1) ** 2 / 2


@pytest.mark.parametrize(("rate", "start"), [(1.05, (1.6, 0.2)), (0.9, (1.9, 0.05))])
def test_balance_beyond_the_edge_of_stability(rate: float, start: tuple[float, float]) -> None:
    """½(xy-1)²: Q = x² - y² obeys Q ← Q(1 - η²e²), e = xy - 1, at learning rates far beyond 2/curvature."""
    charge = DenseCharges(torch.tensor([[1.0, -1.0]], dtype=torch.float64), ("rescale",))
    run = descend(_path_loss, point(*start), lambda p: torch.optim.SGD(p, lr=rate), 200, charge)
    x, y = run.params["x"].T
    error = x * y - 1
    predicted = run.charges[:-1, 0] * (1 - rate**2 * error[:-1] ** 2)
    assert float((run.charges[1:, 0] - predicted).abs().max()) < 1e-14
    # Far beyond stability at the start, and balanced by it: |Q| ends well below where it began.
    assert rate * float(x[0] ** 2 + y[0] ** 2) > 2
    assert float(run.charges[-1, 0].abs()) < 0.5 * float(run.charges[0, 0])
    assert run.completed
    assert torch.isfinite(run.losses).all()


def test_with_the_librarys_own_symmetries() -> None:
    symmetry = pytest.importorskip("neuralmechanics.symmetry")
    from ..problems import _mse, data, network

    model = network("relu")
    loss = network_loss("relu")
    found = symmetry.find_symmetries(model.double(), data(), _mse)
    mine = charges_of(loss, "relu")
    path = integrate(GradientFlow(loss), loss.theta0, [0, 0.5], found, step=0.02)
    assert path.charges is not None
    rescale = [index for index, kind in enumerate(found.kinds) if kind == "rescale"]
    assert len(rescale) == len(mine.kinds)
    assert torch.allclose(path.charges[0][rescale].abs().sort().values, mine.charge(loss.theta0).abs().sort().values)
    assert drift_by_kind(path, found.kinds)["rescale"] < 1e-4
    flow = ModifiedLoss(loss, learning_rate=0.1, weight_decay=0.1)
    moved = 2 * found.pair(velocity(flow, loss.theta0), loss.theta0)
    assert torch.allclose(moved, law_rate(flow, loss.theta0, found), rtol=1e-9, atol=1e-11)
