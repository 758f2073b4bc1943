"""Keeps a model that insists on float32 inside its norms in float64, so that identities can be checked to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


class DoublePrecision(TorchFunctionMode):
    """Reads every request for float32 as one for float64."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if function is Tensor.float:
            function = Tensor.double
        args = tuple(_double(value) for value in args)
        return function(*args, **{key: _double(value) for key, value in (kwargs or {}).items()})


def _double(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
