"""How a model lies in the processes of its training, and where each of them records it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.monitor.following.tracker import LAWS, Maker
from neuralmechanics.monitor.processes.holding import sharded
from neuralmechanics.monitor.processes.portion import Portion, Whole
from neuralmechanics.monitor.processes.writing import SilentStore, Writer, guessed, rank, writes
from neuralmechanics.monitor.store.opening import open_store
from neuralmechanics.monitor.store.protocol import Store
from neuralmechanics.monitor.warning import Notes, announce
from neuralmechanics.symmetry import Symmetries


def choose_store(
    path: str | Path | None,
    content: Mapping[str, Any],
    writer: Writer,
    model: nn.Module,
    params: Mapping[str, Tensor],
    *,
    resume: bool | int,
) -> Store:
    """The store of the run in the process that writes it, in others one that writes nothing. Raises as `open_store`."""
    if path is None or writes(writer):
        return open_store(path, content, resume=resume)
    if guessed(writer, model, params):
        announce(
            f"process {rank()} writes nothing to {path}: process 0 writes the run of a model that all train; "
            'give writer=0 where that is so, writer="every" where each trains its own'
        )
    return SilentStore(path, resume=bool(resume))


def choose_portion(symmetries: Symmetries, params: Mapping[str, Tensor], writer: Writer, notes: Notes) -> Portion:
    """Shards where there are any, else all of the model."""
    if not any(map(sharded, params.values())):
        return Whole(symmetries)
    from neuralmechanics.monitor.processes.sharded import Sharded

    portion = Sharded(symmetries, params, None if writer == "every" else writer)
    if count := int(portion.cut.sum()):
        example = symmetries.labels[int(portion.cut.to(torch.uint8).argmax())]
        notes.tell(
            "cut",
            0,
            f"{count} charges (such as {example}) are products of channels that lie in different processes: they are "
            "measured at records, and no law is followed for them, which would need communication at every step",
        )
    return portion


def refuse_shards(laws: Mapping[str, Maker], params: Mapping[str, Tensor]) -> None:
    """ValueError for laws of one's own where processes hold shares of the charges: who knows whether they add up."""
    own = [name for name in laws if name not in LAWS]
    if own and any(map(sharded, params.values())):
        raise ValueError(f"the law {own[0]!r} needs whole charges, these parameters are sharded; leave the law out")
