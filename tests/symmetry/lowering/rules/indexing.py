"""Calls of what picks and places entries by indices, with every option."""

from __future__ import annotations

import operator

import torch

from .case import B, D, G, I, N, P, Z
from .table import Table

table = Table()
c = table.call

for shape, index in [((4, 2), (3,)), ((3, 2), (2, 2)), ((5, 3), ())]:
    c("embedding", "default", P(*shape), I(shape[0], *index))
    c("embedding", "default", P(*shape), I(shape[0], *index), 1)
    c("embedding", "default", P(*shape), I(shape[0], *index), -1, True, False)
for shape, dim in [((4, 2), 0), ((2, 3), -1), ((2, 2, 3), 1), ((), 0)]:
    n = shape[dim] if shape else 1
    c("index_select", "default", P(*shape), dim, I(n, 3) if shape else I(1, 1))
    c("index_select", "default", P(*shape), dim, I(n))
for name in ("index",):
    c(name, "Tensor", P(4), [I(4, 3)])
    c(name, "Tensor", P(4, 3), [I(4, 2, 2)])
    c(name, "Tensor", P(4, 3), [None, I(3, 2)])
    c(name, "Tensor", P(4, 3), [I(4, 2), I(3, 2)])
    c(name, "Tensor", P(4, 3), [I(4, 2, 1), I(3, 2)])
    c(name, "Tensor", P(2, 3, 4), [I(2, 2), None, I(4, 2)])
    c(name, "Tensor", P(2, 3, 4), [None, I(3, 2), I(4, 2)])
    c(name, "Tensor", P(4, 3), [G(torch.tensor([True, False, True, True]))])
    c(name, "Tensor", P(2, 3), [G(torch.tensor([[True, False, True], [False, True, True]]))])
    c(name, "Tensor", P(2, 3), [None, G(torch.tensor([True, False, True]))])
    c(name, "Tensor", P(4, 3), [G(torch.tensor([-1, 0, -2]))])
c("masked_select", "default", P(3), G(torch.tensor([True, False, True])))
c("masked_select", "default", P(2, 2), G(torch.tensor([[True, False], [True, True]])))
c("masked_select", "default", P(2, 3), G(torch.tensor([True, False, True])))
for shape in [(3,), (2, 3), (2, 3, 2)]:
    x = P(*shape)
    c("nonzero", "default", x)
    c("nonzero_static", "default", x, size=4)
    c("nonzero_static", "default", x, size=4, fill_value=0)
    c("nonzero_numpy", "default", x)
    c("argwhere", "default", x)
    c("_unique2", "default", x)
    c("_unique2", "default", x, False, True, True)
    c("unique_dim", "default", x, 0)
    c("unique_dim", "default", x, -1, False, True, True)
    c("unique_consecutive", "default", x)
    c("unique_consecutive", "default", x, True, True, 0)
    c("searchsorted", "Tensor", G(torch.arange(4.0).double()), x)
    c("searchsorted", "Tensor", G(torch.arange(4.0).double()), x, out_int32=True, right=True)
    c("searchsorted", "Tensor", G(torch.arange(4.0).double()), x, side="right", sorter=G(torch.arange(4)))
    c("bucketize", "Tensor", x, G(torch.arange(4.0).double()))
    c("bucketize", "Tensor", x, G(torch.arange(4.0).double()), out_int32=True, right=True)
    c("argsort", "default", x)
    c("argsort", "default", x, 0, True)
    for stable in (True, False):
        c("argsort", "stable", x, stable=stable, dim=0, descending=True)
    c("masked_scatter", "default", x, B(*shape), P(*shape))
    c("sym_size", "int", x, 0)
    c("sym_numel", "default", x)
    c("sym_stride", "int", x, 0)
    c("sym_storage_offset", "default", x)
c("searchsorted", "Scalar", P(3), 0.5, out_int32=True, right=True)
c("bucketize", "Scalar", 0.5, P(3))
for shape in [(), (1,), (1, 1)]:
    c("item", "default", P(*shape))
    if not shape:
        c("_local_scalar_dense", "default", P())

c("gather", "default", P(4), 0, I(4, 3))
c("gather", "default", P(3, 2), 0, I(3, 4, 2))
c("gather", "default", P(2, 3), -1, I(3, 2, 2), sparse_grad=True)
c("gather", "default", P(3, 4), 1, I(4, 2, 2))
c("gather", "default", P(3, 2, 2), 0, I(3, 1, 2, 1))
c("take_along_dim", "default", P(4), I(4, 3), 0)
c("take_along_dim", "default", P(3, 2), I(3, 2, 1), 0)
c("take_along_dim", "default", P(2, 3), I(3, 1, 2), -1)
c("take_along_dim", "default", P(2, 3), I(6, 4))
c("slice_scatter", "default", P(4, 2), P(4, 2))
c("slice_scatter", "default", P(4, 2), P(2, 2), 0, 1, 3)
c("slice_scatter", "default", P(2, 4), P(2, 2), -1, -3, -1)
c("slice_scatter", "default", P(2, 5), P(2, 2), 1, 0, 4, 2)
c("slice_scatter", "default", P(5), P(3), 0, None, None, 2)
c("select_scatter", "default", P(4, 2), P(2), 0, 1)
c("select_scatter", "default", P(2, 4), P(2), -1, -2)
c("select_scatter", "default", P(2, 2, 3), P(2, 3), 1, 0)
for name in ("index_add", "index_copy"):
    c(name, "default", P(4), 0, G(torch.tensor([2, 0])), P(2))
    c(name, "default", P(4, 2), 0, G(torch.tensor([3, 1])), P(2, 2))
    c(name, "default", P(2, 3), -1, G(torch.tensor([2, 0])), P(2, 2))
    c(name, "default", D(4, 2), 0, G(torch.tensor([3, 1])), P(2, 2))
c("index_add", "default", P(4, 2), 0, G(torch.tensor([3, 3])), P(2, 2), alpha=2)
c("index_add", "default", P(2, 3), 1, G(torch.tensor([2, 0])), P(2, 2), alpha=-0.5)
c("scatter_add", "default", P(4), 0, I(4, 3), P(3))
c("scatter_add", "default", P(3, 2), 0, I(3, 4, 2), P(4, 2))
c("scatter_add", "default", P(2, 3), -1, I(3, 2, 2), P(2, 2))
c("scatter_add", "default", P(2, 3), -1, I(3, 2, 1), P(2, 2))
c("scatter", "src", P(4), 0, G(torch.tensor([2, 0])), P(2))
c("scatter", "src", P(3, 2), 0, G(torch.tensor([[2, 0], [1, 1]])), P(2, 2))
c("scatter", "src", P(2, 3), -1, G(torch.tensor([[2, 0], [1, 2]])), P(2, 2))
c("scatter", "value", P(3, 2), 0, I(3, 1, 2), 0.0)
c("scatter", "value", P(3, 2), 1, I(2, 3, 1), 1.5)
for reduce in ("sum", "mean", "amax", "amin"):
    for itself in (True, False):
        c("scatter_reduce", "two", P(4), 0, I(4, 3), P(3), reduce, include_self=itself)
        c("scatter_reduce", "two", P(3, 2), 0, I(3, 4, 2), P(4, 2), reduce, include_self=itself)
        c("scatter_reduce", "two", P(2, 3), -1, I(3, 2, 2), P(2, 2), reduce, include_self=itself)
        c("scatter_reduce", "two", Z(2, 3), -1, I(3, 2, 2), P(2, 2), reduce, include_self=itself)
        if reduce != "sum":
            c("index_reduce", "default", P(4), 0, I(4, 3), P(3), reduce, include_self=itself)
            c("index_reduce", "default", P(4, 2), 0, I(4, 2), P(2, 2), reduce, include_self=itself)
            c("index_reduce", "default", P(2, 3), -1, I(3, 4), P(2, 4), reduce, include_self=itself)
for reduce in ("add", "multiply"):
    c("scatter", "reduce", P(3, 2), 0, I(3, 4, 2), P(4, 2), reduce=reduce)
    c("scatter", "value_reduce", P(3, 2), 0, I(3, 4, 2), 2.0, reduce=reduce)
for name in ("index_put", "_index_put_impl", "_unsafe_index_put"):
    for add in (False, True):
        c(name, "default", P(4), [G(torch.tensor([2, 0]))], P(2), add)
        c(name, "default", P(4, 2), [G(torch.tensor([3, 1]))], P(2, 2), add)
        c(name, "default", P(3, 4), [None, G(torch.tensor([2, 0]))], P(3, 2), add)
        c(name, "default", P(3, 4), [G(torch.tensor([2, 0])), G(torch.tensor([1, 3]))], P(2), add)
        c(name, "default", P(3, 4), [G(torch.tensor([2, 0]))], D(), add)
        c(name, "default", D(4, 2), [G(torch.tensor([3, 1]))], P(2, 2), add)
    c(name, "default", P(3), [G(torch.tensor([True, False, True]))], P(2))
c("_index_put_impl", "default", P(4), [G(torch.tensor([2, 0]))], P(2), False, True)
for name in ("index_put", "_unsafe_index_put", "index"):
    values = [] if name == "index" else [P(2)]
    c(name, "Tensor_hacked_twin" if name == "index" else "hacked_twin", P(4), [G(torch.tensor([2, 0]))], *values)
    if name != "index":
        c(name, "hacked_twin", P(4), [G(torch.tensor([2, 0]))], *values, True)

for n in (2, 3, 4):
    c("one_hot", "default", I(n, 3), n)
    c("one_hot", "default", G(torch.arange(n)))
    c("arange", "default", n)
    c("arange", "start", 1, n + 1)
    c("arange", "start_step", 0, 2 * n, 2)
    for name in ("zeros", "ones"):
        c(name, "default", [n, 2])
    c("full", "default", [n, 2], 2.5)
    c("scalar_tensor", "default", float(n))
    for name in ("zeros_like", "ones_like"):
        c(name, "default", P(n, 2))
    c("full_like", "default", P(n, 2), 1.5)
    for name in ("rand_like", "randn_like"):
        c(name, "default", P(n, 2))
    for name in ("new_zeros", "new_ones"):
        c(name, "default", P(n), [n, 2])
    c("new_full", "default", P(n), [2, n], 2.5)
    c("bernoulli", "default", G(torch.full((n,), 0.5).double()))
    c("bernoulli", "p", P(n), 0.4)
    c("bernoulli", "Tensor", P(n), G(torch.full((n,), 0.4).double()))
    for name in ("cauchy", "exponential", "log_normal", "uniform", "random", "geometric"):
        args = [0.4] if name == "geometric" else []
        c(name, "default", P(n), *args)
    c("cauchy", "default", P(n), 1.0, 2.0)
    c("exponential", "default", P(n), 2.0)
    c("log_normal", "default", P(n), 0.5, 1.5)
    c("uniform", "default", P(n), 0.5, 1.5)
    c("random", "to", P(n), 5)
    c("random", "from", P(n), 1, 5)
    c("normal", "Tensor_float", P(n))
    c("normal", "Tensor_float", P(n), 2.0)
    c("normal", "float_Tensor", 1.0, P(n, kind="positive"))
    c("normal", "Tensor_Tensor", P(n), P(n, kind="positive"))
    c("normal", "float_float", 1.0, 2.0, [n])
for shape in [(3, 3), (2, 3), (2, 2, 3)]:
    c("diagonal", "default", P(*shape))
    c("diagonal", "default", P(*shape), 1, 1, 0)
for shape in [(1, 2, 3, 3), (2, 2, 3), (1, 1, 4, 3)]:
    c("im2col", "default", P(*shape), [2, 2] if shape[-2] > 1 else [1, 2], [1, 1], [0, 0], [1, 1])
    c("im2col", "default", P(*shape), [2, 1], [1, 1], [1, 0], [2, 1])
    c("im2col", "default", P(*shape), [2, 2], [2, 1], [1, 2], [1, 2])
for shape, size, kernel, spread, padding, stride in [
    ((1, 4, 4), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1]),
    ((1, 4, 4), [3, 2], [2, 1], [1, 1], [1, 0], [2, 1]),
    ((4, 4), [3, 3], [2, 2], [1, 1], [0, 0], [1, 1]),
    ((2, 2, 3), [5, 1], [2, 1], [2, 1], [0, 0], [1, 1]),
]:
    c("col2im", "default", P(*shape), size, kernel, spread, padding, stride)

for a, b in [(3, 2), (4, 5), (7, 7)]:
    for name in ("ge", "gt", "le", "lt", "eq", "ne", "add", "sub", "mul", "floordiv", "truediv", "mod", "pow"):
        table.python(name, getattr(operator, name), N(a), N(b))
        table.python(name, getattr(operator, name), N(a), 2)
    table.python("neg", operator.neg, N(a))
    for name in ("and_", "or_"):
        table.python(name, getattr(operator, name), N(a), N(b))
    table.python("not_", operator.not_, N(a))
    for name in ("sym_max", "sym_min"):
        table.python(name, getattr(torch, name), N(a), N(b))
    table.python("sym_not", torch.sym_not, N(a > b))
    table.python("sym_ite", torch.sym_ite, N(a > b), N(a), N(b))
    table.python("sym_float", torch.sym_float, N(a))
    table.python("sym_int", torch.sym_int, N(float(a)))
    table.python("sym_sum", torch.sym_sum, [N(a), N(b)])

c("embedding", "default", P(4, 2), I(4, 3), -1, False, True)
c("searchsorted", "Scalar", P(3), 0.5, side="right", sorter=G(torch.arange(3)))
c("bucketize", "Scalar", 0.5, P(3), out_int32=True, right=True)
c("_local_scalar_dense", "default", P(1))
c("_local_scalar_dense", "default", P(1, 1))
