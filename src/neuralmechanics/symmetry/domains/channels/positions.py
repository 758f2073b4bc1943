"""Entries of a layout at given positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neuralmechanics.symmetry.domains.channels.layout import Layout, Leaf, MismatchError, product, same, summed
from neuralmechanics.symmetry.domains.channels.nodes import Nodes

__all__ = ["taken"]

_RUNS = 32  # up to which each is followed as a part of its own


def taken(nodes: Nodes, layout: Layout, positions: Sequence[int]) -> Layout:
    """The entries at these positions: all, repeated; runs of equal length at equal distances; or few runs."""
    layout = nodes.resolved(layout)
    n, count = layout.width, len(positions)
    if list(positions) == list(range(n)):
        return layout
    # Of entries that nothing moves it is all one which are taken.
    if isinstance(layout, Leaf) and layout.node is None:
        return replace(layout, width=count)
    if 0 < n < count and count % n == 0:
        times = count // n
        if list(positions) == [k // times for k in range(count)]:
            return product([layout, same(times)])
        if list(positions) == [k % n for k in range(count)]:
            return product([same(times), layout])
    # Slices of a reshaped dimension, such as the heads' parts of a packed projection: the same run in every period.
    first = positions[0]
    run = next((k for k in range(1, count) if positions[k] != first + k), count)
    stride = positions[run] - first if run < count else n
    even = stride >= run and n % stride == 0 and count == run * (n // stride) and first + run <= stride
    if not even or any(p != first % stride + stride * (k // run) + k % run for k, p in enumerate(positions)):
        return _runs(nodes, layout, positions)
    outer, inner = nodes.factored(layout, [n // stride, stride]) if stride < n else (same(1), layout)
    _, rest = nodes.cut(inner, first)
    kept, _ = nodes.cut(rest, run)
    return product([outer, kept])


def _runs(nodes: Nodes, layout: Layout, positions: Sequence[int]) -> Layout:
    """Runs of entries one after the other, some of them perhaps the same."""
    starts = [k for k, p in enumerate(positions) if not k or p != positions[k - 1] + 1]
    if len(starts) > _RUNS:
        raise MismatchError(f"{len(positions)} of {layout.width} entries in {len(starts)} runs")
    parts = []
    for start, end in zip(starts, [*starts[1:], len(positions)], strict=True):
        _, rest = nodes.cut(layout, positions[start])
        parts.append(nodes.cut(rest, end - start)[0])
    return summed([nodes.resolved(part) for part in parts])
