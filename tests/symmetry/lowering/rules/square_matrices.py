"""Calls of determinants, inverses, linear systems, norms of matrices and covariances, with every option."""

from __future__ import annotations

import torch

from .case import D, G, P
from .table import Table

table = Table()
c = table.call

for shape in [(2, 2), (3, 3), (2, 2, 2), (1, 1)]:
    x = P(*shape)
    for name in ("det", "linalg_det", "slogdet", "linalg_slogdet"):
        c(name, "default", x)
    c("logdet", "default", x)
    for name in ("inverse", "linalg_inv"):
        c(name, "default", x)
    c("linalg_solve", "default", x, P(*shape[:-1], 3))
    c("linalg_solve", "default", x, P(*shape[:-2], 3, shape[-1]), left=False)
    c("linalg_solve", "default", x, P(*shape[:-1]))
    for upper in (False, True):
        for ones in (False, True):
            c("linalg_solve_triangular", "default", x, P(*shape[:-1], 3), upper=upper, unitriangular=ones)
            y = P(*shape[:-2], 3, shape[-1])
            c("linalg_solve_triangular", "default", x, y, upper=upper, left=False, unitriangular=ones)
c("linalg_solve", "default", D(3, 3), P(3, 2))
c("linalg_solve_triangular", "default", D(3, 3), P(3, 2), upper=False)

for shape in [(2, 3), (3, 2), (2, 2, 3)]:
    x = P(*shape)
    for order in (1, -1, 2, -2, float("inf"), -float("inf")):
        c("linalg_matrix_norm", "default", x, order)
        c("linalg_matrix_norm", "default", x, order, [0, 1], True)
        c("linalg_matrix_norm", "default", x, order, [-1, 0], dtype=torch.float64)
    for name in ("fro", "nuc"):
        c("linalg_matrix_norm", "str_ord", x, name)
        c("linalg_matrix_norm", "str_ord", x, name, [1, 0], True, dtype=torch.float64)

for shape in [(2, 4), (3, 3), (5,)]:
    x, count = P(*shape), shape[-1]
    often = G(torch.arange(1, count + 1))
    amounts = D(count, kind="positive")
    c("cov", "default", x)
    c("cov", "default", x, correction=0)
    c("cov", "default", x, correction=2, fweights=often)
    c("cov", "default", x, aweights=amounts)
    c("cov", "default", x, correction=0, fweights=often, aweights=amounts)
    c("corrcoef", "default", x)
