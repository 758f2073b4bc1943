"""One smooth branch of a kinked field: held choices, units that slide along their kink, and how both change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float64
from torch import Tensor

from neuralmechanics.flows.equation.layout import Layout
from neuralmechanics.flows.equation.objective import Loss, derivative
from neuralmechanics.flows.equation.stop import Halt, StopReason
from neuralmechanics.flows.equation.system import Field
from neuralmechanics.flows.switching.held_choices import HeldChoices, Pattern, Surface
from neuralmechanics.flows.switching.rules import RULES
from neuralmechanics.flows.switching.sliding import holding_weights, settled_weights
from neuralmechanics.flows.switching.ties import Ignored, displaced, equal_candidates, held_by_slides, released

__all__ = ["Branch"]

# A switch may set ties free, their settling others.
_ROUNDS = 4


class Branch:
    """x' = f(x; P, α): the field with the choices P held, and weights α in [0, 1] for the entries that slide.

    Where the fields on both sides of a kink point at it, the flow slides along it: x' is the mix of the two that keeps
    the score at zero (Filippov 1988). For a gradient flow the mix is a subgradient, so it keeps every charge.
    ``pull`` draws the score back by pull·score a unit of time, against rounding and truncation.
    """

    def __init__(self, field: Field, loss: Loss, layout: Layout, x: Tensor) -> None:
        self.raw, self.loss, self.layout = field, loss, layout
        with HeldChoices(RULES) as natural:
            self.first = field(x)
        self.pattern: Pattern = tuple(natural.choices)
        self.floors = natural.all_floors()
        self.slides: list[Surface] = []
        self.alphas: list[float] = []
        self.pull = 0.0
        self.jacobian: Tensor | None = None
        self.ignored: Ignored = {}
        with torch.no_grad(), HeldChoices(RULES) as alone:
            loss(layout.unflatten(x[: layout.size]))
        # Whether one forward pass sees all comparisons; a field that looks steps ahead makes more of them.
        self.single = len(alone.choices) == len(self.pattern) and all(map(torch.equal, alone.choices, self.pattern))
        self.last_margins = natural.all_margins()
        if any(choice.dtype != torch.bool for choice in self.pattern):
            self._find_ignored(x)
            self.last_margins = self.margins(x, [])

    def __len__(self) -> int:
        return len(self.floors)

    def field(self, x: Float64[Tensor, " state"]) -> Float64[Tensor, " state"]:
        """f(x; P, α(x)); leaves the margins at x in ``last_margins``."""
        if self.slides:
            self.alphas = self.solve(x)
        return self._evaluate(x, self.alphas)

    def _evaluate(self, x: Tensor, alphas: Sequence[float]) -> Tensor:
        with self._held(alphas) as held:
            slope = self.raw(x)
        self.last_margins = self._with_alphas(held.all_margins(), alphas)
        return slope

    def margins(self, x: Float64[Tensor, " state"], alphas: Sequence[float]) -> Float64[Tensor, " comparisons"]:
        """Distance of every comparison from its border, positive inside; for a slide the distance of α from 0 and 1.

        The weights are given: finding them takes several evaluations of the field, a margin one forward pass.
        """
        return self._with_alphas(self._compare(x, alphas).all_margins(), alphas)

    def _held(self, alphas: Sequence[float], watched: Sequence[Surface] = ()) -> HeldChoices:
        return HeldChoices(RULES, self.pattern, self.slides, alphas, watched, self.ignored)

    def _compare(self, x: Tensor, alphas: Sequence[float]) -> HeldChoices:
        """All comparisons at x."""
        held = self._held(alphas)
        with torch.no_grad(), held:
            # One forward pass without gradients is enough where it sees every comparison.
            if self.single:
                self.loss(self.layout.unflatten(x[: self.layout.size]))
            else:
                self.raw(x)
        return held

    def _find_ignored(self, x: Tensor) -> list[Surface]:
        """Finds the comparisons that decide nothing on this branch; returns those at zero that once more do."""
        if not self.slides and all(choice.dtype == torch.bool for choice in self.pattern):
            before, self.ignored = self.ignored, {}
            return released(self._compare(x, []), before, {}) if before else []
        here, there = self._compare(x, self.alphas), self._compare(displaced(x), self.alphas)
        found = equal_candidates(here, there)
        if self.single:
            found = held_by_slides(here, there, found, partial(self._normals, x))
        # What was held equal and is no longer may switch at once: it stands at its border.
        freed = released(here, self.ignored, found)
        self.ignored = found
        return freed

    def _with_alphas(self, margins: Tensor, alphas: Sequence[float]) -> Tensor:
        for surface, alpha in zip(self.slides, alphas, strict=True):
            for index in self._indices(surface):
                margins[index] = min(float(margins[index]), alpha, 1 - alpha)
        return margins

    def _indices(self, surface: Surface) -> list[int]:
        before = sum(len(choice) for choice in self.pattern[: surface.call])
        return [before + entry for entry in surface.entries]

    def _normals(self, x: Tensor, surfaces: Sequence[Surface]) -> tuple[Tensor, Tensor]:
        """Scores of the surfaces and their gradients in the parameters: one backward pass each."""
        with torch.enable_grad():
            point = x[: self.layout.size].detach().requires_grad_(True)
            with self._held(self.alphas, surfaces) as held:
                self.loss(self.layout.unflatten(point))
            scores = [held.scores[surface] for surface in surfaces]
            rows = [derivative(score, point, graph=False) for score in scores]
        return torch.stack([score.detach() for score in scores]).to(torch.float64), torch.stack(rows)

    def solve(self, x: Float64[Tensor, " state"]) -> list[float]:
        """α with d score/dt = -pull·score on every slide."""
        scores, normals = self._normals(x, self.slides)

        def miss(values: Tensor) -> Tensor:
            return normals @ self._evaluate(x, values.tolist())[: self.layout.size] + self.pull * scores

        found = holding_weights(miss, torch.tensor(self.alphas, dtype=torch.float64), self.jacobian)
        if found is None:
            self.jacobian = None
            raise Halt(
                StopReason.CHATTERING,
                f"no mix of the fields on the two sides keeps {len(self.alphas)} units on their kinks: the flow "
                "chatters there; use method='rk4', which steps over it",
            )
        alphas, self.jacobian = found
        return list(map(float, alphas))

    def cross(self, x: Float64[Tensor, " state"], crossed: list[int]) -> Float64[Tensor, " state"]:
        """Switches the comparisons at ``crossed``, lets those slide that come straight back; the field after it."""
        if self.slides:
            self.alphas = self.solve(x)
        held = self._compare(x, self.alphas)
        # Read before anything is switched: each switch changes what the others compare.
        rivals, margins = torch.cat([rival.to(torch.long) for rival in held.rivals]), held.all_margins()
        switched: list[Surface] = []
        self.jacobian = None
        for index in crossed:
            sliding = [k for k, surface in enumerate(self.slides) if index in self._indices(surface)]
            if sliding:
                k = sliding[0]
                overtaken = float(margins[index]) < min(self.alphas[k], 1 - self.alphas[k])
                switched += self._overtaken(k, index, int(rivals[index])) if overtaken else [self._release(k)]
            elif not any(index in self._indices(surface) for surface in switched):
                switched.append(self._switch(index, int(rivals[index])))
        slope = self._settle(x, self._merge_equal(x, switched))
        for _ in range(_ROUNDS):
            freed = self._find_ignored(x)
            if not freed:
                break
            slope = self._settle(x, self._merge_equal(x, freed))
        self.last_margins = self.margins(x, self.alphas)
        return slope

    def _merge_equal(self, x: Tensor, switched: list[Surface]) -> list[Surface]:
        """The surfaces with those of one call and one gradient joined: their scores are one function."""
        if len(switched) < 2 or not self.single:
            return switched
        _, normals = self._normals(x, switched)
        united: list[tuple[Surface, Tensor]] = []
        for surface, normal in zip(switched, normals, strict=True):
            for k, (other, known) in enumerate(united):
                alike = (other.call, other.above, other.below) == (surface.call, surface.above, surface.below)
                if alike and torch.allclose(normal, known, rtol=1e-9):
                    united[k] = replace(other, entries=other.entries + surface.entries), known
                    break
            else:
                united.append((surface, normal))
        return [surface for surface, _ in united]

    def _release(self, k: int) -> Surface:
        """Ends a slide on the side its weight points to."""
        surface = self.slides.pop(k)
        self._choose(surface, surface.above if self.alphas.pop(k) > 0.5 else surface.below)
        return surface

    def _overtaken(self, k: int, index: int, third: int) -> list[Surface]:
        """Ends a slide of two candidates, at one of its entries, because a third one overtakes them."""
        slide = self.slides[k]
        entry = slide.entries[self._indices(slide).index(index)]
        rest = tuple(other for other in slide.entries if other != entry)
        if rest:
            self.slides[k] = replace(slide, entries=rest)
        else:
            self.slides.pop(k)
            self.alphas.pop(k)
        pair = [Surface(slide.call, (entry,), third, beaten) for beaten in (slide.above, slide.below)]
        self._choose(pair[0], third)
        return pair

    def _switch(self, index: int, rival: int) -> Surface:
        call, entry = 0, index
        while entry >= len(self.pattern[call]):
            entry -= len(self.pattern[call])
            call += 1
        now = int(self.pattern[call][entry])
        two_sided = self.pattern[call].dtype == torch.bool
        surface = Surface(call, (entry,), 1, 0) if two_sided else Surface(call, (entry,), now, rival)
        self._choose(surface, rival)
        return surface

    def _sign(self, surface: Surface) -> float:
        """The side that is chosen: 1 above, -1 below, 0 where a third candidate is."""
        choice = int(self.pattern[surface.call][surface.entries[0]])
        return 1.0 if choice == surface.above else -1.0 if choice == surface.below else 0.0

    def _choose(self, surface: Surface, choice: int) -> None:
        changed = self.pattern[surface.call].clone()
        changed[list(surface.entries)] = choice
        self.pattern = (*self.pattern[: surface.call], changed, *self.pattern[surface.call + 1 :])

    def _settle(self, x: Tensor, switched: list[Surface]) -> Tensor:
        """Turns switches into slides until no comparison is driven back across its border."""
        slope = self.field(x)
        if not self.single:
            return slope
        for _ in range(4 * (len(switched) + len(self.slides)) + 4):
            outside = [k for k, alpha in enumerate(self.alphas) if not 0 <= alpha <= 1]
            # Both fields point the same way again: the unit leaves its kink to the side of its weight.
            if outside:
                switched.append(self._release(max(outside, key=lambda k: abs(self.alphas[k] - 0.5))))
                slope = self.field(x)
                continue
            if not switched:
                return slope
            _, normals = self._normals(x, switched)
            motion = slope[: self.layout.size]
            signs = [self._sign(surface) for surface in switched]
            rates = torch.tensor(signs, dtype=torch.float64) * (normals @ motion)
            # As the cosine of an angle, so that one bound serves scores of every size.
            rates = rates / (normals.norm(dim=1) * motion.norm()).clamp(min=1e-300)
            worst = int(rates.argmin())
            if float(rates[worst]) >= -1e-9:
                return slope
            surface, inside = switched[worst], signs[worst]
            # Back on the side before the switch: only where that one drives here as well does the flow slide.
            self._choose(surface, surface.below if inside > 0 else surface.above)
            slope = self.field(x)
            # The other side drives away from the border too: the crossing of something else undid this one.
            if inside * float(normals[worst] @ slope[: self.layout.size]) < 0:
                continue
            self.slides.append(switched.pop(worst))
            self.alphas.append(0.5)
            slope = self.field(x)
        return self._settle_together(x, switched)

    def _settle_together(self, x: Tensor, switched: list[Surface]) -> Tensor:
        """Finds at once which of all units on their kinks slide, and on which side the others leave."""
        surfaces, sides = [*self.slides, *switched], [float(self._sign(surface) > 0) for surface in switched]
        start = torch.tensor([*self.alphas, *sides], dtype=torch.float64)
        self.slides, self.jacobian = surfaces, None

        def rates(alphas: Tensor) -> Tensor:
            # Behind a unit that leaves, scores of deeper ones move with its side: their gradients depend on weights.
            self.alphas = alphas.tolist()
            return self._normals(x, surfaces)[1] @ self._evaluate(x, self.alphas)[: self.layout.size]

        found = settled_weights(rates, start)
        if found is None:
            raise Halt(
                StopReason.CHATTERING,
                f"{len(surfaces)} units meet their kinks at once and no choice of sides holds: the flow chatters "
                "there; use method='rk4', which steps over it",
            )
        for surface, alpha in zip(surfaces, found.tolist(), strict=True):
            if alpha in (0.0, 1.0):
                self._choose(surface, surface.above if alpha else surface.below)
        kept = [(surface, alpha) for surface, alpha in zip(surfaces, found.tolist(), strict=True) if 0 < alpha < 1]
        self.slides, self.alphas = [surface for surface, _ in kept], [alpha for _, alpha in kept]
        return self.field(x)
