"""Figure 4 of the paper, descent on a quadratic against its continuous models, and the plot of measured orders."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuralmechanics.flows import (
    GradientFlow,
    ModifiedFieldFlow,
    ModifiedFlow,
    ModifiedLoss,
    MomentumFlow,
    Path,
    descend,
    integrate,
    sweep_learning_rates,
)
from neuralmechanics.flows.equation.examples import QUADRATIC, curved_valley, quadratic, rotation
from neuralmechanics.report.palette import BLACK, BLUE, FAINT, INK, OKABE_ITO, ORANGE, PURPLE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neuralmechanics.flows import Flow

__all__ = ["continuous_models", "measured_orders"]

_FINER = 6
_STYLES: dict[str, dict[str, Any]] = {
    "gradient flow": {"color": PURPLE, "dashes": (2, 2)},
    "modified loss": {"color": ORANGE, "dashes": (5, 1, 1, 1)},
    "modified flow": {"color": VERMILLION, "dashes": (6, 2)},
}


def continuous_models() -> Figure:
    """Fig. 4: iterates and models in the plane above, distance of each model from the iterates below."""
    figure = Figure(figsize=(12.6, 7.2), dpi=110)
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 3, height_ratios=(1.55, 1))
    for column, (title, steps, paths) in enumerate((_plain(), _momentum(), _spiral())):
        above, below = panels[0, column], panels[1, column]
        above.set_title(title, fontsize=11, color=INK)
        if column < 2:
            _contours(above, steps)
        _trajectories(above, steps, paths)
        _distances(below, steps, paths)
    panels[0, 0].set_ylabel("$\\theta_2$")
    panels[1, 0].set_ylabel("distance from the iterates")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=10.5)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.95, bottom=0.125, hspace=0.3, wspace=0.24)
    return figure


def _plain() -> tuple[str, Path, dict[str, Path]]:
    rate = 0.1
    steps = descend(quadratic, _start(), partial(torch.optim.SGD, lr=rate), 20)
    flows: dict[str, Flow] = {
        "gradient flow": GradientFlow(quadratic),
        "modified loss": ModifiedLoss(quadratic, learning_rate=rate),
        "modified flow": ModifiedFlow(quadratic, learning_rate=rate),
    }
    return "Descent: $\\eta = 0.1$, 20 steps", steps, _solve(flows, steps)


def _momentum() -> tuple[str, Path, dict[str, Path]]:
    rate, beta = 0.01, 0.9
    steps = descend(quadratic, _start(), partial(torch.optim.SGD, lr=rate, momentum=beta), 50)
    flows: dict[str, Flow] = {
        "gradient flow": MomentumFlow(quadratic, momentum=beta),
        "modified loss": ModifiedLoss(quadratic, learning_rate=rate, momentum=beta),
        "modified flow": ModifiedFlow(quadratic, learning_rate=rate, momentum=beta),
    }
    return "Momentum: $\\eta = 0.01$, $\\beta = 0.9$, 50 steps", steps, _solve(flows, steps)


def _spiral() -> tuple[str, Path, dict[str, Path]]:
    """Euler steps of the rotation; a rotation has no loss, so no modified loss either."""
    step = 0.1

    def radius(params: dict[str, torch.Tensor]) -> torch.Tensor:
        return params["x"].square().sum()

    flows: dict[str, Flow] = {
        # The series of order 1 is the field itself.
        "gradient flow": ModifiedFieldFlow(rotation, time_step=step, order=1, loss=radius),
        "modified flow": ModifiedFieldFlow(rotation, time_step=step, order=2, loss=radius),
    }
    # Euler's method at the step of the rotation is the iteration itself.
    times = [step * k for k in range(101)]
    steps = integrate(flows["gradient flow"], _start(), times, method="euler", step=step, estimate_error=False)
    return "Rotation: $\\eta = 0.1$, 100 steps", steps, _solve(flows, steps)


def _start() -> dict[str, torch.Tensor]:
    return {"x": torch.tensor([1.0, 0.0], dtype=torch.float64)}


def _solve(flows: dict[str, Flow], steps: Path) -> dict[str, Path]:
    """Each flow at _FINER times a step, so that its curve is drawn smooth."""
    count = _FINER * (len(steps.times) - 1) + 1
    times = torch.linspace(0, float(steps.times[-1]), count, dtype=torch.float64)
    return {
        name: integrate(flow, _start(), times, method="dopri5", rtol=1e-8, atol=1e-10).require_completed()
        for name, flow in flows.items()
    }


def _contours(axes: Axes, steps: Path) -> None:
    x = steps.params["x"].numpy()
    low, high = min(x.min(), -0.1) - 0.12, x.max() + 0.12
    # Beyond the limits, which equal scales widen on one axis, so that no line ends inside.
    fine = np.linspace(low - 0.6, high + 0.6, 200)
    grid = np.stack(np.meshgrid(fine, fine), axis=-1)
    values = 0.5 * np.einsum("abi,ij,abj->ab", grid, QUADRATIC.numpy(), grid)
    axes.contour(
        fine, fine, values, levels=np.linspace(0.03, values.max() ** 0.5, 17) ** 2, colors="#dcdcdc", linewidths=0.8
    )
    axes.dataLim.set_points(np.array([[low, low], [high, high]]))


def _trajectories(axes: Axes, steps: Path, paths: dict[str, Path]) -> None:
    x = steps.params["x"].numpy()
    axes.plot(*x.T, "o", color=BLUE, ms=3.6, zorder=4, label="iterates")
    axes.plot(*x.T, color=BLUE, lw=0.5, alpha=0.5, zorder=2)
    for name, path in paths.items():
        axes.plot(*path.params["x"].numpy().T, lw=2, label=name, zorder=3, **_STYLES[name])
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xlabel("$\\theta_1$")
    _tidy(axes)


def _distances(axes: Axes, steps: Path, paths: dict[str, Path]) -> None:
    count = np.arange(1, len(steps.times))
    for name, path in paths.items():
        # Every so many points of the smooth curve lie at the time of a step.
        distance = (path.params["x"][::_FINER] - steps.params["x"]).norm(dim=1).numpy()[1:]
        axes.semilogy(count, distance, lw=1.8, **_STYLES[name])
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=8.5, colors=INK)


def measured_orders() -> Figure:
    """Largest distance of each model from descent over one and the same time, as the learning rate shrinks."""
    figure = Figure(figsize=(7.4, 5.4), dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    horizon = 0.24
    # Whole numbers of steps in the horizon: a flow meets the optimiser only there.
    rates = [horizon / steps for steps in (12, 16, 24, 32)]
    sweep = sweep_learning_rates(
        curved_valley,
        {"x": torch.tensor([1.0, 1.6], dtype=torch.float64)},
        optimizer=torch.optim.SGD,
        learning_rates=rates,
        horizon=horizon,
        flows=_series,
        method="dopri5-fixed",
        step=0.005,
        records=1,
    )
    eta = np.array(rates)
    colours = (*OKABE_ITO[:4], PURPLE, BLACK)
    for number, (name, errors) in enumerate(sweep.errors.items()):
        style = {"marker": "o" if "derivatives" in name else "s", "color": colours[number], "ms": 5}
        axes.loglog(eta, errors.numpy(), lw=1.4, label=f"{name}: slope {sweep.orders[name]:.2f}", **style)
    axes.set_xlabel("learning rate $\\eta$")
    axes.set_ylabel(f"largest distance from descent up to t = {horizon:g}")
    axes.set_xticks(rates, [f"{rate:.3g}" for rate in rates])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _tidy(axes)
    figure.set_size_inches(9.4, 5.0)
    figure.tight_layout()
    return figure


def _series(rate: float) -> dict[str, Flow]:
    found: dict[str, Flow] = {"gradient flow": GradientFlow(curved_valley, time_step=rate)}
    for order in (2, 3, 4):
        flow = ModifiedFlow(curved_valley, learning_rate=rate, order=order, route="derivatives")
        found[f"order {order}, derivatives"] = flow
    for order in (6, 8):
        found[f"order {order}, map logarithm"] = ModifiedFlow(
            curved_valley, learning_rate=rate, order=order, route="map"
        )
    return found
