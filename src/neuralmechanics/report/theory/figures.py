"""The figures of the theory, by name: gradient fields, conserved surfaces, continuous models, measured orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES"]


def _fig2() -> Figure:
    """Gradient fields under translation, scale and rescale symmetry."""
    from neuralmechanics.report.theory.symmetry import gradient_fields

    return gradient_fields()


def _fig3() -> Figure:
    """The plane, sphere and hyperboloid that gradient flow never leaves."""
    from neuralmechanics.report.theory.symmetry import conserved_surfaces

    return conserved_surfaces()


def _fig4() -> Figure:
    """Descent on a quadratic against its continuous models, with momentum, and the spiral."""
    from neuralmechanics.report.theory.models import continuous_models

    return continuous_models()


def _orders() -> Figure:
    """Distance from descent against the learning rate, with measured slopes."""
    from neuralmechanics.report.theory.models import measured_orders

    return measured_orders()


FIGURES: dict[str, Callable[..., Figure]] = {"fig2": _fig2, "fig3": _fig3, "fig4": _fig4, "orders": _orders}
