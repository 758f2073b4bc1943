"""Why nothing is claimed of an operation: its form is not known, or nobody looks for symmetries there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DomainError", "NotSoughtError", "Reason", "UnsupportedFormError"]


@dataclass(frozen=True)
class Reason:
    """Why a symmetry may have been missed: there is no rule, or nobody looks; where, and what."""

    status: Literal["unknown", "not sought"]
    where: str
    text: str = ""


class UnsupportedFormError(ValueError):
    """A form of an operation that its rule does not know: everything that enters the operation is taken as fixed."""


class NotSoughtError(ValueError):
    """A rule gives up, though the operation may well have symmetries: what enters it is taken as fixed, and said so.

    ``hides``: what enters may not show in the result at all, or no gradient passes.
    """

    def __init__(self, reason: str, hides: bool = False) -> None:
        super().__init__(reason)
        self.hides = hides


class DomainError(RuntimeError):
    """An interpreter of the primitives failed on a well-formed program: no result may be drawn from its run."""
