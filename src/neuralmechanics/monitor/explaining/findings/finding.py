"""One finding, and how several of one kind become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_NAMED = 3


@dataclass(frozen=True)
class Finding:
    """A sentence, the numbers behind it, the layers or parameters it is about, and what to do.

    `weight` ranks: above 70 the training is not what it was meant to be, below 30 it is worth knowing.
    """

    code: str
    text: str
    evidence: Mapping[str, float | int | str]
    place: tuple[str, ...]
    remedy: str
    weight: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data: numbers that are not finite are null."""
        finite = {key: None if isinstance(v, float) and not np.isfinite(v) else v for key, v in self.evidence.items()}
        return {
            "code": self.code,
            "text": self.text,
            "evidence": finite,
            "place": list(self.place),
            "remedy": self.remedy,
            "weight": self.weight,
        }

    def __str__(self) -> str:
        numbers = ", ".join(f"{key.replace('_', ' ')} {shown(value)}" for key, value in self.evidence.items())
        return f"{self.text}\n  where: {some(self.place)}\n  evidence: {numbers}\n  remedy: {self.remedy}"


def shown(value: float | int | str) -> str:
    """A number in three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def some(names: Sequence[str]) -> str:
    """The first few of several names."""
    listed = ", ".join(names[:_NAMED])
    return f"{listed} and {len(names) - _NAMED} more" if len(names) > _NAMED else listed or "the whole run"


def ranked(findings: Iterable[Finding], most: int) -> list[Finding]:
    """The heaviest first, one of each code."""
    best: dict[str, Finding] = {}
    for finding in findings:
        if finding.code not in best or finding.weight > best[finding.code].weight:
            best[finding.code] = finding
    return sorted(best.values(), key=lambda finding: -finding.weight)[:most]
