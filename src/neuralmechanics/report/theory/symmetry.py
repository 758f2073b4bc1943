"""Figures 2 and 3 of the paper: what a symmetry does to gradients, and the surface that it confines them to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuralmechanics.flows import GradientFlow, integrate
from neuralmechanics.flows.equation.examples import norm_neuron, softmax_pair, two_weight_path, weighted_unit
from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, Objective
from neuralmechanics.report.palette import BLUE, FAINT, INK, ORANGE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["conserved_surfaces", "gradient_fields"]

_REACH = 2.0


def gradient_fields() -> Figure:
    """Fig. 2: loss contours, -∇L, and the orbits of the symmetry, which ∇L crosses at right angles everywhere."""
    figure = _figure((14.4, 3.9))
    planes: list[tuple[str, Loss, Callable[[NDArray[Any]], list[NDArray[Any]]]]] = [
        ("Translation: softmax pair", softmax_pair, _lines),
        ("Scale: batch-norm neuron", norm_neuron, _rays),
        ("Rescale: path of two weights", two_weight_path, _hyperbolas),
    ]
    for index, (title, loss, orbits) in enumerate(planes):
        axes = figure.add_subplot(1, 4, index + 1)
        _plane(axes, loss, orbits)
        axes.set_title(title, fontsize=11, color=INK)
    sphere = figure.add_subplot(1, 4, 4, projection="3d")
    _sphere_field(sphere)
    # Level with the titles of the planes, above the orbits that leave the sphere.
    sphere.set_title("Scale, three weights: on a sphere", fontsize=11, color=INK, y=1.07)
    figure.legend(handles=_field_handles(), loc="lower center", ncols=3, frameon=False, fontsize=10)
    figure.subplots_adjust(left=0.04, right=0.985, top=0.9, bottom=0.19, wspace=0.22)
    return figure


def conserved_surfaces() -> Figure:
    """Fig. 3: gradient flow from several starts on one level set of the charge, in three weights."""
    figure = _figure((13.2, 4.7))
    panels: list[tuple[str, Loss, Callable[[], tuple[Any, Any, Any]], list[list[float]], float, tuple[int, int]]] = [
        ("Translation: the plane $\\sum_i\\theta_i = 0$", softmax_pair, _plane_surface, _plane_starts(), 6.0, (14, 18)),
        ("Scale: the sphere $|\\theta|^2 = 1$", norm_neuron, _sphere_surface, _sphere_starts(), 6.0, (22, -25)),
        (
            "Rescale: the hyperboloid $\\theta_1^2+\\theta_2^2-\\theta_3^2 = 0.36$",
            weighted_unit,
            _hyperboloid_surface,
            _hyperboloid_starts(),
            12.0,
            (18, -60),
        ),
    ]
    for index, (title, loss, surface, starts, horizon, view) in enumerate(panels):
        axes: Any = figure.add_subplot(1, 3, index + 1, projection="3d", computed_zorder=False)
        axes.plot_surface(
            *surface(), color="#dbe7f0", alpha=0.55, linewidth=0.25, edgecolor="#b9c9d6", shade=False, zorder=1
        )
        for number, start in enumerate(starts):
            times = torch.linspace(0, horizon, 160, dtype=torch.float64)
            path = integrate(GradientFlow(loss), {"x": torch.tensor(start)}, times, method="dopri5", rtol=1e-6)
            x = path.require_completed().params["x"].numpy()
            axes.plot(*x.T, color=BLUE, lw=1.8, zorder=3, label="gradient flow" if number == 0 else None)
            axes.scatter(*x[0], color="white", edgecolor=BLUE, s=26, zorder=4, depthshade=False)
            axes.scatter(*x[-1], color=VERMILLION, s=26, zorder=5, depthshade=False)
        axes.view_init(*view)
        _bare(axes, title)
    figure.legend(handles=_flow_handles(), loc="lower center", ncols=3, frameon=False, fontsize=10)
    figure.subplots_adjust(left=0.0, right=1.0, top=0.93, bottom=0.08, wspace=0.0)
    return figure


def _field_handles() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=ORANGE, lw=1.0, dashes=(4, 2), label="orbit of the symmetry"),
        Line2D([], [], color=BLUE, lw=1.6, marker=">", ms=6, markevery=[1], label="$-\\nabla L$"),
    ]


def _flow_handles() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=BLUE, lw=1.8, label="gradient flow"),
        Line2D([], [], color="white", marker="o", markeredgecolor=BLUE, label="start"),
        Line2D([], [], color="white", marker="o", markerfacecolor=VERMILLION, label="end"),
    ]


def _figure(size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, dpi=110)
    FigureCanvasAgg(figure)
    return figure


def _slopes(loss: Loss, points: NDArray[Any]) -> NDArray[Any]:
    """-∇L at each row."""
    layout = Layout.of({"x": torch.from_numpy(points[0])})
    objective = Objective(loss, layout)
    return np.stack([-objective.gradient(torch.from_numpy(point)).numpy() for point in points])


def _values(loss: Loss, points: NDArray[Any]) -> NDArray[Any]:
    layout = Layout.of({"x": torch.from_numpy(points[0])})
    objective = Objective(loss, layout)
    return np.array([objective.value(torch.from_numpy(point)) for point in points])


def _plane(axes: Axes, loss: Loss, orbits: Callable[[NDArray[Any]], list[NDArray[Any]]]) -> None:
    fine = np.linspace(-_REACH, _REACH, 48)
    grid = np.stack(np.meshgrid(fine, fine), axis=-1)
    values = _values(loss, grid.reshape(-1, 2)).reshape(48, 48)
    # Shaded by rank: losses differ by orders of magnitude across the plane.
    ranks = values.argsort(axis=None).argsort().reshape(values.shape) / values.size
    edges = (-_REACH, _REACH, -_REACH, _REACH)
    axes.imshow(ranks, origin="lower", extent=edges, cmap="Greys", vmin=0, vmax=2.6, interpolation="bilinear")
    for orbit in orbits(fine):
        axes.plot(*orbit, color=ORANGE, lw=1.0, dashes=(4, 2))
    coarse = np.linspace(-_REACH * 0.92, _REACH * 0.92, 14)
    points = np.stack(np.meshgrid(coarse, coarse), axis=-1).reshape(-1, 2)
    slopes = _slopes(loss, points)
    length = np.linalg.norm(slopes, axis=1, keepdims=True)
    # Lengths are compressed so that small gradients stay visible.
    drawn = slopes / np.maximum(length, 1e-12) * (length / (length + np.median(length)))
    axes.quiver(
        *points.T, *drawn.T, color=BLUE, angles="xy", scale_units="xy", scale=3.4, width=0.006,
        headwidth=3.6, headlength=4.2, headaxislength=3.8, minlength=0.4, zorder=3,
    )  # fmt: skip
    axes.set(xlim=(-_REACH, _REACH), ylim=(-_REACH, _REACH), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
    axes.set_xlabel("$\\theta_1$", labelpad=1)
    axes.set_ylabel("$\\theta_2$", labelpad=-4)
    axes.tick_params(labelsize=8, colors=FAINT)
    for side in axes.spines.values():
        side.set_color(FAINT)


def _lines(fine: NDArray[Any]) -> list[NDArray[Any]]:
    return [np.stack([fine, fine + shift]) for shift in np.linspace(-3, 3, 7)]


def _rays(fine: NDArray[Any]) -> list[NDArray[Any]]:
    radius = np.linspace(0.12, 3, 2)
    angles = np.linspace(0, 2 * math.pi, 12, endpoint=False) + math.pi / 12
    return [np.stack([radius * math.cos(angle), radius * math.sin(angle)]) for angle in angles]


def _hyperbolas(fine: NDArray[Any]) -> list[NDArray[Any]]:
    x = np.geomspace(0.05, 3, 120)
    return [np.stack([sign * x, side * level / x]) for level in (0.3, 1.0, 2.0) for sign in (1, -1) for side in (1, -1)]


def _sphere_surface() -> tuple[Any, Any, Any]:
    polar, around = np.meshgrid(np.linspace(0, math.pi, 25), np.linspace(0, 2 * math.pi, 41))
    return np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)


def _sphere_field(axes: Any) -> None:
    axes.computed_zorder = False
    axes.plot_surface(
        *_sphere_surface(), color="#e6eaee", alpha=0.9, linewidth=0.2, edgecolor="#cdd6dd", shade=False, zorder=1
    )
    count = 260
    index = np.arange(count) + 0.5
    # Heights in equal steps and turns by the golden ratio spread points evenly over a sphere (Fibonacci's lattice).
    polar, around = np.arccos(1 - 2 * index / count), math.pi * (1 + math.sqrt(5)) * index
    points = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)], axis=1)
    axes.view_init(elev=22, azim=40)
    eye = _direction(22, 40)
    # Arrows on the far side would show through.
    points = points[points @ eye > 0.12]
    slopes = _slopes(norm_neuron, points)
    length = np.linalg.norm(slopes, axis=1, keepdims=True)
    drawn = slopes / np.maximum(length, 1e-12) * (length / (length + np.median(length))) * 0.34
    lifted = points * 1.01
    axes.quiver(*lifted.T, *drawn.T, color=BLUE, lw=1.1, arrow_length_ratio=0.4, zorder=3)
    rays = points[:: max(1, len(points) // 9)]
    for ray in rays:
        axes.plot(*np.stack([ray * 1.02, ray * 1.3]).T, color=ORANGE, lw=1.0, zorder=4)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    _bare(axes, "", zoom=1.15)


def _direction(elevation: float, azimuth: float) -> NDArray[Any]:
    e, a = math.radians(elevation), math.radians(azimuth)
    return np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])


def _bare(axes: Any, title: str, zoom: float = 1.12) -> None:
    axes.set_title(title, fontsize=11, color=INK, y=0.98)
    axes.set_box_aspect((1, 1, 1), zoom=zoom)
    for axis, name in ((axes.xaxis, "1"), (axes.yaxis, "2"), (axes.zaxis, "3")):
        axis.set_ticks([])
        axis.set_pane_color((1, 1, 1, 0))
        axis.line.set_color(FAINT)
        axis.set_rotate_label(False)
        axis.set_label_text(f"$\\theta_{name}$", rotation=0)
        axis.labelpad = -12
    axes.grid(visible=False)


def _plane_surface() -> tuple[Any, Any, Any]:
    u, v = np.meshgrid(np.linspace(-2.4, 2.4, 13), np.linspace(-2.4, 2.4, 13))
    # An orthonormal basis of the plane Σθ = 0.
    first, second = np.array([1, -1, 0]) / math.sqrt(2), np.array([1, 1, -2]) / math.sqrt(6)
    return tuple(first[i] * u + second[i] * v for i in range(3))


def _plane_starts() -> list[list[float]]:
    found = []
    for angle in np.linspace(0, 2 * math.pi, 7, endpoint=False):
        u, v = 2.2 * math.cos(angle), 2.2 * math.sin(angle)
        found.append([u / math.sqrt(2) + v / math.sqrt(6), -u / math.sqrt(2) + v / math.sqrt(6), -2 * v / math.sqrt(6)])
    return found


def _sphere_starts() -> list[list[float]]:
    angles = ((70, -80), (35, -75), (-10, -100), (-50, -50), (10, 60), (60, 50))
    return [list(_direction(elevation, azimuth)) for elevation, azimuth in angles]


def _hyperboloid_surface() -> tuple[Any, Any, Any]:
    height, around = np.meshgrid(np.linspace(-1.5, 1.5, 25), np.linspace(0, 2 * math.pi, 41))
    radius = np.sqrt(0.36 + height**2)
    return radius * np.cos(around), radius * np.sin(around), height


def _hyperboloid_starts() -> list[list[float]]:
    found = []
    for height, around in ((-1.3, -60), (-0.9, 200), (-0.2, -120), (0.2, 100), (1.3, 250), (1.2, -10), (0.9, 160)):
        radius = math.sqrt(0.36 + height**2)
        found.append([radius * math.cos(math.radians(around)), radius * math.sin(math.radians(around)), height])
    return found
