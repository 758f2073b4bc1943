"""Calls of every rearrangement, with every option."""

from __future__ import annotations

import torch

from .case import D, G, I, K, P
from .table import Table

table = Table()
c = table.call

for shape, other in [((2, 3), (3, 2)), ((4,), (2, 2)), ((2, 2, 3), (4, 3))]:
    c("view", "default", P(*shape), list(other))
    c("reshape", "default", P(*shape), list(other))
    c("_unsafe_view", "default", P(*shape), list(other))
    c("view_as", "default", P(*shape), D(*other))
    c("reshape_as", "default", P(*shape), D(*other))
    c("_reshape_alias", "default", P(*shape), list(other), list(torch.empty(other).stride()))
    c("view", "default", P(*shape), [-1])
for shape in [(2, 3), (2, 3, 2), (2, 1, 3)]:
    c("flatten", "using_ints", P(*shape))
    c("flatten", "using_ints", P(*shape), 1)
    c("flatten", "using_ints", P(*shape), -2, -1)
    c("flatten", "using_ints", P(*shape), 0, 1)
    c("squeeze", "default", P(*shape))
    c("squeeze", "dim", P(*shape), 1)
    c("squeeze", "dim", P(*shape), -2)
    c("squeeze", "dims", P(*shape), [1, 0])
    c("unsqueeze", "default", P(*shape), 1)
    c("unsqueeze", "default", P(*shape), -1)
c("unflatten", "int", P(2, 6), 1, [2, 3])
c("unflatten", "int", P(2, 6), -1, [3, 2])
c("unflatten", "int", P(4, 3), 0, [2, 2])
for shape in [(), (3,), (2, 3), (2, 1, 3)]:
    for name in ("atleast_1d", "atleast_2d", "atleast_3d"):
        c(name, "default", P(*shape))
        c(name, "Sequence", [P(*shape), P(2)])

for shape in [(3,), (2, 3), (2, 1, 3)]:
    for name in (
        "clone",
        "contiguous",
        "alias",
        "lift_fresh",
        "lift_fresh_copy",
        "lift",
        "positive",
        "resolve_conj",
        "resolve_neg",
    ):
        c(name, "default", P(*shape))
    c("to", "dtype", P(*shape), torch.float64)
    c("to", "dtype", P(*shape), torch.float64, False, True)
    c("to", "device", P(*shape), "cpu", torch.float64, False, True)
    c("to", "dtype_layout", P(*shape), dtype=torch.float64, copy=True)
    c("to", "other", P(*shape), D(2), False, True)
    c("to", "prim_dtype", P(*shape), torch.float64, False, True)
    c("to", "prim_other", P(*shape), False, True)
    c("to", "prim_Device", P(*shape), "cpu", torch.float64, False, True)
    c("_to_copy", "default", P(*shape), dtype=torch.float64)
    c("type_as", "default", P(*shape), D(2))
    c("detach", "default", P(*shape))
    for name in ("conj", "_conj", "_conj_physical", "real", "imag", "view_as_real"):
        c(name, "default", K(*shape))
    for name in ("conj", "_conj_physical", "real"):
        c(name, "default", P(*shape))
    c("view_as_complex", "default", P(*shape, 2))
    c("complex", "default", P(*shape), P(*shape))
    c("complex", "default", P(*shape), P(1))
    c("complex", "default", D(*shape), P(*shape))
    c("polar", "default", P(*shape, kind="positive"), P(*shape))
    c("polar", "default", P(*shape, kind="positive"), P(1))
    c("polar", "default", D(*shape, kind="positive"), P(*shape))
for shape in [(3,), (2, 3), (2, 2)]:
    c("requires_grad_", "default", D(*shape), False)

for shape, order in [((2, 3), [1, 0]), ((2, 3, 4), [2, 0, 1]), ((2, 3, 2), [-1, 0, -2]), ((4,), [0])]:
    c("permute", "default", P(*shape), order)
for shape, one, other in [((2, 3), 0, 1), ((2, 3, 4), 0, -1), ((2, 3, 2), -2, -1), ((4,), 0, 0)]:
    c("transpose", "int", P(*shape), one, other)
    c("swapaxes", "default", P(*shape), one, other)
    c("swapdims", "default", P(*shape), one, other)
for shape in [(3,), (2, 3), (3, 2)]:
    c("t", "default", P(*shape))
for shape in [(2, 3), (3, 2), (2, 2, 3)]:
    for name in ("numpy_T", "mT", "mH", "adjoint"):
        if name != "numpy_T" or len(shape) == 2:
            c(name, "default", P(*shape))
c("numpy_T", "default", P(1, 4))
for shape in [(2, 3), (3, 2), (1, 3)]:
    c("matrix_H", "default", P(*shape))
    for name in ("matrix_H", "mH", "adjoint"):
        c(name, "default", K(*shape))
for name in ("movedim", "moveaxis"):
    c(name, "int", P(2, 3, 4), 0, 2)
    c(name, "int", P(2, 3), -1, 0)
    c(name, "intlist", P(2, 3, 4), [0, 1], [-1, 0])
    c(name, "intlist", P(2, 3, 2, 2), [3, 0], [0, 2])

c("expand", "default", P(1, 3), [2, 3])
c("expand", "default", P(3), [2, -1])
c("expand", "default", P(2, 1, 3), [-1, 2, -1], implicit=True)
for shape, full in [((3,), (2, 3)), ((2, 1), (2, 3)), ((1, 2), (2, 2, 2))]:
    c("broadcast_to", "default", P(*shape), list(full))
    c("expand_as", "default", P(*shape), D(*full))
c("broadcast_tensors", "default", [P(2, 1), P(3)])
c("broadcast_tensors", "default", [P(2), P(2, 2)])
c("broadcast_tensors", "default", [P(1, 3), P(2, 1, 1), D(1)])

c("slice", "Tensor", P(4, 3))
c("slice", "Tensor", P(4, 3), 0, 1)
c("slice", "Tensor", P(4, 3), -2, 1, -1)
c("slice", "Tensor", P(2, 5), 1, None, None, 2)
c("slice", "Tensor", P(2, 5), -1, -4, 9223372036854775807, 3)
c("slice", "Tensor", P(6), 0, 1, 5, 2)
c("narrow", "default", P(4, 3), 0, 1, 2)
c("narrow", "default", P(2, 4), -1, -3, 2)
c("narrow", "default", P(2, 2, 3), 2, 0, 2)
c("narrow", "Tensor", P(2, 3), 1, I(2), 2)
c("select", "int", P(4, 3), 0, 1)
c("select", "int", P(2, 4), -1, -3)
c("select", "int", P(2, 2, 3), 1, -1)
for name in ("split", "unsafe_split"):
    c(name, "Tensor", P(4, 3), 2)
    c(name, "Tensor", P(2, 5), 2, -1)
    c(name, "Tensor", P(2, 3, 2), 2, 1)
c("split", "sizes", P(2, 5), [2, 3], -1)
c("split_with_sizes", "default", P(5, 2), [2, 3])
c("split_with_sizes", "default", P(2, 5), [1, 4], -1)
c("split_with_sizes", "default", P(2, 3, 2), [1, 2], 1)
for name in ("chunk", "unsafe_chunk"):
    c(name, "default", P(4, 3), 2)
    c(name, "default", P(2, 5), 2, -1)
    c(name, "default", P(2, 3, 2), 3, 1)
c("tensor_split", "sections", P(5, 2), 2)
c("tensor_split", "sections", P(2, 5), 3, -1)
c("tensor_split", "indices", P(2, 5), [1, 3], 1)
c("tensor_split", "indices", P(2, 2, 3), [2], -1)
c("tensor_split", "tensor_indices_or_sections", P(4, 2), G(torch.tensor([1, 3])), 0)
c("unbind", "int", P(3, 2))
c("unbind", "int", P(2, 3), -1)
c("unbind", "int", P(2, 2, 2), 1)
c("flip", "default", P(3), [0])
c("flip", "default", P(2, 3), [-1])
c("flip", "default", P(2, 3, 2), [0, 2])
c("roll", "default", P(2, 3), [1])
c("roll", "default", P(2, 3), [-1], [1])
c("roll", "default", P(2, 3, 2), [1, 2], [0, -2])
for name in ("repeat", "tile"):
    c(name, "default", P(3), [2])
    c(name, "default", P(2, 3), [1, 2])
    c(name, "default", P(2, 3), [2, 1, 2])
c("tile", "default", P(2, 3), [2])
c("repeat_interleave", "self_int", P(2, 3), 2)
c("repeat_interleave", "self_int", P(2, 3), 2, -1)
c("repeat_interleave", "self_int", P(2, 3, 2), 2, 1, output_size=6)
c("repeat_interleave", "self_Tensor", P(2, 3), G(torch.tensor([1, 2, 1])), 1)
c("repeat_interleave", "self_Tensor", P(3), G(torch.tensor([2, 0, 1])), 0, output_size=3)
c("repeat_interleave", "Tensor", G(torch.tensor([2, 1])), output_size=3)
c("unfold", "default", P(5), 0, 3, 2)
c("unfold", "default", P(2, 4), -1, 2, 1)
c("unfold", "default", P(4, 3), 0, 2, 2)
for name in ("cat", "concat", "concatenate"):
    c(name, "default", [P(2, 3), P(1, 3)])
    c(name, "default", [P(2, 3), P(2, 2)], -1)
    c(name, "default", [P(2, 2, 1), P(2, 1, 1), D(2, 1, 1)], 1)
    c(name, "default", [P(2), D(0)])
c("stack", "default", [P(3), P(3)])
c("stack", "default", [P(2, 3), P(2, 3)], -1)
c("stack", "default", [P(2, 3), D(2, 3)], 1)
c("block_diag", "default", [P(2, 3), P(1, 2)])
c("block_diag", "default", [P(3), P(2, 1), P()])
c("block_diag", "default", [P(2, 2)])
c("block_diag", "default", [P(0, 2), P(2, 1)])
for name in ("hstack", "column_stack"):
    c(name, "default", [P(3), P(3)])
    c(name, "default", [P(2, 3), P(2, 1)])
    c(name, "default", [P(2, 1, 2), P(2, 2, 2)])
    c(name, "default", [P(), P()])
c("column_stack", "default", [P(2), P(2, 3)])

c("constant_pad_nd", "default", P(3), [1, 2])
c("constant_pad_nd", "default", P(2, 3), [1, 0, 0, 2], 0.5)
c("constant_pad_nd", "default", P(2, 4), [-1, 1], 2)
c("pad", "default", P(2, 3), [1, 2])
c("pad", "default", P(2, 3), [0, 1, 2, 0], "constant", 1.5)
c("pad", "default", P(1, 2, 4), [2, 1], "reflect")
c("pad", "default", P(1, 2, 3), [2, 1], mode="reflect")
c("pad", "default", P(1, 2, 4), [1, 2], "replicate")
c("pad", "default", P(1, 2, 4), [3, 1], "circular")
c("pad", "default", P(1, 1, 3, 3), [1, 0, 2, 1], "reflect")
c("pad", "default", P(1, 1, 3, 2), [1, 1, 0, 2], "circular")
c("pixel_shuffle", "default", P(1, 4, 2, 1), 2)
c("pixel_shuffle", "default", P(8, 1, 2), 2)
c("pixel_shuffle", "default", P(2, 9, 1, 1), 3)
c("channel_shuffle", "default", P(1, 4, 2), 2)
c("channel_shuffle", "default", P(2, 6, 1), 3)
c("channel_shuffle", "default", P(1, 4, 1, 2), 2)
c("native_channel_shuffle", "default", P(1, 4, 2, 1), 2)
c("native_channel_shuffle", "default", P(2, 6, 1, 1), 3)
c("native_channel_shuffle", "default", P(1, 4, 1, 2), 4)

_LINES = {
    "upsample_nearest1d": [],
    "upsample_linear1d": [False],
    "_upsample_nearest_exact2d": [],
    "upsample_nearest2d": [],
    "upsample_bilinear2d": [False],
    "upsample_bicubic2d": [False],
    "upsample_nearest3d": [],
    "upsample_trilinear3d": [False],
    "_upsample_nearest_exact1d": [],
    "_upsample_nearest_exact3d": [],
    "_upsample_bilinear2d_aa": [False],
    "_upsample_bicubic2d_aa": [False],
    **({"_upsample_lanczos2d_aa": [False]} if hasattr(torch.ops.aten, "_upsample_lanczos2d_aa") else {}),
}
for name, corners in _LINES.items():
    rank = next(n for n in (1, 2, 3) if f"{n}d" in name)
    for channels, size in [(1, 2), (2, 2), (1, 3)]:
        x = P(1, channels, *[size] * rank)
        c(name, "default", x, [3] * rank, *corners)
        c(name, "default", x, [4] * rank, *corners, *[1.7] * rank)
        c(name, "vec", x, None, *corners, [2.0] * rank)
        c(name, "vec", x, [4] * rank, *corners, None)
        if corners:
            c(name, "default", x, [4] * rank, True)
            c(name, "vec", x, [4] * rank, True, None)
for shape in [(3,), (2, 3), (2, 1, 3)]:
    c("copy", "default", P(*shape), P(*shape))
    c("copy", "default", D(*shape), P(1), True)
    c("fill", "Scalar", P(*shape), 0.0)
    c("fill", "Scalar", P(*shape), 2.0)
    c("fill", "Tensor", P(*shape), D())

for shape in [(2, 3), (3, 2), (1, 4)]:
    for name in ("numpy_T", "mT", "mH", "matrix_H"):
        c(name, "a", P(*shape))
c("split", "default", P(2, 5), [2, 3], -1)
c("tensor_split", "tensor_indices_or_sections", P(2, 4), G(torch.tensor([1, 3])), 1)
c("unflatten", "int", P(2, 4), 1, [2, 2])
c("unflatten", "int", P(2, 2, 3), 2, [3, 1])
c("roll", "default", P(4), [1], [-1])
c("stack", "default", [P(2, 1, 2), P(2, 1, 2)], -2)
for name in ("repeat", "tile"):
    c(name, "default", P(2, 2, 1), [1, 2, 3])
