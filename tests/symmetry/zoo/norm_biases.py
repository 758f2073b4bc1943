"""Biases of centring norms that readers without a bias answer: 1 + v·1ᵀ leaves what adds up to zero as it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS, _TOKENS = (60, 4), (12, 5, 4)
_EPS = 1e-20


class Behind(nn.Module):
    """A norm with a gain and a bias, between a nonlinear map and readers; ``free``: those without a bias."""

    def __init__(self, how: str, free: str, *, sizes: str = "ab", width: int = 4) -> None:
        super().__init__()
        self.write, self.norm, self.how = nn.Linear(4, width), nn.LayerNorm(width, eps=_EPS), how
        self.maps = nn.ModuleDict({name: nn.Linear(width, 3, bias=name not in free) for name in sizes})
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h, m = torch.tanh(self.write(x)), self.maps
        if self.how == "residual":
            h = h + functional.pad(m["b"](self.norm(h)), (0, 1))
        h = self.norm(h)
        if self.how == "product":
            return self.last(functional.silu(m["a"](h)) * m["b"](h))  # type: ignore[no-any-return]
        if self.how == "einsum":
            out = torch.einsum("oi,ni->no", m["a"].weight, h) * torch.sin(h @ m["b"].weight.T)
            return self.last(out)  # type: ignore[no-any-return]
        return self.last(torch.tanh(m["a"](h)))  # type: ignore[no-any-return]


@small("norm-bias-and-a-reader", _ROWS, "mse")
def norm_bias_and_a_reader() -> nn.Module:
    return Behind("alone", "a", sizes="a")


@small("norm-bias-and-a-narrow-reader", _ROWS, "mse", slow=True)
def norm_bias_and_a_narrow_reader() -> nn.Module:
    return Behind("alone", "a", sizes="a", width=5)


@small("norm-bias-and-a-gate", _ROWS, "mse", slow=True)
def norm_bias_and_a_gate() -> nn.Module:
    return Behind("product", "ab")


@small("norm-bias-and-products", _ROWS, "mse", slow=True)
def norm_bias_and_products() -> nn.Module:
    return Behind("einsum", "ab")


@small("norm-bias-and-one-biased-reader", _ROWS, "mse")
def norm_bias_and_one_biased_reader() -> nn.Module:
    """The biased reader takes a shear of its own."""
    return Behind("product", "a")


@small("norm-bias-used-twice", _ROWS, "mse", slow=True)
def norm_bias_used_twice() -> nn.Module:
    """One norm and one reader, at two places of a residual stream."""
    return Behind("residual", "ab")


@small("norm-bias-behind-an-offset-gain", _ROWS, "mse")
def norm_bias_behind_an_offset_gain() -> nn.Module:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain, self.bias = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))
            self.write, self.read, self.last = nn.Linear(4, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = functional.layer_norm(torch.tanh(self.write(x)), (4,), eps=_EPS)
            out: Tensor = self.last(torch.tanh(self.read((h + self.bias) * (1 + self.gain))))
            return out

    return Adapted()


@small("norm-bias-and-a-kernel", (20, 4, 3), "mse", slow=True)
def norm_bias_and_a_kernel() -> nn.Module:
    """Zeros beside the tokens stay zeros."""

    class Convolved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.norm = nn.Conv1d(4, 4, 1), nn.LayerNorm(4, eps=_EPS)
            self.kernel, self.last = nn.Conv1d(4, 2, 3, padding=1, bias=False), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(torch.tanh(self.write(x)).mT).mT
            out: Tensor = self.last(torch.tanh(self.kernel(h)).flatten(1))
            return out

    return Convolved()


class Attention(nn.Module):
    """Queries, keys and values behind a norm, by products alone."""

    def __init__(self) -> None:
        super().__init__()
        self.write, self.norm = nn.Linear(4, 4), nn.LayerNorm(4, eps=_EPS)
        self.q, self.k, self.v = (nn.Parameter(torch.zeros(4, 4)) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.write(x)))
        out: Tensor = torch.tanh(functional.scaled_dot_product_attention(h @ self.q, h @ self.k, h @ self.v))
        return out


@small("norm-bias-behind-attention-without-biases", _TOKENS, "mse", slow=True)
def norm_bias_behind_attention_without_biases() -> nn.Module:
    return Attention()


class WrittenOut(nn.Module):
    """A norm by its formula: the mean is taken away, and the length or the deviation divided by."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.write, self.read, self.last = nn.Linear(4, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 2)
        self.gain, self.bias, self.how = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4)), how

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.write(x))
        if self.how == "deviation":
            h = (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True, unbiased=False)
        elif self.how == "squares":
            h = h - h.sum(-1)[:, None] / 4
            h = h * h.pow(2).mean(-1, keepdim=True).rsqrt()
        else:
            h = torch.sub(h, h.mean(-1).unsqueeze(1))
        out: Tensor = self.last(torch.tanh(self.read(torch.addcmul(self.bias, h, self.gain))))
        return out


@small("norm-bias-behind-a-deviation", _ROWS, "mse", slow=True)
def norm_bias_behind_a_deviation() -> nn.Module:
    return WrittenOut("deviation")


@small("norm-bias-behind-a-root-of-squares", _ROWS, "mse", slow=True)
def norm_bias_behind_a_root_of_squares() -> nn.Module:
    return WrittenOut("squares")


@small("norm-bias-behind-a-centring", _ROWS, "mse", slow=True)
def norm_bias_behind_a_centring() -> nn.Module:
    return WrittenOut("centring")


class Several(nn.Module):
    """Gains and biases behind one centring norm, each with a reader: matrices 1 + v·1ᵀ of one are not the others'."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.write, self.how = nn.Linear(4, 4, bias=False), how
        self.norms = nn.ModuleList(nn.LayerNorm(4, eps=_EPS) for _ in range(2))
        self.maps = nn.ModuleList(nn.Linear(4, 3, bias=False) for _ in range(2))
        self.last = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.write(x)
        if self.how == "modules":
            one, other = (norm(h) for norm in self.norms)
        else:
            z = functional.layer_norm(h, (4,), eps=_EPS)
            gains = self.norms if self.how == "gains" else [self.norms[0], self.norms[0]]
            one, other = (z * g.weight + n.bias for g, n in zip(gains, self.norms, strict=True))
        return self.last(torch.tanh(self.maps[0](one)) + functional.silu(self.maps[1](other)))  # type: ignore[no-any-return]


@small("norms-of-one-stream", _ROWS, "mse", slow=True)
def norms_of_one_stream() -> nn.Module:
    return Several("modules")


@small("two-gains-behind-one-norm", _ROWS, "mse")
def two_gains_behind_one_norm() -> nn.Module:
    return Several("gains")


@small("one-gain-and-two-biases-behind-a-norm", _ROWS, "mse", slow=True)
def one_gain_and_two_biases_behind_a_norm() -> nn.Module:
    model = Several("one gain")
    model.norms[1].weight.requires_grad_(False)  # nothing reads it
    return model


class Beside(nn.Module):
    """Gated maps without a bias behind a norm, in a residual sum in which a bias takes back what the norm's gains."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.write = how, nn.Linear(4, 4)
        self.norm, self.last = nn.LayerNorm(4, eps=_EPS), nn.LayerNorm(4, eps=_EPS)
        self.gate, self.up = nn.Linear(4, 3, bias="mixed" in how), nn.Linear(4, 3, bias=False)
        self.down, self.head = nn.Linear(3, 4, bias="late" not in how), nn.Linear(4, 2)
        self.late = nn.Parameter(torch.zeros(4)) if "late" in how else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(torch.tanh(self.write(x)))
        made = self.down(functional.silu(self.gate(h)) * torch.sin(self.up(h)))
        if self.late is not None:
            total = made + h + self.late
        elif "middle" in self.how:
            total = made + torch.sin(x) + h
        elif "twice" in self.how:
            total = torch.sin(h + made) + h
        else:
            total = h + made
        return self.head(torch.tanh(self.last(total)))  # type: ignore[no-any-return]


for _how in ("plain", "late", "middle", "mixed", "twice"):
    _more = _how in ("late", "mixed")
    small(f"norm-bias-beside-a-sum-{_how}", _ROWS, "mse", slow=_more)(lambda how=_how: Beside(how))  # type: ignore[misc]
