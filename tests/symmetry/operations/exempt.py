"""Which rules, forms and options have no call, or are not executed, and why."""

from __future__ import annotations

__all__ = ["ENDING", "NOT_CALLED", "NOT_DRAWN", "RANDOM", "SAME_FUNCTION", "without_call"]

# Rules without a call.
NOT_CALLED = {
    "aten._assert_tensor_metadata": "a statement without a result",
    "aten._assert_scalar": "a statement without a result",
    "aten._assert_async": "a statement without a result",
    "aten.sym_constrain_range": "a statement without a result",
    "aten.sym_constrain_range_for_size": "a statement without a result",
    "aten.empty": "its numbers are whatever stood in memory",
    "aten.empty_like": "its numbers are whatever stood in memory",
    "aten.new_empty": "its numbers are whatever stood in memory",
    "aten.new_empty_strided": "its numbers are whatever stood in memory",
    "aten.empty_strided": "its numbers are whatever stood in memory",
    "aten.cudnn_batch_norm": "runs on one kind of device alone",
}

# Settings that do not change which function an operation computes, or only how it is rounded and stored.
SAME_FUNCTION = frozenset(["dtype", "layout", "device", "pin_memory", "memory_format", "generator"])

_FORMS = {
    ("aten.view", "dtype"): "the bits of numbers as another type",
    ("aten.einsum", "sublist"): "written in letters before it is captured",
    ("aten.mm", "dtype"): "in reduced precision on one kind of device",
    ("aten.bmm", "dtype"): "in reduced precision on one kind of device",
    ("aten.addmm", "dtype"): "in reduced precision on one kind of device",
    ("aten.baddbmm", "dtype"): "in reduced precision on one kind of device",
    ("aten.rand_like", "generator"): "where random numbers come from",
    ("aten.randn_like", "generator"): "where random numbers come from",
}


def without_call(rule: str, overload: str, returned: tuple[str, ...], taken: tuple[str, ...]) -> bool:
    """Whether a form of an operation needs none: it has no tensor for a result, or names dimensions, or is listed."""
    tensors = any(kind.startswith(("Tensor", "List[Tensor]", "SymInt", "int", "number")) for kind in returned)
    scripted = any(
        kind in ("str", "List[t]", "Dict(str, t)") or kind.startswith(("Dict", "List[t")) for kind in taken[:2]
    )
    of_tensors = taken[:1] in (("Tensor",), ("List[Tensor]",)) or rule.startswith("aten.where") or "Tensor" in taken
    named = any("str" in kind for kind in taken if "List" in kind)
    return not tensors or scripted or not of_tensors or named or (rule, overload) in _FORMS


# Calls that draw random numbers in an order that the program does not keep.
RANDOM = frozenset(["aten.rnn_relu"])

# Numbers of Python, which have no shape.
NOT_DRAWN = frozenset(["arange", "zeros", "ones", "full", "scalar_tensor"])
ENDING: frozenset[str] = frozenset()
