"""Calls of products, diagonals and rearrangements under other names, and of what torch lowers its operations to."""

from __future__ import annotations

from typing import Any

import torch

from .case import Case, D, P
from .table import Table

table = Table()
c = table.call

for x, y in [((3,), (3,)), ((2, 3), (3,)), ((2, 3), (4, 3)), ((2, 1, 3), (2, 3)), ((), (2, 3))]:
    c("inner", "default", P(*x), P(*y))
for dims in [([1], [0]), ([0, -1], [1, 0]), ([], [])]:
    c("tensordot", "default", P(2, 3), P(3, 2), *dims)
for name in ("linalg_multi_dot", "chain_matmul"):
    c(name, "default", [P(2, 3), P(3, 4), P(4, 2)])
c("linalg_multi_dot", "default", [P(3), P(3, 4), P(4)])
c("linalg_multi_dot", "default", [P(1, 3), D(3, 2), P(2)])
for x, y in [((3,), (3,)), ((2, 3), (3,)), ((2, 1, 3), (4, 3))]:
    c("linalg_vecdot", "default", P(*x), P(*y))
c("linalg_vecdot", "default", P(2, 3), P(2, 3), dim=0)
c("linalg_vecdot", "default", P(2, 3, 2), P(3, 2), dim=-2)
for x, y in [((2, 3), (3, 2)), ((2,), (3, 2)), ((2, 1, 3), (2,)), ((2,), (3,)), ((), (2, 3))]:
    c("kron", "default", P(*x), P(*y))
for name in ("matrix_exp", "linalg_matrix_exp"):
    c(name, "default", P(3, 3))

for name in ("fliplr", "flipud"):
    c(name, "default", P(2, 3))
    c(name, "default", P(2, 3, 2))
c("flipud", "default", P(3))
for k in (-1, 0, 1, 2, 3, 4, 5):
    c("rot90", "default", P(2, 3, 2), k)
    c("rot90", "default", P(2, 3, 2), k, [-1, 1])
c("rot90", "default", P(2, 3))
for name in ("hsplit", "vsplit", "dsplit"):
    c(name, "int", P(2, 2, 4), 2)
    c(name, "array", P(2, 2, 4), [1])
c("hsplit", "array", P(5), [2, 4])
for name in ("vstack", "row_stack", "dstack"):
    for shape in [(3,), (2, 3), (2, 3, 2), ()]:
        c(name, "default", [P(*shape), P(*shape), D(*shape)])
c("vstack", "default", [P(1, 3), P(2, 3)])
for shape in [(), (3,), (2, 3), (2, 1, 3)]:
    c("ravel", "default", P(*shape))
for name in ("as_strided", "as_strided_copy"):
    c(name, "default", P(4, 3), [2, 3], [6, 1])
    c(name, "default", P(4, 3), [3, 2], [1, 3], 2)
    c(name, "default", P(4, 3), [3, 2, 2], [3, 1, 1])
    c(name, "default", P(4), [], [], 3)
    c(name, "default", P(2, 3), [2, 0], [1, 1])

for offset in (-1, 0, 1):
    for name in ("diagonal", "diagonal_copy"):
        c(name, "default", P(3, 2), offset)
        c(name, "default", P(2, 3, 2), offset, -1, 0)
    c("linalg_diagonal", "default", P(2, 3, 2), offset=offset)
    c("linalg_diagonal", "default", P(2, 3, 2), offset=offset, dim1=1, dim2=0)
    c("diag", "default", P(3), offset)
    c("diag", "default", P(2, 3), offset)
    c("diag_embed", "default", P(2, 3), offset)
    c("diag_embed", "default", P(2, 3), offset, 0, -1)
    c("diag_embed", "default", P(3), offset, 1, 0)
    c("diagonal_scatter", "default", P(3, 3), P(3 - abs(offset)), offset)
    c("diagonal_scatter", "default", P(3, 2, 3), P(2, 3 - abs(offset)), offset, -1, 0)
for n in (2, 3):
    c("trace", "default", P(n, 3))
for x in (P(3), P(2, 3), P(2, 3, 2), P()):
    last = [] if x.shape == () else [-1]
    c("special_logsumexp", "default", x, last)
    c("special_logsumexp", "default", x, last, True)
c("special_logsumexp", "default", P(2, 3, 2), [0, 2])
c("special_logsumexp", "default", P(2, 3, 2), [2, 0], True)


def _prims(name: str, *args: Any, **kwargs: Any) -> None:
    table.cases.append(Case(name, getattr(torch.ops.prims, name).default, args, kwargs, "prims."))


for name in (
    "abs", "neg", "sign", "exp", "exp2", "expm1", "sin", "cos", "tan", "tanh", "erf", "erfc", "reciprocal",
    "floor", "ceil", "round", "trunc", "isfinite", "view_of", "clone",
):  # fmt: skip
    _prims(name, P(2, 3))
for name in ("sqrt", "rsqrt", "log", "log2", "log10", "log1p"):
    _prims(name, P(2, 3, kind="positive"))
for name in (
    "add",
    "sub",
    "mul",
    "div",
    "maximum",
    "minimum",
    "hypot",
    "fmax",
    "fmin",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
):
    _prims(name, P(2, 3), P(2, 3))
_prims("pow", P(2, 3, kind="positive"), P(2, 3))
_prims("cat", [P(2, 3), P(2, 1)], 1)
_prims("transpose", P(2, 3, 2), [2, 0, 1])
_prims("convert_element_type", P(2, 3), torch.float64)
_prims("convert_element_type", P(2, 3), torch.float32)
_prims("device_put", P(2, 3), torch.device("cpu"))
_prims("reshape", P(2, 3), [3, 2])
_prims("collapse_view", P(2, 3, 2), 1, 2)
_prims("collapse", P(2, 3, 2), 0, 1)
_prims("split_dim", P(6, 2), 0, 2)
_prims("squeeze", P(2, 1, 3), [1])
_prims("broadcast_in_dim", P(2, 1), [3, 2, 4], [1, 2])
for name in ("sum", "amax", "amin"):
    _prims(name, P(2, 3, 2), [0, 2])
    _prims(name, P(2, 3, 2), [1])
    _prims(name, P(3, 4), [0])
    _prims(name, P(3), [0])
_prims("broadcast_in_dim", P(2), [3, 2], [1])
_prims("broadcast_in_dim", P(1, 3), [2, 3], [0, 1])

c("tensordot", "default", P(2, 3, 4), P(4, 3, 2), [1, 2], [1, 0])
c("tensordot", "default", P(3), P(3, 2), [0], [0])
for name in ("matrix_exp", "linalg_matrix_exp"):
    c(name, "default", P(2, 2))
    c(name, "default", P(2, 2, 2))
c("rot90", "default", P(3, 4), 1)
for name in ("hsplit", "vsplit", "dsplit"):
    c(name, "int", P(2, 4, 2), 2)
    c(name, "int", P(4, 2, 6), 2)
c("linalg_diagonal", "default", P(3, 3))
c("linalg_diagonal", "default", P(2, 4, 3))
c("diag", "default", P(3, 3), 1)
c("diag_embed", "default", P(2, 2, 2), 1)
c("trace", "default", P(4, 2))
