"""`python -m tests.fuzzing [minutes] [reader …] [--seed N]`: each for so long, in processor time.

What fails is kept in the folder `found`.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from tests.fuzzing.coverage import Coverage
from tests.fuzzing.mutation import mutated
from tests.fuzzing.readers import Reader, all_readers

FOUND = Path(__file__).with_name("found")
SECONDS_EACH = 10.0
MEMORY = 1_500_000  # kB above what the seeds take


class Search:
    """Inputs that reached something new are changed again, most often the newest.

    A search that is not `guided` changes the seeds alone: its inputs depend on nothing that ran before it.
    """

    def __init__(self, reader: Reader, folder: Path, seed: int = 0, *, guided: bool = True) -> None:
        self._reader = reader
        self._folder = folder
        self._chance = random.Random(seed)
        self._coverage = Coverage()
        self._guided = guided
        self._corpus: list[tuple[str, bytes]] = []
        self.tried = 0
        self.failures: list[str] = []

    def run(self, seconds: float, *, inputs: int | None = None, first: bool = False) -> None:
        """Search until the time is over, so many inputs were tried, or until the first failure."""
        for name, content in self._reader.seeds.items():
            self._try(name, content)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        end = time.process_time() + seconds
        while time.process_time() < end and self.tried != inputs and not (first and self.failures):
            at = int(self._chance.expovariate(0.2)) % len(self._corpus)
            name, content = self._corpus[-1 - at] if self._chance.random() < 0.7 else self._chance.choice(self._corpus)
            others = [other for _, other in self._corpus[-20:]]
            changed = mutated(content, others, self._reader.words, self._chance)
            self._try(name, self._reader.repair(name, changed, self._chance))
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > peak + MEMORY:
                self._keep(name, content, "memory")
                return

    def summary(self) -> str:
        reached = len({place[:2] for place in self._coverage.places})
        return f"{self.tried} inputs, {reached} lines reached, {len(self._corpus)} kept, {len(self.failures)} failures"

    def _try(self, name: str, content: bytes) -> None:
        self.tried += 1
        where = Path(tempfile.mkdtemp(dir=self._folder))
        (where / Path(name).name).write_bytes(content)
        began = time.process_time()
        try:
            fresh = False
            if self._guided:
                fresh = self._coverage.new(lambda: self._reader.read(where, name))
            else:
                self._reader.read(where, name)
            if fresh or len(self._corpus) < len(self._reader.seeds):
                self._corpus.append((name, content))
            if time.process_time() - began > SECONDS_EACH:
                self._keep(name, content, "time")
        except Exception as error:  # noqa: BLE001 - whatever a reader raises that is not its own is what is searched
            self._keep(name, content, f"{type(error).__name__}: {error}")
        finally:
            shutil.rmtree(where, ignore_errors=True)

    def _keep(self, name: str, content: bytes, why: str) -> None:
        key = f"{why[:60]}"
        if key in self.failures:
            return
        self.failures.append(key)
        folder = FOUND / self._reader.name / name.replace("/", "+")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{len(list(folder.iterdir())):03d}"
        path.write_bytes(content)
        print(f"  {self._reader.name} {name}: {why[:300]}\n    kept as {path}", flush=True)


def main() -> int:
    """Search each reader and print what came of it."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("readers", nargs="*")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs: two processes search different ones")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    os.environ["NEURALMECHANICS_CACHE"] = str(folder / "cache")
    failures = 0
    try:
        for name, reader in all_readers(folder).items():
            if given.readers and name not in given.readers:
                continue
            search = Search(reader, folder, given.seed)
            search.run(60 * given.minutes)
            failures += len(search.failures)
            print(f"{name}: {search.summary()}", flush=True)
            shutil.rmtree(folder / "cache", ignore_errors=True)
    finally:
        shutil.rmtree(folder)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
