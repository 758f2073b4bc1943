"""Fully connected networks: activations, gates, norms, tying, parametrizations, odd containers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from ..blocks import GATES, Gated, ReluSquared, Residual, RMSNorm
from .registry import small

_ROWS = (96, 4)


def _sandwich(*middle: nn.Module, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5, bias=bias), *middle, nn.Linear(5, 3, bias=bias))


@small("relu-squared", _ROWS)
def relu_squared() -> nn.Module:
    return _sandwich(ReluSquared())


@small("relu-cubed", _ROWS, "output")
def relu_cubed() -> nn.Module:
    class Cube(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x) ** 3

    return _sandwich(Cube(), bias=False)


@small("maxout", _ROWS)
def maxout() -> nn.Module:
    class Maxout(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.maximum(*x.chunk(2, dim=-1))

    return nn.Sequential(nn.Linear(4, 8), Maxout(), nn.Linear(4, 6))


for _gate in GATES:

    @small(f"gated-{_gate}", (96, 5))
    def gated(gate: str = _gate) -> nn.Module:
        return Gated(5, 4, gate, bias=gate in ("silu", "relu"))


@small("glu-module", _ROWS)
def glu_module() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.GLU(dim=-1), nn.Linear(4, 3))


@small("layer-norm", _ROWS)
def layer_norm() -> nn.Module:
    return _sandwich(nn.LayerNorm(5), nn.ReLU())


@small("layer-norm-without-gain", _ROWS)
def layer_norm_without_gain() -> nn.Module:
    return _sandwich(nn.LayerNorm(5, elementwise_affine=False), nn.Linear(5, 5), nn.ReLU())


@small("layer-norm-into-linear", _ROWS, "output")
def layer_norm_into_linear() -> nn.Module:
    return _sandwich(nn.LayerNorm(5))


@small("rms-norm-written-out", _ROWS)
def rms_norm_written_out() -> nn.Module:
    return _sandwich(RMSNorm(5), nn.SiLU())


@small("rms-norm-module", _ROWS)
def rms_norm_module() -> nn.Module:
    return _sandwich(nn.RMSNorm(5), nn.SiLU(), bias=False)


@small("group-norm-rows", _ROWS)
def group_norm_rows() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.GroupNorm(2, 8), nn.ReLU(), nn.Linear(8, 3))


@small("batch-norm-after-relu", _ROWS)
def batch_norm_after_relu() -> nn.Module:
    return _sandwich(nn.ReLU(), nn.BatchNorm1d(5))


@small("two-batch-norms", _ROWS)
def two_batch_norms() -> nn.Module:
    return _sandwich(nn.BatchNorm1d(5), nn.BatchNorm1d(5), nn.GELU())


@small("normalize-features", _ROWS)
def normalize_features() -> nn.Module:
    class Cosine(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(4, 5), nn.Linear(5, 8, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            features = functional.normalize(self.body(x), dim=-1)
            return 4.0 * functional.linear(features, functional.normalize(self.head.weight, dim=-1))

    return Cosine()


@small("weight-norm", _ROWS)
def weight_norm() -> nn.Module:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(4, 5)),
        nn.ReLU(),
        parametrizations.weight_norm(nn.Linear(5, 3)),
    )


@small("weight-standardization", (32, 2, 5, 5))
def weight_standardization() -> nn.Module:
    class Standardized(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            w = self.weight
            w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
            return self._conv_forward(x, w, self.bias)

    return nn.Sequential(
        Standardized(2, 4, 2), nn.GroupNorm(2, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    )


@small("used-twice", _ROWS)
def used_twice() -> nn.Module:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entry, self.shared, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.entry(x))
            return self.head(torch.relu(self.shared(torch.relu(self.shared(x)))))

    return Twice()


@small("tied-autoencoder", _ROWS, "mse")
def tied_autoencoder() -> nn.Module:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 3)
            self.bias = nn.Parameter(torch.zeros(4))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.encoder(x)) @ self.encoder.weight + self.bias

    return Tied()


@small("frozen-entry", _ROWS)
def frozen_entry() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    model[0].requires_grad_(False)
    with torch.no_grad():
        model[0].bias.fill_(0.1)
    return model


@dataclass
class Prediction:
    logits: Tensor
    hidden: Tensor


@small("returns-tuple", _ROWS)
def returns_tuple() -> nn.Module:
    class Tupled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            hidden = torch.relu(self.a(x))
            return self.b(hidden), {"hidden": hidden}

    return Tupled()


@small("returns-dict", _ROWS)
def returns_dict() -> nn.Module:
    class Keyed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"logits": self.b(torch.relu(self.a(x)))}

    return Keyed()


@small("raw-tensors", _ROWS, "output")
def raw_tensors() -> nn.Module:
    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.w2 = nn.Parameter(torch.randn(16, 4)), nn.Parameter(torch.randn(3, 16))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x @ self.w1.T) @ self.w2.T

    return Raw()


@small("einsum-layers", _ROWS)
def einsum_layers() -> nn.Module:
    class Einsum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w1, self.w2 = nn.Parameter(torch.randn(4, 2, 3)), nn.Parameter(torch.randn(3, 2, 3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum("bhu,uhk->bk", torch.relu(torch.einsum("bi,ihu->bhu", x, self.w1)), self.w2)

    return Einsum()


@small("learned-temperature", _ROWS)
def learned_temperature() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale = _sandwich(nn.Tanh()), nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) * self.scale

    return Scaled()


@small("exponential-temperature", _ROWS, "output")
def exponential_temperature() -> nn.Module:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.scale = _sandwich(nn.ReLU()), nn.Parameter(torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) * self.scale.exp()

    return Scaled()


@small("low-rank-adapter", _ROWS)
def low_rank_adapter() -> nn.Module:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = nn.Linear(4, 3).requires_grad_(False)
            self.down, self.up = nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.base(x) + 2.0 * self.up(self.down(x))

    return Adapted()


@small("label-smoothing", _ROWS, "label_smoothing")
def label_smoothing() -> nn.Module:
    return _sandwich(nn.LeakyReLU(0.2))


@small("residual-of-linear", _ROWS)
def residual_of_linear() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5), Residual(nn.Linear(5, 5)), Residual(nn.Sequential(nn.ReLU(), nn.Linear(5, 5))), nn.Linear(5, 7)
    )


@small("two-biases-that-add", _ROWS)
def two_biases_that_add() -> nn.Module:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(2, 5), nn.Linear(2, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.a(x[:, :2]) + self.b(x[:, 2:])))

    return Sum()


@small("sharpness-softplus", _ROWS, "output")
def sharpness_softplus() -> nn.Module:
    return _sandwich(nn.Softplus())


@small("sum-of-absolute-values", _ROWS, "output")
def sum_of_absolute_values() -> nn.Module:
    class Absolute(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs() + torch.clamp(x, min=0) - functional.relu(-x)

    return _sandwich(Absolute())


@small("quotient-of-branches", _ROWS, "output")
def quotient_of_branches() -> nn.Module:
    class Quotient(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.top, self.bottom, self.head = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.top(x) / self.bottom(x).square().sum(-1, keepdim=True).sqrt())

    return Quotient()


@small("layer-norm-written-out", _ROWS)
def layer_norm_written_out() -> nn.Module:
    class Written(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            centred = x - x.mean(-1, keepdim=True)
            return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-20)

    return _sandwich(Written(), nn.ReLU())


@small("batch-norm-written-out", _ROWS)
def batch_norm_written_out() -> nn.Module:
    class Written(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - x.mean(0)) / x.var(0).sqrt()

    return _sandwich(Written(), nn.GELU())


@small("row-plus-column-gain", (96, 9), "output")
def row_plus_column_gain() -> nn.Module:
    from .traps import RowPlusColumn

    return RowPlusColumn()


@small("transposed-reuse", _ROWS, "output")
def transposed_reuse() -> nn.Module:
    from .traps import Transposed

    return Transposed()


@small("one-norm-used-twice", _ROWS)
def one_norm_used_twice() -> nn.Module:
    from .traps import SharedNorm

    return SharedNorm()


@small("flat-parameter", _ROWS, "output")
def flat_parameter() -> nn.Module:
    from .traps import Aliased

    return Aliased()


@small("weights-made-from-data", _ROWS, "output")
def weights_made_from_data() -> nn.Module:
    from .traps import Hyper

    return Hyper()


@small("products-of-parameters", _ROWS, "output")
def products_of_parameters() -> nn.Module:
    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.s, self.v = (nn.Parameter(torch.randn(*n)) for n in ((4, 3), (3,), (3, 3)))

        def forward(self, x: Tensor) -> Tensor:
            return x @ ((self.u * self.s.square()) @ self.v)

    return Products()


@small("sums-of-weights", _ROWS, "output")
def sums_of_weights() -> nn.Module:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Parameter(torch.randn(4, 3)) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x @ (self.a + self.b)) @ self.c.T

    return Sums()
