"""Calls of sums, extrema, poolings and softmax, with every option."""

from __future__ import annotations

import torch

from .case import D, G, I, P
from .table import Table

table = Table()
c = table.call
SHAPES = [(3,), (2, 3), (2, 3, 2), ()]

for shape in SHAPES:
    x = P(*shape)
    for name in ("sum", "mean", "nansum", "nanmean"):
        if name in ("sum", "mean"):
            c(name, "default", x)
            c(name, "default", x, dtype=torch.float64)
            for dims in ([0], [-1], [], None, [0, -1] if len(shape) > 1 else [0]):
                if name != "mean" or dims is not None:
                    c(name, "dim_IntList" if name == "sum" else "dim", x, dims)
                    c(name, "dim_IntList" if name == "sum" else "dim", x, dims, True)
        else:
            c(name, "default", x)
            c(name, "default", x, [-1], True)
            c(name, "default", x, [0], dtype=torch.float64)
    for name in ("amax", "amin"):
        c(name, "default", x)
        c(name, "default", x, [0])
        c(name, "default", x, [-1], True)
        c(name, "default", x, [0, -1] if len(shape) > 1 else [], True)
    for name in ("max", "min"):
        c(name, "default", x)
        c(name, "dim", x, 0)
        c(name, "dim", x, -1, True)
        c(name, "other", x, P(*shape))
        c(name, "other", x, D())
    for name in ("all", "any"):
        c(name, "default", x)
        c(name, "dim", x, -1, True)
        c(name, "dims", x, [0], True)
    c("count_nonzero", "default", x)
    c("count_nonzero", "default", x, 0)
    c("count_nonzero", "dim_IntList", x, [-1])
    c("histc", "default", x, 4, -2, 2)
    for name in ("argmax", "argmin"):
        c(name, "default", x)
        c(name, "default", x, 0)
        c(name, "default", x, -1, True)
    c("prod", "default", x)
    c("prod", "dim_int", x, -1, True)
    c("prod", "dim_int", x, 0, dtype=torch.float64)
    c("prod", "default", x, dtype=torch.float64)
    c("logsumexp", "default", x, [0])
    c("logsumexp", "default", x, [-1], True)
    c("logcumsumexp", "default", x, -1)
    c("cumprod", "default", x, -1)
    c("cumprod", "default", x, 0, dtype=torch.float64)
    for name in ("median", "nanmedian"):
        c(name, "default", x)
        c(name, "dim", x, -1, True)
    c("mode", "default", x)
    c("mode", "default", x, 0, True)
    c("kthvalue", "default", x, 1)
    c("kthvalue", "default", x, 1, 0, True)
    for name in ("cummax", "cummin"):
        c(name, "default", x, -1)
    for name in ("quantile", "nanquantile"):
        c(name, "scalar", x, 0.3)
        c(name, "scalar", x, 0.3, -1, True, interpolation="nearest")
        c(name, "default", x, torch.tensor([0.2, 0.7], dtype=torch.float64), -1, interpolation="lower")
        c(name, "default", x, torch.tensor(0.4, dtype=torch.float64), 0, True)
    c("aminmax", "default", x)
    c("aminmax", "default", x, dim=0, keepdim=True)
    for name in ("softmax", "log_softmax"):
        c(name, "int", x, 0)
        c(name, "int", x, -1, torch.float64)
    for name in ("_softmax", "_log_softmax"):
        c(name, "default", x, 0, False)
        c(name, "default", x, -1, False)
    c("_safe_softmax", "default", x, -1)
    c("_safe_softmax", "default", x, 0, torch.float64)
    c("special_softmax", "default", x, -1)
    c("special_softmax", "default", x, 0, torch.float64)
    c("special_log_softmax", "default", x, -1)
    c("special_log_softmax", "default", x, 0, dtype=torch.float64)
    c("sort", "default", x)
    c("sort", "default", x, 0, True)
    c("sort", "stable", x, stable=True)
    c("sort", "stable", x, stable=False, dim=0, descending=True)
    c("topk", "default", x, 1)
    c("topk", "default", x, 1, 0, False, False)
    c("detach", "default", x)
for n in (3, 4, 6):
    c("bincount", "default", I(3, n))
    c("bincount", "default", I(3, n), P(n), 5)
    c("topk", "default", P(2, n), 2, -1)
    c("topk", "default", P(n, 2), 3, 0, True, True)

_WIDE = {1: (6,), 2: (4, 5), 3: (3, 4, 3)}
for n, size in _WIDE.items():
    two, one = [2] * n, [1] * n
    small = (4,) * n
    for x in (P(1, 2, *size), P(1, *size), P(2, 1, *small)):
        for name in (f"max_pool{n}d", f"max_pool{n}d_with_indices"):
            c(name, "default", x, two)
            c(name, "default", x, two, one)
            c(name, "default", x, two, two, one)
            c(name, "default", x, two, one, [0] * n, [2 if n < 3 else 1] * n)
            c(name, "default", x, two, [2] * n, one, one, True)
        average = f"avg_pool{n}d"
        c(average, "default", x, two)
        c(average, "default", x, two, one)
        c(average, "default", x, two, two, one)
        c(average, "default", x, [3] * n, two, one, True)
        c(average, "default", x, two, two, one, False, False)
        c(average, "default", x, two, two, [0] * n, True)
        if n > 1:
            c(average, "default", x, two, two, one, False, True, 3)
            c(average, "default", x, two, two, [0] * n, False, True, -3)
        for name in (f"adaptive_max_pool{n}d", f"adaptive_avg_pool{n}d"):
            c(name, "default", x, two)
            c(name, "default", x, one)
            c(name, "default", x, [3] * n)
        if n > 1:
            c(f"_adaptive_avg_pool{n}d", "default", x, two)
            c(f"_adaptive_avg_pool{n}d", "default", x, one)
            c(f"_adaptive_avg_pool{n}d", "default", x, [3] * n)
for shape in [(1, 2, 4, 4), (1, 1, 5, 4), (2, 1, 4, 4)]:
    c(
        "fractional_max_pool2d",
        "default",
        P(*shape),
        [2, 2],
        [2, 2],
        G(torch.full((shape[0], shape[1], 2), 0.4).double()),
    )

for name in ("max_pool3d", "max_pool3d_with_indices"):
    c(name, "default", P(1, 1, 4, 4, 4), [2, 2, 2], [1, 1, 1], [0, 0, 0], [2, 1, 2])
