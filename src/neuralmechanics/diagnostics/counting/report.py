"""The result of counting conservation laws: two bounds, the fibre, and the gaps behind every rank."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuralmechanics.diagnostics.counting.given.charges import Charge
from neuralmechanics.diagnostics.counting.rank import Gap
from neuralmechanics.diagnostics.counting.unexplained import Direction

__all__ = ["LawCount"]


_SHOWN = 8  # families and directions that are printed


@dataclass(frozen=True)
class LawCount:
    """Bounds on the number of independent conservation laws.

    ``lower``: rank of the known laws' gradients. ``upper``: phase dimension minus the rank of the brackets computed.
    ``fibre``: nullity of the Jacobian of the functions at θ, an upper bound for all continuous symmetries together.
    ``generators``: rank of the known generators at θ; ``unexplained``: fibre - generators directions that none of them
    explains, each with the parameters that it moves. ``gaps``: the singular values on both sides of every cut.
    ``levels``: deepest bracket level evaluated. ``known``: the families whose charges are the known laws. ``place``:
    where the ranks were taken; at a symmetric place unexplained directions are counted and not named. ``charges``:
    those given, each with its values. ``remarks``: what tells the model's own parameters from generic ones.
    """

    lower: int
    upper: int
    fibre: int
    generators: int
    gaps: tuple[Gap, ...]
    parameters: int
    phase_dimension: int
    levels: int
    optimizer: str
    unexplained: tuple[Direction, ...] = field(default=(), repr=False)
    known: tuple[str, ...] = ()
    place: str = "generic"
    charges: tuple[Charge, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def worst_gap(self) -> Gap:
        """The narrowest gap of all cuts, the one to look at first."""
        return min(self.gaps, key=lambda gap: gap.ratio)

    @property
    def margin(self) -> float:
        """Smallest singular value that was counted over the bound of rounding, at the cut where that is least."""
        return min(gap.margin for gap in self.gaps)

    @property
    def certificate(self) -> str:
        """Which ranks bound the count, and by what margin they are clear of rounding."""
        return (
            f"rank of gradients and brackets in float64, {self.place} place; "
            f"the smallest singular value counted is {self.margin:.0e} times rounding"
        )

    @property
    def certified(self) -> bool:
        """Whether the bounds agree and each rank is separated from rounding by a factor of 100 at least."""
        return self.lower == self.upper and self.worst_gap.ratio >= 100

    @property
    def agreement(self) -> str:
        """Found symmetries beside the count: whether what was found at θ is all that there is."""
        missing = self.fibre - self.generators
        if not missing:
            return f"found {self.generators} = counted {self.fibre}: none is missing"
        return f"found {self.generators}, counted {self.fibre}: {missing} at θ not found, or not for every θ"

    @property
    def beyond(self) -> str:
        """What the directions of the fibre are that no known generator explains; empty where there are none."""
        missing = self.fibre - self.generators
        if missing <= 0:
            return ""
        kernels = (
            "a kernel of a rank-deficient pair (N with A·N = 0, added to B in A·B) is of this kind: it turns with A, "
            "so it is no group action and gives no law"
        )
        if self.upper <= self.lower:
            return f"brackets leave these {missing} directions, so none is a law; {kernels}"
        return f"{missing} directions, and {self.upper - self.lower} laws are open; {kernels}"

    @property
    def verdict(self) -> str:
        """One line: the number, or what is open."""
        if self.lower > self.upper:
            return "contradiction: a known law is broken by the brackets; check the symmetries and the gaps"
        if self.certified:
            return f"exactly {self.lower}"
        if self.lower == self.upper:
            return f"{self.lower}, but one rank is not clear of rounding"
        return f"between {self.lower} and {self.upper}"

    def to_dict(self) -> dict[str, object]:
        """Plain data, as JSON holds it."""
        names = (
            "optimizer",
            "lower",
            "upper",
            "certified",
            "fibre",
            "generators",
            "agreement",
            "parameters",
            "place",
            "certificate",
            "margin",
        )
        return {name: getattr(self, name) for name in (*names, "phase_dimension", "levels", "verdict")} | {
            "known": list(self.known),
            "beyond": self.beyond,
            "charges": {charge.name: charge.values.tolist() for charge in self.charges if charge.conserved},
            "remarks": list(self.remarks),
            "unexplained": [direction.shares for direction in self.unexplained],
            "gaps": [{"where": gap.where, "kept": gap.kept, "dropped": gap.dropped} for gap in self.gaps],
        }

    def __repr__(self) -> str:
        rows = [
            ("conservation laws", self.verdict),
            ("optimiser", self.optimizer),
            ("lower bound (known laws)", str(self.lower)),
            (f"upper bound (brackets to level {self.levels})", str(self.upper)),
            ("parameters, phase dimension", f"{self.parameters}, {self.phase_dimension}"),
            ("fibre dimension", str(self.fibre)),
            ("known generators at θ", str(self.generators)),
            ("unexplained", str(len(self.unexplained))),
            ("symmetries", self.agreement),
            *((("beyond them", self.beyond),) if self.beyond else ()),
            *(("given charges" if not k else "", repr(charge)) for k, charge in enumerate(self.charges)),
            *(("these parameters" if not k else "", text) for k, text in enumerate(self.remarks)),
            *(("known laws" if not k else "", name) for k, name in enumerate(self.known[:_SHOWN])),
            *(("moves" if not k else "", str(d)[10:-1]) for k, d in enumerate(self.unexplained[:_SHOWN])),
            ("narrowest gap", str(self.worst_gap)),
            ("certificate", self.certificate),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
