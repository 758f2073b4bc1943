"""Fig. 5: every kind of charge, measured and predicted, for every weight decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from neuralmechanics.experiments.paper import SHOWN_FAMILIES
from neuralmechanics.report.figures.law_curves import draw_family, legend_handles
from neuralmechanics.report.palette import in_reading_order, tidy
from neuralmechanics.report.paper.panels import (
    KINDS,
    blank,
    clear_inner_labels,
    family_for,
    grid,
    kind_label,
    note_errors,
    run_with,
)
from neuralmechanics.report.paper.settings import distinct, error_table, label, matching
from neuralmechanics.report.source import laws, of_family

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from neuralmechanics.report.source import RunLike


def fig5(runs: Sequence[RunLike], families: Mapping[str, Sequence[str]] | None = None) -> tuple[Figure, pd.DataFrame]:
    """Rows translation, scale, rescale; columns weight decay λ, rising; measured charges under every law.

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
            drawn += laws(run.data)
            draw_family(axes, of_family(run.data, family), in_reading_order(laws(run.data)), charges=4)
            title = f"{label(run, 'weight_decay')}: {label(run, 'model')}" if row == 0 else label(run, "model")
            tidy(axes, title=title, xlabel="step", ylabel=kind_label(kind))
            note_errors(axes, [(run, family)], in_reading_order(laws(run.data)))
    clear_inner_labels(panels)
    handles = legend_handles(in_reading_order(list(dict.fromkeys(drawn))))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure, errors
