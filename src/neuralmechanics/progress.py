"""How long work tells where it is: a protocol of three methods, silent unless someone listens."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Meter", "SilentMeter"]


class Meter(Protocol):
    """Receives the progress of one piece of work of known length."""

    def start(self, total: int, title: str) -> None: ...

    def advance(self, steps: int, **scalars: float) -> None: ...

    def finish(self) -> None: ...


class SilentMeter:
    """Hears everything and says nothing: the library's default."""

    def start(self, total: int, title: str) -> None:
        pass

    def advance(self, steps: int, **scalars: float) -> None:
        pass

    def finish(self) -> None:
        pass
