"""What a function of one tensor does, as a list of operations of torch in which values are numbered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from neuralmechanics.flows.equation.operations import Step, Value, needed, replay_of
from neuralmechanics.functional.dispatching import DispatchMode

__all__ = ["NotStraightError", "Recording"]

_ATEN = torch.ops.aten
# The same numbers under another name.
_SAME = {_ATEN.detach.default, _ATEN.alias.default, _ATEN.lift_fresh.default}
# The same numbers where the shape is the same.
_SHAPED = {_ATEN.view.default, _ATEN.expand.default, _ATEN.slice.Tensor, _ATEN._unsafe_view.default}
# Of their argument these read the shape alone. What is empty holds no number that may be read before it is written.
_FILLED = {
    getattr(_ATEN, name).default
    for name in (
        *("zeros_like", "ones_like", "full_like", "empty_like", "zero"),
        *("new_zeros", "new_ones", "new_full", "new_empty"),
    )
} | {_ATEN.fill.Scalar}
# Their form that does not write has another overload.
_RENAMED = {_ATEN.transpose_.default: _ATEN.transpose.int}
# So many entries of two tensors are compared, to see whether they share one.
_MOST_COMPARED = 1 << 20
_PRODUCTS = {_ATEN.mul.Tensor, _ATEN.mul.Scalar}
_FORBIDDEN = {torch.Tag.data_dependent_output, torch.Tag.nondeterministic_seeded, torch.Tag.dynamic_output_shape}
# Indexing has a shape of its own only where it is by a mask.
_INDEXING = {_ATEN.index.Tensor, _ATEN.index_put.default, _ATEN.index_put_.default}
# By these Python reads a tensor's numbers without an operation.
_READING = {
    Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.data_ptr, Tensor.untyped_storage, Tensor.__dlpack__,
}  # fmt: skip


class NotStraightError(Exception):
    """The function may do something else at another point."""


class Recording(DispatchMode):  # type: ignore[no-untyped-call]
    """The operations of one run of a function on ``x``, each made once, those that do not depend on x left out.

    Writing into a value becomes a new value; writing into a tensor from outside is left out. What is copied into one is
    its value from there on; where else it is read after, or was read before, the function is no function of x alone.
    """

    def __init__(self, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.constants: dict[int, Tensor] = {}
        self._numbers = {id(x): 0}
        # All tensors seen: a name is a place in memory, which must not be given away again.
        self._alive = [x]
        self._made: dict[Any, tuple[int, ...]] = {}
        self._stale: set[int] = set()
        # Tensors from outside that were read, and places in memory from outside that were written into.
        self._read: set[int] = set()
        self._changed: set[int] = set()
        self._tensors = {id(x): x}
        self._places: dict[int, list[int]] = {_place(x): [id(x)]}
        self._count = 1

    def of(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The line of operations by which ``function`` made its result from x."""
        with _Unread(), self:
            result = function(self._alive[0])
        last = self._number(result)
        return replay_of(needed(self.steps, last), self.constants, last)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        _require_straight(func, args)
        written = [
            value
            for value, argument in zip(args, func._schema.arguments, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        if any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments if a.name in options):
            raise NotStraightError(f"{func} writes into a tensor that is given by name")
        # Read before the operation runs, which may write.
        outside = [value for value in written if id(value) not in self._numbers]
        named = None if outside else pytree.tree_map_only(Tensor, lambda t: Value(self._number(t)), (args, options))
        found = func(*args, **options)
        for value in outside:
            self._change(func, value, args)
        if named is not None:
            self._note(_functional(func) if written else func, named, found, args)
            # Where the shape alone is written, nobody else's numbers change.
            for value in written if torch.Tag.inplace_view not in func.tags else ():
                self._outdate(value, itself=False)
        return found

    def _change(self, func: Any, value: Tensor, args: Sequence[Any]) -> None:
        """A tensor from outside is written into: a copy is its value from there on, all else is not known."""
        self._outdate(value, itself=True)
        self._changed.add(_place(value))
        source = args[1] if func is _ATEN.copy_.default else None
        if isinstance(source, Tensor) and source.shape == value.shape and source.dtype == value.dtype:
            self._name([value], (self._number(source),))

    def _note(self, operation: OpOverload, named: tuple[Any, Any], found: Any, given: Sequence[Any]) -> None:
        results = [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]
        arguments, options = named
        same = _unchanged(operation, given, arguments, found, self.constants)
        if same is not None:
            self._name(results, (same.number,))
            return
        key = (operation, _hashable(arguments), _hashable(options))
        numbers = self._made.get(key)
        if numbers is None:
            numbers = tuple(range(self._count, self._count + len(results)))
            self._count += len(results)
            inputs = [leaf.number for leaf in pytree.tree_leaves(named) if isinstance(leaf, Value)]
            if operation in _FILLED or all(number in self.constants for number in inputs):
                # Copies, because these may be written into while the function goes on.
                self.constants.update(zip(numbers, (tensor.clone() for tensor in results), strict=True))
            else:
                self.steps.append(Step(operation, arguments, options, numbers))
            self._made[key] = numbers
        self._name(results, numbers)

    def _number(self, tensor: Tensor) -> int:
        if id(tensor) in self._stale:
            raise NotStraightError("a tensor is read that shares its memory with one that was written into")
        if id(tensor) not in self._numbers:
            if _place(tensor) in self._changed:
                raise NotStraightError("a tensor is read that shares its memory with one that was written into")
            self._read.add(id(tensor))
            self.constants[self._count] = tensor
            self._name([tensor], (self._count,))
            self._count += 1
        return self._numbers[id(tensor)]

    def _name(self, tensors: Sequence[Tensor], numbers: Sequence[int]) -> None:
        for tensor, number in zip(tensors, numbers, strict=True):
            self._numbers[id(tensor)] = number
            self._stale.discard(id(tensor))
            self._alive.append(tensor)
            self._tensors[id(tensor)] = tensor
            self._places.setdefault(_place(tensor), []).append(id(tensor))

    def _outdate(self, written: Tensor, *, itself: bool) -> None:
        """All that shares the memory of a tensor has changed with it; nobody here knows how."""
        self._alive.append(written)
        sharing = [name for name in self._places.get(_place(written), []) if name != id(written)]
        sharing = [name for name in sharing if _overlap(self._tensors[name], written)]
        if self._read & {*sharing, id(written)}:
            raise NotStraightError("a tensor is written into that was read before: its numbers go from point to point")
        self._stale.update(sharing)
        if itself:
            self._stale.add(id(written))


class _Unread(TorchFunctionMode):
    """Refuses that Python reads numbers of tensors past torch's operations."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READING:
            raise NotStraightError(f"{func.__name__} reads numbers")
        return func(*args, **(kwargs or {}))


def _require_straight(func: Any, args: Sequence[Any]) -> None:
    tags = _FORBIDDEN & set(func.tags)
    if func in _INDEXING:
        masked = any(
            isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8) for i in pytree.tree_leaves(args[1])
        )
        tags = tags if masked else tags - {torch.Tag.dynamic_output_shape}
    if tags:
        raise NotStraightError(f"{func}: what it does may differ from point to point")


def _functional(func: OpOverload) -> OpOverload:
    """The operation that gives as a new tensor what ``func`` writes into its first argument."""
    if func in _RENAMED:
        return _RENAMED[func]
    name, overload = func._schema.name.split("::")[1], func._overloadname
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    if not name.endswith("_") or packet is None or overload not in packet.overloads():
        raise NotStraightError(f"{func} writes and has no form that does not")
    found: OpOverload = getattr(packet, overload)
    return found


def _unchanged(
    operation: OpOverload, given: Sequence[Any], arguments: Sequence[Any], found: Any, constants: Mapping[int, Tensor]
) -> Value | None:
    """The argument that the operation only hands on: a name, a shape that is the same, a product with one."""
    if operation in _SAME:
        return _only(arguments[0])
    if not isinstance(found, Tensor) or not given or not isinstance(given[0], Tensor):
        return None
    alike = found.shape == given[0].shape and found.dtype == given[0].dtype
    if operation in _SHAPED and alike:
        return _only(arguments[0])
    if operation is _ATEN.clone.default and found.stride() == given[0].stride():
        return _only(arguments[0])
    if operation in _PRODUCTS and alike and found.stride() == given[0].stride():
        factor = arguments[1]
        if isinstance(factor, Value):
            number = constants.get(factor.number)
            return _only(arguments[0]) if number is not None and bool((number == 1).all()) else None
        return _only(arguments[0]) if factor == 1 else None
    return None


def _only(argument: Any) -> Value | None:
    return argument if isinstance(argument, Value) else None


def _place(tensor: Tensor) -> int:
    # Through the class: the mode that refuses such reading is meant for the function, not for this.
    with torch._C.DisableTorchFunction():
        return tensor.untyped_storage().data_ptr()


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one storage have an entry in common, as two chunks of one tensor have not."""
    if one.numel() + other.numel() > _MOST_COMPARED or one.dtype != other.dtype:
        return True
    return bool(torch.isin(_offsets(one), _offsets(other)).any())


def _offsets(tensor: Tensor) -> Tensor:
    """Where in the storage the entries of a tensor lie."""
    found = torch.tensor(tensor.storage_offset())
    for side, stride in zip(tensor.shape, tensor.stride(), strict=True):
        found = found[..., None] + torch.arange(side) * stride
    return found.flatten()


def _hashable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_hashable(entry) for entry in value)
    if isinstance(value, Mapping):
        return tuple(sorted((name, _hashable(entry)) for name, entry in value.items()))
    # 0.0 and -0.0 are equal, 1 and 1.0 and True too, and not the same.
    return (type(value), repr(value)) if isinstance(value, int | float | complex) else value
