"""Graphs without the Python code of their own that torch writes and compiles after every change of a graph.

A capture passes through a dozen changes, one for every region without gradients more, and is read node by node, so that
nobody calls that code: of a long graph it takes a third of the export.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx

__all__ = ["compiled_when_called"]

_compile = fx.GraphModule.recompile


@contextmanager
def compiled_when_called() -> Iterator[None]:
    """Meanwhile a changed graph is compiled when its module is called, which then does what it always does.

    torch has this for the modules of its compiler (``torch.fx._lazy_graph_module``), not for those of an export.
    """
    before: Any = fx.GraphModule.recompile
    if before is _postpone:  # another capture of this process puts it back
        yield
        return
    fx.GraphModule.recompile = _postpone  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        fx.GraphModule.recompile = before  # type: ignore[method-assign]


def _postpone(module: fx.GraphModule) -> None:
    """What ``GraphModule.recompile`` leaves on a module that nobody calls: the structure of what it takes and gives."""
    structure = getattr(module.graph._codegen, "pytree_info", None)
    if structure is not None:
        module._in_spec, module._out_spec = structure.in_spec, structure.out_spec
    if not hasattr(module, "_code"):
        module._code = ""
    type(module).forward = _compile_and_call  # every module of a graph has a class of its own


def _compile_and_call(module: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
    _compile(module)
    return module.forward(*args, **kwargs)
