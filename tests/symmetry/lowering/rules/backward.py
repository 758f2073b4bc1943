"""Calls of backward passes as operations, with every option."""

from __future__ import annotations

import torch

from .case import B, D, G, I, P
from .table import Table

table = Table()
c = table.call

for shape in [(3,), (2, 3), (2, 1, 3)]:
    g, x = P(*shape), P(*shape)
    for name in (
        "tanh_backward",
        "sigmoid_backward",
        "silu_backward",
        "mish_backward",
        "hardswish_backward",
        "hardsigmoid_backward",
        "gelu_backward",
    ):
        c(name, "default", g, x)
    c("gelu_backward", "default", g, x, approximate="tanh")
    c("hardtanh_backward", "default", g, x, -0.7, 0.8)
    c("softplus_backward", "default", g, x, 2.0, 1.5)
    for result in (True, False):
        c("elu_backward", "default", g, 0.5, 1.2, 0.7, result, x)
        c("leaky_relu_backward", "default", g, x, 0.2, result)
        c("rrelu_with_noise_backward", "default", g, x, D(*shape), 0.2, 0.4, True, result)
        c("rrelu_with_noise_backward", "default", g, x, D(*shape), 0.2, 0.4, False, result)
    c("log_sigmoid_backward", "default", g, x, D(*shape))
    c("logit_backward", "default", g, P(*shape, kind="fraction"))
    c("logit_backward", "default", g, P(*shape, kind="fraction"), 0.4)
    c("hardshrink_backward", "default", g, x, 0.8)
    c("softshrink_backward", "default", g, x, 0.8)
    c("threshold_backward", "default", g, x, 0)
    c("threshold_backward", "default", g, x, 0.7)
    c("_prelu_kernel_backward", "default", g, x, P(1))
    c("native_dropout_backward", "default", g, B(*shape), 1.5)
    for dim in (0, -1):
        c("_softmax_backward_data", "default", g, x, dim, torch.float64)
        c("_log_softmax_backward_data", "default", g, x, dim, torch.float64)
    for reduction in (0, 1, 2):
        c("mse_loss_backward", "default", g if reduction == 0 else P(), x, P(*shape), reduction)
for shape, dim in [((4,), 0), ((2, 4), -1), ((4, 3), 0)]:
    half = tuple(n // 2 if k == dim % len(shape) else n for k, n in enumerate(shape))
    c("glu_backward", "default", P(*half), P(*shape), dim)
c("select_backward", "default", P(3), [4, 3], 0, 1)
c("select_backward", "default", P(2), [2, 3], -1, -2)
c("select_backward", "default", P(2, 2), [2, 3, 2], 1, 0)
c("slice_backward", "default", P(2, 3), [4, 3], 0, 1, 3, 1)
c("slice_backward", "default", P(2, 2), [2, 5], -1, 0, 4, 2)
c("slice_backward", "default", P(2, 3, 2), [2, 3, 2], 1, 0, 9223372036854775807, 1)
c("slice_backward", "default", P(2, 2, 2), [2, 3, 2], 1, 0, 3, 2)
for shape, last in [((2, 4), [4]), ((3, 2, 2), [2, 2]), ((3,), [3])]:
    outer = (*shape[: len(shape) - len(last)], *(1 for _ in last))
    for weight in (P(*last), None):
        mask = [True, weight is not None, weight is not None]
        statistics = D(*outer), D(*outer, kind="positive")
        c("native_layer_norm_backward", "default", P(*shape), D(*shape), last, *statistics, weight, weight, mask)
for shape in [(3, 2), (2, 2, 3), (2, 3, 2, 2)]:
    n = shape[1]
    for weight in (P(n), None):
        c(
            "native_batch_norm_backward",
            "default",
            P(*shape),
            P(*shape),
            weight,
            None,
            None,
            D(n),
            D(n, kind="positive"),
            True,
            1e-3,
            [True, True, True],
        )
        c(
            "native_batch_norm_backward",
            "default",
            P(*shape),
            P(*shape),
            weight,
            D(n),
            D(n, kind="positive"),
            None,
            None,
            False,
            1e-3,
            [True, True, True],
        )
for shape, kernel in [((2, 2, 5), (3,)), ((1, 2, 4, 3), (2, 2)), ((1, 2, 3, 3, 2), (2, 1, 2))]:
    n = len(kernel)
    one, two, none = [1] * n, [2] * n, [0] * n
    for stride, padding, dilation, groups, transposed, after in [
        (one, none, one, 1, False, none),
        (two, one, one, 1, False, none),
        (one, one, two, 2, False, none),
        (one, none, one, 1, True, none),
        (two, one, one, 2, True, one),
        (two, one, two, 1, True, none),
    ]:
        weight = (2, 2 // groups * (2 if transposed else 1), *kernel) if transposed else (4, 2 // groups, *kernel)
        x, w = torch.zeros(shape).double(), torch.zeros(weight).double()
        out = torch.ops.aten.convolution(x, w, None, stride, padding, dilation, transposed, after, groups)
        c(
            "convolution_backward",
            "default",
            P(*out.shape),
            P(*shape),
            P(*weight),
            [out.shape[1]],
            stride,
            padding,
            dilation,
            transposed,
            after,
            groups,
            [True, True, True],
        )
for n in (2, 3):
    name, size = f"avg_pool{n}d", (4, 5, 3)[:n]
    one, two, none = [1] * n, [2] * n, [0] * n
    for front in [(1, 2), (2, 1), (2,)]:
        x = torch.zeros(*front, *size).double()
        for stride, padding, ceil, counts, divisor in [
            (two, none, False, True, None),
            (one, one, False, False, None),
            (two, one, True, True, None),
            (one, none, False, True, 3),
        ]:
            out = getattr(torch.ops.aten, name)(x, two, stride, padding, ceil, counts, divisor)
            c(f"{name}_backward", "default", P(*out.shape), D(*x.shape), two, stride, padding, ceil, counts, divisor)
        for out_size in (two, one, [3] * n):
            c(f"_adaptive_avg_pool{n}d_backward", "default", P(*front, *out_size), D(*x.shape))
        for stride, padding, spread, ceil in [(two, none, one, False), (one, one, one, False), (two, one, one, True)]:
            y = torch.randn(*front, *size, generator=torch.Generator().manual_seed(0)).double()
            pooled = f"max_pool{n}d_with_indices"
            out, index = getattr(torch.ops.aten, pooled)(y, two, stride, padding, spread, ceil)
            c(f"{pooled}_backward", "default", P(*out.shape), D(*y.shape), two, stride, padding, spread, ceil, G(index))
for rows, shape in [(4, (3,)), (3, (2, 2)), (5, (4,))]:
    for padding, by_count in [(-1, False), (1, False), (-1, True)]:
        c("embedding_dense_backward", "default", P(*shape, 2), I(rows, *shape), rows, padding, by_count)
for n, classes in [(3, 2), (2, 4), (4, 3)]:
    for reduction in (0, 1, 2):
        g = P(n) if reduction == 0 else P()
        for weight in (None, D(classes)):
            c("nll_loss_backward", "default", g, P(n, classes), I(classes, n), weight, reduction, 1, D(kind="positive"))
