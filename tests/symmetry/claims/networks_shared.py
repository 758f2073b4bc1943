"""Weights made from weights, shared in two roles, recomputed, mapped, transformed, and outputs in containers."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from .entry import normal, register


class Shared(nn.Module):
    """One matrix in two roles."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.w, self.bias = nn.Parameter(torch.randn(4, 4) / 2), nn.Parameter(torch.randn(4))
        self.a, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.how = how

    def hidden(self, x: Tensor) -> Tensor:
        w = self.w
        if self.how == "its transpose after":
            return torch.relu(x @ w.T + self.bias) @ w
        if self.how == "itself after":
            return torch.relu(torch.relu(x @ w.T) @ w.T)
        if self.how == "symmetrised":
            return torch.relu(x @ (w + w.T))
        if self.how == "antisymmetric":
            return torch.relu(self.a(x) @ (w - w.T))
        if self.how == "transposed and added":
            return torch.tanh(x @ w + x @ w.T)
        if self.how == "square":
            return torch.relu(self.a(x) @ (w @ w))
        if self.how == "gram":
            return torch.relu(self.a(x) @ (w @ w.T))
        if self.how == "as weight and as data":
            return torch.relu(self.a(x) @ w) + torch.relu(self.a(w)).mean(0)
        if self.how == "bias twice":
            return torch.relu(x + self.bias) - self.bias
        if self.how == "bias and gain":
            return torch.relu(self.a(x) + self.bias) * self.bias
        if self.how == "rows and columns":
            return torch.tanh(self.a(x) + w[0] - w[:, 0])
        if self.how == "query is key":
            q = x @ w.T
            return torch.softmax(q @ q.T, -1) @ self.a(x)
        if self.how == "exponential":
            return torch.relu(self.a(x) @ torch.matrix_exp(w - w.T))
        if self.how == "inverse":
            return torch.relu(self.a(x)) @ w @ torch.linalg.inv(w) @ w
        if self.how == "Cayley":
            skew, unit = w - w.T, torch.eye(4, dtype=w.dtype)
            return torch.relu(self.a(x) @ torch.linalg.solve(unit + skew, unit - skew))
        if self.how == "orthogonal factor":
            return torch.relu(self.a(x) @ torch.linalg.qr(w)[0])
        if self.how == "singular values":
            return torch.relu(self.a(x) @ w / torch.linalg.svdvals(w)[0])
        if self.how == "determinant":
            return torch.relu(self.a(x)) * torch.linalg.slogdet(w)[1]
        if self.how == "kron":
            return torch.relu(self.a(x) @ torch.kron(w[:2, :2], w[2:, 2:]))
        if self.how == "circulant":
            return torch.relu(self.a(x) @ torch.stack([self.bias.roll(k) for k in range(4)]))
        if self.how == "Toeplitz":
            index = torch.arange(4)[:, None] - torch.arange(4)[None]
            return torch.relu(self.a(x) @ self.bias[index.abs()])
        if self.how == "outer sum of weights":
            return torch.relu(x @ (self.bias[:, None] + self.w[0][None]))
        if self.how == "outer difference of one weight":
            return torch.relu(x @ torch.tanh(self.bias[:, None] - self.bias[None]))
        if self.how == "outer sum, squared":
            return torch.relu(x @ (self.bias[:, None] - self.w[0][None]).square())
        return torch.relu(x @ torch.outer(self.bias, self.w[0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x))


_SHARED = (
    "its transpose after",
    "itself after",
    "symmetrised",
    "antisymmetric",
    "transposed and added",
    "square",
    "gram",
    "as weight and as data",
    "bias twice",
    "bias and gain",
    "rows and columns",
    "query is key",
    "exponential",
    "inverse",
    "Cayley",
    "orthogonal factor",
    "singular values",
    "determinant",
    "kron",
    "circulant",
    "Toeplitz",
    "outer sum of weights",
    "outer difference of one weight",
    "outer sum, squared",
    "outer product",
)
for _how in _SHARED:
    register(f"shared: {_how}", normal((6, 4)))(lambda how=_how: Shared(how))


class Made(nn.Module):
    """Weights made by a small network, or from other weights."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.randn(3))
        self.maker = nn.Linear(3, 12)
        self.w, self.bias, self.head = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4)), nn.Linear(4, 2)
        self.low, self.high = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 3))
        self.size = nn.Parameter(torch.rand(4, 1) + 0.5)
        self.how = how

    def weight(self, x: Tensor) -> Tensor:
        w = self.w
        if self.how == "hypernetwork":
            return self.maker(torch.tanh(self.code)).view(4, 3)
        if self.how == "hypernetwork of data":
            return self.maker(x.mean(0).tanh()).view(4, 3)
        if self.how == "standardised":
            return (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True)
        if self.how == "standardised by var_mean":
            variance, mean = torch.var_mean(w, dim=1, keepdim=True)
            return (w - mean) * torch.rsqrt(variance * 3 + 1e-20) * self.size
        if self.how == "centred":
            return w - w.mean(0, keepdim=True)
        if self.how == "centred both ways":
            return w - w.mean(0, keepdim=True) - w.mean(1, keepdim=True) + w.mean()
        if self.how == "low rank added":
            return w + self.low @ self.high
        if self.how == "low rank with a magnitude":
            v = w + self.low @ self.high
            return self.size * v / v.norm(dim=1, keepdim=True)
        if self.how == "low rank, magnitude detached":
            v = w + self.low @ self.high
            return self.size * v / v.norm(dim=1, keepdim=True).detach()
        if self.how == "softmax of weights":
            return torch.softmax(w, 1)
        if self.how == "softmax of rows and columns":
            return torch.softmax(w, 1) - torch.softmax(w, 0)
        if self.how == "gated by a weight":
            return w * torch.sigmoid(self.size)
        if self.how == "cosine":
            return functional.normalize(w, dim=1)
        if self.how == "difference of rows":
            return w - w.roll(1, 0)
        if self.how == "accumulated rows":
            return w.cumsum(0)
        return w / w.abs().amax()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(functional.linear(x, self.weight(x), self.bias)))


_MADE = (
    "hypernetwork",
    "hypernetwork of data",
    "standardised",
    "standardised by var_mean",
    "centred",
    "centred both ways",
    "low rank added",
    "low rank with a magnitude",
    "low rank, magnitude detached",
    "softmax of weights",
    "softmax of rows and columns",
    "gated by a weight",
    "cosine",
    "difference of rows",
    "accumulated rows",
    "largest entry",
)
for _how in _MADE:
    register(f"made: {_how}", normal((6, 3)))(lambda how=_how: Made(how))


def _wrapped(how: str) -> nn.Module:
    first = nn.Linear(3, 4)
    wrapped = {
        "spectral norm": parametrizations.spectral_norm,
        "weight norm": parametrizations.weight_norm,
        "orthogonal": parametrizations.orthogonal,
    }[how](nn.Linear(4, 4))
    return nn.Sequential(first, nn.ReLU(), wrapped, nn.ReLU(), nn.Linear(4, 2))


for _how in ("spectral norm", "weight norm", "orthogonal"):
    register(f"parametrised: {_how}", normal((6, 3)), branched=True)(lambda how=_how: _wrapped(how))


class Recomputed(nn.Module):
    def __init__(self, how: str, activation: type[nn.Module]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.middle = nn.Sequential(activation(), nn.Linear(4, 4), activation())
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.how == "sequential":
            return self.b(checkpoint_sequential(self.middle, 2, h, use_reentrant=False))
        return self.b(checkpoint(self.middle, h, use_reentrant=self.how == "reentrant"))


for _how in ("reentrant", "not reentrant", "sequential"):
    for _activation in (nn.ReLU, nn.Tanh):
        register(f"recomputed: {_how}, {_activation.__name__}", normal((6, 3)), branched=True)(
            lambda how=_how, activation=_activation: Recomputed(how, activation)
        )


class Mapped(nn.Module):
    """vmap over rows, over an ensemble, over pairs, inside the forward pass."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.members = nn.ModuleList(nn.Linear(3, 2) for _ in range(3))
        self.a, self.b = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
        self.stack = nn.Parameter(torch.randn(3, 2, 3))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "rows":
            return vmap(self.net)(x)
        if self.how == "ensemble":
            params, buffers = stack_module_state(list(self.members))
            return vmap(lambda p, s: functional_call(self.members[0], (p, s), (x,)).tanh())(params, buffers)
        if self.how == "stacked weights":
            return vmap(lambda w: torch.relu(x @ w.T))(self.stack).sum(0)
        if self.how == "pairs":
            return vmap(lambda row: torch.tanh(self.a(row) + self.b(x)))(x)
        return vmap(vmap(lambda one, two: torch.tanh(self.a(one) + self.b(two)), (None, 0)), (0, None))(x, x)


for _how in ("rows", "ensemble", "stacked weights", "pairs", "pairs in two maps"):
    register(f"mapped: {_how}", normal((5, 3)))(lambda how=_how: Mapped(how))


class Spectral(nn.Module):
    """Layers that go through a Fourier transform."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)
        self.gain = nn.Parameter(torch.randn(3, 3, dtype=torch.complex128))
        self.mix = nn.Parameter(torch.randn(3, 3, dtype=torch.complex128))
        self.real = nn.Parameter(torch.randn(3, 4, 2))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.how == "mixer":
            h = torch.fft.fft(torch.fft.fft(h, dim=-1), dim=-2).real
        elif self.how == "filter":
            h = torch.fft.irfft(torch.fft.rfft(h, dim=1) * self.gain, n=4, dim=1)
        elif self.how == "filter of real pairs":
            h = torch.fft.irfft(
                torch.fft.rfft(h, dim=1) * torch.view_as_complex(self.real[:, :3].contiguous()), n=4, dim=1
            )
        elif self.how == "neural operator":
            modes = torch.fft.rfft(h, dim=1)
            out = torch.zeros_like(modes)
            out[:, :2] = torch.einsum("bmc,cd->bmd", modes[:, :2], self.mix)
            h = torch.fft.irfft(out, n=4, dim=1)
        elif self.how == "power spectrum":
            h = torch.fft.rfft(h, dim=1).abs().square()
        elif self.how == "phase alone":
            modes = torch.fft.rfft(h, dim=1)
            h = torch.fft.irfft(modes / modes.abs(), n=4, dim=1)
        else:
            h = torch.fft.irfft(torch.fft.rfft(h, dim=1) * torch.fft.rfft(self.a(x.flip(1)), dim=1).conj(), n=4, dim=1)
        return self.b(torch.relu(h))


for _how in (
    "mixer",
    "filter",
    "filter of real pairs",
    "neural operator",
    "power spectrum",
    "phase alone",
    "correlation",
):
    register(f"Fourier: {_how}", normal((2, 4, 3)), branched=_how == "neural operator")(lambda how=_how: Spectral(how))


class Named(NamedTuple):
    first: Tensor
    rest: dict[str, Any]


class Contained(nn.Module):
    """Several outputs, in containers of containers; each of them must stay unchanged."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)
        self.how = how

    def forward(self, x: Tensor) -> Any:
        h = torch.relu(self.a(x))
        one, two = self.b(h), self.c(h)
        if self.how == "tuple of lists":
            return ([one, (two,)], {"h": h.mean(0)})
        if self.how == "named tuple":
            return Named(one, {"deep": [two, {"deeper": two * 2}]})
        if self.how == "dictionary with None":
            return {"one": one, "none": None, "two": (two, 3, "text")}
        if self.how == "softmax and hidden":
            return {"p": one.softmax(-1), "h": two}
        if self.how == "classes and scores":
            return one.argmax(-1), two.softmax(-1)
        if self.how == "empty and integer":
            return one.softmax(-1), torch.arange(3), one.new_zeros(0)
        return {"mask": one > 0, "value": two.sin()}


for _how in (
    "tuple of lists",
    "named tuple",
    "dictionary with None",
    "softmax and hidden",
    "classes and scores",
    "empty and integer",
    "mask and value",
):
    register(f"contained: {_how}", normal((5, 3)), branched=_how == "named tuple")(lambda how=_how: Contained(how))
