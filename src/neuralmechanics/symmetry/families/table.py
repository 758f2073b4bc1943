"""The table that a reader of ``Symmetries`` sees, as text and as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from neuralmechanics.symmetry.families.name_summaries import common_form, summarised, templated

if TYPE_CHECKING:
    import pandas as pd

    from neuralmechanics.symmetry.families.family import Family
    from neuralmechanics.symmetry.families.symmetries import Symmetries

__all__ = ["frame", "html_table", "text_table"]

_COLUMNS = ("kind", "family", "charges", "exact", "parameters")
_WIDTH = 120
_WIDEST = {"family": 34, "charges": 16, "exact": 24}
_SPACE = 2


def frame(symmetries: Symmetries) -> pd.DataFrame:
    """One row a family, as ``Symmetries.to_frame`` describes it."""
    import pandas as pd

    rows = [
        {
            "kind": f.kind,
            "family": f.name,
            "charges": f.charges,
            "generators": f.size,
            "exact": f.exact,
            "broken_by": ", ".join(map(str, f.broken_by)),
            "parameters": ", ".join(f.parameters),
        }
        for f in symmetries.families
    ]
    columns = ["kind", "family", "charges", "generators", "exact", "broken_by", "parameters"]
    return pd.DataFrame(rows, columns=columns)


def text_table(symmetries: Symmetries, width: int = _WIDTH) -> str:
    """One row a family (layers that are alike share one), a total by kind, then what is unknown; ``width`` columns."""
    rows = [_COLUMNS, *_rows(symmetries)]
    widths = [min(max(len(row[k]) for row in rows), _WIDEST.get(name, width)) for k, name in enumerate(_COLUMNS[:-1])]
    widths.append(max(20, width - sum(widths) - _SPACE * len(widths)))
    lines = [line for row in rows for line in _wrapped(row, widths)]
    rest = [line for text in (_total(symmetries), *_remarks(symmetries)) for line in _folded(text, width, "  ")]
    return "\n".join([*lines, *rest])


def _wrapped(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """A row as lines: cells that are too wide go on below, indented."""
    cells = [_folded(cell, width, "  ") for cell, width in zip(row, widths, strict=True)]
    height = max(map(len, cells))
    padded = [[*cell, *[""] * (height - len(cell))] for cell in cells]
    return [
        (" " * _SPACE).join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in zip(*padded, strict=True)
    ]


def _folded(text: str, width: int, indent: str) -> list[str]:
    """Lines of at most ``width`` signs, broken at spaces, else after a dot of a long name."""
    lines = [""]
    # Not at a space within braces, which hold one name.
    for word in re.split(r"(?<= )(?![^{}]*})", text):
        pieces = [word] if len(word.rstrip()) + len(indent) <= width else re.split(r"(?<=[. ])", word)
        for piece in pieces:
            if lines[-1].strip() and len(lines[-1]) + len(piece.rstrip()) > width:
                lines.append(indent)
            lines[-1] += piece
    whole = [line.rstrip() for line in lines]
    return [line[k : k + width] for line in whole for k in range(0, max(1, len(line)), width)]


def html_table(symmetries: Symmetries) -> str:
    """The same as an HTML table, every text escaped."""
    head = "".join(f"<th>{escape(c)}</th>" for c in _COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in _rows(symmetries))
    remarks = "".join(f"<p>{escape(text)}</p>" for text in (_total(symmetries), *_remarks(symmetries)))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{remarks}"


def _rows(symmetries: Symmetries) -> list[tuple[str, ...]]:
    """Families that differ by the numbers of their layers alone are one row."""
    groups: dict[object, list[Family]] = {}
    for family in symmetries.families:
        groups.setdefault(_form(family), []).append(family)
    return [_row(families) for families in groups.values()]


def _form(family: Family) -> object:
    breakings = tuple(sorted({templated(str(b))[0] for b in family.broken_by}))
    return (
        family.kind, templated(family.name)[0], family.charges, family.size, breakings,
        tuple(sorted({templated(name)[0] for name in family.action.described})),
    )  # fmt: skip


def _row(families: Sequence[Family]) -> tuple[str, ...]:
    first, times = families[0], f"{len(families)} × " if len(families) > 1 else ""
    count = str(first.charges or f"{first.size} constraints")
    return (
        first.kind,
        common_form([f.name for f in families]).removeprefix(f"{first.kind}: "),
        times + count,
        "yes" if first.exact else "broken by " + _constants(families),
        ", ".join(summarised(name for f in families for name in f.action.described)),
    )


def _constants(families: Sequence[Family]) -> str:
    """What breaks the families, each constant with all its places."""
    forms: dict[str, list[str]] = {}
    for text in dict.fromkeys(str(b) for f in families for b in f.broken_by):
        forms.setdefault(templated(text)[0], []).append(text)
    return ", ".join(common_form(texts) for texts in forms.values())


def _total(symmetries: Symmetries) -> str:
    return "total: " + ", ".join(f"{n} {kind}" for kind, n in symmetries.count().items())


def _remarks(symmetries: Symmetries) -> list[str]:
    unknown = [operation.explained() for operation in symmetries.unknown]
    return [*unknown, *symmetries.notes]
