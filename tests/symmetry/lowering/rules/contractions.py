"""Calls of every sum of products, with every option."""

from __future__ import annotations

import torch

from .case import D, G, K, P
from .table import Table

table = Table()
c = table.call

for rows in [(2,), (), (2, 3)]:
    c("linear", "default", P(*rows, 3), P(2, 3))
    c("linear", "default", P(*rows, 3), P(2, 3), P(2))
    c("linear", "default", D(*rows, 2), P(4, 2), P(4))
    c("bilinear", "default", P(*rows, 2), P(*rows, 3), P(2, 2, 3))
    c("bilinear", "default", P(*rows, 2), D(*rows, 3), P(4, 2, 3), P(4))
for name in ("matmul", "linalg_matmul"):
    for x, y in [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((2, 2, 3), (3, 2)),
        ((3,), (2, 3, 2)),
        ((2, 2, 3), (3,)),
        ((2, 1, 2, 3), (2, 3, 2)),
        ((1, 2, 3), (2, 3, 2)),
        ((2, 3), (2, 1, 3, 2)),
    ]:
        c(name, "default", P(*x), P(*y))
for x, y in [((2, 3), (3, 2)), ((1, 2), (2, 3)), ((3, 1), (1, 2))]:
    c("mm", "default", P(*x), P(*y))
    c("bmm", "default", P(2, *x), P(2, *y))
    c("mv", "default", P(*x), P(x[1]))
    c("outer", "default", P(x[0]), P(y[1]))
    c("ger", "default", P(x[0]), P(y[1]))
    for extra in ({}, {"beta": 2}, {"alpha": -0.5}, {"beta": 0.5, "alpha": 3}, {"beta": 0}):
        c("addmm", "default", P(x[0], y[1]), P(*x), P(*y), **extra)
        c("addmm", "default", P(y[1]), P(*x), P(*y), **extra)
        c("baddbmm", "default", P(2, x[0], y[1]), P(2, *x), P(2, *y), **extra)
        c("baddbmm", "default", P(1), P(2, *x), P(2, *y), **extra)
        c("addbmm", "default", P(x[0], y[1]), P(2, *x), P(2, *y), **extra)
        c("addmv", "default", P(x[0]), P(*x), P(x[1]), **extra)
for n in (2, 3, 4):
    c("dot", "default", P(n), P(n))
    c("vdot", "default", P(n), P(n))
    c("vdot", "default", K(n), K(n))
for text, *shapes in [
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("ij,kj", (2, 3), (2, 3)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
    ("ij->ji", (2, 3)),
    ("ij->i", (2, 3)),
    ("i,j->ij", (2,), (3,)),
    ("...i,ij->...j", (2, 3), (3, 2)),
    ("b...i,ji->b...j", (2, 2, 3), (2, 3)),
    ("i,ij,j->", (2,), (2, 3), (3,)),
    ("ij,jk,kl->il", (2, 2), (2, 3), (3, 2)),
    ("...,...->...", (2, 3), (3,)),
    ("ba", (2, 3)),
    (" i j , j -> i", (2, 3), (3,)),
    ("bi,bi->b", (2, 3), (2, 1)),
    ("ii->i", (3, 3)),
]:
    c("einsum", "default", text, [P(*shape) for shape in shapes])
c("einsum", "default", "ij,jk,kl->il", [P(2, 2), P(2, 3), P(3, 2)], path=[0, 1, 0, 1])

KEPT = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]).bool()
_SIZES = {1: ((5,), (3,)), 2: ((4, 3), (2, 3)), 3: ((3, 2, 3), (2, 2, 1))}
for spatial, (size, kernel) in _SIZES.items():
    name, back = f"conv{spatial}d", f"conv_transpose{spatial}d"
    one, two, ones = [1] * spatial, [2] * spatial, (1,) * spatial
    c(name, "default", P(1, 2, *size), P(3, 2, *kernel))
    c(name, "default", P(2, 2, *size), P(3, 2, *kernel), P(3))
    c(name, "default", P(2, *size), P(3, 2, *kernel), P(3), one, one)
    c(name, "default", P(1, 2, *size), P(2, 2, *kernel), None, two)
    c(name, "default", P(1, 2, *size), P(2, 2, *kernel), P(2), one, two)
    c(name, "default", P(1, 2, *size), P(2, 2, *kernel), None, one, one, two)
    c(name, "default", P(1, 4, *size), P(6, 2, *kernel), P(6), one, one, one, 2)
    c(name, "default", P(1, 3, *size), P(3, 1, *kernel), None, two, one, one, 3)
    c(name, "default", P(1, 2, *ones), P(2, 2, *ones), P(2))
    for padding in ("same", "valid"):
        c(name, "padding", P(1, 2, *size), P(2, 2, *kernel), P(2), one, padding)
        c(name, "padding", P(1, 4, *size), P(2, 2, *kernel), None, one, padding, one, 2)
    c(name, "padding", P(1, 2, *size), P(2, 2, *two), None, one, "same", two)
    c(name, "padding", P(1, 2, *size), P(2, 2, *two), None, one, "same")
    last = "default" if spatial == 1 else "input"
    c(back, last, P(1, 2, *size), P(2, 3, *kernel))
    c(back, last, P(2, 2, *size), P(2, 3, *kernel), P(3))
    c(back, last, P(2, *size), P(2, 3, *kernel), P(3), two, one)
    c(back, last, P(1, 2, *size), P(2, 2, *kernel), None, two, [0] * spatial, one)
    c(back, last, P(1, 4, *size), P(4, 3, *kernel), P(6), two, one, one, 2)
    c(back, last, P(1, 2, *size), P(2, 2, *kernel), P(2), one, one, [0] * spatial, 1, two)
    c("convolution", "default", P(1, 2, *size), P(3, 2, *kernel), P(3), two, one, one, False, [0] * spatial, 1)
    c("convolution", "default", P(1, 4, *size), P(2, 2, *kernel), None, one, one, two, False, [0] * spatial, 2)
    c("convolution", "default", P(1, 2, *size), P(2, 3, *kernel), P(3), two, one, one, True, one, 1)
    c("convolution", "default", P(1, 4, *size), P(4, 1, *kernel), P(2), two, one, two, True, one, 2)
c("conv1d", "default", P(1, 2, 6), P(2, 2, 3), None, [1], [1], [2])
c("conv2d", "default", P(1, 2, 4, 5), P(2, 2, 2, 3), None, [1, 2], [0, 1], [2, 1])

for batch in [(1, 2), (2,), (2, 1, 2)]:
    q, k, v = P(*batch, 3, 2), P(*batch, 4, 2), P(*batch, 4, 3)
    c("scaled_dot_product_attention", "default", q, k, v)
    c("scaled_dot_product_attention", "default", q, k, v, P(3, 4))
    c("scaled_dot_product_attention", "default", q, k, v, G(KEPT))
    c("scaled_dot_product_attention", "default", q, k, v, D(*batch, 3, 4))
    c("scaled_dot_product_attention", "default", q, k, v, None, 0.0, True)
    c("scaled_dot_product_attention", "default", q, k, v, None, 0.0, False, scale=0.3)
    c("scaled_dot_product_attention", "default", q, k, v, None, 0.0, True, scale=2.0)
c("scaled_dot_product_attention", "default", P(1, 2, 3, 2), P(2, 4, 2), P(1, 1, 4, 2))
c("scaled_dot_product_attention", "default", P(1, 1, 3, 2), P(1, 1, 4, 2), P(1, 1, 4, 2), None, 0.3)
c("scaled_dot_product_attention", "default", P(1, 4, 3, 2), P(1, 2, 4, 2), P(1, 2, 4, 2), enable_gqa=True)
c(
    "scaled_dot_product_attention",
    "default",
    P(2, 4, 3, 2),
    P(2, 2, 3, 2),
    P(2, 2, 3, 2),
    None,
    0.0,
    True,
    enable_gqa=True,
)
for shape, dim in [((3,), 0), ((2, 3), -1), ((3, 2), 0), ((2, 2, 3), 1), ((), 0)]:
    c("cumsum", "default", P(*shape), dim)
    c("cumsum", "default", P(*shape), dim, dtype=torch.float64)

for name in ("fft_fft", "fft_ifft", "fft_rfft", "fft_irfft", "fft_hfft", "fft_ihfft"):
    real = name in ("fft_rfft", "fft_ihfft")
    for shape, dim in [((4,), -1), ((2, 5), 1), ((3, 2), 0)]:
        x = P(*shape) if real else K(*shape)
        c(name, "default", x)
        c(name, "default", x, None, dim)
        c(name, "default", x, 3, dim, "ortho")
        c(name, "default", x, 6, dim, "forward")
        if not real:
            c(name, "default", P(*shape), None, dim, "backward")
for name in ("fft_fftn", "fft_ifftn", "fft_rfftn", "fft_irfftn", "fft_fft2", "fft_ifft2", "fft_rfft2", "fft_irfft2"):
    real = "rfft" in name and "irfft" not in name
    for shape in [(2, 3), (3, 4), (2, 2, 3)]:
        x = P(*shape) if real else K(*shape)
        c(name, "default", x)
        c(name, "default", x, [3, 4])
        c(name, "default", x, None, [0, 1])
        c(name, "default", x, [2, 2], [-1, 0], "ortho")
        c(name, "default", x, None, [1, 0], "forward")
c("fft_fftn", "default", K(2, 3), None, [0])

for spatial, (size, kernel) in _SIZES.items():
    c(f"conv{spatial}d", "padding", P(1, 2, *size), P(2, 2, *kernel), None, [2] * spatial, "valid")

for rows, ends, width, experts in [(4, [1, 4], 3, 2), (5, [2, 2, 5], 2, 3), (3, [3], 2, 1)]:
    last = G(torch.tensor(ends, dtype=torch.int32))
    table.of("transformers.", "grouped_mm_fallback", P(rows, width), P(experts, width, 4), last)
    single = P(rows, 4 * width, kind="single"), P(experts, 4 * width, 4, kind="single")
    c("_grouped_mm", "default", *single, last)
    c("_grouped_mm", "default", P(2, rows, 4, kind="single"), P(2, 4, 8, kind="single"))
