"""The findings of a lint as a report: table, data frame, plain data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CODES", "Finding", "LintReport", "Severity"]

Severity = Literal["warning", "note"]

CODES: Mapping[str, str] = {
    "zero-gradient": "elements whose gradient is zero whatever the data",
    "scale-free-without-decay": "weights whose scale does not matter, without weight decay",
    "scale-free-with-decay": "weights whose scale does not matter, with weight decay",
    "broken-symmetry": "families that a constant breaks noticeably at the present parameters",
    "uneven-decay": "families with more than one weight decay",
    "uneven-learning-rate": "families with more than one learning rate",
    "not-optimised": "trainable parameters that no parameter group holds",
    "unknown-operation": "operations without a rule, at which every symmetry ends",
    "outside-graph": "parameters with a gradient that the captured graph has no path from",
    "unused": "parameters that the output does not depend on",
    "frozen": "parameters without a gradient",
}


@dataclass(frozen=True)
class Finding:
    """One thing that symmetry says: its code, how grave it is, of which parameters (elements), why, what to do."""

    code: str
    severity: Severity
    parameters: tuple[str, ...]
    elements: int
    why: str
    remedy: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"no lint code {self.code!r}; codes: {', '.join(CODES)}")


@dataclass(frozen=True)
class LintReport:
    """All findings, the grave ones first; ``remarks`` say what could not be looked at."""

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def ok(self) -> bool:
        """Whether nothing is graver than a note."""
        return not any(f.severity == "warning" for f in self.findings)

    def of_code(self, code: str) -> tuple[Finding, ...]:
        """The findings of one code."""
        if code not in CODES:
            raise ValueError(f"no lint code {code!r}; codes: {', '.join(CODES)}")
        return tuple(f for f in self.findings if f.code == code)

    def to_frame(self) -> pd.DataFrame:
        """One row a finding."""
        import pandas as pd

        columns = list(Finding.__dataclass_fields__)
        rows = [asdict(f) | {"parameters": ", ".join(f.parameters)} for f in self.findings]
        return pd.DataFrame(rows, columns=columns)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        findings = [asdict(f) | {"parameters": list(f.parameters)} for f in self.findings]
        return {"ok": self.ok, "findings": findings, "remarks": list(self.remarks)}

    def __repr__(self) -> str:
        if not self.findings:
            return "\n".join(["no findings", *self.remarks])
        rows = [("severity", "code", "elements", "parameters")]
        rows += [(f.severity, f.code, f"{f.elements:,}", _shortened(f.parameters)) for f in self.findings]
        widths = [max(len(row[k]) for row in rows) for k in range(3)]
        lines = []
        for number, row in enumerate(rows):
            cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]), row[3]]
            lines.append("  ".join(cells))
            if number:
                finding = self.findings[number - 1]
                lines += [f"    {finding.why}", f"    {finding.remedy}"]
        counts = Counter(f.severity for f in self.findings)
        total = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in counts.items())
        return "\n".join([*lines, total, *self.remarks])

    def _repr_html_(self) -> str:
        columns = ("severity", "code", "elements", "parameters", "why", "remedy")
        head = "".join(f"<th>{name}</th>" for name in columns)
        cells = [
            (f.severity, f.code, f"{f.elements:,}", _shortened(f.parameters), f.why, f.remedy) for f in self.findings
        ]
        rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if rows else "<p>no findings</p>"
        return table + "".join(f"<p>{escape(remark)}</p>" for remark in self.remarks)


def _shortened(names: tuple[str, ...], most: int = 4) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"
