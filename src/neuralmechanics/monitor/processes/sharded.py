"""A process that holds shards of a model: its sums are added up with those of the others, through their own group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.monitor.processes.holding import Holding, holding, ranks_of
from neuralmechanics.monitor.processes.local_charges import local_charges, parameters_of, size_of_sums
from neuralmechanics.monitor.processes.peers import Peers
from neuralmechanics.monitor.processes.portion import Answer, ChargeSums, Energies, joined
from neuralmechanics.optimizers import dense
from neuralmechanics.symmetry import Symmetries


class Sharded:
    """Charges of DTensors (FSDP2, tensor parallel, both) by partial sums; records alone are communicated.

    A process that ended, or whose monitor failed, is an error in the others at their next record and never a wait
    without end.
    """

    def __init__(self, symmetries: Symmetries, params: Mapping[str, Tensor], writer: int | None = None) -> None:
        self._ranks = sorted(set().union(*(ranks_of(p) for p in params.values())))
        self._writer = self._ranks[0] if writer is None else writer
        if self._writer not in self._ranks:
            raise ValueError(f"writer={writer}: the model lies in the processes {self._ranks}; give one of them")
        self._symmetries = symmetries
        self._params = dict(params)
        self._holdings = {name: holding(name, p, len(self._ranks)) for name, p in params.items()}
        self._local = local_charges(symmetries, params, self._holdings)
        self.cut = torch.from_numpy(self._local.cut)
        self._whole_names = parameters_of(symmetries, self._local.cut)
        self._peers = Peers(self._ranks)

    @property
    def shares(self) -> ChargeSums:
        """The charges over what is held here."""
        return self._local

    @property
    def first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return bool(dist.get_rank() == self._writer)

    @property
    def whole(self) -> bool:
        """Whether all processes are still there, as far as this one knows."""
        return self._peers.connected

    def begin(self) -> None:
        """Find the other processes; all of them have to come here."""
        self._peers.connect()

    def leave(self) -> None:
        """Let go of them, at which they notice."""
        self._peers.leave()

    def total(self, *shares: Tensor) -> tuple[Tensor, ...]:
        """The sums of what all measured, in one message."""
        return _parted(self._peers.sums(joined(shares)), shares)

    def charges(self, share: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """The sums of the shares; charges that are cut from whole tensors."""
        if not bool(self.cut.any()):
            return share
        whole = self._symmetries.charge(self._gathered(values))
        return torch.where(self.cut.to(share.device), whole.to(share.device), share)

    def largest(self, value: Tensor) -> Tensor:
        """The largest of what all measured."""
        return _parted(self._peers.maxima(joined((value,))), (value,))[0]

    def sizes(
        self, values: Mapping[str, Tensor], *, energies: Energies, of_tangents: bool = False
    ) -> Float64[Tensor, " charges"]:
        """From the sums of all, and from whole tensors where charges are cut."""
        here = {name: dense(value.detach()) for name, value in values.items()}
        sums = self._local.size_sums(here, of_tangents=of_tangents)
        size = size_of_sums(self._symmetries, self.total(sums)[0])
        if not bool(self.cut.any()):
            return size
        scale = self._symmetries.tangent_scale if of_tangents else self._symmetries.charge_scale
        whole = scale(self._gathered(values)).to(size)
        return torch.where(self.cut.to(size.device), whole, size)

    def agree(self, decide: Callable[[], Answer]) -> Answer:
        """What the first process decides, sent to all."""
        answer: tuple[Any, str] = (None, "")
        if self.first:
            try:
                answer = (decide(), "")
            except ValueError as error:
                answer = (None, str(error))
        decided, problem = self._peers.told(answer, self._writer)
        if problem:
            raise ValueError(problem)
        return decided  # type: ignore[no-any-return]

    def spread(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All of every sum to the first process, nothing to the others; flags, and what is nan, to each."""
        if self.first:
            return dict(state)
        return {
            name: torch.where(value.isnan(), value, 0.0) if value.is_floating_point() else value
            for name, value in state.items()
        }

    def _gathered(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors of the parameters that cut charges live on; zeros in the place of all others."""
        out = {}
        for name in self._symmetries.parameters:
            shape = tuple(self._params[name].shape)
            if name not in self._whole_names:
                out[name] = torch.zeros((), dtype=torch.float64).expand(shape)
                continue
            part = torch.zeros(shape, dtype=torch.float64)
            _put(part, self._holdings[name], dense(values[name].detach()))
            out[name] = self.total(part)[0]
        return out


def _parted(message: Tensor, like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The entries of a message as tensors of these shapes, where these are."""
    parts = torch.split(message, [each.numel() for each in like])
    return tuple(part.reshape(each.shape).to(each.device) for part, each in zip(parts, like, strict=True))


def _put(whole: Tensor, held: Holding, part: Tensor) -> None:
    """This process's part in its place, in proportion to how many hold the same."""
    if held.elements:
        indices = np.ix_(*held.indices) if held.indices else ()
        whole.numpy()[indices] = (part.to(device="cpu", dtype=torch.float64) * held.share).numpy()
