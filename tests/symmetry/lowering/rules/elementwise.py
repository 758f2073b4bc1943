"""Calls of every elementwise operation, with every option."""

from __future__ import annotations

import torch

from .case import B, Case, D, P
from .table import Table

table = Table()
c = table.call
SHAPES = [(3,), (2, 3), (2, 1, 3)]
PAIRS = [((3,), (3,)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((3,), (2, 3))]

for x, y in PAIRS:
    for name in ("add", "sub", "rsub", "subtract"):
        c(name, "Tensor", P(*x), P(*y))
        c(name, "Tensor", P(*x), P(*y), alpha=2)
        c(name, "Tensor", P(*x), D(*y), alpha=-0.5)
        c(name, "Scalar", P(*x), 1.5)
        c(name, "Scalar", P(*x), 2, **({} if name == "subtract" else {"alpha": 3}))
    for name in ("mul", "multiply", "div", "true_divide", "divide"):
        c(name, "Tensor", P(*x), P(*y))
        c(name, "Tensor", P(*x), D(*y))
        c(name, "Tensor", D(*x), P(*y))
        c(name, "Scalar", P(*x), 2.5)
        c(name, "Scalar", P(*x), -4)
    for name in ("div", "divide"):
        for mode in ("floor", "trunc"):
            c(name, "Tensor_mode", P(*x), P(*y), rounding_mode=mode)
            c(name, "Scalar_mode", P(*x), 2.0, rounding_mode=mode)
        c(name, "Tensor_mode", P(*x), P(*y), rounding_mode=None)
        c(name, "Scalar_mode", P(*x), 2.0, rounding_mode=None)
    for name in ("pow", "float_power"):
        c(name, "Tensor_Tensor", P(*x, kind="positive"), P(*y))
        c(name, "Tensor_Scalar", P(*x), 2)
        c(name, "Tensor_Scalar", P(*x), 3.0)
        c(name, "Tensor_Scalar", P(*x), -2)
        c(name, "Tensor_Scalar", P(*x, kind="positive"), 0.5)
        c(name, "Tensor_Scalar", P(*x), 1)
        c(name, "Tensor_Scalar", P(*x), 0)
        c(name, "Scalar", 2.0, P(*x))
    for name in ("maximum", "minimum", "fmax", "fmin"):
        c(name, "default", P(*x), P(*y))
        c(name, "default", D(*x), P(*y))
    c("hypot", "default", P(*x), P(*y))
    for name in ("atan2", "arctan2"):
        c(name, "default", P(*x), P(*y))
    c("copysign", "Tensor", P(*x), P(*y))
    c("copysign", "Scalar", P(*x), -1.0)
    c("heaviside", "default", P(*x), D(*y))
    for name in ("fmod", "remainder"):
        c(name, "Tensor", P(*x), P(*y))
        c(name, "Scalar", P(*x), 0.7)
        if name == "remainder":
            c(name, "Scalar_Tensor", 1.7, P(*x))
    for name in ("logaddexp", "logaddexp2"):
        c(name, "default", P(*x), P(*y))
    for name in ("xlogy", "special_xlogy", "special_xlog1py"):
        numbers = ("Scalar_Self", "Scalar_Other") if name == "xlogy" else ("self_scalar", "other_scalar")
        c(name, "Tensor" if name == "xlogy" else "default", P(*x), P(*y, kind="positive"))
        c(name, numbers[0], 1.5, P(*x, kind="positive"))
        c(name, numbers[1], P(*x), 1.5)
    c("floor_divide", "default", P(*x), P(*y))
    c("floor_divide", "Scalar", P(*x), 0.3)
    c("nextafter", "default", P(*x), P(*y))
    for name in ("logical_and", "logical_or", "logical_xor"):
        c(name, "default", P(*x), P(*y))
    for name in ("__and__", "__or__", "__xor__"):
        c(name, "Tensor", B(*x), B(*y))
        c(name, "Scalar", B(*x), True)
    for name in ("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal", "not_equal"):
        c(name, "Tensor", P(*x), P(*y))
        c(name, "Scalar", P(*x), 0)
        c(name, "Scalar", P(*x), 0.5)
    c("where", "self", B(*x), P(*y), P(*x))
    c("where", "ScalarOther", B(*x), P(*y), 0.0)
    c("where", "ScalarOther", B(*x), P(*y), 1.5)
    c("where", "ScalarSelf", B(*x), -float("inf"), P(*y))
    c("where", "Scalar", B(*x), 1.0, 2.0)
    c("masked_fill", "Scalar", P(*x), B(*y), 0.0)
    c("masked_fill", "Scalar", P(*x), B(*y), 1.5)
    c("masked_fill", "Tensor", P(*x), B(*y), D())
    c("masked_fill", "Tensor", P(*x), B(*y), P())
    for name in ("lerp",):
        c(name, "Scalar", P(*x), P(*y), 0.3)
        c(name, "Tensor", P(*x), P(*y), D(*y))
        c(name, "Tensor", P(*x), P(*y), P(*x))
    for name in ("addcmul", "addcdiv"):
        c(name, "default", P(*x), P(*y), P(*x))
        c(name, "default", P(*x), P(*y), P(*y), value=-2)

for shape in SHAPES:
    x, positive, unit, above = P(*shape), P(*shape, kind="positive"), P(*shape, kind="unit"), P(*shape, kind="above")
    for name in ("square", "reciprocal", "neg", "negative", "relu", "abs", "absolute", "sign", "sgn"):
        c(name, "default", x)
    for name in ("sqrt", "rsqrt"):
        c(name, "default", positive)
    c("leaky_relu", "default", x)
    c("leaky_relu", "default", x, 0.3)
    c("rrelu", "default", x)
    c("rrelu", "default", x, 0.2, 0.4)
    c("rrelu", "default", x, 0.2, 0.4, True)
    c("threshold", "default", x, 0, 0)
    c("threshold", "default", x, 0.6, -1.0)
    c("prelu", "default", P(*shape), P(1))
    c("_prelu_kernel", "default", P(*shape), P(1))
    for name in ("clamp", "clip"):
        c(name, "default", x, 0)
        c(name, "default", x, None, 0)
        c(name, "default", x, 0.2)
        c(name, "default", x, -0.7, 0.9)
        c(name, "default", x, max=0.5)
        c(name, "Tensor", x, D(3), None)
        c(name, "Tensor", x, None, P(3))
    for name in ("clamp_min", "clamp_max"):
        c(name, "default", x, 0)
        c(name, "default", x, 0.3)
        c(name, "Tensor", x, P(3))
    for name in (
        "tanh",
        "sigmoid",
        "silu",
        "mish",
        "selu",
        "tan",
        "atan",
        "sinh",
        "cosh",
        "asinh",
        "erf",
        "erfc",
        "hardswish",
        "hardsigmoid",
        "relu6",
        "log_sigmoid",
        "special_expit",
        "frac",
        "i0",
        "special_erf",
        "sinc",
        "sin",
        "cos",
        "exp",
        "exp2",
        "expm1",
        "round",
        "floor",
        "ceil",
        "trunc",
        "fix",
        "isnan",
        "isinf",
        "isfinite",
        "logical_not",
        "elu",
        "celu",
        "gelu",
        "hardtanh",
        "hardshrink",
        "softshrink",
        "softplus",
        "nan_to_num",
    ):
        c(name, "default", x)
    for name in ("asin", "acos", "atanh", "erfinv"):
        c(name, "default", unit)
    for name in ("acosh", "lgamma", "digamma"):
        c(name, "default", above)
    for name in ("log", "log2", "log10", "log1p"):
        c(name, "default", positive)
    for name in ("logit", "special_logit"):
        c(name, "default", P(*shape, kind="unit"), 0.1)
        c(name, "default", D(*shape, kind="unit"))
    c("gelu", "default", x, approximate="tanh")
    c("softplus", "default", x, 2, 1.0)
    c("elu", "default", x, 0.5, 1.1, 0.7)
    c("celu", "default", x, 0.5)
    c("hardtanh", "default", x, -0.6, 0.7)
    c("hardshrink", "default", x, 0.8)
    c("softshrink", "default", x, 0.8)
    c("round", "decimals", x, decimals=1)
    c("nan_to_num", "default", x, 1.0, 2.0, -2.0)
    c("bitwise_not", "default", B(*shape))
    for name in ("tril", "triu"):
        if len(shape) > 1:
            c(name, "default", x)
            c(name, "default", x, 1)
            c(name, "default", x, -1)
    c("where", "default", B(*shape))
    for train in (True, False):
        for name in ("dropout", "alpha_dropout"):
            c(name, "default", x, 0.4, train)
        c("native_dropout", "default", x, 0.4, train)
        if len(shape) > 1:
            for name in ("feature_dropout", "feature_alpha_dropout"):
                c(name, "default", x, 0.4, train)
    c("native_dropout", "default", x, 0.4, None)
for name in ("tril", "triu"):
    c(name, "default", P(2, 3, 3), 1)
for shape in [(2, 3), (4, 3), (2, 2, 2)]:
    for name in ("feature_dropout", "feature_alpha_dropout"):
        c(name, "default", P(*shape), 0.0, True)
for shape, dim in [((4,), 0), ((3, 4), -1), ((4, 3), 0), ((2, 2, 3), -2)]:
    c("glu", "default", P(*shape), dim)
    if shape[-1] % 2 == 0:
        c("glu", "default", P(*shape))
        half = (*shape[:-1], shape[-1] // 2)
        c("glu_jvp", "default", D(*half), P(*shape), D(*shape), -1)
c("glu_jvp", "default", D(2, 3), P(4, 3), P(4, 3), 0)

for shape in SHAPES:
    for name in ("bitwise_and", "bitwise_or"):
        c(name, "Tensor", B(*shape), B(*shape))
        c(name, "Scalar", B(*shape), True)
        c(name, "Scalar_Tensor", True, B(*shape))
    c("subtract", "Scalar", P(*shape), 2, 3)

for shape in SHAPES:
    c("special_exp2", "default", P(*shape))
    where = torch.ops.prims.where.default
    table.cases.append(Case("where", where, (B(*shape), P(*shape), P(*shape)), {}, "prims."))
