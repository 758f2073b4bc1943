"""Real processes that train one model together through gloo, and what each of them has to say."""

from __future__ import annotations

import pickle
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from queue import Empty
from typing import Any

import torch
import torch.distributed as dist
from tests.children import loaded

# Seconds, longer than anything here takes on a busy machine; a process that waits for another waits longer still.
PATIENCE, FOR_EVER = 240, timedelta(hours=1)


def together(processes: int, work: Callable[..., Any], folder: Path, *given: Any, gone: int | None = None) -> list[Any]:
    """What `work(rank, *given)` gives in each of several processes; process `gone` may end without an answer.

    Raises what any of them raised, and AssertionError where one neither answers nor ends.
    """
    context = loaded()
    answers: Any = context.Queue()
    meeting = str(folder / "meeting")
    started = [
        context.Process(target=_process, args=(rank, processes, meeting, answers, work, given), daemon=True)
        for rank in range(processes)
    ]
    for process in started:
        process.start()
    try:
        out: dict[int, Any] = {}
        while len(out) < processes - (gone is not None):
            try:
                rank, failed, content = answers.get(timeout=PATIENCE)
            except Empty:
                raise AssertionError(f"no answer from {set(range(processes)) - set(out)}") from None
            assert not failed, f"process {rank}: {content}"
            out[rank] = pickle.loads(content)
        return [out.get(rank) for rank in range(processes)]
    finally:
        for process in started:
            process.join(timeout=20)
            if process.is_alive():
                process.kill()


def _process(rank: int, processes: int, meeting: str, answers: Any, work: Callable[..., Any], given: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")  # torch's advice
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=processes, timeout=FOR_EVER)
    try:
        answers.put((rank, False, pickle.dumps(work(rank, *given))))
    except BaseException:
        answers.put((rank, True, traceback.format_exc()))
        raise
    finally:
        dist.destroy_process_group()
