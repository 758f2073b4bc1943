"""A chart of the page as plain data for plotly: lines, bands, axes, and the choices that a reader has."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Spec = dict[str, Any]


class Block:
    """The numbers of all charts of a page, each array once; traces name them by their position.

    >>> block = Block()
    >>> block.add([0, 1, 2]), block.add([5, 6, 7]), block.add([0, 1, 2])
    (0, 1, 0)
    """

    def __init__(self) -> None:
        self.arrays: list[str] = []
        self._known: dict[bytes, int] = {}

    def add(self, values: ArrayLike) -> int:
        """The position of an array, in single precision, which is finer than a screen."""
        # As the page's script reads them: Float32Array, on little-endian machines.
        raw = np.asarray(values, dtype="<f4").tobytes()
        if raw not in self._known:
            self._known[raw] = len(self.arrays)
            self.arrays.append(base64.b64encode(raw).decode("ascii"))
        return self._known[raw]


@dataclass(frozen=True)
class Choice:
    """What one entry of a chart's menu draws: traces and layout, and the layer and kind that filters know it by."""

    spec: Spec
    layer: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Chart:
    """One place of the page: a title, a sentence, and a choice for each entry of its menu.

    A `linked` chart has no menu of its own: it shows the family that is chosen for the whole page.
    """

    name: str
    title: str
    text: str
    choice: str
    choices: Mapping[str, Choice]
    linked: bool = False

    def plain(self) -> dict[str, Any]:
        """What the page's script reads."""
        choices = [
            {"name": name, "layer": choice.layer, "kind": choice.kind, **choice.spec}
            for name, choice in self.choices.items()
        ]
        return {"choices": choices, "linked": self.linked}


def literal(text: object) -> str:
    """Text that plotly shows as it stands: plotly reads a subset of HTML in every label."""
    return html.escape(str(text), quote=False)


class Pen:
    """Draws traces over one axis of steps into a block."""

    def __init__(self, block: Block, steps: ArrayLike) -> None:
        self._block = block
        self._steps = block.add(steps)

    def line(self, y: ArrayLike, *, name: object, colour: str, **extra: Any) -> Spec:
        """One line; `extra` goes to plotly, with `width` and `dash` for the line, `layer`, `law`, `only` for filters.

        `only` is "single" or "band" for traces that one position of the page's switch shows.
        """
        # The line has keywords of its own in plotly, which read like those of the trace.
        pen = {"color": colour, "width": extra.pop("width", 1.5), "dash": extra.pop("dash", "solid")}
        keys: Spec = {key: extra.pop(key) for key in ("layer", "law", "only") if key in extra}
        trace = {"type": "scatter", "mode": "lines", "name": literal(name), "line": pen, **extra}
        return {"x": self._steps, "y": self._block.add(y), **keys, "trace": trace}

    def bands(self, values: NDArray[np.float64], *, name: str, colour: str, **keys: Any) -> list[Spec]:
        """The middle half, nine tenths and the median of [step, charge] at every step."""
        low, quarter, median, other, high = quantiles(values)
        group = {"legendgroup": keys.pop("legendgroup", literal(name)), **keys}
        edge = {"width": 0, "colour": colour, "hoverinfo": "skip", "showlegend": False, **group}
        traces = []
        for below, above, strength in ((low, high, 0.18), (quarter, other, 0.3)):
            traces.append(self.line(below, name="", **edge))
            filled = {"fill": "tonexty", "fillcolor": faded(colour, strength)}
            traces.append(self.line(above, name="", **edge, **filled))
        traces.append(self.line(median, name=name, colour=colour, width=3, **group))
        return traces


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 5, 25, 50, 75 and 95 % quantiles over the charges that are finite, [5, step]; nan where none is."""
    finite = np.where(np.isfinite(values), values, np.nan)
    known = ~np.isnan(finite).all(axis=1)
    out = np.full((5, len(values)), np.nan)
    if known.any():
        out[:, known] = np.nanquantile(finite[known], (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
    return out


def faded(colour: str, strength: float) -> str:
    """A colour as plotly takes it with its opacity.

    >>> faded("#0072b2", 0.5)
    'rgba(0,114,178,0.5)'
    """
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return f"rgba({red},{green},{blue},{strength})"


def spec(traces: Sequence[Spec], *, ylabel: str, logarithmic: bool = False) -> Spec:
    """A specification with the page's axes: steps to the right, a linear or logarithmic scale upwards."""
    axis = {"title": {"text": literal(ylabel)}, "gridcolor": "#e6e6e6", "zeroline": False, "automargin": True}
    if logarithmic:
        axis |= {"type": "log", "exponentformat": "power"}
    beside = {"title": {"text": "step"}, "showgrid": False, "zeroline": False, "ticks": "outside"}
    return {"traces": list(traces), "layout": {"xaxis": beside, "yaxis": axis}}
