"""What is known of a rewrite: which symmetries prove it, and how far outputs before and after lie apart."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Certificate", "Comparison", "RewriteError"]


class RewriteError(ValueError):
    """A rewrite changed what the model computes, or could not be shown to leave it: nothing is returned."""


@dataclass(frozen=True)
class Comparison:
    """The greatest difference of two outputs over the greatest output, and how large it may be.

    ``point``: "given" or "random" parameters; ``precision``: in which the model ran; ``because``: what the bound is.
    """

    point: str
    precision: str
    change: float
    bound: float
    because: str

    @property
    def ok(self) -> bool:
        """Whether the change is within the bound; a change that is no number is not."""
        return self.change <= self.bound

    def __str__(self) -> str:
        sign = "≤" if self.ok else ">"
        return (
            f"{self.point} parameters in {self.precision}: {self.change:.1e} {sign} {self.bound:.1e} ({self.because})"
        )


@dataclass(frozen=True)
class Certificate:
    """``family``: names of the families and spaces whose symmetry proves the rewrite; ``comparisons``: the check of it.

    ``requires``: what it holds for, beyond the model as it was given (its mode, parameters that may no longer be tied).
    ``notes``: what could not be checked, and why.
    """

    family: tuple[str, ...]
    comparisons: tuple[Comparison, ...] = ()
    requires: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether outputs were compared, and none moved by more than its bound."""
        return bool(self.comparisons) and all(c.ok for c in self.comparisons)

    @property
    def change(self) -> float:
        """The change that is largest beside its bound."""
        return self._worst.change if self.comparisons else float("nan")

    @property
    def bound(self) -> float:
        """The bound of that change."""
        return self._worst.bound if self.comparisons else float("nan")

    @property
    def _worst(self) -> Comparison:
        return max(self.comparisons, key=lambda c: c.change / c.bound if c.bound else c.change)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON)."""
        return {"ok": self.ok} | asdict(self)

    def __str__(self) -> str:
        lines = [f"proved by {len(self.family)} symmetries: {_shortened(self.family)}"]
        lines += map(str, self.comparisons)
        lines += [f"requires: {text}" for text in self.requires]
        return "\n".join([*lines, *self.notes])


def _shortened(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
