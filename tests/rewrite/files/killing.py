"""A rewrite that is killed, in a process of its own: ``python killing.py FOLDER points`` or ``… times SEED COUNT``.

Each child rewrites the same checkpoint and dies by SIGKILL: at a named point, or after a part of the time that a whole
rewrite takes. Printed is one line of JSON for each: what was left at the target, "absent", "whole" or what is wrong.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.rewrite.files.checkpoints import digests, on_meta, save_shards
from torch import nn

from neuralmechanics.files.scratch import scratch_beside
from neuralmechanics.rewrite.files import rewrite_checkpoint
from neuralmechanics.rewrite.plan import Factor, Fill, Multiply, Place, Plan

POINTS = (
    "wrote 0.weight",
    "closed model-00002",
    "wrote model.safetensors.index.json",
    "copied config.json",
    "published",
)


def rewriting(folder: Path) -> Callable[[Path, Callable[[str], None]], None]:
    """A checkpoint on disk, and what rewrites it to a target."""
    model = nn.Sequential(nn.Embedding(900, 64), nn.LayerNorm(64), nn.Linear(64, 900))
    source = save_shards(folder / "in", model.state_dict())
    hollow = on_meta(model)
    gain = Factor.of("1.weight", 64)
    plan = Plan((Multiply("2.weight", Place.whole(1, 64), gain), Fill("1.weight", 1.0), Fill("1.bias", 0.0)))
    return lambda target, tell: rewrite_checkpoint(source, target, plan, hollow, progress=tell) and None


def child(work: Callable[[], None]) -> int:
    """The process that does it; a child that fails otherwise than by a kill ends with status 3."""
    started = os.fork()
    if started:
        return started
    status = 3
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def left_at(target: Path, expected: dict[str, str]) -> str:
    if not target.exists():
        return "absent"
    found = digests(target)
    return "whole" if found == expected else f"{len(found)} files, not those of a whole rewrite"


def at_point(point: str) -> Callable[[str], None]:
    def tell(event: str) -> None:
        if event.startswith(point):
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def main(folder: Path, how: str, *rest: str) -> None:
    rewrite = rewriting(folder)
    started = time.monotonic()
    rewrite(folder / "whole", lambda _: None)
    length = time.monotonic() - started
    expected, before = digests(folder / "whole"), digests(folder / "in")
    draw = random.Random(int(rest[0]) if rest else 0)
    for number, point in enumerate(POINTS if how == "points" else [""] * int(rest[1])):
        target = folder / f"out{number}"
        process = child(lambda: rewrite(target, at_point(point) if point else lambda _: None))  # noqa: B023
        if not point:
            time.sleep(draw.random() * 1.2 * length)
            os.kill(process, signal.SIGKILL)  # not yet waited for: it is this child, ended or not
        _, status = os.waitpid(process, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        ended = "killed" if killed else f"status {os.waitstatus_to_exitcode(status)}"
        print(json.dumps({"point": point, "ended": ended, "left": left_at(target, expected)}))
    living = folder / "living"
    with scratch_beside(living) as kept:
        rewrite(folder / "after", lambda _: None)
        beside = [path.name for path in folder.glob(".*") if path != kept]
        assert kept.is_dir(), "the folder of a writer that lives was removed"
    print(json.dumps({"point": "none", "ended": "status 0", "left": left_at(folder / "after", expected)}))
    assert beside == [], f"left beside the targets by killed writers: {beside}"
    assert digests(folder / "in") == before


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
