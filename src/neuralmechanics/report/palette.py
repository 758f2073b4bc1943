"""One look for every picture: Okabe and Ito's colours, one colour and dash a law, axes without clutter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

# Okabe and Ito, "Color Universal Design" (2008): told apart with every common colour vision.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, VERMILLION, PURPLE = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
OKABE_ITO = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, BLACK, YELLOW)
MEASURED = "#b8b8b8"
INK, FAINT = "#222222", "#8a8a8a"
# Told apart without colour, in plotly's notation.
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "6px,2px,2px,2px,2px,2px", "12px,3px")


@dataclass(frozen=True)
class LawStyle:
    """How one law is drawn everywhere: words, colour, dash in matplotlib's and in plotly's notation."""

    label: str
    colour: str
    dash: tuple[float, tuple[float, ...]] | Literal["-", ":"]
    plotly_dash: str


LAW_STYLES = {
    "exact": LawStyle("exact", BLUE, "-", "solid"),
    "identity": LawStyle("identity (exact + residual)", SKY, (0, (1, 1)), "dot"),
    "modified_flow": LawStyle("modified flow", VERMILLION, (0, (6, 2)), "dash"),
    "modified_loss": LawStyle("modified loss", ORANGE, (0, (4, 1, 1, 1)), "dashdot"),
    "first_order": LawStyle("first order", GREEN, (0, (3, 1, 1, 1, 1, 1)), "longdashdot"),
    "gradient_flow": LawStyle("gradient flow", PURPLE, (0, (2, 2)), "longdash"),
}
KIND_LABELS = {
    "translation": "translation: sums",
    "scale": "scale: squared norms",
    "rescale": "rescale: differences of squared norms",
    "linear": "linear: charge matrices",
}


AXIS_LABELS = {
    "translation": "sum of weights",
    "scale": "squared norm",
    "rescale": "difference of squared norms",
    "linear": "entry of the charge matrix",
}


def colours(count: int) -> list[str]:
    """As many colours as are asked for: Okabe and Ito's, or where they do not suffice a scale from dark to light.

    >>> colours(2), len(set(colours(30)))
    (['#0072b2', '#e69f00'], 30)
    """
    if count <= len(OKABE_ITO):
        return list(OKABE_ITO[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # Its last tenth is too light for lines on white.
    return [to_hex(colormaps["viridis"](0.9 * position / (count - 1))) for position in range(count)]


def law_styles(laws: Sequence[str]) -> dict[str, LawStyle]:
    """A style for every law: the usual ones by name, further laws by their place in the palette."""
    unknown = [law for law in laws if law not in LAW_STYLES]
    extra = {
        law: LawStyle(law.replace("_", " "), OKABE_ITO[-(1 + k) % len(OKABE_ITO)], ":", "dot")
        for k, law in enumerate(unknown)
    }
    return {law: LAW_STYLES.get(law) or extra[law] for law in laws}


def in_reading_order(laws: Sequence[str]) -> list[str]:
    """Laws from the most to the least exact, further ones last: the order of every table and legend."""
    known = [law for law in LAW_STYLES if law in laws]
    return known + [law for law in laws if law not in LAW_STYLES]


def literal(text: object) -> str:
    """Text that matplotlib draws as it stands: a dollar sign would start mathematics."""
    return str(text).replace("$", r"\$")


def shortened(text: object, length: int = 44) -> str:
    """At most ``length`` characters, the middle left out: both ends of a parameter's name carry meaning."""
    whole = str(text)
    if len(whole) <= length:
        return whole
    head = (length - 1) // 2
    return f"{whole[:head]}…{whole[len(whole) - (length - 1 - head) :]}"


def tidy(axes: Axes, *, title: str = "", xlabel: str = "", ylabel: str = "") -> None:
    """Open frame, faint horizontal grid, small type; names are drawn literally."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=3, color=FAINT)
    axes.xaxis.get_offset_text().set_fontsize(7)
    axes.yaxis.get_offset_text().set_fontsize(7)
    axes.set_title(literal(title), fontsize=9.5, color=INK, loc="left")
    axes.set_xlabel(literal(xlabel), fontsize=8.5, color=INK)
    axes.set_ylabel(literal(ylabel), fontsize=8.5, color=INK)


def frame(axes: Axes, values: Sequence[NDArray[np.float64]]) -> None:
    """Vertical limits around all of ``values``: at least 4 % of their size, so that rounding is not drawn as motion."""
    low, high = padded(values)
    axes.set_ylim(low, high)
    axes.margins(x=0)


def padded(values: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """The finite range of ``values`` and some room on both sides."""
    finite = np.concatenate([np.ravel(value)[np.isfinite(np.ravel(value))] for value in values] or [np.zeros(1)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    size = max(abs(low), abs(high)) or 1.0
    # At least 2 % of the size on each side: a conserved charge is a straight line.
    pad = max(0.08 * (high - low), 0.02 * size)
    return low - pad, high + pad
