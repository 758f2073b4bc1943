"""The page of what was measured on an accelerator, from the numbers that `measure.py` wrote there.

    python benchmarks/accelerators/page.py cost.json errors.json [forecast.json …]

The numbers go to docs/about/accelerators.json, the page beside it; no number on it is written by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs" / "about"
Row = dict[str, Any]
_HEAD = """# Measured on an accelerator

Made by `benchmarks/accelerators/page.py` from what `benchmarks/accelerators/measure.py` measured: no number on this
page is written by hand. {machine}.
The numbers as data: {{download}}`accelerators.json <accelerators.json>`.
"""
_COST = """
## What a monitor costs a step

VGG-16 at 64×64 pixels, 200 classes, batches of {batch}, records far apart. A step with a monitor and one without follow
each other in turns; the difference is the median over the turns, by the clock. A pass is one `torch._foreach_norm` over
the parameters. *Waits* counts how often the processor was made to wait for the device within five steps.
"""
_ERRORS = """
## How exactly the laws hold

VGG-16 with batch norm on {examples};
heavy ball with η = {learning_rate:g}, β = {momentum:g} and λ = {weight_decay:g}, {steps} steps of {batch} images.
{losses}

Errors are those of a charge over its size at the start, over {records} records: the largest, and in brackets the root
of the mean square. What the exact law leaves is the eps of the norms and the rounding of gradients, most in the first
layers. Gradient flow keeps the charges, which move by up to {moved:.0f} times their size.
"""


def page(found: Row) -> str:
    """The page as Markdown."""
    return _HEAD.format(machine=_machine(found["about"])) + _costs(found["cost"]) + _errors(found["errors"])


def _machine(about: Row) -> str:
    return f"The card is an {about['card']}, with torch {about['torch']} on Python {about['python']}"


def _costs(rows: Sequence[Row]) -> str:
    columns = (
        "network",
        "optimiser",
        "precision",
        "what is followed",
        "step",
        "monitor",
        "share",
        "a pass",
        "a record",
    )
    return _COST.format(batch=rows[0]["batch"]) + "\n" + _table((*columns, "waits"), map(_cost, rows))


def _cost(row: Row) -> list[str]:
    about = [str(row[name]) for name in ("model", "optimizer", "precision", "setting")]
    times = [f"{row[name]:.2f} ms" for name in ("step_ms", "monitor_ms", "pass_ms", "record_ms")]
    return [*about, *times[:2], f"{row['share']:.1%}", *times[2:], str(row["waits"])]


def _errors(found: Row) -> str:
    setting, rows = found["setting"], found["rows"]
    said = "; ".join(
        f"in {row['precision']} the loss fell from {row['losses'][0]:.2f} to {row['losses'][-1]:.2f}" for row in rows
    )
    moved = max(e["max_error"] or 0 for row in rows for e in row["errors"] if e["law"] == "gradient_flow")
    text = _ERRORS.format(
        **setting, losses=said[0].upper() + said[1:] + ".", records=len(rows[0]["losses"]), moved=moved
    )
    for row in rows:
        laws = list(dict.fromkeys(e["law"] for e in row["errors"]))
        families: dict[str, dict[str, Row]] = {}
        for each in row["errors"]:
            families.setdefault(each["family"], {})[each["law"]] = each
        lines = (
            (family, str(next(iter(of.values()))["charges"]), *(_pair(of.get(law)) for law in laws))
            for family, of in families.items()
        )
        text += f"\n### In {row['precision']}\n\n" + _table(("family", "charges", *laws), lines)
    return text


def _pair(error: Row | None) -> str:
    if error is None or error["max_error"] is None:
        return "—"
    return f"{error['max_error']:.1e} ({error['rms_error']:.0e})"


def _table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    head = [" | ".join(columns), " | ".join("---" for _ in columns)]
    return "".join(f"| {line} |\n" for line in (*head, *(" | ".join(line) for line in lines)))


def main() -> None:
    cost, errors = (json.loads(Path(name).read_text()) for name in sys.argv[1:3])
    found = {"about": cost["about"], "cost": cost["rows"], "errors": {k: errors[k] for k in ("setting", "rows")}}
    if errors["about"] != cost["about"]:
        raise SystemExit("the two were measured on different machines")
    (DOCS / "accelerators.json").write_text(json.dumps(found, indent=1) + "\n")
    (DOCS / "accelerators.md").write_text(page(found))


if __name__ == "__main__":
    main()
