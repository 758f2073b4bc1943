"""Fig. 5: every kind of charge, measured and predicted, for every weight decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.patches import Patch

from neuralmechanics.experiments.paper import SHOWN_FAMILIES
from neuralmechanics.report.figures.law_curves import legend_handles
from neuralmechanics.report.palette import MEASURED, in_reading_order, tidy
from neuralmechanics.report.paper.drawing.epochs import time_axis
from neuralmechanics.report.paper.drawing.law_marks import MARKS, draw_charges, drawn_laws, mark_handles
from neuralmechanics.report.paper.drawing.panels import (
    KINDS,
    blank,
    clear_inner_labels,
    family_for,
    grid,
    kind_label,
    legend_below,
    note_errors,
    run_with,
)
from neuralmechanics.report.paper.drawing.settings import distinct, error_table, label, matching
from neuralmechanics.report.source import laws, of_family

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    from neuralmechanics.report.source import RunLike

# The paper's own prediction in this figure: its equations 18 (translation), 19 (scale) and 20 (rescale).
FORMULA = {"first_order": "the paper's formula, eqs. 18-20 (first order)"}


def fig5(runs: Sequence[RunLike], families: Mapping[str, Sequence[str]] | None = None) -> tuple[Figure, pd.DataFrame]:
    """Rows translation, scale, rescale; columns weight decay λ, rising; measured charges under every law.

    All charges of a family are shown as quantile bands, three of them as lines; the paper's formula is dashed on these.
    ``families`` gives, for a kind, parts of family names to prefer, by default those that the paper shows (the last
    layer's columns, the filters of conv 2, conv 5 against conv 4); where none fits, the largest charges are shown.
    Source: Kunin et al., ICLR 2021, Fig. 5.
    """
    errors, preferred = error_table(runs), SHOWN_FAMILIES if families is None else families
    decays = distinct(runs, "weight_decay")
    figure, panels = grid(len(KINDS), len(decays))
    drawn: list[str] = []
    for column, decay in enumerate(decays):
        here = matching(runs, ("weight_decay",), decay)
        for row, kind in enumerate(KINDS):
            # The two networks share a column: each kind is shown on the one that has it.
            axes, run = panels[row, column], run_with(here, kind)
            if run is None:
                blank(axes, f"no {kind} charges")
                continue
            family = family_for(run, kind, preferred.get(kind, ()))
            drawn += drawn_laws(run.data)
            time, word = time_axis(run)
            draw_charges(axes, time, of_family(run.data, family), drawn_laws(run.data))
            title = f"{label(run, 'weight_decay')}: {label(run, 'model')}" if row == 0 else label(run, "model")
            tidy(axes, title=title, xlabel=word, ylabel=kind_label(kind))
            note_errors(axes, [(run, family)], in_reading_order(laws(run.data)))
    clear_inner_labels(panels)
    bands = Patch(color=MEASURED, alpha=0.4, label="all charges of the family")
    named = mark_handles(in_reading_order(list(dict.fromkeys(drawn))), MARKS, FORMULA)
    handles: list[Line2D | Patch] = [*legend_handles([]), bands, *named]
    legend_below(figure, handles)
    return figure, errors
