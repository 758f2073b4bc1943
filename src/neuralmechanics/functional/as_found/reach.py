"""What a model and its loss can change when they run: a walk over everything that they refer to."""

from __future__ import annotations

import functools
import random
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset
from torch.utils.hooks import RemovableHandle

from neuralmechanics.functional.as_found.containers import (
    Kept,
    KeptArray,
    KeptCell,
    KeptClass,
    KeptList,
    KeptMapping,
    KeptObject,
    KeptSet,
    KeptSlots,
    KeptStream,
)
from neuralmechanics.functional.as_found.outside import CACHE, KeptNames, KeptVariable, Memory, Outside, is_foreign
from neuralmechanics.functional.as_found.tensors import KeptTensor

__all__ = ["Reach", "require_built"]

_ATOMS = frozenset({int, float, complex, bool, str, bytes, type(None), range, slice, torch.dtype, torch.device})
# What holds a training or its data is no part of the model, even where a model refers to it.
_ELSEWHERE = (ModuleType, Optimizer, Dataset, DataLoader)
_STREAMS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_HOOKED = nn.modules.module
_DEEPEST = 3  # containers within containers that are looked into, outside the model


class Reach:
    """Everything that running ``roots`` can change, as it is now.

    Followed from the roots: attributes of modules and of other objects, containers, tensors, functions with their
    closures and defaults, bound methods, classes of modules. ``outside`` adds what their code names in its modules:
    global containers and functions that remember results. Where that code names another module of layers, it belongs
    to the inside. ``parameters``: keep their bits (and those of gradients), too; else only their identity and memory.
    """

    def __init__(self, roots: Iterable[Any], *, parameters: bool, outside: bool) -> None:
        self.kept: list[Kept] = []
        self.tensors: list[KeptTensor] = []
        self.outside: list[Outside | KeptNames | KeptVariable] = []
        self.memories: list[Memory] = []
        self._bits = parameters
        self._seen: dict[int, Any] = {}
        self._inside: list[Any] = [*roots, *_global_hooks()]
        self._functions: list[FunctionType] = []
        self._names: set[str] = set()
        self._methods: dict[str, list[Any]] = {}
        self._follow()
        if outside:
            self._names.add("forward")
            self._meet("forward")
            while self._functions:
                self._read(self._functions.pop())
                self._follow()

    def _follow(self) -> None:
        """Visits what waits inside, until nothing does."""
        while self._inside:
            obj = self._inside.pop()
            if type(obj) not in _ATOMS and self._new(obj):
                self._visit(obj)

    def _new(self, obj: Any) -> bool:
        """Whether the object is met for the first time; it is held, so that its identity stays its own."""
        if id(obj) in self._seen:
            return False
        self._seen[id(obj)] = obj
        return True

    def _keep(self, kept: Kept) -> None:
        self.kept.append(kept)
        self._inside += kept.contents()

    def _visit(self, obj: Any) -> None:
        if isinstance(obj, Tensor):
            self._visit_tensor(obj)
        elif isinstance(obj, nn.Module):
            _require_built(obj)
            self._keep(KeptObject(obj))
            if isinstance(obj, torch.jit.ScriptModule):
                # A scripted module keeps its tensors in C++, out of the reach of its attributes.
                self._inside += [*obj.parameters(), *obj.buffers()]
            self._visit_classes(type(obj))
        elif isinstance(obj, dict):
            self._keep(KeptMapping(obj))
        elif isinstance(obj, (list, deque)):
            self._keep(KeptList(obj))
        elif isinstance(obj, set):
            self._keep(KeptSet(obj))
        elif isinstance(obj, (tuple, frozenset)):
            self._inside += obj
        elif isinstance(obj, CellType):
            self._keep(KeptCell(obj))
        elif isinstance(obj, np.ndarray):
            self._keep(KeptArray(obj))
        elif isinstance(obj, RemovableHandle):
            self._inside.append(obj.hooks_dict_ref())
        elif isinstance(obj, _STREAMS):
            self._keep(KeptStream(obj))
        elif callable(obj) and not isinstance(obj, type) and self._visit_callable(obj):
            pass
        elif not isinstance(obj, (type, *_ELSEWHERE)) and not is_foreign(type(obj).__module__):
            self._visit_object(obj)

    def _visit_tensor(self, tensor: Tensor) -> None:
        is_parameter = isinstance(tensor, nn.Parameter)
        self.tensors.append(KeptTensor(tensor, self._bits or not is_parameter))
        self._keep(KeptMapping(vars(tensor)))
        if tensor._backward_hooks:
            self._inside.append(tensor._backward_hooks)
        # Only of a leaf: torch warns when `.grad` of any other tensor is read.
        if tensor.is_leaf and tensor.grad is not None and self._new(tensor.grad):
            self.tensors.append(KeptTensor(tensor.grad, self._bits or not is_parameter))
        # Sharded and quantised tensors wrap others, which alone have memory.
        if hasattr(tensor, "__tensor_flatten__"):
            self._inside += [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]

    def _visit_callable(self, obj: Any) -> bool:
        """Functions in all their forms; False for an object that merely can be called."""
        if isinstance(obj, FunctionType):
            self._visit_function(obj)
        elif isinstance(obj, MethodType):
            self._inside += [obj.__self__, obj.__func__]
        elif isinstance(obj, functools.partial):
            self._inside += [obj.func, *obj.args, obj.keywords]
        elif isinstance(obj, CACHE):
            self.memories.append(Memory(obj))
            self._inside.append(obj.__wrapped__)
        elif isinstance(obj, _HOOKED._WrappedHook):
            self._inside.append(obj.hook)
        else:
            return False
        return True

    def _visit_function(self, function: FunctionType) -> None:
        # Before foreign functions are left: a decorator of torch hides the user's function behind its own.
        self._inside += [getattr(function, name, None) for name in ("__wrapped__", "_torchdynamo_orig_callable")]
        if is_foreign(function.__globals__.get("__name__")):
            return
        self._inside += [*(function.__closure__ or ()), *(function.__defaults__ or ())]
        self._inside.append(function.__kwdefaults__)
        self._keep(KeptMapping(function.__dict__))
        self._functions.append(function)

    def _visit_object(self, obj: Any) -> None:
        if hasattr(obj, "__dict__"):
            self._keep(KeptObject(obj))
        names = [name for kind in type(obj).__mro__ for name in _slots(kind)]
        if names:
            self._keep(KeptSlots(obj, names))
        self._visit_classes(type(obj))

    def _visit_classes(self, kind: type) -> None:
        """The data of a class and of those that it inherits from; its methods wait until code names them."""
        for each in kind.__mro__:
            if is_foreign(each.__module__) or not self._new(each):
                continue
            data = KeptClass(each)
            self.kept.append(data)
            for name, value in vars(each).items():
                function = _function_of(value)
                if function is None:
                    self._inside += [] if name.startswith("__") or isinstance(value, type) else [value]
                elif name in self._names:
                    self._inside.append(function)
                else:
                    self._methods.setdefault(name, []).append(function)

    def _meet(self, name: str) -> None:
        """Methods of known classes that are called so."""
        self._names.add(name)
        self._inside += self._methods.pop(name, [])
        self._follow()

    def _read(self, function: FunctionType) -> None:
        """What the function's code names: in its own module, in modules that it names, and as methods."""
        # Attributes are among them: of all known classes the methods of these names are followed.
        names = set(_code_names(function.__code__))
        for name in names - self._names:
            self._meet(name)
        spaces = [function.__globals__]
        for name in names:
            value = function.__globals__.get(name)
            if isinstance(value, ModuleType) and not is_foreign(value.__name__):
                spaces.append(vars(value))
        for space in spaces:
            self.outside.append(KeptNames(space, names))
            for name in names & space.keys():
                self._look(space[name], 0)

    def _look(self, value: Any, depth: int) -> None:
        """A global value: what it remembers, and which code it leads to."""
        if type(value) in _ATOMS or isinstance(value, (Tensor, *_ELSEWHERE)):
            return
        function = _function_of(value)
        if function is not None or isinstance(value, nn.Module):
            self._inside.append(value if function is None else function)
            self._follow()
            return
        if depth > _DEEPEST or not self._new(value):
            return
        if isinstance(value, type):
            self._look_at_class(value, depth)
        elif isinstance(value, dict):
            self._watch(KeptMapping(value), depth)
        elif isinstance(value, (list, deque)):
            self._watch(KeptList(value), depth)
        elif isinstance(value, (set, tuple, frozenset)):
            for entry in value:
                self._look(entry, depth + 1)
        elif isinstance(value, ContextVar):
            self.outside.append(KeptVariable(value))
        elif isinstance(value, threading.local):
            self._watch(KeptMapping(vars(value)), depth)
        elif hasattr(value, "__dict__") and not is_foreign(type(value).__module__):
            self._look(type(value), depth)
            self._watch(KeptObject(value), depth)

    def _look_at_class(self, kind: type, depth: int) -> None:
        if is_foreign(kind.__module__):
            return
        self._watch(KeptClass(kind), depth)
        for name, value in vars(kind).items():
            function = _function_of(value)
            if function is not None and name in self._names:
                self._inside.append(function)
            elif function is not None:
                self._methods.setdefault(name, []).append(function)
        self._follow()

    def _watch(self, kept: KeptMapping | KeptList | KeptClass, depth: int) -> None:
        self.outside.append(Outside(kept))
        for entry in list(kept.contents()):
            self._look(entry, depth + 1)


def require_built(model: Any) -> None:
    """Raises ValueError where a layer of the model waits for its first input to learn its shape."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        _require_built(module)


def _require_built(module: nn.Module) -> None:
    for name, parameter in module._parameters.items():
        if parameter is not None and is_lazy(parameter):
            raise ValueError(
                f"parameter {name!r} of a {type(module).__name__} has no shape yet; run the model once on a batch, "
                "so that its lazy layers are built"
            )


def _global_hooks() -> Iterator[Any]:
    """Hooks that torch runs around every module."""
    for name in ("_global_forward_pre_hooks", "_global_forward_hooks", "_global_backward_hooks"):
        yield getattr(_HOOKED, name, None)


def _function_of(value: Any) -> Any:
    """The function behind a method, property or decorator; None for data."""
    if isinstance(value, (staticmethod, classmethod)):
        return value.__func__
    if isinstance(value, property):
        return value.fget
    if isinstance(value, functools.cached_property):
        return value.func
    if isinstance(value, (FunctionType, MethodType, functools.partial, CACHE)):
        return value
    return None


def _code_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_names(constant)


def _slots(kind: type) -> Iterable[str]:
    slots = vars(kind).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]
