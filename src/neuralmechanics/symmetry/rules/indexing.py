"""Entries picked or placed by indices."""

from __future__ import annotations

from typing import Any

from neuralmechanics.symmetry.capture import is_node
from neuralmechanics.symmetry.rules.registry import number_behind, rule
from neuralmechanics.symmetry.rules.views import meta_shape


@rule("embedding")
def embedding(d: Any, node: Any, weight: Any, index: Any, *_: Any, **__: Any) -> Any:
    """Row index[…] of the table."""
    return d.gather(weight, 0, tuple(index.shape), node.args[1])


@rule("index_select")
def index_select(d: Any, node: Any, x: Any, dim: int, index: Any) -> Any:
    return d.gather(x, dim % len(x.shape), tuple(index.shape), node.args[2])


@rule("index")
def indexed(d: Any, node: Any, x: Any, indices: Any) -> Any:
    """One indexed dimension is a gather; several that are adjacent are flattened into one."""
    used = [k for k, index in enumerate(indices) if index is not None]
    shape = meta_shape(node)
    if len(used) == 1 and len(indices[used[0]].shape) >= 0 and _is_integer(node.args[1][used[0]]):
        k = used[0]
        out = d.gather(x, k, tuple(indices[k].shape), node.args[1][k])
        return out if tuple(out.shape) == shape else _fixed(d, x, shape)
    return _fixed(d, x, shape)


def _is_integer(node: Any) -> bool:
    import torch

    return is_node(node) and node.meta["val"].dtype in (torch.int64, torch.int32, torch.int16, torch.uint8)


def _fixed(d: Any, x: Any, shape: Any) -> Any:
    d.fix(x)
    return d.constant(shape)


@rule("gather", "take_along_dim")
def gathered(d: Any, node: Any, x: Any, dim: int, index: Any, **__: Any) -> Any:
    """Along ``dim``, every position of the output picks its own entry."""
    shape = meta_shape(node)
    even = d.spread_along(x, dim % len(x.shape))
    return d.resized(even, shape)


@rule("index_add", "scatter_add", "index_copy", "scatter", "slice_scatter", "select_scatter", "index_put")
def placed(d: Any, node: Any, x: Any, *rest: Any, **__: Any) -> Any:
    """Entries of a source put into, or added to, places of x: both change alike, the same along the dimension."""
    shape = meta_shape(node)
    name = str(node.target)
    dim = 0 if "index_put" in name else next((r for r in rest if isinstance(r, int)), 0) % max(1, len(shape))
    if "slice_scatter" in name or "select_scatter" in name:
        dim = node.args[2] % len(shape) if len(node.args) > 2 else 0
    source = rest[0] if "slice_scatter" in name or "select_scatter" in name else rest[-1]
    if isinstance(source, bool):
        source = rest[-2]
    single = "index_put" not in name or len([i for i in node.args[1] if i is not None]) == 1
    if not hasattr(source, "shape") or len(source.shape) != len(shape) or not single:
        d.fix(x, *([source] if hasattr(source, "shape") else []))
        return d.constant(shape)
    onto = None if number_behind(node.args[0]) == 0 else x
    return d.placed(onto, source, dim, shape)


@rule(
    "one_hot",
    "arange",
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "scalar_tensor",
    "bernoulli",
)
def fresh(d: Any, node: Any, *_: Any, **__: Any) -> Any:
    """Shapes only: the values of the input do not matter."""
    return d.constant(meta_shape(node))


@rule("diagonal")
def diagonal(d: Any, node: Any, x: Any, *_: Any, **__: Any) -> Any:
    return _fixed(d, x, meta_shape(node))
