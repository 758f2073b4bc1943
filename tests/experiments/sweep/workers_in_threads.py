"""Workers that are threads of this process: how a sweep hands out its points, without starting anything."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

Config = Mapping[str, Any]


class DiedError(Exception):
    """What a point raises that kills its worker."""


def context(point: Callable[[Config, str, str | None], None], started: list[str | None]) -> Any:
    """A context of multiprocessing whose processes call `point(config, folder, device)`; notes the devices of each."""

    class Process:
        exitcode = -9

        def __init__(self, target: object, args: tuple[Any, ...]) -> None:
            pipe, _, _, self.device = args
            # The other end is closed in this process as soon as it has been handed over.
            self.pipe = Connection(os.dup(pipe.fileno()))
            self.thread = threading.Thread(target=self._serve)
            started.append(self.device)

        def _serve(self) -> None:
            with self.pipe:
                while True:
                    try:
                        config, folder = self.pipe.recv()
                        point(config, folder, self.device)
                    except (EOFError, DiedError):
                        return
                    self.pipe.send(None)

        def start(self) -> None:
            self.thread.start()

        def is_alive(self) -> bool:
            return self.thread.is_alive()

        def terminate(self) -> None: ...

        def join(self, timeout: float | None = None) -> None:
            self.thread.join(timeout)

    return type("Context", (), {"Process": Process})
