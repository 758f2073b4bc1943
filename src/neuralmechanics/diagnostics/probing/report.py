"""What a black-box probe saw: relations between slices that every gradient obeyed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ProbeReport", "Relation"]


@dataclass(frozen=True, eq=False)
class Relation:
    """One symmetry as gradients show it: what it does to each element of each parameter that it moves.

    Translations shift element i by ``elements[i]``, scales and rescales multiply it by a to that power.
    """

    kind: Literal["translation", "scale", "rescale"]
    label: str
    elements: Mapping[str, np.ndarray]

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters that it moves."""
        return tuple(self.elements)


@dataclass(frozen=True)
class ProbeReport:
    """All relations, and how clearly they stand out.

    ``gap`` is the least relative singular value of what is no relation over the greatest of what is one. ``silent``
    counts elements of each parameter whose gradient is exactly zero everywhere (unused by these batches): nothing is
    claimed of them. ``irregular`` counts null directions without small integer coefficients.
    """

    relations: tuple[Relation, ...]
    samples: int
    slices: int
    kept: float
    dropped: float
    silent: Mapping[str, int] = field(default_factory=dict)
    irregular: int = 0

    @property
    def gap(self) -> float:
        """How many times further from zero the rest is."""
        return self.kept / max(self.dropped, 1e-300)

    def count(self) -> dict[str, int]:
        """Relations by kind."""
        kinds = [relation.kind for relation in self.relations]
        return {kind: kinds.count(kind) for kind in ("translation", "scale", "rescale")}

    def of_kind(self, *kinds: str) -> tuple[Relation, ...]:
        """The relations of the given kinds."""
        return tuple(relation for relation in self.relations if relation.kind in kinds)

    def to_frame(self) -> pd.DataFrame:
        """One row a relation: kind, the slices with their coefficients, the parameters."""
        import pandas as pd

        rows = [(r.kind, r.label, ", ".join(r.parameters)) for r in self.relations]
        return pd.DataFrame(rows, columns=["kind", "relation", "parameters"])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it."""
        return {
            "count": self.count(),
            "samples": self.samples,
            "slices": self.slices,
            "kept": self.kept,
            "dropped": self.dropped,
            "silent": dict(self.silent),
            "irregular": self.irregular,
            "relations": [{"kind": r.kind, "label": r.label, "parameters": list(r.parameters)} for r in self.relations],
        }

    def __repr__(self) -> str:
        groups: dict[tuple[str, tuple[str, ...]], list[str]] = {}
        for relation in self.relations:
            groups.setdefault((relation.kind, relation.parameters), []).append(relation.label)
        lines = []
        for (kind, _), labels in groups.items():
            more = f"  … {len(labels)} in all" if len(labels) > 1 else ""
            lines.append(f"{kind}: {labels[0]}{more}")
        total = ", ".join(f"{n} {kind}" for kind, n in self.count().items())
        seen = f"{self.samples} gradients, {self.slices} slices, gap {self.gap:.0e}"
        lines.append(f"total: {total} ({seen})")
        lines += [f"{n} elements of {name} never had a gradient: nothing is claimed" for name, n in self.silent.items()]
        if self.irregular:
            lines.append(f"{self.irregular} null directions without small integer coefficients: nothing is claimed")
        return "\n".join(lines)
