"""The mode in which torch's elementary operations are seen one by one, without loading torch's compiler for it."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["DispatchMode"]


class DispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A ``TorchDispatchMode`` that leaves the compiler alone: torch would load it, for seconds, to keep it out."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
