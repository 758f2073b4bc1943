"""Plants faults in a copy of the source, one at a time, and says which of them the tests catch, and by which test.

    python -m tests.faults                  all of them, a quarter of a minute of processor time each
    python -m tests.faults laws slices      those of some areas
    python -m tests.faults "the pole"       those whose name holds the words

A fault is caught when one of its tests fails: those that `make test` runs, in the order of the catalogue, up to the
first that fails. Exit status 1 where one is not. Nothing is written beside the copy, which lies in a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.fault import Fault
from tests.faults.planting import ROOT, Copy, place_of
from tests.faults.trying import Outcome, preload, tried


def main(words: Sequence[str]) -> int:
    """Every fault of the named areas, or whose name holds one of the words; all without any."""
    chosen = [f for f in FAULTS if not words or any(word == f.area or word in f.name for word in words)]
    preload()
    found: list[tuple[Fault, Outcome]] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy.of(ROOT / "src", Path(folder) / "src")
        for fault in chosen:
            with copy.planted(fault):
                outcome = tried(fault, copy.source)
            found.append((fault, outcome))
            print(f"{outcome.seconds:5.0f} s  {fault.area}: {fault.name}: {outcome.said}", flush=True)
    print(f"\n{table(found)}\n")
    caught = sum(outcome.caught for _, outcome in found)
    print(f"{caught} of {len(found)} caught")
    return 0 if caught == len(found) else 1


def table(found: Sequence[tuple[Fault, Outcome]]) -> str:
    """What was planted, where, and what came of it, as a table in Markdown."""
    rows = [(f"{f.area}: {f.name}", place_of(f, ROOT / "src"), outcome.said) for f, outcome in found]
    rows = [("fault", "where", "outcome"), ("---", "---", "---"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
