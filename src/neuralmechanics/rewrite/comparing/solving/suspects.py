"""The smallest set of tensors without which two networks are one orbit: tried in the order of what goes wrong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.matching import Matched, matched

__all__ = ["Explanation", "explained"]

_SWEEPS = 3  # of each trial


@dataclass(frozen=True)
class Explanation:
    """A matching that leaves nothing but the hidden tensors, and other sets of the same size that do as well.

    ``located``: whether the set is of one or two, or was proposed by where it stands; else what was off most was added
    until the rest could be explained, and some of it may be innocent. ``unjudged``: those of the set that would be
    explained whatever they held once the others are hidden.
    """

    match: Matched
    others: tuple[frozenset[str], ...] = ()
    located: bool = True
    unjudged: frozenset[str] = frozenset()


@dataclass
class _Trials:
    network: Network
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    bound: float
    done: dict[frozenset[str], Matched] = field(default_factory=dict)

    def match(self, hidden: frozenset[str]) -> Matched:
        if hidden not in self.done:
            self.done[hidden] = matched(self.network, self.a, self.b, hidden, sweeps=_SWEEPS, bound=self.bound)
        return self.done[hidden]

    def holds(self, hidden: frozenset[str]) -> bool:
        return self.match(hidden).off <= self.bound

    def unjudged(self, hidden: frozenset[str]) -> frozenset[str]:
        """Tensors of the same module that would be explained whatever they held, as a bias beside its hidden weight."""
        (name,) = hidden
        module = name.rpartition(".")[0]
        out = set()
        for mate in (n for n in self.a if module and n != name and n.rpartition(".")[0] == module):
            draw = torch.randn(self.a[mate].shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            other = {**self.a, mate: draw}
            if matched(self.network, other, self.b, hidden, sweeps=_SWEEPS, bound=self.bound).off <= self.bound:
                out.add(mate)
        return frozenset(out)

    def shrunk(self, hidden: frozenset[str]) -> frozenset[str]:
        """Without the tensors that need not be hidden, one after another until none can be left out."""
        while True:
            before = hidden
            for name in sorted(hidden):
                smaller = hidden - {name}
                if smaller and self.holds(smaller):
                    hidden = smaller
            if hidden == before:
                return hidden


def explained(network: Network, a: Mapping[str, Tensor], b: Mapping[str, Tensor], bound: float) -> Explanation:
    """The element that explains all of a but the fewest tensors.

    Every single tensor is tried, then pairs of neighbours, then what is called alike in all layers, what stands in one
    module, and at last as many as it takes. The set is the smallest where it is one or two neighbours; of a larger one
    none can be left out. Beside one tensor those of its module stand that cannot be judged without it.
    """
    trials = _Trials(network, a, b, bound)
    whole = matched(network, a, b, bound=bound)
    if whole.off <= bound:
        return Explanation(whole)
    singles = [frozenset([name]) for name in sorted(a, key=lambda n: -whole.gaps[n])]
    found = [hidden for hidden in singles if trials.holds(hidden)]
    if not found:
        found = [hidden for hidden in _pairs(network, a) if trials.holds(hidden)]
    if found:
        # What explains more of the difference by itself comes first.
        found.sort(key=lambda hidden: -max(trials.match(hidden).gaps[name] for name in hidden))
        unjudged = trials.unjudged(found[0]) if len(found[0]) == 1 else frozenset()
        if unjudged and trials.holds(found[0] | unjudged):
            return Explanation(trials.match(found[0] | unjudged), tuple(found[1:]), unjudged=unjudged)
        return Explanation(trials.match(found[0]), tuple(found[1:]))
    for hidden in _groups(network, a):
        if trials.holds(hidden):
            return Explanation(trials.match(trials.shrunk(hidden)))
    hidden = trials.shrunk(_worst(trials, whole))
    return Explanation(trials.match(hidden), located=len(hidden) <= 2)


def _pairs(network: Network, a: Mapping[str, Tensor]) -> list[frozenset[str]]:
    found = (frozenset(pair) for pair in itertools.combinations(a, 2))
    return [pair for pair in found if _are_neighbours(network, *sorted(pair))]


def _are_neighbours(network: Network, one: str, other: str) -> bool:
    """Whether two tensors stand in one module, or one inner space moves both."""
    if one.rpartition(".")[0] == other.rpartition(".")[0]:
        return True
    widest = max((len(s.entries) for s in network.symmetries.channel_spaces), default=0)
    return any(
        {one, other} <= set(space.parameters)
        for space in network.symmetries.channel_spaces
        if len(space.entries) < widest or len(network.symmetries.channel_spaces) < 3
    )


def _groups(network: Network, a: Mapping[str, Tensor]) -> Iterator[frozenset[str]]:
    """What is called alike but for numbers, by one and two; what stands in one module; the smaller sets first."""
    alike: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    for name in a:
        alike.setdefault(re.sub(r"\d+", "#", name), set()).add(name)
        path = name.split(".")
        for depth in range(1, len(path)):
            modules.setdefault(".".join(path[:depth]), set()).add(name)
    repeated = [frozenset(names) for names in alike.values()]
    twos = [x | y for x, y in itertools.combinations(repeated, 2) if _are_neighbours(network, min(x), min(y))]
    groups = [group for group in (*repeated, *twos, *map(frozenset, modules.values())) if 1 < len(group) < len(a)]
    yield from sorted(dict.fromkeys(groups), key=len)


def _worst(trials: _Trials, whole: Matched) -> frozenset[str]:
    """The tensor that is off most, and again, until the rest is one orbit."""
    hidden: frozenset[str] = frozenset()
    match = whole
    while match.off > trials.bound:
        left = {name: gap for name, gap in match.gaps.items() if name not in hidden}
        hidden |= {max(left, key=lambda name: left[name])}
        match = trials.match(hidden)
    return hidden
