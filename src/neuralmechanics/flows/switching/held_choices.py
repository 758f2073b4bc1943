"""The comparisons of a loss with kinks, read once and then held fixed: what is left is a smooth function.

A ReLU network is smooth wherever no unit switches. Held on one branch, relu(z) is z or 0 whatever the sign of z
becomes, and the loss extends smoothly across the kink: that is what an integrator of high order needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["HeldChoices", "Pattern", "Rule", "Surface"]

Pattern = tuple[Tensor, ...]
"""The choices of every comparison, one flat tensor a call: bool where a sign decides, positions for maxima."""

Rule = Callable[..., Any]

# Scores that differ by fewer roundings than this are equal: equal pixels tie in a pool for ever.
_ROUNDINGS = 32


@dataclass(frozen=True)
class Surface:
    """score(θ) = 0 for one entry of one comparison: a pre-activation, or the lead of one candidate over another.

    ``above`` is the choice where the score is positive, ``below`` where it is negative. Several entries are one
    surface where their scores are the same function, as for equal patches of an image.
    """

    call: int
    entries: tuple[int, ...]
    above: int
    below: int


class HeldChoices(TorchFunctionMode):
    """A torch mode in which each comparison takes a given choice, not the one that its numbers would make.

    The choices are those of ``pattern``, by the order of the calls; None lets the numbers decide. Each is noted:

    ``choices``, ``margins`` (positive inside the branch, negative beyond its border), ``rivals`` (the choice on the
    other side), ``values`` (what was compared) and ``resolution`` (what rounding may do to a margin) have one entry a
    call, in order. What ``ignored`` marks, by call, keeps out of the margins: ties for ever. Entries in
    ``slides`` are blended: weight α on the branch above, 1 - α on the one below. ``scores`` holds the scores of
    ``watched`` surfaces, on the autograd tape.
    """

    def __init__(
        self,
        rules: dict[Any, Rule],
        pattern: Pattern | None = None,
        slides: Sequence[Surface] = (),
        alphas: Sequence[float] = (),
        watched: Sequence[Surface] = (),
        ignored: Mapping[int, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.rules, self.pattern, self.slides, self.alphas = rules, pattern, slides, alphas
        self.watched = watched
        self.ignored = ignored or {}
        self.choices: list[Tensor] = []
        self.margins: list[Tensor] = []
        self.rivals: list[Tensor] = []
        self.values: list[Tensor] = []
        self.resolution: list[float] = []
        self.scores: dict[Surface, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = self.rules.get(func)
        # A rule may decline: integers have no slope, and some forms are left to torch.
        found = NotImplemented if rule is None else rule(self, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if found is NotImplemented else found

    def side(self, score: Tensor) -> Tensor:
        """1 where the branch of score > 0 holds, else 0, in between where the flow slides along the kink."""
        call = len(self.choices)
        live = score.reshape(-1)
        flat = live.detach()
        choice = self._choice(call, flat > 0)
        weight, margin = choice.to(score.dtype), torch.where(choice, flat, -flat)
        if call in self.ignored:
            margin = margin.masked_fill(self.ignored[call], math.inf)
        for surface, alpha in self._sliding(call):
            # On a slide the weight decides when it ends, no longer the sign of the score.
            weight[list(surface.entries)], margin[list(surface.entries)] = alpha, math.inf
        for surface in self.watched:
            if surface.call == call:
                self.scores[surface] = live[surface.entries[0]]
        self._note(choice, margin, ~choice, flat)
        return weight.reshape(score.shape)

    def winner(self, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen candidate along the last dimension, and its position."""
        call, shape = len(self.choices), candidates.shape[:-1]
        live = candidates.reshape(-1, candidates.shape[-1])
        flat = live.detach()
        choice = self._choice(call, flat.argmax(1))
        column = choice[:, None]
        rivals = flat.masked_fill(self.ignored[call], -math.inf) if call in self.ignored else flat
        # The lead over the best of the others is the distance from another choice.
        others = rivals.scatter(1, column, -math.inf)
        rival = others.argmax(1)
        value, margin = live.gather(1, column).squeeze(1), flat.gather(1, column).squeeze(1) - others.amax(1)
        for surface, alpha in self._sliding(call):
            entries, pair = list(surface.entries), [surface.above, surface.below]
            rows = live[entries]
            blend = alpha * rows[:, surface.above] + (1 - alpha) * rows[:, surface.below]
            value = value.index_put((torch.tensor(entries),), blend)
            # Two candidates share the lead on a slide: it ends when a third one reaches them.
            third, rival[entries] = rivals[entries].index_fill(1, torch.tensor(pair), -math.inf).max(1)
            margin[entries] = flat[entries, surface.above] - third
        for surface in self.watched:
            if surface.call == call:
                row = live[surface.entries[0]]
                self.scores[surface] = row[surface.above] - row[surface.below]
        self._note(choice, margin, rival, flat)
        return value.reshape(shape), choice.reshape(shape)

    def _choice(self, call: int, natural: Tensor) -> Tensor:
        if self.pattern is None:
            return natural
        # Choices are known by the order in which the loss compares: data must not change it.
        if call >= len(self.pattern) or self.pattern[call].shape != natural.shape:
            raise RuntimeError("the loss compared other numbers than the last time: it must be one fixed computation")
        return self.pattern[call]

    def _sliding(self, call: int) -> list[tuple[Surface, float]]:
        return [pair for pair in zip(self.slides, self.alphas, strict=True) if pair[0].call == call]

    def _note(self, choice: Tensor, margin: Tensor, rival: Tensor, values: Tensor) -> None:
        self.choices.append(choice)
        self.margins.append(margin)
        self.rivals.append(rival)
        self.values.append(values)
        values = values[torch.isfinite(values)]
        largest = float(values.abs().max()) if values.numel() else 0.0
        self.resolution.append(_ROUNDINGS * torch.finfo(values.dtype).eps * largest)

    def all_margins(self) -> Float64[Tensor, " comparisons"]:
        """Every margin in one vector."""
        return torch.cat(self.margins).to(torch.float64) if self.margins else torch.empty(0, dtype=torch.float64)

    def all_floors(self) -> Float64[Tensor, " comparisons"]:
        """Minus the resolution of every margin: below it a border is crossed."""
        parts = [
            torch.full(m.shape, -r, dtype=torch.float64) for m, r in zip(self.margins, self.resolution, strict=True)
        ]
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.float64)
