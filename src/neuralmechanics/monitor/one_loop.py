"""What belongs to one loop in one process: it is neither copied nor pickled."""

from __future__ import annotations

from typing import Any, NoReturn, SupportsIndex

__all__ = ["OneLoop"]


class OneLoop:
    """Refuses to be copied or pickled, in one line: hooks, the store's lock and compiled code are held once."""

    def __copy__(self) -> NoReturn:
        raise TypeError(self._refusal("copied"))

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        raise TypeError(self._refusal("copied"))

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(self._refusal("pickled"))

    def _refusal(self, done: str) -> str:
        return (
            f"a {type(self).__name__} cannot be {done}: it hangs on the optimiser of one loop; copy the model or the "
            "optimiser alone, keep its state_dict() in a checkpoint, and read what was recorded by its run"
        )
