"""The batches that a question is asked of: a list, each of which the loss takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from neuralmechanics.functional.calling import NoLossError

__all__ = ["require_batches", "running_on"]


def require_batches(batches: Any) -> None:
    """ValueError where this is no list of batches, with what it is."""
    if isinstance(batches, Sequence) and not isinstance(batches, str) and len(batches):
        return
    given = "empty" if isinstance(batches, Sequence) and not isinstance(batches, str) else f"a {type(batches).__name__}"
    raise ValueError(
        f"batches is {given}, and must be a list with at least one batch, such as [batch]; each is given to loss_fn "
        "(of a loader take some: list(itertools.islice(loader, 2)))"
    )


@contextmanager
def running_on(batches: Sequence[Any], number: int = 0) -> Iterator[None]:
    """What the loss raises on one of the batches, in one line that names the batch."""
    try:
        yield
    except (NoLossError, MemoryError):
        raise
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"loss_fn(model, batches[{number}]) fails, where batches[{number}] is a {type(batches[number]).__name__}: "
            f"{first}; batches is a list of batches, so give a single one as [batch]"
        ) from error
