"""The page of the documentation, made of the numbers alone; loads nothing else, so that a test can make it again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

INTRODUCTION = """# Benchmarks

Made by `make benchmarks`: no number on this page is written by hand. Times are processor seconds of one thread, the
least of several turns, unless it is said that they are by the clock. What stands beside a number is what one would do
otherwise, measured on the same machine, in turns; where the ratio is below 1, this library takes less.
"""
QUICK = "**Made with `--quick`: the sizes are too small for the numbers to say anything.**\n"


def page(found: Mapping[str, Any]) -> str:
    """The text of the page for the numbers of one run."""
    sections = map(_section, found["sections"])
    return "\n".join([INTRODUCTION, *([QUICK] if found["quick"] else []), _origin(found), *sections])


def _origin(found: Mapping[str, Any]) -> str:
    facts = {"date": found["date"], "revision": found["revision"], **found["machine"], **found["versions"]}
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    seconds = sum(section["seconds"] for section in found["sections"])
    note = (
        f"The whole run took {seconds / 60:.0f} minutes." if seconds >= 90 else f"The whole run took {seconds:.0f} s."
    )
    return (
        f"| | |\n|---|---|\n{lines}\n\n{note} The numbers as data: {{download}}`benchmarks.json <benchmarks.json>`.\n"
    )


def _section(section: Mapping[str, Any]) -> str:
    lines = "\n".join(map(_row, section["rows"]))
    head = "| what | size | measured | beside | ratio |\n|---|---|---|---|---|"
    return f"## {section['title']}\n\n{section['text']}\n\n{head}\n{lines}\n"


def _row(row: Mapping[str, Any]) -> str:
    value, other, unit = row["value"], row["other"], row["unit"]
    ratio = value / other if other else math.nan
    cells: Sequence[str] = (
        row["name"], row["size"], _with_unit(value, unit), f"{row['beside']}: {_with_unit(other, unit)}", number(ratio),
    )  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}" if unit in ("s", "ms", "MB") else number(value)


def number(value: float) -> str:
    """Three digits, as a person writes them.

    >>> number(0.01234), number(12345.6), number(3.2e-9), number(float("nan"))
    ('0.0123', '12,346', '3.2e-09', 'nan')
    """
    if not math.isfinite(value):
        return str(value)
    if value and (abs(value) < 1e-3 or abs(value) >= 1e7):
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
