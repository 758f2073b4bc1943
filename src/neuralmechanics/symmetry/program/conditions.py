"""What a rule says that its translation holds for, beyond what the primitives say."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BatchStatistics", "Condition", "PaddingRow", "SeenKeys", "SingleEntry"]


@dataclass(frozen=True)
class BatchStatistics:
    """The layer at ``place``, which keeps running statistics, normalises by those of the batch, or (not ``used``) not.

    Without running statistics it uses the batch's in either mode, and there is no condition.
    """

    place: str
    used: bool


@dataclass(frozen=True)
class PaddingRow:
    """The row of a table (a value, by its index) that stands for padding gets no gradient."""

    table: int
    row: int


@dataclass(frozen=True)
class SeenKeys:
    """The mask of the attention at ``place`` leaves each query a key; one that sees none reads zeros and no mean.

    ``values``: what the mean is of, by its index.
    """

    values: int
    place: str


@dataclass(frozen=True)
class SingleEntry:
    """What the operation at ``place`` compares is one entry (attention over one key), so that nothing of it matters.

    ``parameters``: those that reach it. With more entries, in another batch, they do.
    """

    parameters: frozenset[str]
    place: str


Condition = BatchStatistics | PaddingRow | SeenKeys | SingleEntry
