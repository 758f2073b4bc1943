"""Every benchmark of the documentation's page: numbers as JSON, the page made of them. At most a quarter of an hour.

    python benchmarks/all.py                          # docs/about/benchmarks.json and docs/about/benchmarks.md
    python benchmarks/all.py --only searching --out . # one section, elsewhere
    python benchmarks/all.py --quick --out /tmp       # sizes that say nothing: whether all of it runs

Each section runs in a process of its own, one after another; what is compared runs in one process, in turns. Leave the
machine to it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conditions import conditions
from suite import SECTIONS
from suite.page import page

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def section(name: str, quick: bool) -> dict[str, Any]:
    """The numbers of one section, measured in this process."""
    module = importlib.import_module(f"suite.{name}")
    begun = time.perf_counter()
    rows = [asdict(row) for row in module.rows(quick)]
    return {"title": module.TITLE, "text": module.TEXT, "rows": rows, "seconds": round(time.perf_counter() - begun, 1)}


def in_its_own_process(name: str, quick: bool) -> dict[str, Any]:
    """The same in a new process: what one section has loaded or allocated changes nothing for the next."""
    command = [sys.executable, __file__, "--section", name, *(["--quick"] if quick else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs the sections and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "about", help="folder of both files")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="these sections alone")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        print(json.dumps(section(options.section, options.quick)))
        return
    found: dict[str, Any] = {
        "quick": options.quick,
        **conditions(),
        "sections": [],
    }
    for name in options.only:
        found["sections"].append(in_its_own_process(name, options.quick))
        print(f"{name:<20} {found['sections'][-1]['seconds']:>7.1f} s", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "benchmarks.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "benchmarks.md").write_text(page(found))
    print(options.out / "benchmarks.md")


if __name__ == "__main__":
    main()
