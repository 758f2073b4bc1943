"""Processes of their own that find the libraries loaded: forked from one that did nothing but load them."""

from __future__ import annotations

import multiprocessing
from functools import cache
from multiprocessing.context import ForkServerContext

__all__ = ["loaded"]

# Seconds of processor time for each process that would load them by itself. The package's own modules among them load
# the others of their part.
_LIBRARIES = (
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
    "torch.export",
    "torch.func",
    "torch.nn.parallel",
    "pandas",
    "safetensors.torch",
    "scipy.sparse.linalg",
    "xarray",
)


@cache
def loaded() -> ForkServerContext:
    """A context of multiprocessing, like that of `spawn` but for the time that a process takes to begin."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_LIBRARIES))
    return context
