"""What a notebook shows of a run or a monitor: where it is, how far it came, what was said. No record is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from neuralmechanics.monitor.warning import Note
from neuralmechanics.symmetry import Symmetries

_MOST_NOTES = 5


def notebook_view(title: str, told: Mapping[str, str], symmetries: Symmetries, notes: Sequence[Note]) -> str:
    """A heading, a table of facts, the charges by kind, and the last things that the monitor said."""
    counts = ", ".join(f"{count} {kind}" for kind, count in symmetries.count().items())
    facts = {**told, "charges": counts, "families": f"{len(symmetries)}"}
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in facts.items())
    said = "".join(f"<li>{escape(note.message)}</li>" for note in notes[-_MOST_NOTES:])
    more = len(notes) - _MOST_NOTES
    left = f"<p>{more} earlier warnings: <code>warnings</code></p>" if more > 0 else ""
    warned = f"<ul>{said}</ul>" if said else ""
    return f"<p><b>{escape(title)}</b></p><table><tbody>{rows}</tbody></table>{left}{warned}"


def monitor_view(path: Path | str, steps: int, every: int, failure: Exception | None, symmetries: Symmetries) -> str:
    """The view of a monitor: where it writes, how far the training came, and its own failure if it failed."""
    told = {"path": str(path), "steps": f"{steps}", "a record every": f"{every} steps"}
    told |= {} if failure is None else {"failed": str(failure)}
    return notebook_view("Monitor", told, symmetries, ())
