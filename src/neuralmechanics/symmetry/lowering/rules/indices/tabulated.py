"""Whole numbers that are computed from others entry by entry, tabulated over all that these can be."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from neuralmechanics.symmetry.lowering.capture.captured import is_node, operation_name
from neuralmechanics.symmetry.lowering.graph.model_numbers import LARGEST, ModelNumbers

__all__ = ["tabulated"]

_ENTRYWISE = tuple(  # beside what torch says is pointwise
    f"aten.{n}"
    for n in ("where", "masked_fill", "floor_divide", "to", "_to_copy", "type_as", "clone", "contiguous", "detach",
              "alias", "zeros_like", "ones_like", "full_like")
)  # fmt: skip
_LOOKING_UP = ("aten.index", "aten.embedding", "aten.index_select", "aten.take")  # of a table of the model, first


def tabulated(node: fx.Node, base: fx.Node, count: int, numbers: ModelNumbers) -> tuple[Tensor, frozenset[str]] | None:
    """f(0), …, f(count - 1), where the node is f of ``base`` in the same place; and the buffers that f is made of.

    None where it is not, or where it is the same whatever ``base`` is.
    """
    if count > LARGEST:
        return None
    names: set[str] = set()
    made: dict[fx.Node, Tensor | None] = {base: torch.arange(count).to(base.meta["val"].dtype)}
    for one in _between(node, base):
        found = _computed(one, made)
        if found is None:
            value = numbers.entries(one)
            kind = getattr(one.meta.get("val"), "dtype", None)
            found = None if value is None or kind is None else torch.tensor(value).to(kind)
            names |= numbers.names(one) if found is not None else set()
        made[one] = found
    told = made.get(node)
    return None if told is None or told.shape != (count,) else (told, frozenset(names))


def _between(node: fx.Node, base: fx.Node) -> list[fx.Node]:
    """The node and what it is computed from, as far as the base, each behind what enters it; few of them."""
    found: dict[fx.Node, None] = {}
    waiting = [node]
    while waiting and len(found) < _MOST:
        one = waiting[-1]
        fresh = [n for n in one.all_input_nodes if n not in found and n is not base]
        if fresh:
            waiting += fresh
            continue
        found[waiting.pop()] = None
    return list(found)


_MOST = 64


def _computed(node: fx.Node, made: dict[fx.Node, Tensor | None]) -> Tensor | None:
    """What an operation gives in each place; None where something else enters, or other places do."""
    read = node.all_input_nodes
    if node.op != "call_function" or not read or any(made.get(n) is None for n in read):
        return None
    name, tags = operation_name(node), getattr(node.target, "tags", ())
    if torch.Tag.nondeterministic_seeded in tags or getattr(node.target, "_schema", None) is None:
        return None
    if node.target._schema.is_mutable:  # type: ignore[union-attr]
        return None
    if name in _LOOKING_UP:
        first, *rest = read
        plain = is_node(node.args[0]) and node.args[0] is first and len(rest) == 1 and rest[0] is not first
        dims = made[first].ndim == 1 if plain else False  # type: ignore[union-attr]
        if not dims or not _inside(made[rest[0]], len(made[first])):  # type: ignore[arg-type]
            return None
    elif torch.Tag.pointwise in tags or name in _ENTRYWISE:
        if any(made[n].ndim > 0 and len(made[n]) == 1 for n in read if n.meta["val"].ndim != 0):  # type: ignore[union-attr, arg-type]
            return None
    else:
        return None
    args = fx.node.map_arg(node.args, lambda n: made[n])
    kwargs = {k: v for k, v in fx.node.map_arg(node.kwargs, lambda n: made[n]).items() if k not in ("device", "layout")}
    with torch.no_grad():
        out = node.target(*args, **kwargs)  # type: ignore[operator]
    return out if isinstance(out, Tensor) and not out.is_meta else None


def _inside(places: Tensor | None, size: int) -> bool:
    return places is not None and not places.is_floating_point() and bool(((places >= 0) & (places < size)).all())
