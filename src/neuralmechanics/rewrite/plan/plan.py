"""A rewrite as data: an ordered list of changes, each of one tensor, that can be applied one tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.rewrite.plan.change import Change
from neuralmechanics.rewrite.plan.changes import Copy

__all__ = ["Plan"]

Load = Callable[[str], Tensor]
_BLOCK = 1 << 24  # elements that are widened at a time, where a tensor may be taken in pieces


@dataclass(frozen=True, eq=False)
class Plan:
    """Changes that are made one after the other: each reads the other tensors as those before it have left them.

    ``aliases``: further names of a tensor in a state dict (tied parameters), each with the name under which it changes.
    Numbers are widened to ``precision`` before the first change of a tensor and rounded once, after its last.
    """

    changes: tuple[Change, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.changes)

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that change, in the order in which they first do; other names of them are left out."""
        return tuple(dict.fromkeys(change.tensor for change in self.changes))

    @cached_property
    def untied(self) -> tuple[str, ...]:
        """Names of tensors that were names of others before: the model must no longer tie them."""
        return tuple(change.tensor for change in self.changes if isinstance(change, Copy))

    def source(self, name: str) -> str | None:
        """The name under which what a state dict calls ``name`` changes; None where it does not."""
        if name in self._places:
            return name
        return found if (found := self.aliases.get(name)) in self._places else None

    def reads(self, name: str) -> tuple[str, ...]:
        """Names of all original tensors that the new value of ``name`` is made of, its own among them."""
        found: dict[str, None] = {}
        self._collect(name, len(self.changes), found)
        return tuple(found)

    def value(self, name: str, load: Load, precision: torch.dtype = torch.float64) -> Tensor:
        """The new value of one tensor, in its dtype; ``load(name)`` gives original tensors as they are asked for.

        Cost: one read of each of ``reads(name)``. A tensor that changes along some of its dimensions alone is widened
        a block at a time.
        """
        places = self._places.get(name, ())
        first = self.changes[places[0]] if places else None
        start = load(first.source) if isinstance(first, Copy) else load(name)
        axis = self._free_axis(name, start)
        if axis is None:
            return self._at(name, len(self.changes), load, precision).to(start.dtype)
        steps = [(self.changes[k], self._others(k, load, precision)) for k in places]
        out = torch.empty_like(start)
        for begin in range(0, start.shape[axis], size := max(1, _BLOCK * start.shape[axis] // start.numel())):
            piece = start.narrow(axis, begin, min(size, start.shape[axis] - begin))
            wide = piece.detach().to(_wide(piece.dtype, precision))
            for change, others in steps:
                wide = change.apply(wide, others)
            out.narrow(axis, begin, piece.shape[axis]).copy_(wide)
        return out

    def apply(self, params: Mapping[str, Tensor], precision: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """All tensors after the changes, as a new mapping; what does not change is the same object as before.

        Raises ``KeyError`` where a tensor is missing.
        """
        missing = [n for name in self.tensors for n in self.reads(name) if n not in params]
        if missing:
            raise KeyError(f"the plan reads {missing[0]!r}, which is missing; pass model.state_dict()")
        out = dict(params)
        for name in self.tensors:
            out[name] = self.value(name, params.__getitem__, precision)
        for alias, name in self.aliases.items():
            if alias in params and alias not in self._places and name in self._places:
                out[alias] = out[name]
        return out

    def inverse(self) -> Plan | None:
        """The plan that takes it back, rounding apart; None where some change has no inverse."""
        back = [change.inverse() for change in reversed(self.changes)]
        known = [change for change in back if change is not None]
        return Plan(tuple(known), self.aliases) if len(known) == len(back) else None

    def then(self, other: Plan) -> Plan:
        """First this, then the other."""
        return Plan((*self.changes, *other.changes), {**self.aliases, **other.aliases})

    def to_dict(self) -> dict[str, Any]:
        """A summary as plain data (JSON), without the numbers."""
        return {"changes": [change.to_dict() for change in self.changes], "aliases": dict(self.aliases)}

    def __str__(self) -> str:
        return "\n".join(map(str, self.changes)) or "no change"

    # --- states in between ------------------------------------------------------------------------------------------

    @cached_property
    def _places(self) -> dict[str, tuple[int, ...]]:
        found: dict[str, list[int]] = {}
        for k, change in enumerate(self.changes):
            found.setdefault(change.tensor, []).append(k)
        return {name: tuple(places) for name, places in found.items()}

    def _before(self, name: str, end: int) -> list[int]:
        return [k for k in self._places.get(name, ()) if k < end]

    def _at(self, name: str, end: int, load: Load, precision: torch.dtype) -> Tensor:
        """The wide value of a tensor after those of the first ``end`` changes that concern it."""
        places = self._before(name, end)
        copies = [k for k in places if isinstance(self.changes[k], Copy)]
        if copies:  # what it was before is of no interest
            places = places[places.index(copies[-1]) :]
            last = self.changes[copies[-1]]
            value = self._at(last.reads[0], copies[-1], load, precision)
            places = places[1:]
        else:
            value = load(name).detach()
            value = value.to(_wide(value.dtype, precision))
        for k in places:
            value = self.changes[k].apply(value, self._others(k, load, precision))
        return value

    def _others(self, place: int, load: Load, precision: torch.dtype) -> dict[str, Tensor]:
        return {name: self._at(name, place, load, precision) for name in self.changes[place].reads}

    def _collect(self, name: str, end: int, found: dict[str, None]) -> None:
        places = self._before(name, end)
        if not any(isinstance(self.changes[k], Copy) for k in places):
            found[name] = None
        for k in places:
            for other in self.changes[k].reads:
                self._collect(other, k, found)

    def _free_axis(self, name: str, tensor: Tensor) -> int | None:
        """A dimension along which a large tensor may be taken in pieces."""
        axes: Iterable[frozenset[int] | None] = (self.changes[k].axes for k in self._places.get(name, ()))
        touched: set[int] = set()
        for found in axes:
            if found is None:
                return None
            touched |= found
        free = [d for d in range(tensor.ndim) if d not in touched]
        return max(free, key=lambda d: tensor.shape[d]) if free and tensor.numel() > _BLOCK else None


def _wide(dtype: torch.dtype, precision: torch.dtype) -> torch.dtype:
    """The wider type in which a tensor is changed; whole numbers stay whole."""
    if dtype.is_complex:
        return torch.complex128 if precision == torch.float64 else torch.complex64
    if not dtype.is_floating_point:
        return dtype
    return torch.promote_types(dtype, precision)
