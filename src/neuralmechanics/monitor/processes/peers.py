"""The processes that hold one model, connected apart from the training's own groups and with bounded patience."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore

# Longer than processes of one step are apart, shorter than anybody waits for a training that hangs.
PATIENCE = timedelta(minutes=5)


class Peers:
    """Sums, maxima and decisions on the host. A process that has ended or left is an error in the others at once.

    Not one of `torch.distributed`'s own groups: those wait as long as the training was told to, need every process of
    the training to be made, and reuse the names, and so the old addresses, of groups that were closed.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self._place = list(ranks).index(dist.get_rank())
        self._ranks = list(ranks)
        self._group: Any = None

    @property
    def connected(self) -> bool:
        """Whether the others are there, as far as this process knows."""
        return self._group is not None

    def connect(self) -> None:
        """Find the others; all have to come here, as often as each other."""
        if self._group is not None:
            return
        store = dist.distributed_c10d._get_default_store()
        name = f"neuralmechanics/{'-'.join(map(str, self._ranks))}"
        turn = store.add(f"{name}/{self._place}", 1)
        apart = PrefixStore(f"{name}/turn {turn}", store)
        self._group = dist.ProcessGroupGloo(apart, self._place, len(self._ranks), timeout=PATIENCE)

    def leave(self) -> None:
        """Close the connections, at which the others notice."""
        self._group = None

    def sums(self, message: Tensor) -> Tensor:
        """Entry by entry."""
        return self._reduced(message, dist.ReduceOp.SUM)

    def maxima(self, message: Tensor) -> Tensor:
        """Entry by entry."""
        return self._reduced(message, dist.ReduceOp.MAX)

    def told(self, content: Any, by: int) -> Any:
        """What process `by` says: numbers, texts and tensors alone."""
        source = self._ranks.index(by)
        buffer = io.BytesIO()
        if self._place == source:
            torch.save(content, buffer)
        size = self._heard(torch.tensor([buffer.getbuffer().nbytes]), source)
        said = torch.zeros(int(size), dtype=torch.uint8)
        if self._place == source:
            said.copy_(torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8))
        return torch.load(io.BytesIO(self._heard(said, source).numpy().tobytes()), weights_only=True)

    def _reduced(self, message: Tensor, operation: Any) -> Tensor:
        options = dist.AllreduceOptions()
        options.reduceOp = operation
        self._entered().allreduce([message], options).wait()
        return message

    def _heard(self, message: Tensor, source: int) -> Tensor:
        options = dist.BroadcastOptions()
        options.rootRank, options.rootTensor = source, 0
        self._entered().broadcast([message], options).wait()
        return message

    def _entered(self) -> Any:
        if self._group is None:
            raise RuntimeError("this process has left the others: no record can be put together any more")
        return self._group
