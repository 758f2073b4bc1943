"""Nested derivatives through every norm and attention equal differences of first derivatives, up to the fourth."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from neuralmechanics.functional.derivatives.autograd_graph import handwritten, once_differentiable_only, wrong
from neuralmechanics.functional.derivatives.higher_derivatives import NoDerivativeError, derivatives, record_gradient
from neuralmechanics.functional.derivatives.verification import require_right_derivatives

Function = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Self-attention of four heads' worth of tokens by one call of the fused kernel."""

    def __init__(self, **named: object) -> None:
        super().__init__()
        self.into, self.named = nn.Linear(4, 12), named

    def forward(self, x: Tensor) -> Tensor:
        parts = (t.unflatten(-1, (2, 2)).transpose(1, 2) for t in self.into(x).chunk(3, -1))
        return F.scaled_dot_product_attention(*parts, **self.named).transpose(1, 2).flatten(2)


class Heads(nn.Module):
    """nn.MultiheadAttention of a tensor with itself."""

    def __init__(self, weights: bool) -> None:
        super().__init__()
        self.heads, self.weights = nn.MultiheadAttention(4, 2, batch_first=True), weights

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(x, x, x, need_weights=self.weights)[0]


class First(nn.Module):
    """The output of a recurrent layer without its state."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Forced(nn.Module):
    """Forces: the layer's outputs are gradients of an energy, so one order is used up inside."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(4, 6), norm, nn.Tanh(), nn.Linear(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x + torch.zeros_like(x).requires_grad_()
            (force,) = torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)
        return force


def lower_triangle() -> Tensor:
    return torch.ones(5, 5, dtype=torch.bool).tril()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "batch 1d": (lambda: nn.BatchNorm1d(4), (6, 4)),
    "batch 2d after a convolution": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), (2, 2, 4, 4)),
    "batch 3d": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 2, 2)),
    "batch in evaluation": (lambda: nn.BatchNorm1d(4).eval(), (6, 4)),
    "batch across processes": (lambda: nn.SyncBatchNorm(4).eval(), (6, 4)),
    "layer": (lambda: nn.LayerNorm(4), (3, 4)),
    "layer without gains": (lambda: nn.LayerNorm((3, 4), elementwise_affine=False), (2, 3, 4)),
    "group": (lambda: nn.GroupNorm(2, 4), (2, 4, 3)),
    "instance": (lambda: nn.InstanceNorm2d(3, affine=True), (2, 3, 2, 3)),
    "root mean square": (lambda: nn.RMSNorm(4), (3, 4)),
    "local response": (lambda: nn.LocalResponseNorm(3), (2, 4, 3)),
    "weight, rows": (lambda: parametrizations.weight_norm(nn.Linear(4, 3)), (5, 4)),
    "weight, columns": (lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=1), (5, 4)),
    "weight, all": (lambda: parametrizations.weight_norm(nn.Linear(4, 3), dim=None), (5, 4)),
    "weight, kernels": (lambda: parametrizations.weight_norm(nn.Conv1d(2, 3, 2)), (2, 2, 4)),
    "spectral": (lambda: parametrizations.spectral_norm(nn.Linear(4, 3)).eval(), (5, 4)),
    "attention": (Attention, (2, 5, 4)),
    "causal attention": (lambda: Attention(is_causal=True), (2, 5, 4)),
    "masked attention": (lambda: Attention(attn_mask=lower_triangle()), (2, 5, 4)),
    "biased attention": (lambda: Attention(attn_mask=torch.linspace(-1, 1, 25).double().reshape(5, 5)), (2, 5, 4)),
    "heads": (lambda: Heads(False), (2, 5, 4)),
    "heads with weights": (lambda: Heads(True), (2, 5, 4)),
    "encoder layer": (lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.0, F.gelu, batch_first=True), (2, 3, 4)),
    "decoder-like, norm first": (
        lambda: nn.TransformerEncoderLayer(4, 2, 6, 0.0, F.silu, batch_first=True, norm_first=True), (2, 3, 4)
    ),
    "long short-term memory": (lambda: First(nn.LSTM(4, 3, batch_first=True)), (2, 4, 4)),
    "gated recurrent unit": (lambda: First(nn.GRU(4, 3, batch_first=True)), (2, 4, 4)),
    "recurrent": (lambda: First(nn.RNN(4, 3, batch_first=True)), (2, 4, 4)),
    "forces through layer norm": (lambda: Forced(nn.LayerNorm(6)), (3, 4)),
    "forces through batch norm": (lambda: Forced(nn.BatchNorm1d(6)), (5, 4)),
}  # fmt: skip


def along_a_line(module: nn.Module, shape: tuple[int, ...]) -> Function:
    """t ↦ Σ c sin(0.7 module(x + tu; θ + tw)): input and parameters move."""
    draw = torch.Generator().manual_seed(1)

    def normal(size: torch.Size | tuple[int, ...]) -> Tensor:
        return torch.randn(size, generator=draw, dtype=torch.float64)

    module = module.double()
    start = {name: p.detach() + 0.3 * normal(p.shape) for name, p in module.named_parameters()}
    way = {name: normal(p.shape) for name, p in start.items()}
    x, u = normal(shape), normal(shape)

    def function(t: Tensor) -> Tensor:
        y = functional_call(module, {name: p + t * way[name] for name, p in start.items()}, (x + t * u,))
        return ((0.7 * y).sin() * torch.arange(1.0, y.numel() + 1).reshape(y.shape).cos()).sum()

    return function


def differences(function: Function, orders: int, reach: float = 0.01, points: int = 14) -> list[float]:
    """d^k f/dt^k at 0, from the polynomial through torch's own first derivatives; nothing is nested."""
    nodes = ((2 * torch.arange(points, dtype=torch.float64) + 1) * (math.pi / (2 * points))).cos()
    slopes = []
    for node in nodes.tolist():
        t = torch.tensor(reach * node, dtype=torch.float64, requires_grad=True)
        slopes.append(float(torch.autograd.grad(function(t), t)[0]))
    powers = nodes[:, None] ** torch.arange(points, dtype=torch.float64)
    found = torch.linalg.solve(powers, torch.tensor(slopes, dtype=torch.float64)).tolist()
    return [found[k] * math.factorial(k) / reach**k for k in range(orders)]


def nested(function: Function, orders: int) -> list[float]:
    """The same by the package's own derivatives."""
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    _, (slope,) = record_gradient(lambda: function(t), [t], orders)
    found = [float(slope.detach())]
    for _ in range(orders - 1):
        (slope,) = derivatives(slope, [t], graph=True)
        found.append(float(slope.detach()))
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_derivatives_are_right_to_the_fourth_order(name: str) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    function = along_a_line(build(), shape)
    for order, (found, right) in enumerate(zip(nested(function, 4), differences(function, 4), strict=True), 1):
        assert found == pytest.approx(right, rel=1e-5), order


@pytest.mark.parametrize("name", ["batch 1d", "layer", "instance", "weight, rows", "encoder layer"])
def test_torch_alone_would_have_been_wrong(name: str) -> None:
    torch.manual_seed(0)
    build, shape = NETWORKS[name]
    function = along_a_line(build(), shape)
    value = t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        value = function(t)
    for _ in range(3):
        (value,) = torch.autograd.grad(value, t, create_graph=True)
    assert float(value.detach()) != pytest.approx(differences(function, 3)[2], rel=1e-2)


class Once(torch.autograd.Function):
    """x³ with a backward pass that is marked."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


class Right(torch.autograd.Function):
    """x³, and a backward pass that can be differentiated."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0] ** 2


class Intermediate(torch.autograd.Function):
    """x³, with x² saved in the forward pass, where nothing records how it came about."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x**2)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        return 3 * grad * ctx.saved_tensors[0]


POINT = torch.linspace(-1, 1, 12, dtype=torch.float64)


def _through(function: type[torch.autograd.Function]) -> Function:
    return lambda p: (p.reshape(4, 3) + function.apply(p.reshape(4, 3))).tanh().square().sum()


def test_a_once_differentiable_function_is_refused_and_torch_would_have_been_silent() -> None:
    leaf = POINT.clone().requires_grad_()
    value = _through(Once)(leaf)
    assert once_differentiable_only(value) == ("Once",)
    (slope,) = torch.autograd.grad(value, leaf, create_graph=True)
    (silent,) = torch.autograd.grad(slope.sum(), leaf)
    _, (right,) = record_gradient(lambda: _through(Right)(leaf), [leaf], 2)
    assert not torch.allclose(silent, derivatives(right.sum(), [leaf], graph=False)[0], rtol=1e-2)
    with pytest.raises(NoDerivativeError, match="Once is marked once differentiable"):
        record_gradient(lambda: _through(Once)(leaf), [leaf], 2)


def test_a_handwritten_backward_pass_is_measured() -> None:
    assert handwritten(_through(Right)(POINT.clone().requires_grad_())) == ("Right",)
    require_right_derivatives(_through(Right), POINT, 4)
    with pytest.raises(NoDerivativeError, match=r"order 2 is off by .* with Intermediate on the way"):
        require_right_derivatives(_through(Intermediate), POINT, 2)


def test_kinks_do_not_make_a_handwritten_backward_pass_wrong() -> None:
    inputs = torch.randn(30, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    require_right_derivatives(lambda p: Right.apply((inputs @ p.reshape(4, 3)).relu()).square().mean(), POINT, 4)


def test_norms_out_of_reach_are_refused_by_name() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # scripts are on their way out, and still about
        scripted = torch.jit.trace(nn.LayerNorm(3).double(), torch.randn(2, 3, dtype=torch.float64))
    leaf = POINT.clone().requires_grad_()
    calls: dict[str, Function] = {
        "layer_norm": lambda p: scripted(p.reshape(4, 3)),
        "batch_norm": lambda p: torch.native_batch_norm(p.reshape(4, 3), None, None, None, None, True, 0.1, 1e-5)[0],
        "weight_norm": lambda p: torch.ops.aten._weight_norm_interface(p.reshape(4, 3), p[:4, None], 0)[0],
    }
    for name, call in calls.items():
        with pytest.raises(NoDerivativeError, match=f"of order 3 through {name} is wrong in torch"):
            record_gradient(lambda call=call: call(leaf).sin().sum(), [leaf], 3)
    record_gradient(lambda: calls["layer_norm"](leaf).sin().sum(), [leaf], 2)


def test_a_derivative_inside_the_loss_uses_up_one_order() -> None:
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(F.layer_norm(x, [3]).sin().sum(), x, create_graph=True)
    energy = slope.square().sum()
    assert wrong(energy, 1) == ()
    assert wrong(energy, 2) == ("layer_norm",)


@pytest.mark.parametrize("name", ["cdist", "hardsigmoid", "transposed convolution"])
def test_what_torch_does_not_differentiate_is_said(name: str) -> None:
    calls: dict[str, Function] = {
        "cdist": lambda t: torch.cdist(t * POINT.reshape(4, 3), POINT.reshape(4, 3) + 1),
        "hardsigmoid": lambda t: F.hardsigmoid(t * POINT),
        "transposed convolution": lambda t: F.conv_transpose1d(
            t * POINT.reshape(1, 2, 6), t * POINT.reshape(2, 3, 2), stride=2, output_padding=1
        ),
    }
    with pytest.raises(NoDerivativeError, match="torch has no derivative of that order here: "):
        nested(lambda t: calls[name](t + 1).sin().sum(), 3)


def test_compiled_code_runs_as_it_was_written() -> None:
    layer = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Tanh())
    plain = along_a_line(layer, (5, 4))
    compiled = torch.compile(plain, backend="aot_eager")
    assert nested(compiled, 3) == pytest.approx(nested(plain, 3), rel=1e-12)


def test_checkpoints_are_right_or_refused() -> None:
    for norm, refused in ((nn.GroupNorm(1, 4), True), (nn.Tanh(), False)):
        layer = nn.Sequential(nn.Linear(4, 4), norm, nn.Tanh()).double()

        def function(t: Tensor, layer: nn.Module = layer) -> Tensor:
            return checkpoint(layer, t * POINT.reshape(3, 4), use_reentrant=False).square().sum()

        def shifted(t: Tensor, function: Function = function) -> Tensor:
            return function(t + 1)

        if refused:
            with pytest.raises(NoDerivativeError, match="turn checkpointing off"):
                nested(shifted, 3)
        else:
            assert nested(shifted, 3) == pytest.approx(differences(shifted, 3), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_type(dtype: torch.dtype) -> None:
    x = POINT.reshape(3, 4).to(dtype).requires_grad_()
    value, _ = record_gradient(lambda: F.layer_norm(x, [4]).square().sum(), [x], 2)
    assert value.dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = F.layer_norm(x.float(), [4])
        seen: list[Tensor] = []
        record_gradient(lambda: seen.append(F.layer_norm(x.float(), [4])) or seen[0].sum(), [x], 2)
    assert seen[0].dtype == plain.dtype
    torch.testing.assert_close(seen[0], plain, rtol=1e-2, atol=1e-2)
