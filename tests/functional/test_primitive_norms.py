"""Written-out norms: equal values, right derivatives of third order where torch's own are wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from neuralmechanics.functional.primitive_norms import PrimitiveNorms


def _x(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _trained(module: nn.Module) -> nn.Module:
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


_NORMS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "layer": (nn.LayerNorm(4), (3, 4)),
    "layer over two": (nn.LayerNorm((3, 4)), (2, 3, 4)),
    "rms": (nn.RMSNorm(4), (3, 4)),
    "batch": (nn.BatchNorm1d(4), (5, 4)),
    "batch 2d": (nn.BatchNorm2d(3), (2, 3, 2, 2)),
    "batch eval": (nn.BatchNorm1d(4).eval(), (5, 4)),
    "group": (nn.GroupNorm(2, 4), (2, 4, 3)),
    "instance": (nn.InstanceNorm1d(3, affine=True), (2, 3, 4)),
    "instance tracked eval": (nn.InstanceNorm1d(3, affine=True, track_running_stats=True).eval(), (2, 3, 4)),
}


@pytest.mark.parametrize("name", _NORMS)
def test_values_are_torch_values(name: str) -> None:
    module, shape = _NORMS[name]
    module, x = _trained(module), _x(*shape)
    with PrimitiveNorms():
        written_out = module(x)
    torch.testing.assert_close(written_out, module(x), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: torch.layer_norm(x, [4]),
        lambda x: torch.rms_norm(x, [4]),
        lambda x: torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False),
        lambda x: torch.group_norm(x, 2),
        lambda x: torch.instance_norm(
            x[:, :, None].expand(3, 4, 5) + _x(5), None, None, None, None, True, 0.1, 1e-5, True
        ),
    ],
)
def test_low_level_calls_too(call: Callable[[Tensor], Tensor]) -> None:
    with PrimitiveNorms():
        written_out = call(_x(3, 4))
    torch.testing.assert_close(written_out, call(_x(3, 4)), rtol=1e-13, atol=1e-13)


def _along(function: Callable[[Tensor], Tensor], x: Tensor, directions: Tensor) -> Tensor:
    """The mixed derivative of a scalar function along each direction in turn, by reverse passes."""
    x = x.detach().requires_grad_()
    value = function(x)
    for direction in directions:
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        value = (gradient * direction).sum()
    return value.detach()


def _third_order_error(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Third derivative by reverse mode against the central difference of the second, relative."""
    directions = torch.randn(3, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    exact = _along(function, x, directions)
    step = 1e-5
    ahead, behind = (_along(function, x + s * step * directions[2], directions[:2]) for s in (1, -1))
    return float((exact - (ahead - behind) / (2 * step)).abs() / exact.abs())


@pytest.mark.parametrize("name", _NORMS)
def test_third_derivatives_are_right(name: str) -> None:
    module, shape = _NORMS[name]
    module = _trained(module)

    def function(x: Tensor) -> Tensor:
        with PrimitiveNorms():
            return module(x).tanh().square().sum()

    assert _third_order_error(function, _x(*shape)) < 1e-6


def test_the_fused_layer_norm_would_have_been_wrong() -> None:
    error = _third_order_error(lambda x: F.layer_norm(x, [4]).tanh().square().sum(), _x(3, 4))
    assert error > 1e-3


_OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "softplus": F.softplus,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "logsigmoid": F.logsigmoid,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softmax": lambda x: F.softmax(x, -1),
    "log softmax": lambda x: F.log_softmax(x, -1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "logsumexp": lambda x: torch.logsumexp(x, -1),
    "std": lambda x: x.std(-1),
    "norm": lambda x: x.norm(dim=-1),
    "glu": lambda x: F.glu(x, -1),
    "conv": lambda x: F.conv1d(x[None], x[:, None].tanh().repeat(1, 3, 1)[:, :, :2]),
}


@pytest.mark.parametrize("name", _OPERATIONS)
def test_other_operations_have_right_third_derivatives(name: str) -> None:
    def function(x: Tensor) -> Tensor:
        out = _OPERATIONS[name](x).reshape(-1)
        return (out * torch.arange(1.0, out.numel() + 1).to(out).cos()).sum().sin()

    assert _third_order_error(function, 0.3 * _x(3, 4)) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("norm", [nn.BatchNorm1d(4), nn.InstanceNorm1d(4, affine=True, track_running_stats=True)])
def test_running_statistics_are_not_written(norm: nn.Module, dtype: torch.dtype, autocast: bool) -> None:
    module = copy.deepcopy(norm).to(dtype)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with PrimitiveNorms(), torch.autocast("cpu", enabled=autocast):
        module(_x(5, 4, 3).to(dtype))
    # Some modules count their batches themselves, before they call the norm.
    written = {name for name, buffer in module.named_buffers() if not torch.equal(buffer, before[name])}
    assert written <= {"num_batches_tracked"}
