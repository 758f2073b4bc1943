"""Torture: the whole of it, bounded to a quarter of an hour, with a table of what was tried and what was lost.

`make torture` runs it. An assertion ends it; what the table shows has held.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tests.durability import damage, disk, faults, kills, readers, training, writers
from tests.durability.process import Forge

from neuralmechanics.experiments.data import Position
from neuralmechanics.experiments.training.checkpoints import load_checkpoint, save_checkpoint

# Beyond this the rest of a row is left out, and the table says so.
SECONDS = 15 * 60


class Table:
    """One row for each kind of torture: how many were tried, and what came of them."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.rows: list[tuple[str, str, str]] = []

    @property
    def over(self) -> bool:
        return time.monotonic() - self._began > SECONDS

    def add(self, what: str, tried: object, outcome: str) -> None:
        self.rows.append((what, str(tried), outcome))
        print(f"{time.monotonic() - self._began:6.0f} s  {what}: {tried}; {outcome}", flush=True)

    def bounded(self, found: Iterator[object]) -> Iterator[object]:
        for one in found:
            yield one
            if self.over:
                return

    def markdown(self) -> str:
        head = ["| what is done to a run | times | what came of it |", "|---|---|---|"]
        return "\n".join([*head, *(f"| {what} | {tried} | {outcome} |" for what, tried, outcome in self.rows)])


@contextmanager
def _scratch() -> Iterator[Path]:
    # In memory where there is such a place: a kill leaves what the system was given, and fsync would only cost time.
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _kill(table: Table, forge: Forge, folder: Path) -> None:
    found = [place for place in kills.points(folder, 16) if "dry" not in place[0]]
    done = kills.counted(table.bounded(kills.kill_at_points(forge, folder, found, 16)))
    outcome = "every acknowledged record there, none false, the run goes on"
    table.add(f"SIGKILL before and after {len(dict(found))} named points of publication", done, outcome)
    for how, times in ((signal.SIGKILL, 220), (signal.SIGINT, 210), (signal.SIGTERM, 210)):
        count = kills.counted(table.bounded(kills.random_signals(forge, folder, how, times, seed=1)))
        outcome = "nothing acknowledged lost, no record of half a step"
        table.add(f"{signal.Signals(how).name} at random moments of a training", count, outcome)


def _fail(table: Table, folder: Path) -> None:
    outcome = "training the same to the last bit, every record there at the end"
    for kind in faults.KINDS:
        done = kills.counted(table.bounded(disk.single_errors(folder, kind, error=5)))
        table.add(f"the n-th `{kind}` fails, n = 1, 2, … until none is left", done, outcome)
    done = kills.counted(table.bounded(disk.single_errors(folder, "write", length=9)))
    table.add(
        "full disk: nine writes in a row fail, from each place on", done, "training the same; nothing acknowledged lost"
    )


def _damage(table: Table, folder: Path) -> None:
    run = damage.make_run(folder / "run")
    for path, read in damage.readers(run).items():
        refused, harmless = damage.flips(path, read)
        outcome = f"{refused} refused, {harmless} read as before, 0 as something else"
        table.add(f"every bit of a `{path.name.split('-0')[0]}`", refused + harmless, outcome)
        table.add(
            f"every truncation of it ({path.stat().st_size} bytes)", damage.truncations(path, read), "all refused"
        )
    deleted = list(damage.deletions(run))
    table.add(
        "every file, and every segment, deleted", len(deleted), "each named; what is left is read, none of it false"
    )


def _share(table: Table, forge: Forge, folder: Path) -> None:
    came = Counter(writers.interleavings(folder))
    outcome = ", ".join(f"{count} {who}" for who, count in came.items()) + "; no record lost"
    table.add("a second writer at every call of the first", came.total(), outcome)
    table.add(
        "reads beside a writer that merges", readers.beside_a_writer(forge, folder / "live", 2000), "0 false alarms"
    )


def _checkpoints(table: Table, folder: Path) -> None:
    model, _, _ = training.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    path = save_checkpoint(folder, model, optimizer, Position(3))
    whole, chance, refused = path.read_bytes(), random.Random(1), 0
    for _ in range(300):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            load_checkpoint(path, model, optimizer)
        except ValueError:
            refused += 1
    assert refused == 300
    table.add("flipped bits of a checkpoint", 300, "300 refused")


def main() -> int:
    """Run everything and print the table."""
    torch.set_num_threads(1)
    table, forge = Table(), Forge()
    parts: list[Callable[[Path], None]] = [
        lambda folder: _checkpoints(table, folder),
        lambda folder: _damage(table, folder),
        lambda folder: _share(table, forge, folder),
        lambda folder: _fail(table, folder),
        lambda folder: _kill(table, forge, folder),
    ]
    try:
        for part in parts:
            with _scratch() as folder:
                part(folder)
    finally:
        forge.close()
    print("\n" + table.markdown())
    if table.over:
        print(f"\nended after {SECONDS} s; what is missing was not tried", file=sys.stderr)
    return int(table.over)


if __name__ == "__main__":
    sys.exit(main())
