"""Torch's defaults as the monitor's own work expects them, whatever the loop around it has set."""

from __future__ import annotations

from contextlib import AbstractContextManager, ContextDecorator, ExitStack
from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["own_defaults"]


class own_defaults(ContextDecorator):  # noqa: N801 — used as the functions of contextlib are
    """No gradients are recorded, what is made can be written to, and what names no device lies on the host."""

    def __enter__(self) -> Self:
        self._entered: AbstractContextManager[object] = torch.no_grad()
        # A device context costs every torch function a call: only where the loop has set another device, which an empty
        # tensor tells in a tenth of the time that torch.get_default_device() takes.
        elsewhere, inference = torch.empty(0).device.type != "cpu", torch.is_inference_mode_enabled()
        if elsewhere or inference:
            stack = ExitStack()
            if inference:  # what is made there could not be written to by the steps that come outside of it
                stack.enter_context(torch.inference_mode(False))
            stack.enter_context(self._entered)
            if elsewhere:
                stack.enter_context(torch.device("cpu"))
            self._entered = stack
            return self
        self._entered.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.__exit__(kind, error, trace)

    def _recreate_cm(self) -> Self:
        return type(self)()
