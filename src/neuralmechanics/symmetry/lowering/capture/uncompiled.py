"""Graphs without the Python code of their own that torch writes and compiles after every change of a graph.

A capture passes through a dozen changes, one for every region without gradients more, and is read node by node, so that
nobody calls that code: of a long graph it takes a third of the export.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, MethodType
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
    type(module).forward = _Postponed(module)  # every module of a graph has a class of its own


class _Postponed:
    """A ``forward`` that is compiled when it is called, or when its arguments are asked for: torch names inputs so."""

    def __init__(self, module: fx.GraphModule) -> None:
        self._module = weakref.ref(module)

    def __get__(self, module: fx.GraphModule | None, owner: type) -> Any:
        return self if module is None else MethodType(self, module)

    def __call__(self, module: fx.GraphModule, *args: Any, **kwargs: Any) -> Any:
        _compile(module)
        return module.forward(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._compiled())

    @property
    def __code__(self) -> CodeType:
        code: CodeType = self._compiled().__code__
        return code

    def _compiled(self) -> Any:
        module = self._module()
        assert module is not None
        if type(module).forward is self:
            _compile(module)
        return type(module).forward
