"""The verdict on a family: exact, approximate with what breaks it, broken with the measure that shows it, untested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from neuralmechanics.diagnostics.checking.readings import Measure
from neuralmechanics.symmetry.families.family import Family

__all__ = ["LIMIT", "SMALL", "Explanation", "Verdict", "judge_family", "judge_untested", "only_second"]

Verdict = Literal["exact", "approximate", "broken", "untested"]

# Roundings up to which a residual is put down to rounding: measured on the architectures of the tests, exact families
# stay below 10 in float64, float32 and bfloat16.
LIMIT = 20.0
# Relative residual up to which a named constant may break a symmetry without its formula being asked.
SMALL = 0.1


@dataclass(frozen=True)
class Explanation:
    """Where a constant breaks the family: ⟨g, ξ⟩ as measured, the loss's own slope along the orbit, the norms' formula.

    ``size`` is the sum of the absolute terms of ⟨g, ξ⟩, ``slack`` by how much rounding may set the three apart.
    """

    measured: float
    size: float
    slope: float
    predicted: float
    slack: float

    @property
    def agrees(self) -> bool:
        """Whether the gradient is the derivative of the loss along the orbit."""
        return abs(self.measured - self.slope) <= self.slack + 1e-3 * abs(self.slope)

    @property
    def foreseen(self) -> bool:
        """Whether the formula of norm eps accounts for the residual."""
        return abs(self.slope - self.predicted) <= self.slack + 0.05 * abs(self.predicted)

    @property
    def small(self) -> bool:
        """Whether the loss is nearly flat along the orbit."""
        return abs(self.slope) <= SMALL * self.size + self.slack


WRONG_BACKWARD = "the backward pass is not the derivative of the forward pass"
# The constraints that a second derivative enters.
SECOND = ("hessian", "curvature")


def only_second(family: Family, measures: Mapping[str, Measure]) -> bool:
    """Whether loss and gradient obey the family and what a second derivative enters does not."""
    beyond = _beyond(measures)
    if family.broken_by:
        beyond = {name: m for name, m in beyond.items() if name in SECOND and m.residual > SMALL}
    return bool(beyond) and all(name in SECOND for name in beyond)


def judge_family(
    family: Family,
    measures: Mapping[str, Measure],
    explanations: tuple[Explanation, ...],
    elsewhere: Measure | None = None,
    suspects: tuple[str, ...] = (),
) -> tuple[Verdict, str]:
    """The verdict and, in words, why.

    ``elsewhere``: ⟨g, ξ⟩ at other parameters. Where it vanishes too, so does its derivative, the Hessian constraint:
    then what torch says of second derivatives is wrong, through one of ``suspects``, and the symmetry holds.
    """
    if elsewhere is not None and (elsewhere.residual <= SMALL if family.broken_by else elsewhere.roundings <= LIMIT):
        second = {name: m for name, m in _beyond(measures).items() if name in SECOND}
        rest = {name: m for name, m in measures.items() if name not in SECOND}
        verdict, reason = judge_family(family, rest, explanations)
        through = f" of {', '.join(suspects)}" if suspects else ""
        note = (
            f"{_shown(second, family)}, while ⟨g, ξ⟩ vanishes at other parameters too: "
            f"the second derivative{through} is suspect, not the symmetry"
        )
        return verdict, "; ".join(filter(None, (reason, note)))
    beyond = _beyond(measures)
    if not family.broken_by:
        return ("broken", _shown(beyond, family) + _wrong_backward(measures, beyond)) if beyond else ("exact", "")
    cause = ", ".join(map(str, family.broken_by))
    disagreement = next((e for e in explanations if not e.agrees), None)
    if disagreement is not None:
        return "broken", (
            f"⟨g, ξ⟩ is {disagreement.measured:.3e}, but the loss changes along the orbit at {disagreement.slope:.3e}: "
            f"{WRONG_BACKWARD}"
        )
    foreseen = bool(explanations) and all(e.foreseen for e in explanations)
    steep = next((e for e in explanations if not e.small), None)
    if steep is not None and not foreseen:
        return "broken", (
            f"more than {cause} explains: the loss changes along the orbit at {steep.slope:.1e}, terms of size "
            f"{steep.size:.1e}{_needs(family)}"
        )
    large = {name: m for name, m in beyond.items() if m.residual > SMALL and not foreseen}
    large.pop("invariance", None)  # a finite step may go where the constant dominates
    if large:
        return "broken", f"more than {cause} explains: {_shown(large, family)}"
    gradient = measures["gradient"]
    if not beyond:
        return "approximate", f"{cause}: below rounding here"
    return "approximate", f"{cause}: gradient residual {gradient.residual:.1e}"


def judge_untested(family: Family, measures: Mapping[str, Measure]) -> tuple[Verdict, str]:
    """The verdict where every term of every constraint is zero: broken where the loss changes, else none."""
    beyond = {} if family.broken_by else _beyond(measures)
    if beyond:
        return "broken", _shown(beyond, family)
    return "untested", (
        "nothing reaches these parameters here: every gradient along them is zero, and what second derivatives make of "
        "them; check where they move the loss"
    )


def _wrong_backward(measures: Mapping[str, Measure], beyond: Mapping[str, Measure]) -> str:
    """Where the loss itself is unchanged along the orbit, and its gradient is not orthogonal to it."""
    if measures["invariance"].known and "invariance" not in beyond and "gradient" in beyond:
        return f"; the loss itself is unchanged by finite transformations: {WRONG_BACKWARD}"
    return ""


def _beyond(measures: Mapping[str, Measure]) -> dict[str, Measure]:
    return {name: m for name, m in measures.items() if m.known and m.roundings > LIMIT}


def _shown(beyond: Mapping[str, Measure], family: Family) -> str:
    name, worst = max(beyond.items(), key=lambda item: item[1].roundings)
    others = f" (also {', '.join(n for n in beyond if n != name)})" if len(beyond) > 1 else ""
    return f"{name} off by {worst.residual:.1e}, {worst.roundings:.3g} roundings{others}{_needs(family)}"


def _needs(family: Family) -> str:
    return f"; it holds in {', '.join(family.requires)}" if family.requires else ""
