"""Tables for the terminal and the page: errors by family and law, symmetries found, one value a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from neuralmechanics.report.palette import LAW_STYLES, in_reading_order

_NAMED = 3

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.table import Table


def errors_by_law(errors: pd.DataFrame, value: str = "max_error") -> pd.DataFrame:
    """The table of ``run.errors()`` with one row a family (or kind) and one column a law, in reading order.

    ``value`` is ``max_error`` or ``rms_error``.
    """
    if value not in errors:
        raise ValueError(f"the table of errors has no column {value!r}; it has: {', '.join(map(str, errors.columns))}")
    # A law without a row in a family holds for none of its charges: an empty cell.
    named = [column for column in ("family", "kind") if column in errors]
    wide = errors.pivot(index=named, columns="law", values=value)
    # A law may speak of fewer charges than its family has: the count is that of the family.
    charges = errors.groupby(named, sort=False)["charges"].max()
    wide = wide.reindex(charges.index)[in_reading_order([str(law) for law in wide.columns])]
    wide.insert(0, "charges", charges)
    return wide.rename_axis(columns=None).reset_index()


def nonfinite_remark(errors: pd.DataFrame) -> str | None:
    """Which charges of ``run.errors()`` were not finite, and from which step on; None where all were."""
    if "nonfinite_step" not in errors or errors["nonfinite_step"].isna().all():
        return None
    lost = errors.loc[errors["nonfinite_step"].notna(), ["family", "nonfinite_step"]]
    first = lost.groupby("family", sort=False)["nonfinite_step"].min().sort_values(kind="stable")
    named = ", ".join(f"{family} from step {step}" for family, step in first.head(_NAMED).items())
    more = f", and {len(first) - _NAMED} more families" if len(first) > _NAMED else ""
    return f"Measured as nan or infinite, so that every error is infinite: {named}{more}."


def symmetries_found(symmetries: Iterable[Any]) -> pd.DataFrame:
    """One row a family: kind, family, charges, whether it is exact and what breaks it, the parameters it moves."""
    rows = [
        {
            "kind": family.kind,
            "family": family.name,
            "charges": family.charges or f"{family.size} constraints",
            "exact": "yes" if family.exact else "broken by " + ", ".join(map(str, family.broken_by)),
            "parameters": ", ".join(getattr(family, "parameters", ())),
        }
        for family in symmetries
    ]
    return pd.DataFrame(rows, columns=["kind", "family", "charges", "exact", "parameters"])


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A nested configuration as dotted names and texts, in its own order."""
    if is_dataclass(values) and not isinstance(values, type):
        values = asdict(values)
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flat(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list) and any(isinstance(value, Mapping) for value in values):
        for position, value in enumerate(values):
            yield from flat(value, f"{prefix}.{position}")
    elif prefix:
        yield prefix, ", ".join(map(str, values)) if isinstance(values, list | tuple) else str(values)


def number(value: object) -> str:
    """A cell's text: three digits for a real number, the text itself for anything else, a dash for nothing."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.2e}" if value else "0"
    return str(value)


def heading(column: object) -> str:
    """A column's title: laws in words."""
    style = LAW_STYLES.get(str(column))
    return style.label.split(" (")[0] if style else str(column).replace("_", " ")


def text_table(frame: pd.DataFrame, columns: Sequence[str] | None = None) -> str:
    """A frame as aligned plain text: texts to the left, numbers to the right."""
    names = list(columns or map(str, frame.columns))
    rows = [[number(value) for value in row] for row in frame[names].itertuples(index=False, name=None)]
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) for name in names]
    heads = [heading(name) for name in names]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["─" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in lines
    )


def rich_table(frame: pd.DataFrame, title: str = "") -> Table:
    """The same for a rich console. Names are texts, never markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, header_style="bold", title_justify="left")
    for name in frame.columns:
        right = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(Text(heading(name)), justify="right" if right else "left", overflow="fold")
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*(Text(number(value)) for value in row))
    return table
