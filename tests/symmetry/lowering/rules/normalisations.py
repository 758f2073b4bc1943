"""Calls of every normalisation, with every option."""

from __future__ import annotations

import math

import torch

from .case import D, K, P
from .table import Table

table = Table()
c = table.call

for shape in [(4, 2), (3, 2, 4), (2, 3, 2, 2)]:
    n = shape[1]
    x, gain, bias, mean, var = P(*shape), P(n), P(n), D(n), D(n, kind="positive")
    for weight, shift in [(gain, bias), (None, None), (gain, None)]:
        for training in (True, False):
            c("batch_norm", "default", x, weight, shift, mean, var, training, 0.1, 1e-3, True)
            c("native_batch_norm", "default", x, weight, shift, mean, var, training, 0.1, 1e-3)
            c("_native_batch_norm_legit_functional", "default", x, weight, shift, mean, var, training, 0.1, 1e-3)
        c("batch_norm", "default", x, weight, shift, None, None, True, 0.1, 0.5, False)
        c("_native_batch_norm_legit", "default", x, weight, shift, mean, var, True, 0.1, 1e-3)
        c("_native_batch_norm_legit", "default", x, weight, shift, mean, var, False, 0.1, 1e-3)
        c("_native_batch_norm_legit", "no_stats", x, weight, shift, True, 0.1, 1e-3)
        c("_native_batch_norm_legit_no_training", "default", x, weight, shift, mean, var, 0.1, 1e-3)
        c("_batch_norm_no_update", "default", x, weight, shift, mean, var, 0.1, 1e-3)
        c("_batch_norm_with_update", "default", x, weight, shift, mean, var, 0.1, 1e-3)
        c("_batch_norm_with_update_functional", "default", x, weight, shift, mean, var, 0.1, 1e-3)
for shape in [(2, 3, 4), (1, 2, 3, 2), (3, 1, 5)]:
    n = shape[1]
    x, gain, bias, mean, var = P(*shape), P(n), P(n), D(n), D(n, kind="positive")
    for weight, shift in [(gain, bias), (None, None), (gain, None)]:
        c("instance_norm", "default", x, weight, shift, None, None, True, 0.1, 1e-3, True)
        c("instance_norm", "default", x, weight, shift, mean, var, False, 0.1, 1e-3, False)
for shape, last in [((2, 4), [4]), ((3,), [3]), ((2, 3, 2), [3, 2]), ((2, 2, 3), [3])]:
    for weight, shift in [(P(*last), P(*last)), (None, None), (P(*last), None)]:
        c("layer_norm", "default", P(*shape), last, weight, shift)
        c("layer_norm", "default", P(*shape), last, weight, shift, 0.1, False)
        c("native_layer_norm", "default", P(*shape), last, weight, shift, 0.1)
    for weight in (P(*last), None):
        c("rms_norm", "default", P(*shape), last, weight)
        c("rms_norm", "default", P(*shape), last, weight, 0.1)
        c("_fused_rms_norm", "default", P(*shape), last, weight, 0.1)
        c("_fused_rms_norm", "default", P(*shape), last, weight, None)
for shape, groups in [((2, 4), 2), ((1, 6, 3), 3), ((2, 2, 2, 2), 1)]:
    n = shape[1]
    for weight, shift in [(P(n), P(n)), (None, None), (None, P(n))]:
        c("group_norm", "default", P(*shape), groups, weight, shift)
        c("group_norm", "default", P(*shape), groups, weight, shift, 0.1, False)
        area = math.prod(shape[2:])
        c("native_group_norm", "default", P(*shape), weight, shift, shape[0], n, area, groups, 0.1)
for shape in [(3, 2), (2, 3, 2), (2, 2, 1, 3)]:
    rank = len(shape)
    first, last = (shape[0], *(1,) * (rank - 1)), (*(1,) * (rank - 1), shape[-1])
    for name in ("_weight_norm", "_weight_norm_interface"):
        c(name, "default", P(*shape), P(*first))
        c(name, "default", P(*shape), P(*first), 0)
        c(name, "default", P(*shape), P(*last), rank - 1)
    c("_weight_norm", "default", P(*shape), P(1), -1)
    c("norm_except_dim", "default", P(*shape))
    c("norm_except_dim", "default", P(*shape), 3, 1)
    c("norm_except_dim", "default", P(*shape), 2, -1)
    c("norm_except_dim", "default", P(*shape), 1, 0)

for shape in [(3,), (2, 3), (2, 3, 2)]:
    x = P(*shape)
    for order in (2, 1, 3, 0.5, float("inf"), 0, -1, float("-inf")):
        c("linalg_vector_norm", "default", x, order)
        c("linalg_vector_norm", "default", x, order, [-1], True)
        c("linalg_vector_norm", "default", x, order, [0])
        c("norm", "Scalar", x, order)
        c("norm", "ScalarOpt_dim", x, order, [-1])
        c("norm", "ScalarOpt_dim", x, order, [0], True)
        c("norm", "ScalarOpt_dim_dtype", x, order, [0], True, dtype=torch.float64)
        c("norm", "ScalarOpt_dtype", x, order, dtype=torch.float64)
        c("linalg_norm", "default", x, order, [-1])
    c("linalg_vector_norm", "default", x)
    c("linalg_vector_norm", "default", x, dtype=torch.float64)
    c("norm", "Scalar", x)
    c("norm", "ScalarOpt_dim", x, None, [0])
    c("norm", "ScalarOpt_dim_dtype", x, None, [0], False, dtype=torch.float64)
    c("norm", "ScalarOpt_dtype", x, None, dtype=torch.float64)
    c("frobenius_norm", "dim", x, [-1])
    c("frobenius_norm", "dim", x, [0], True)
    c("linalg_norm", "default", x)
    c("linalg_norm", "default", x, None, [0], True, dtype=torch.float64)
    if len(shape) > 1:
        for text in ("fro", "nuc"):
            c("linalg_norm", "ord_str", x, text, [0, 1])
            c("linalg_norm", "ord_str", x, text, [-1, 0], True, dtype=torch.float64)
        for order in (1, 2, -1, float("inf")):
            c("linalg_norm", "default", x, order, [0, 1])
        c("frobenius_norm", "dim", x, [0, 1])
    for name in ("var", "std", "var_mean", "std_mean"):
        c(name, "default", x)
        c(name, "default", x, False)
        c(name, "dim", x, [-1])
        c(name, "dim", x, [0], False, True)
        c(name, "dim", x, None, True, True)
        c(name, "correction", x)
        c(name, "correction", x, [0])
        c(name, "correction", x, [-1], correction=0)
        c(name, "correction", x, [0], correction=0.5, keepdim=True)
    for name in ("var", "std"):
        c(name, "correction", K(*shape), [-1], correction=0)
for x, y in [((2, 3), (2, 3)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1, 3), (2, 3, 3))]:
    c("cosine_similarity", "default", P(*x), P(*y), -1)
    c("cosine_similarity", "default", P(*x), P(*y), len(max(x, y, key=len)) - 1, 1e-3)
    c("cosine_similarity", "default", P(*x), P(*y), -1, 2.5)
c("cosine_similarity", "default", P(2, 3), P(2, 3))
c("cosine_similarity", "default", P(2, 3), P(2, 3), 0)
