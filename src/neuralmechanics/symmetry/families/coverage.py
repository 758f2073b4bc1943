"""What is known of each parameter, and the operations of which nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Coverage", "UnknownOperation"]


@dataclass(frozen=True)
class UnknownOperation:
    """An operation without a rule: everything that enters it is taken as fixed, so nothing false is claimed.

    ``reason``: empty where there is no rule at all; else why the rule that there is could not be used.
    """

    operation: str
    where: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.operation} at {self.where}"

    def explained(self) -> str:
        """One line for readers."""
        if self.reason:
            return f"at {self.where} {self.reason}; nothing is claimed there"
        return f"no rule for {self}: nothing is claimed there"


@dataclass(frozen=True)
class Coverage:
    """What is known of a parameter.

    ``covered``: by ``families``. ``free``: an operation, named in ``ended_by``, admits no change of what it makes of
    the parameter, and no operation on the way hides it. ``not sought``: it has no family, but an operation on the way
    may have symmetries that are not looked for; ``ended_by`` names it, ``reason`` says what. ``unknown``: an operation
    on the way has no rule. ``unused``: the graph has no path from it to the output. ``frozen``: it does not train.
    """

    parameter: str
    status: Literal["covered", "free", "not sought", "unknown", "unused", "frozen"]
    families: tuple[str, ...] = ()
    ended_by: str = ""
    reason: str = ""

    def __str__(self) -> str:
        if self.families:
            return f"{self.status}: {', '.join(self.families)}"
        where = f": {self.ended_by}" if self.ended_by else ""
        return f"{self.status}{where}{f' ({self.reason})' if self.reason else ''}"
