"""The table of errors by family and law, as texts with a shade, each law with whether it claims to hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuralmechanics.report.scores import claims_to_hold
from neuralmechanics.report.source import RunLike
from neuralmechanics.report.tables import errors_by_law, heading, number


@dataclass(frozen=True)
class Law:
    """A column: the law's name in the data, in words, and whether it claims to hold at the steps of a training."""

    name: str
    heading: str
    claims: bool


@dataclass(frozen=True)
class Cell:
    """One error of the table: largest, root mean square, and how dark to draw it (0 to 4)."""

    law: Law
    largest: str
    typical: str
    decade: int


@dataclass(frozen=True)
class Row:
    """The errors of a family, or of all charges of a kind."""

    family: str
    kind: str
    layer: str
    charges: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class LawTable:
    """Columns and rows, the sums over kinds first."""

    laws: tuple[Law, ...]
    rows: tuple[Row, ...]


def all_errors(run: RunLike) -> pd.DataFrame:
    """The errors of every family, and those of all families of a kind together under the name "all"."""
    kinds = run.errors(by="kind")
    kinds.insert(0, "family", "all")
    return pd.concat([run.errors(), kinds], ignore_index=True) if len(kinds) else run.errors()


def law_table(errors: pd.DataFrame, layer_of: Mapping[str, str]) -> LawTable | None:
    """The table of ``all_errors``; None where no law was followed."""
    if not len(errors):
        return None
    largest, typical = errors_by_law(errors), errors_by_law(errors, "rms_error")
    laws = tuple(Law(str(n), heading(n), claims_to_hold(str(n))) for n in largest.columns[3:])
    rows = []
    for row, other in zip(
        largest.itertuples(index=False, name=None), typical.itertuples(index=False, name=None), strict=True
    ):
        cells = tuple(_cell(law, a, b) for law, a, b in zip(laws, row[3:], other[3:], strict=True))
        rows.append(Row(str(row[0]), str(row[1]), layer_of.get(str(row[0]), ""), int(row[2]), cells))
    rows.sort(key=lambda row: row.family != "all")
    return LawTable(laws, tuple(rows))


def _cell(law: Law, largest: float, typical: float) -> Cell:
    # One shade for every two decades from 1e-6 on.
    decades = np.log10(np.clip(np.nan_to_num(largest, nan=0.0), 1e-30, 1e30))
    shade = int(np.clip(np.floor((decades + 8) / 2), 0, 4))
    return Cell(law, number(float(largest)), number(float(typical)), shade)
