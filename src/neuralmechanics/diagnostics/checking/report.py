"""The result of checking symmetries: one row a family, with its verdict and the size of every residual."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from neuralmechanics.diagnostics.checking.readings import Measure
from neuralmechanics.diagnostics.checking.verdicts import Verdict

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MEASURES", "CheckReport", "FamilyCheck"]

MEASURES = ("invariance", "gradient", "hessian", "curvature", "noise")


@dataclass(frozen=True)
class FamilyCheck:
    """One family: its verdict, why, and the residual of every constraint (NaN where it was not measured)."""

    family: str
    kind: str
    generators: int
    verdict: Verdict
    reason: str
    invariance: Measure
    gradient: Measure
    hessian: Measure
    curvature: Measure
    noise: Measure
    slope: float = math.nan
    predicted: float = math.nan


@dataclass(frozen=True)
class CheckReport:
    """All families on all batches. ``rounding`` is one rounding of ``dtype``, the coarsest that the loss runs through.

    ``noise`` says whether the noise constraint was taken per sample or per batch.
    """

    families: tuple[FamilyCheck, ...]
    dtype: str
    rounding: float
    batches: int
    noise: str
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no family is broken."""
        return not self.broken

    @property
    def broken(self) -> tuple[FamilyCheck, ...]:
        """The families that do not hold."""
        return tuple(f for f in self.families if f.verdict == "broken")

    def count(self) -> dict[str, int]:
        """Families by verdict; "untested" among them where there are any."""
        verdicts = [f.verdict for f in self.families]
        known = {name: verdicts.count(name) for name in ("exact", "approximate", "broken")}
        return known | ({"untested": verdicts.count("untested")} if "untested" in verdicts else {})

    @property
    def worst(self) -> float:
        """The greatest number of roundings over all families and constraints."""
        sizes = [getattr(f, name).roundings for f in self.families for name in MEASURES]
        return max((size for size in sizes if not math.isnan(size)), default=0.0)

    def to_frame(self) -> pd.DataFrame:
        """One row a family; every constraint as relative residual and in roundings."""
        import pandas as pd

        columns = ["family", "kind", "generators", "verdict", "reason"]
        columns += [name for m in MEASURES for name in (m, f"{m}_roundings")] + ["slope", "predicted"]
        return pd.DataFrame([_row(f) for f in self.families], columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it; what was not measured is None."""
        rows = [{key: _plain(value) for key, value in _row(f).items()} for f in self.families]
        return {
            "ok": self.ok,
            "dtype": self.dtype,
            "rounding": self.rounding,
            "batches": self.batches,
            "noise": self.noise,
            "notes": list(self.notes),
            "families": rows,
        }

    def to_json(self) -> str:
        """``to_dict`` as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def __repr__(self) -> str:
        head, *body = self._cells()
        widths = [max(len(row[k]) for row in (head, *body)) for k in range(len(head))]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (head, *body)
        ]
        reasons = [f"{f.verdict}: {f.family}: {f.reason}" for f in self.families if f.reason]
        return "\n".join([*lines, self._summary(), *reasons, *self.notes])

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body)
        reasons = [f"{f.verdict}: {f.family}: {f.reason}" for f in self.families if f.reason]
        texts = "".join(f"<p>{escape(text)}</p>" for text in (self._summary(), *reasons, *self.notes))
        return f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>{texts}"

    def _cells(self) -> list[tuple[str, ...]]:
        rows = [
            (f.verdict, f.kind, f.family, str(f.generators), *(_shown(getattr(f, name)) for name in MEASURES))
            for f in self.families
        ]
        return [("verdict", "kind", "family", "generators", *MEASURES), *rows]

    def _summary(self) -> str:
        counts = ", ".join(f"{n} {name}" for name, n in self.count().items())
        where = f"{self.batches} batch" + ("es" if self.batches != 1 else "")
        return f"{counts} on {where}; residuals in roundings of {self.dtype} ({self.rounding:.1e}); noise {self.noise}"


def _row(check: FamilyCheck) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(check, name) for name in ("family", "kind", "generators", "verdict", "reason")}
    for name in MEASURES:
        measure: Measure = getattr(check, name)
        row |= {name: measure.residual, f"{name}_roundings": measure.roundings}
    return row | {"slope": check.slope, "predicted": check.predicted}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(measure: Measure) -> str:
    return f"{measure.roundings:.2g}" if measure.known else "–"
