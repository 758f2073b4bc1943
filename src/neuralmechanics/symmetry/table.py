"""The table that a reader of ``Symmetries`` sees, as text and as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuralmechanics.symmetry.symmetries import Symmetries

__all__ = ["html_table", "text_table"]

_COLUMNS = ("kind", "family", "charges", "exact", "parameters")


def text_table(symmetries: Symmetries) -> str:
    """One line a family, a total by kind, then what is unknown."""
    rows = [_COLUMNS, *_rows(symmetries)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, _total(symmetries), *_remarks(symmetries)])


def html_table(symmetries: Symmetries) -> str:
    """The same as an HTML table, every text escaped."""
    head = "".join(f"<th>{escape(c)}</th>" for c in _COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(symmetries))
    remarks = "".join(f"<p>{escape(text)}</p>" for text in (_total(symmetries), *_remarks(symmetries)))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"


def _rows(symmetries: Symmetries) -> list[tuple[str, ...]]:
    return [
        (
            f.kind,
            f.name,
            str(f.charges or f"{f.size} constraints"),
            "yes" if f.exact else "broken by " + ", ".join(map(str, f.broken_by)),
            ", ".join(f.parameters),
        )
        for f in symmetries.families
    ]


def _total(symmetries: Symmetries) -> str:
    return "total: " + ", ".join(f"{n} {kind}" for kind, n in symmetries.count().items())


def _remarks(symmetries: Symmetries) -> list[str]:
    unknown = [f"no rule for {operation}: nothing is claimed there" for operation in symmetries.unknown]
    return [*unknown, *symmetries.notes]
