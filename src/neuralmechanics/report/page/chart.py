"""A chart of the page as plain data for plotly: lines, axes, and the choices that a reader can switch between."""

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


@dataclass(frozen=True)
class Chart:
    """One place of the page: a title, a sentence, and one plotly specification for each choice.

    ``shared`` traces belong to every choice. A trace names its steps by their position in ``steps``, so that they are
    sent once and not with every line.
    """

    name: str
    title: str
    text: str
    choice: str
    choices: Mapping[str, Spec]
    steps: Sequence[NDArray[np.float64]]
    shared: Sequence[Spec] = ()

    def plain(self) -> dict[str, Any]:
        """What the page's script reads."""
        steps = [packed(step) for step in self.steps]
        return {"choices": list(self.choices.values()), "shared": list(self.shared), "steps": steps}


def literal(text: object) -> str:
    """Text that plotly shows as it stands: plotly reads a subset of HTML in every label."""
    return html.escape(str(text), quote=False)


def packed(values: ArrayLike) -> dict[str, str]:
    """Numbers as plotly's typed arrays: single precision is finer than a screen."""
    return {"dtype": "f4", "bdata": base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode("ascii")}


def line(y: ArrayLike, *, name: object, colour: str, steps: int = 0, **extra: Any) -> Spec:
    """One line over ``steps``; ``extra`` goes to plotly, with ``width`` and ``dash`` taken for the line itself."""
    # The line has keywords of its own in plotly, which read like those of the trace.
    pen = {"color": colour, "width": extra.pop("width", 1.3), "dash": extra.pop("dash", "solid")}
    return {
        "type": "scatter",
        "mode": "lines",
        "steps": steps,
        "y": packed(y),
        "name": literal(name),
        "line": pen,
        **extra,
    }


def spec(traces: list[Spec], *, ylabel: str, logarithmic: bool = False, **layout: Any) -> Spec:
    """A specification with the page's axes: steps to the right, a linear or logarithmic scale upwards."""
    axis = {"title": {"text": literal(ylabel)}, "gridcolor": "#e6e6e6", "zeroline": False, "automargin": True}
    if logarithmic:
        axis |= {"type": "log", "exponentformat": "power", "dtick": 2}
    return {
        "data": traces,
        "layout": {
            "xaxis": {"title": {"text": "step"}, "showgrid": False, "zeroline": False, "ticks": "outside"},
            "yaxis": axis,
            **layout,
        },
    }
