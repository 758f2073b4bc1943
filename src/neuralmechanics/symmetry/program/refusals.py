"""Why nothing is claimed of an operation: its form is not known, or nobody looks for symmetries there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["DomainError", "NotSoughtError", "PassError", "Reason", "UnsupportedFormError", "fault"]


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


class PassError(RuntimeError):
    """A pass over a program, or the translation of a graph to one, failed: no result may be drawn from it."""


def fault(where: object, what: str, told: BaseException | str) -> str:
    """The line with which the search stops at an operation; ``told``: what was raised."""
    text = told if isinstance(told, str) else f"{type(told).__name__}: {told}"
    return (
        f"the search for symmetries failed at {where}: {what} raised {text}; this is a fault of neuralmechanics and "
        "not of the model: please report it with this line"
    )
