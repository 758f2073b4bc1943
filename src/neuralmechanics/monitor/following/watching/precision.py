"""The precision that a loop computes its gradients in, which decides what is rounding there."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from neuralmechanics.monitor.following.watching.cancellation import in_low_precision


class Precision:
    """The coarsest type on the way from the parameters to their gradients.

    Parameters have a type of their own; autocast is seen by a hook in front of the model, which looks and changes
    nothing, and in gradients that only half precision can have left; reduced matrix products are torch's settings.
    """

    def __init__(self) -> None:
        self._autocast: torch.dtype | None = None
        self.scaled_calls = 0
        """calls of the model, to be differentiated, under autocast to float16: what a gradient scaler belongs to"""
        self._hook: RemovableHandle | None = None

    def attach(self, model: nn.Module) -> None:
        """Look at every call of the model."""
        self._hook = model.register_forward_pre_hook(_Look(self))

    def close(self) -> None:
        """Take the hook away."""
        if self._hook is not None:
            self._hook.remove()

    def unit(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> float:
        """The spacing at one of the coarsest type in use."""
        types = {p.dtype.to_real() for p in params.values() if p.is_floating_point() or p.is_complex()}
        types |= {t for t in (self._autocast, in_low_precision(gradients)) if t is not None}
        if torch.float32 in types:
            cuda = any(p.is_cuda for p in params.values())
            if torch.get_float32_matmul_precision() != "highest" or (cuda and torch.backends.cudnn.allow_tf32):
                types.add(torch.float16)  # as many digits as TF32 has
            if torch.get_float32_matmul_precision() == "medium":
                types.add(torch.bfloat16)
        return max((float(torch.finfo(t).eps) for t in types), default=float(torch.finfo(torch.float64).eps))

    def see(self) -> None:
        """Note autocast, where it is on for a computation that is differentiated."""
        for device in ("cpu", "cuda"):
            if torch.is_grad_enabled() and torch.is_autocast_enabled(device):
                self._autocast = torch.get_autocast_dtype(device)
                self.scaled_calls += self._autocast is torch.float16


class _Look:
    """The hook in front of a model. Copies and pickles of the model get a callable that does nothing instead."""

    def __init__(self, precision: Precision) -> None:
        self._precision = precision

    def __call__(self, module: nn.Module, args: Any) -> None:
        if not torch.compiler.is_compiling():  # a constant to the compiler, which then sees an empty hook
            self._precision.see()

    def __reduce__(self) -> tuple[Any, ...]:
        # Of the standard library alone, so that a model saved whole needs nothing of this package.
        return partial, (nullcontext().__exit__, None)
