"""All calls of all operations, and which rules and options have none, each with the reason."""

from __future__ import annotations

from . import (
    backward,
    contractions,
    elementwise,
    embeddings,
    indexing,
    losses,
    movement,
    normalisations,
    other_names,
    recurrent,
    reductions,
    square_matrices,
)
from .case import Case

__all__ = ["CASES", "by_rule"]

FILES = (
    movement, elementwise, contractions, reductions, normalisations, indexing, embeddings, recurrent, losses, backward,
    other_names, square_matrices,
)  # fmt: skip
CASES: list[Case] = [case for file in FILES for case in file.table.cases]


def by_rule() -> dict[str, list[Case]]:
    """The calls of each rule, by its name in the table of rules."""
    found: dict[str, list[Case]] = {}
    for case in CASES:
        found.setdefault(case.prefix + case.name, []).append(case)
    return found
