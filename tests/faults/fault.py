"""One fault: what stands in the source, what is put there, and which tests must fail."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Fault", "of"]


@dataclass(frozen=True)
class Fault:
    """In ``file`` (of the package) the one place that reads ``before`` becomes ``after``; ``tests`` are run."""

    area: str
    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


def of(area: str, file: str, name: str, before: str, after: str, *tests: str) -> Fault:
    """A fault whose tests are named from their folder on; those that find it soonest come first."""
    return Fault(area, name, file, before, after, tuple(f"tests/{test}" for test in tests))
