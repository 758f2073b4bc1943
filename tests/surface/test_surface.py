"""The public surface is what it was: a name that comes, goes or takes other arguments is a decision."""

from __future__ import annotations

import difflib
from pathlib import Path

from .names import surface


def test_the_public_surface_is_frozen() -> None:
    """If the change is meant, run `python -m tests.surface` and commit surface.txt with it."""
    written = Path(__file__).with_name("surface.txt").read_text().splitlines()
    changes = [line for line in difflib.unified_diff(written, surface(), lineterm="", n=0) if line[:1] in "+-"][2:]
    assert changes == [], "run `python -m tests.surface` if this is meant:\n" + "\n".join(changes)
