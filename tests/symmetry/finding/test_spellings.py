"""One function has one answer, whichever way it is written.

Every function below is written first as most people would write it, a spelling that the null space of its Jacobian
confirms, and then in other ways that compute the same numbers from the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from tests.spread import one_in
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import Family, Symmetries, find_symmetries

from ..agreement import judge, one_by_one, rank
from ..network import Network, prepared
from ..nullspace import randomise, trainable

Spelling = Callable[..., Tensor]
Rewrite = Callable[..., Any]


class Spelled(nn.Module):
    """Layers under fixed names, and a function that uses their parameters."""

    def __init__(self, layers: Mapping[str, nn.Module], spelling: Spelling) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.spelling = spelling

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.spelling(self, *inputs)


@dataclass(frozen=True)
class Function:
    """One function of parameters and inputs, and the ways to write it; the first one is the reference.

    ``step`` is what the spellings replace, ``around`` puts a step between the layers.
    """

    layers: Callable[[], Mapping[str, nn.Module]]
    around: Callable[[Any, Rewrite, tuple[Tensor, ...]], Tensor]
    steps: Mapping[str, Rewrite]
    shape: tuple[int, ...]
    head: str = "output"
    words: int = 0  # token numbers below this are the inputs, where it is given

    def network(self, spelling: str) -> Network:
        def forward(layers: Any, *inputs: Tensor) -> Tensor:
            return self.around(layers, self.steps[spelling], inputs)

        torch.manual_seed(0)
        return Network(spelling, prepared(Spelled(self.layers(), forward), eps=1e-20), self._inputs, self.head)

    def _inputs(self, generator: torch.Generator) -> tuple[Any, ...]:
        if self.words:
            return (torch.randint(self.words, self.shape, generator=generator),)
        return (torch.randn(self.shape, generator=generator, dtype=torch.float64),)


# --- the comparison -------------------------------------------------------------------------------------------------


def assert_same_symmetries(first: Symmetries, second: Symmetries, module: nn.Module) -> None:
    """The same families up to order: kinds, names, charges, what breaks them, the vector fields; the same coverage.

    Labels and places name the entries and the operations that were written, and are not compared.
    """
    assert second.unknown == first.unknown == ()
    assert second.count() == first.count()
    assert _described(second) == _described(first)
    params = {name: p.detach().double() for name, p in trainable(module).items()}
    mine, other = ({(f.kind, f.name): _fields(f, params) for f in found} for found in (first, second))
    for name, fields in mine.items():
        together = rank(torch.cat([fields, other[name]], dim=1))
        assert together == rank(fields) == rank(other[name]), f"other vector fields in {name}"
    assert _coverage(second) == _coverage(first)


def _described(found: Symmetries) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {
        (f.kind, f.name): (f.size, f.charges, sorted(f.parameters), {b.value for b in f.broken_by}, f.layer)
        for f in found
    }


def _fields(family: Family, params: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(one_by_one(family, params), dim=1)


def _coverage(found: Symmetries) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {c.parameter: (c.status, tuple(sorted(c.families))) for c in found.coverage}


# --- reading one entry ----------------------------------------------------------------------------------------------


def _two_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4), "b": nn.Linear(4, 6)}


def _read_channel(m: Any, read: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return read(m.b(torch.relu(m.a(inputs[0]))))


_READS: dict[str, Rewrite] = {
    "indexing": lambda h: h[:, 0],
    "select": lambda h: h.select(1, 0),
    "negative indexing": lambda h: h[:, -6],
    "slice": lambda h: h[:, :1].squeeze(1),
    "narrow": lambda h: h.narrow(1, 0, 1).squeeze(-1),
    "flip": lambda h: h.flip(1)[:, -1],
    "fliplr": lambda h: torch.fliplr(h)[:, 5],
    "roll": lambda h: h.roll(1, 1)[:, 1],
    "roll over all": lambda h: h.roll(-1, -1)[:, 5],
    "movedim": lambda h: h.movedim(1, 0)[0],
    "transpose": lambda h: h.T[0],
    "stack": lambda h: torch.stack([h, 2 * h])[0, :, 0],
    "stack of unbind": lambda h: torch.stack(h.unbind(1))[0],
    "index_select": lambda h: h.index_select(1, torch.tensor([0]))[:, 0],
    "list of positions": lambda h: h[:, [0]][:, 0],
    "two positions": lambda h: h[:, [3, 0]][:, 1],
    "chunk": lambda h: h.chunk(6, 1)[0].squeeze(1),
    "unbind": lambda h: h.unbind(-1)[0],
    "split": lambda h: h.split([1, 5], 1)[0][:, 0],
    "tensor_split": lambda h: h.tensor_split(3, 1)[0][:, 0],
    "hsplit": lambda h: torch.hsplit(h, [1])[0][:, 0],
    "reshape": lambda h: h.reshape(-1, 2, 3)[:, 0, 0],
    "unflatten": lambda h: h.unflatten(1, (3, 2))[:, 0, 0],
    "flat": lambda h: h.flatten()[::6],
    "gather": lambda h: h.gather(1, torch.zeros(len(h), 1, dtype=torch.long))[:, 0],
    "take_along_dim": lambda h: torch.take_along_dim(h, torch.zeros(1, 1, dtype=torch.long), 1)[:, 0],
    "cat": lambda h: torch.cat([h, torch.sigmoid(h)], 1)[:, 0],
    "repeat": lambda h: h.repeat(1, 2)[:, 6],
    "expand": lambda h: h[:, None].expand(-1, 2, -1)[:, 1, 0],
    "unfold": lambda h: h.unfold(1, 2, 2)[:, 0, 0],
    "pad": lambda h: functional.pad(h, (0, -5))[:, 0],
    "pad and read": lambda h: functional.pad(h, (2, 0))[:, 2],
    "diagonal": lambda h: h[:, None].diagonal(0, 1, 2)[:, 0],
    "rot90": lambda h: torch.rot90(h, 1, (0, 1))[5],
    "as_strided": lambda h: h.as_strided((len(h),), (6,)),
    "einsum": lambda h: torch.einsum("bc->cb", h)[0],
    "masked": lambda h: h[:, torch.arange(6) < 1][:, 0],
}


def _token_layers() -> dict[str, nn.Module]:
    return {"places": nn.Embedding(4, 3), "a": nn.Linear(3, 4), "b": nn.Linear(4, 2)}


def _read_token(m: Any, read: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    h = torch.relu(m.a(torch.tanh(inputs[0] + m.places.weight)))
    return m.b(read(h))


_TOKENS: dict[str, Rewrite] = {
    "indexing": lambda h: h[:, 0],
    "slice": lambda h: h[:, :1].flatten(1),
    "flip": lambda h: h.flip(1)[:, -1],
    "roll": lambda h: torch.roll(h, 2, 1)[:, 2],
    "movedim": lambda h: torch.movedim(h, 1, 0)[0],
    "index_select": lambda h: h.index_select(1, torch.zeros(1, dtype=torch.long)).squeeze(1),
    "unbind": lambda h: h.unbind(1)[0],
    "permute": lambda h: h.permute(1, 2, 0)[0].T,
    "reshape": lambda h: h.reshape(-1, 16)[:, :4],
    "gather": lambda h: h.gather(1, torch.zeros(len(h), 1, 4, dtype=torch.long))[:, 0],
    "one-hot product": lambda h: torch.einsum("t,btc->bc", torch.tensor([1.0, 0, 0, 0]).double(), h),
}

# --- sums of products -----------------------------------------------------------------------------------------------


def _matrices() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4, bias=False), "b": nn.Linear(4, 2, bias=False)}


def _product_twice(m: Any, product: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return product(torch.relu(product(inputs[0], m.a.weight)), m.b.weight)


_PRODUCTS: dict[str, Rewrite] = {
    "linear": functional.linear,
    "matmul": lambda x, w: x @ w.T,
    "matmul of mT": lambda x, w: torch.matmul(x, w.mT),
    "mm": lambda x, w: torch.mm(x, w.t()),
    "inner": torch.inner,
    "einsum": lambda x, w: torch.einsum("bi,oi->bo", x, w),
    "einsum in other letters and order": lambda x, w: torch.einsum("kj,lj->lk", w, x),
    "tensordot": lambda x, w: torch.tensordot(x, w, dims=([1], [1])),
    "transposed product": lambda x, w: (w @ x.T).T,
    "products and a sum": lambda x, w: (x[:, None] * w).sum(-1),
    "broadcast matmul": lambda x, w: (x[:, None] @ w.T)[:, 0],
    "matrices times vectors": lambda x, w: (w @ x[..., None]).squeeze(-1),
    "bmm": lambda x, w: torch.bmm(x[None], w.T[None])[0],
    "baddbmm": lambda x, w: torch.baddbmm(torch.zeros(1).double(), x[None], w.T[None], beta=0)[0],
    "addmm": lambda x, w: torch.addmm(torch.zeros(()).double(), x, w.permute(1, 0)),
    "multi_dot": lambda x, w: torch.linalg.multi_dot([x, w.swapaxes(0, 1)]),
    "vecdot": lambda x, w: torch.linalg.vecdot(x[:, None], w[None]),
    "column by column": lambda x, w: torch.stack([x @ row for row in w], 1),
    "summand by summand": lambda x, w: sum(x[:, i, None] * w[:, i] for i in range(w.shape[1])),
    "conv1d": lambda x, w: functional.conv1d(x[..., None], w[..., None])[..., 0],
    "conv2d": lambda x, w: functional.conv2d(x[..., None, None], w[..., None, None]).flatten(1),
    "in halves": lambda x, w: functional.linear(x[:, :1], w[:, :1]) + functional.linear(x[:, 1:], w[:, 1:]),
    "rows apart": lambda x, w: torch.cat([x @ w[:1].T, x @ w[1:].T], 1),
}

# --- a bias behind a norm -------------------------------------------------------------------------------------------


def _norm_then_linear() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 5), "norm": nn.LayerNorm(5), "a": nn.Linear(5, 4), "b": nn.Linear(4, 2)}


def _affine_behind_norm(m: Any, layer: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.tanh(layer(m.norm(m.entry(inputs[0])), m.a)))


_AFFINE_MAPS: dict[str, Rewrite] = {
    "module": lambda h, a: a(h),
    "linear": lambda h, a: functional.linear(h, a.weight, a.bias),
    "linear and a sum": lambda h, a: functional.linear(h, a.weight) + a.bias,
    "product and a sum": lambda h, a: h @ a.weight.T + a.bias,
    "sum and a product": lambda h, a: a.bias + torch.einsum("bi,oi->bo", h, a.weight),
    "addmm": lambda h, a: torch.addmm(a.bias, h, a.weight.T),
    "baddbmm": lambda h, a: torch.baddbmm(a.bias[None, None], h[None], a.weight.T[None])[0],
    "difference": lambda h, a: h @ a.weight.T - (-a.bias),
    "in halves": lambda h, a: torch.cat(
        [h @ a.weight[:2].T + a.bias[:2], functional.linear(h, a.weight[2:], a.bias[2:])], 1
    ),
    "a column of ones": lambda h, a: (
        torch.cat([h, torch.ones_like(h[:, :1])], 1) @ torch.cat([a.weight, a.bias[:, None]], 1).T
    ),
}

# --- norms ----------------------------------------------------------------------------------------------------------


def _normed() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 5), "norm": nn.LayerNorm(5), "b": nn.Linear(5, 2)}


def _through_norm(m: Any, norm: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.tanh(norm(m.entry(inputs[0]), m.norm)))


def _var_mean(h: Tensor, n: nn.LayerNorm) -> Tensor:
    variance, mean = torch.var_mean(h, -1, keepdim=True, correction=0)
    return (h - mean) * torch.rsqrt(variance + n.eps) * n.weight + n.bias


def _centred(h: Tensor, n: nn.LayerNorm) -> Tensor:
    centred = h - h.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + n.eps) * n.weight + n.bias


_LAYER_NORMS: dict[str, Rewrite] = {
    "module": lambda h, n: n(h),
    "layer_norm": lambda h, n: functional.layer_norm(h, (5,), n.weight, n.bias, n.eps),
    "layer_norm, then gain and bias": lambda h, n: functional.layer_norm(h, (5,), eps=n.eps) * n.weight + n.bias,
    "native_layer_norm": lambda h, n: torch.native_layer_norm(h, [5], n.weight, n.bias, n.eps)[0],
    "group_norm": lambda h, n: functional.group_norm(h, 1, n.weight, n.bias, n.eps),
    "batch_norm of rows as channels": lambda h, n: (
        functional.batch_norm(h[None], None, None, training=True, eps=n.eps)[0] * n.weight + n.bias
    ),
    "var_mean": _var_mean,
    "centred and squared": _centred,
    "a difference first": lambda h, n: functional.layer_norm(
        h - h.mean(-1, keepdim=True), (5,), n.weight, n.bias, n.eps
    ),
    "addcmul": lambda h, n: torch.addcmul(n.bias, functional.layer_norm(h, (5,), eps=n.eps), n.weight),
}


def _rms_normed() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 5), "norm": nn.RMSNorm(5, eps=1e-20), "b": nn.Linear(5, 2)}


_RMS_NORMS: dict[str, Rewrite] = {
    "module": lambda h, n: n(h),
    "rms_norm": lambda h, n: functional.rms_norm(h, (5,), n.weight, n.eps),
    "rsqrt of a mean": lambda h, n: n.weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + n.eps)),
    "quotient by a root": lambda h, n: h / torch.sqrt((h * h).mean(-1, keepdim=True) + n.eps) * n.weight,
    "power": lambda h, n: h * (h.square().sum(-1, keepdim=True) / 5 + n.eps) ** -0.5 * n.weight,
    "einsum": lambda h, n: n.weight * h / torch.sqrt(torch.einsum("bi,bi->b", h, h) / 5 + n.eps)[:, None],
}

# --- activations and products of a tensor with itself -----------------------------------------------------------------


def _plain_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4), "b": nn.Linear(4, 3)}


def _activated(m: Any, activation: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(activation(m.a(inputs[0])))


_RELUS: dict[str, Rewrite] = {
    "relu": torch.relu,
    "in place": lambda h: h.relu_(),
    "clamp": lambda h: h.clamp(min=0),
    "clamp_min": lambda h: torch.clamp_min(h, 0.0),
    "threshold": lambda h: functional.threshold(h, 0.0, 0.0),
    "maximum": lambda h: torch.maximum(h, torch.zeros_like(h)),
    "where": lambda h: torch.where(h > 0, h, 0.0),
    "product with a step": lambda h: h * (h > 0),
    "masked_fill": lambda h: h.masked_fill(h < 0, 0.0),
    "half of a sum": lambda h: (h + h.abs()) / 2,
    "leaky of slope 0": lambda h: functional.leaky_relu(h, 0.0),
    "maximum over two": lambda h: torch.stack([h, torch.zeros_like(h)]).amax(0),
    "twice": lambda h: torch.relu(torch.relu(h)),
}
_SQUARES: dict[str, Rewrite] = {
    "square": torch.square,
    "product": lambda h: h * h,
    "product with a clone": lambda h: h * h.clone(),
    "power": lambda h: h**2,
    "pow": lambda h: torch.pow(h, 2.0),
    "einsum": lambda h: torch.einsum("bi,bi->bi", h, h),
    "of the absolute value": lambda h: h.abs() ** 2,
    "diagonal of an outer product": lambda h: torch.einsum("bi,bj->bij", h, h).diagonal(0, 1, 2),
    "float_power": lambda h: torch.float_power(h, 2),
    "addcmul": lambda h: torch.addcmul(torch.zeros_like(h), h, h),
}
_SIZES: dict[str, Rewrite] = {
    "abs": torch.abs,
    "maximum": lambda h: torch.maximum(h, -h),
    "root of a square": lambda h: h.square().sqrt(),
    "product with a sign": lambda h: h * h.sign(),
    "two parts": lambda h: torch.relu(h) + torch.relu(-h),
}


def _gate_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 8), "b": nn.Linear(4, 2)}


def _silu_gate(h: Tensor) -> Tensor:
    value, gate = h.chunk(2, -1)
    return value * torch.sigmoid(gate)


_GATES: dict[str, Rewrite] = {
    "chunk": _silu_gate,
    "glu": lambda h: functional.glu(h, -1),
    "glu of dimension 1": lambda h: functional.glu(h, 1),
    "split": lambda h: h.split(4, -1)[0] * torch.sigmoid(h.split(4, -1)[1]),
    "slices": lambda h: h[:, :4] * h[:, 4:].sigmoid(),
    "quotient": lambda h: h[:, :4] / (1 + torch.exp(-h[:, 4:])),
    "unflatten": lambda h: h.unflatten(1, (2, 4))[:, 0] * torch.sigmoid(h.unflatten(1, (2, 4))[:, 1]),
    "roll": lambda h: (h * torch.sigmoid(h.roll(4, 1)))[:, :4],
}

# --- softmax and the losses -----------------------------------------------------------------------------------------


def _attention_layers() -> dict[str, nn.Module]:
    return {"q": nn.Linear(3, 2), "k": nn.Linear(3, 2), "v": nn.Linear(3, 2), "o": nn.Linear(2, 2)}


def _attend(m: Any, mix: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    x = inputs[0]
    return m.o(mix(m.q(x), m.k(x), m.v(x)))


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(2)


def _exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = _scores(q, k).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


def _safe_exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = _scores(q, k)
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return (weights @ v) / weights.sum(-1, keepdim=True)


_ATTENTIONS: dict[str, Rewrite] = {
    "softmax": lambda q, k, v: torch.softmax(_scores(q, k), -1) @ v,
    "fused": functional.scaled_dot_product_attention,
    "fused, with a head": lambda q, k, v: functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[
        :, 0
    ],
    "einsum": lambda q, k, v: torch.einsum(
        "bqk,bkc->bqc", torch.softmax(torch.einsum("bqc,bkc->bqk", q, k) / math.sqrt(2), 2), v
    ),
    "baddbmm": lambda q, k, v: torch.bmm(
        torch.softmax(torch.baddbmm(torch.zeros(1, 1, 1).double(), q, k.mT, beta=0, alpha=1 / math.sqrt(2)), -1), v
    ),
    "queries scaled first": lambda q, k, v: torch.softmax((q / math.sqrt(2)) @ k.mT, -1) @ v,
    "exponentials": _exponentials,
    "exponentials, the largest taken off": _safe_exponentials,
    "exponential of log_softmax": lambda q, k, v: torch.log_softmax(_scores(q, k), -1).exp() @ v,
    "logsumexp": lambda q, k, v: (_scores(q, k) - torch.logsumexp(_scores(q, k), -1, keepdim=True)).exp() @ v,
    "softmin": lambda q, k, v: functional.softmin(-_scores(q, k), -1) @ v,
    "columns": lambda q, k, v: (v.mT @ torch.softmax(k @ q.mT / math.sqrt(2), 1)).mT,
}


def _log_probabilities(m: Any, normalise: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return normalise(m.b(torch.tanh(m.a(inputs[0]))))


_LOG_SOFTMAXES: dict[str, Rewrite] = {
    "log_softmax": lambda z: torch.log_softmax(z, -1),
    "log of softmax": lambda z: torch.softmax(z, -1).log(),
    "logsumexp": lambda z: z - torch.logsumexp(z, -1, keepdim=True),
    "log of a sum": lambda z: z - z.exp().sum(-1, keepdim=True).log(),
    "log of a quotient": lambda z: torch.log(z.exp() / z.exp().sum(-1, keepdim=True)),
    "the largest taken off": lambda z: torch.log_softmax(z - z.amax(-1, keepdim=True), -1),
    "the mean taken off": lambda z: torch.log_softmax(z - z.mean(-1, keepdim=True), -1),
}

# --- means ----------------------------------------------------------------------------------------------------------


def _pooled(m: Any, mean: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(mean(torch.relu(m.a(inputs[0]))))


_MEANS: dict[str, Rewrite] = {
    "mean": lambda h: h.mean(1),
    "sum": lambda h: h.sum(1) / 4,
    "einsum": lambda h: torch.einsum("btc->bc", h) * 0.25,
    "keepdim": lambda h: h.mean(-2, keepdim=True)[:, 0],
    "adaptive_avg_pool1d": lambda h: functional.adaptive_avg_pool1d(h.mT, 1)[..., 0],
    "avg_pool1d": lambda h: functional.avg_pool1d(h.transpose(1, 2), 4).flatten(1),
    "nanmean": lambda h: h.nanmean(1),
    "product with a row": lambda h: (torch.full((1, 4), 0.25).double() @ h)[:, 0],
    "entry by entry": lambda h: sum(h.unbind(1)) / 4,
    "cumsum": lambda h: h.cumsum(1)[:, -1] / 4,
    "mean of means": lambda h: h.reshape(-1, 2, 2, 4).mean(2).mean(1),
}

# --- padding and convolutions ---------------------------------------------------------------------------------------


def _convolutions() -> dict[str, nn.Module]:
    return {"a": nn.Conv1d(2, 3, 3, padding=1), "b": nn.Linear(3, 2)}


def _convolved(m: Any, convolve: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.relu(convolve(inputs[0], m.a)).amax(-1))


_PADDINGS: dict[str, Rewrite] = {
    "module": lambda x, a: a(x),
    "same": lambda x, a: functional.conv1d(x, a.weight, a.bias, padding="same"),
    "pad": lambda x, a: functional.conv1d(functional.pad(x, (1, 1)), a.weight, a.bias),
    "cat": lambda x, a: functional.conv1d(
        torch.cat([torch.zeros_like(x[..., :1]), x, torch.zeros_like(x[..., :1])], -1), a.weight, a.bias
    ),
    "bias apart": lambda x, a: functional.conv1d(x, a.weight, padding=1) + a.bias[:, None],
    "conv2d": lambda x, a: functional.conv2d(x[:, :, None], a.weight[:, :, None], a.bias, padding=(0, 1))[:, :, 0],
    "unfold": lambda x, a: (
        (functional.pad(x, (1, 1)).unfold(2, 3, 1).permute(0, 2, 1, 3).flatten(2) @ a.weight.flatten(1).T + a.bias).mT
    ),
    "tap by tap": lambda x, a: (
        sum(torch.einsum("bit,oi->bot", functional.pad(x, (1, 1))[..., k : k + 5], a.weight[..., k]) for k in range(3))
        + a.bias[:, None]
    ),
    "wider, then cut": lambda x, a: functional.conv1d(x, a.weight, a.bias, padding=2)[..., 1:-1],
    "flipped twice": lambda x, a: functional.conv1d(x.flip(-1), a.weight.flip(-1), a.bias, padding=1).flip(-1),
}


def _deep_convolutions() -> dict[str, nn.Module]:
    return {"entry": nn.Conv1d(2, 2, 1), "a": nn.Conv1d(2, 3, 3, padding=1, bias=False), "b": nn.Linear(3, 2)}


def _deeply_convolved(m: Any, convolve: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.relu(convolve(torch.relu(m.entry(inputs[0])), m.a)).amax(-1))


_DEEP_PADDINGS: dict[str, Rewrite] = {
    "module": lambda x, a: a(x),
    "same": lambda x, a: functional.conv1d(x, a.weight, padding="same"),
    "pad": lambda x, a: functional.conv1d(functional.pad(x, (1, 1)), a.weight),
    "module of zeros": lambda x, a: functional.conv1d(nn.ZeroPad1d(1)(x), a.weight),
    "cat": lambda x, a: functional.conv1d(
        torch.cat([torch.zeros_like(x[..., :1]), x, torch.zeros_like(x[..., :1])], -1), a.weight
    ),
    "transposed": lambda x, a: functional.conv_transpose1d(x, a.weight.transpose(0, 1).flip(2), padding=1),
}

# --- numbers, quotients, differences ----------------------------------------------------------------------------------


def _quotient_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4, bias=False), "c": nn.Linear(3, 4, bias=False), "b": nn.Linear(4, 5)}


def _of_two(m: Any, join: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(join(m.a(inputs[0]), m.c(inputs[0]).abs()))


_QUOTIENTS: dict[str, Rewrite] = {
    "quotient": lambda x, y: x / y,
    "reciprocal": lambda x, y: x * y.reciprocal(),
    "power": lambda x, y: x * y**-1,
    "one over": lambda x, y: x * (1 / y),
    "two roots": lambda x, y: x * y.rsqrt() / y.sqrt(),
    "addcdiv": lambda x, y: torch.addcdiv(torch.zeros_like(x), x, y),
    "exponential of a logarithm": lambda x, y: x * torch.exp(-torch.log(y)),
}
_DIFFERENCES: dict[str, Rewrite] = {
    "difference": lambda x, y: x - 2 * y,
    "sum": lambda x, y: x + (-2) * y,
    "alpha": lambda x, y: torch.sub(x, y, alpha=2),
    "rsub": lambda x, y: torch.rsub(y, x, alpha=2),
    "lerp": lambda x, y: torch.lerp(x, x - y, 2.0),
    "twice": lambda x, y: x - y - y,
    "halves": lambda x, y: (x / 2 - y) * 2,
    "negative": lambda x, y: -(2 * y - x),
    "stacked": lambda x, y: torch.einsum("kbi,k->bi", torch.stack([x, y]), torch.tensor([1.0, -2.0]).double()),
}

# --- several tensors side by side, summed, or in heads ----------------------------------------------------------------


def _side_by_side(m: Any, join: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return join(torch.relu(m.a(inputs[0])), torch.tanh(m.c(inputs[0])), m.b)


def _branches() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 3), "c": nn.Linear(3, 2), "b": nn.Linear(5, 3)}


_CONCATENATIONS: dict[str, Rewrite] = {
    "cat": lambda x, y, b: b(torch.cat([x, y], 1)),
    "hstack": lambda x, y, b: b(torch.hstack([x, y])),
    "column_stack": lambda x, y, b: b(torch.column_stack([x, y])),
    "cat of the transposes": lambda x, y, b: b(torch.vstack([x.T, y.T]).T),
    "columns apart": lambda x, y, b: x @ b.weight[:, :3].T + y @ b.weight[:, 3:].T + b.bias,
    "linear apart": lambda x, y, b: (
        functional.linear(x, b.weight[:, :3], b.bias) + functional.linear(y, b.weight[:, 3:])
    ),
    "sum of padded": lambda x, y, b: b(functional.pad(x, (0, 2)) + functional.pad(y, (3, 0))),
    "stack of channels": lambda x, y, b: b(torch.stack([*x.unbind(1), *y.unbind(1)], 1)),
    "the other way round": lambda x, y, b: functional.linear(
        torch.cat([y, x], 1), torch.cat([b.weight[:, 3:], b.weight[:, :3]], 1), b.bias
    ),
}


def _stream() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 4), "a": nn.Linear(4, 4), "b": nn.Linear(4, 5)}


def _residual(m: Any, join: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    x = torch.relu(m.entry(inputs[0]))
    return m.b(join(x, torch.relu(m.a(x))))


_RESIDUALS: dict[str, Rewrite] = {
    "sum": lambda x, y: x + y,
    "add": lambda x, y: torch.add(y, x),
    "in place": lambda x, y: y.add_(x),
    "difference of the negative": lambda x, y: x - (-y),
    "sum of a stack": lambda x, y: torch.stack([x, y]).sum(0),
    "mean of a stack": lambda x, y: 2 * torch.stack([x, y], -1).mean(-1),
    "cat and sum": lambda x, y: torch.cat([x[:, None], y[:, None]], 1).sum(1),
    "addcmul": lambda x, y: torch.addcmul(x, y, torch.ones(()).double()),
    "product with ones": lambda x, y: torch.einsum("bik,k->bi", torch.stack([x, y], -1), torch.ones(2).double()),
}


def _head_layers() -> dict[str, nn.Module]:
    return {"q": nn.Linear(3, 4), "k": nn.Linear(3, 4), "v": nn.Linear(3, 4), "o": nn.Linear(4, 4)}


def _heads_in_columns(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    pieces = [x.split(2, -1) for x in (q, k, v)]
    return torch.cat([functional.scaled_dot_product_attention(*one) for one in zip(*pieces, strict=True)], -1)


def _heads_viewed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.view(len(x), -1, 2, 2).transpose(1, 2) for x in (q, k, v))
    mixed = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(2), -1) @ v
    return mixed.transpose(1, 2).reshape(len(q), -1, 4)


def _heads_in_letters(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (x.unflatten(-1, (2, 2)) for x in (q, k, v))
    weights = torch.softmax(torch.einsum("bqhc,bkhc->bhqk", q, k) / math.sqrt(2), -1)
    return torch.einsum("bhqk,bkhc->bqhc", weights, v).flatten(2)


def _heads_in_the_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (torch.stack(x.chunk(2, -1), 1).flatten(0, 1) for x in (q, k, v))
    mixed = torch.bmm(torch.softmax(torch.bmm(q, k.mT) / math.sqrt(2), -1), v)
    return mixed.unflatten(0, (-1, 2)).movedim(1, 2).flatten(2)


def _heads_packed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = torch.stack([q, k, v]).unflatten(-1, (2, 2)).permute(0, 1, 3, 2, 4).unbind(0)
    return functional.scaled_dot_product_attention(q, k, v).swapaxes(1, 2).flatten(2)


_HEADS: dict[str, Rewrite] = {
    "views": _heads_viewed,
    "letters": _heads_in_letters,
    "columns": _heads_in_columns,
    "in the batch": _heads_in_the_batch,
    "packed": _heads_packed,
}

# --- batch norm, directions, maxima -----------------------------------------------------------------------------------


def _batch_normed() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 4), "norm": nn.BatchNorm1d(4), "b": nn.Linear(4, 2)}


def _batch_var_mean(h: Tensor, n: nn.BatchNorm1d) -> Tensor:
    variance, mean = torch.var_mean(h, 0, correction=0)
    return (h - mean) / torch.sqrt(variance + n.eps) * n.weight + n.bias


_BATCH_NORMS: dict[str, Rewrite] = {
    "module": lambda h, n: n(h),
    "batch_norm": lambda h, n: functional.batch_norm(h, None, None, n.weight, n.bias, training=True, eps=n.eps),
    "gain and bias apart": lambda h, n: (
        functional.batch_norm(h, None, None, training=True, eps=n.eps) * n.weight + n.bias
    ),
    "var_mean": _batch_var_mean,
    "layer norm of the transpose": lambda h, n: functional.layer_norm(h.T, (len(h),), eps=n.eps).T * n.weight + n.bias,
    "instance norm": lambda h, n: functional.instance_norm(h.T[None], weight=n.weight, bias=n.bias, eps=n.eps)[0].T,
}


def _directed(m: Any, direct: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(direct(m.a(inputs[0])))


_DIRECTIONS: dict[str, Rewrite] = {
    "quotient by the norm": lambda h: h / h.norm(dim=-1, keepdim=True),
    "normalize": lambda h: functional.normalize(h, dim=-1, eps=0.0),
    "vector_norm": lambda h: h / torch.linalg.vector_norm(h, dim=1, keepdim=True),
    "root of a sum": lambda h: h / h.square().sum(-1, keepdim=True).sqrt(),
    "rsqrt": lambda h: h * (h * h).sum(-1, keepdim=True).rsqrt(),
    "einsum": lambda h: h / torch.einsum("bi,bi->b", h, h).sqrt()[:, None],
    "vecdot": lambda h: h / torch.linalg.vecdot(h, h)[:, None].sqrt(),
    "product of matrices": lambda h: h / (h[:, None] @ h[..., None])[..., 0].sqrt(),
    "root mean square": lambda h: functional.rms_norm(h, (4,), eps=0.0) / 2,
}

_MAXIMA: dict[str, Rewrite] = {
    "amax": lambda h: h.amax(1),
    "max": lambda h: h.max(1).values,
    "topk": lambda h: h.topk(1, dim=1).values[:, 0],
    "sort": lambda h: h.sort(1, descending=True).values[:, 0],
    "maximum": lambda h: torch.maximum(torch.maximum(h[:, 0], h[:, 1]), torch.maximum(h[:, 2], h[:, 3])),
    "max_pool1d": lambda h: functional.max_pool1d(h.mT, 4)[..., 0],
    "adaptive_max_pool1d": lambda h: functional.adaptive_max_pool1d(h.mT, 1)[..., 0],
    "least of the negative": lambda h: -(-h).amin(1),
    "gather": lambda h: h.gather(1, h.argmax(1, keepdim=True))[:, 0],
    "two maxima": lambda h: torch.maximum(h[:, :2].amax(1), h[:, 2:].amax(1)),
    "max of two": lambda h: h.unfold(1, 2, 2).amax(-1).amax(1),
}


def _drawn_class(x: Tensor) -> Tensor:
    return (x > 0).sum(-1)


def _judged(m: Any, loss: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return loss(m.b(torch.tanh(m.a(inputs[0]))), _drawn_class(inputs[0][:, :2]))


_LOSSES: dict[str, Rewrite] = {
    "cross_entropy": lambda z, t: functional.cross_entropy(z, t, reduction="none"),
    "nll_loss": lambda z, t: functional.nll_loss(functional.log_softmax(z, 1), t, reduction="none"),
    "gather": lambda z, t: -functional.log_softmax(z, 1).gather(1, t[:, None])[:, 0],
    "one-hot": lambda z, t: -(functional.log_softmax(z, 1) * functional.one_hot(t, 3)).sum(1),
    "probabilities": lambda z, t: functional.cross_entropy(z, functional.one_hot(t, 3).double(), reduction="none"),
    "logsumexp": lambda z, t: torch.logsumexp(z, 1) - z.gather(1, t[:, None])[:, 0],
    "log of softmax": lambda z, t: -torch.softmax(z, 1).gather(1, t[:, None]).log()[:, 0],
    "indexing": lambda z, t: -torch.log_softmax(z, 1)[torch.arange(len(z)), t],
    "kl_div": lambda z, t: functional.kl_div(
        functional.log_softmax(z, 1), functional.one_hot(t, 3).double(), reduction="none"
    ).sum(1),
    "differences": lambda z, t: torch.logsumexp(z - z.gather(1, t[:, None]), 1),
}

# --- tables ---------------------------------------------------------------------------------------------------------


def _table() -> dict[str, nn.Module]:
    return {"words": nn.Embedding(5, 3), "b": nn.Linear(3, 4)}


def _looked_up(m: Any, look_up: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(look_up(inputs[0], m.words.weight))


_TABLES: dict[str, Rewrite] = {
    "embedding": functional.embedding,
    "indexing": lambda i, w: w[i],
    "index_select": lambda i, w: w.index_select(0, i.flatten()).unflatten(0, i.shape),
    "gather": lambda i, w: w.gather(0, i.flatten()[:, None].expand(-1, 3)).unflatten(0, i.shape),
    "take_along_dim": lambda i, w: torch.take_along_dim(w, i.flatten()[:, None], 0).unflatten(0, i.shape),
    "one-hot product": lambda i, w: functional.one_hot(i, 5).double() @ w,
    "of the transpose": lambda i, w: w.T[:, i].movedim(0, -1),
    "embedding_bag of one": lambda i, w: functional.embedding_bag(i.reshape(-1, 1), w, mode="sum").unflatten(
        0, i.shape
    ),
}

FUNCTIONS: dict[str, Function] = {
    "one channel": Function(_two_layers, _read_channel, _READS, (64, 3), "mse"),
    "one token": Function(_token_layers, _read_token, _TOKENS, (32, 4, 3)),
    "product with a matrix": Function(_matrices, _product_twice, _PRODUCTS, (64, 3)),
    "affine map behind a norm": Function(_norm_then_linear, _affine_behind_norm, _AFFINE_MAPS, (64, 3)),
    "layer norm": Function(_normed, _through_norm, _LAYER_NORMS, (64, 3)),
    "root mean square norm": Function(_rms_normed, _through_norm, _RMS_NORMS, (64, 3)),
    "relu": Function(_plain_layers, _activated, _RELUS, (64, 3)),
    "square": Function(_plain_layers, _activated, _SQUARES, (64, 3)),
    "absolute value": Function(_plain_layers, _activated, _SIZES, (64, 3)),
    "gate": Function(_gate_layers, _activated, _GATES, (64, 3)),
    "attention": Function(_attention_layers, _attend, _ATTENTIONS, (32, 4, 3)),
    "log-probabilities": Function(_plain_layers, _log_probabilities, _LOG_SOFTMAXES, (64, 3)),
    "mean over tokens": Function(_plain_layers, _pooled, _MEANS, (64, 4, 3)),
    "padded convolution": Function(_convolutions, _convolved, _PADDINGS, (48, 2, 5)),
    "padded convolution of activations": Function(_deep_convolutions, _deeply_convolved, _DEEP_PADDINGS, (48, 2, 5)),
    "quotient": Function(_quotient_layers, _of_two, _QUOTIENTS, (64, 3)),
    "difference": Function(_quotient_layers, _of_two, _DIFFERENCES, (64, 3)),
    "concatenation": Function(_branches, _side_by_side, _CONCATENATIONS, (64, 3)),
    "residual sum": Function(_stream, _residual, _RESIDUALS, (64, 3)),
    "two heads": Function(_head_layers, _attend, _HEADS, (32, 4, 3)),
    "batch norm": Function(_batch_normed, _through_norm, _BATCH_NORMS, (64, 3)),
    "direction": Function(_plain_layers, _directed, _DIRECTIONS, (64, 3)),
    "maximum over tokens": Function(_plain_layers, _directed, _MAXIMA, (64, 4, 3)),
    "loss of a class": Function(_plain_layers, _judged, _LOSSES, (64, 3)),
    "rows of a table": Function(_table, _looked_up, _TABLES, (32, 4), words=5),
}

# --- the tests ------------------------------------------------------------------------------------------------------


PAIRS = [(name, spelling) for name, f in FUNCTIONS.items() for spelling in list(f.steps)[1:]]


def _search(network: Network) -> Symmetries:
    return find_symmetries(network.module, network.batch(), network.loss_fn)


@cache
def reference(name: str) -> tuple[Network, Symmetries]:
    """The first spelling with its symmetries."""
    function = FUNCTIONS[name]
    network = function.network(next(iter(function.steps)))
    return network, _search(network)


@cache
def found(name: str, spelling: str) -> Symmetries:
    """The symmetries of another spelling."""
    return _search(FUNCTIONS[name].network(spelling))


def test_the_table_is_large_enough() -> None:
    assert len(FUNCTIONS) >= 6
    assert len(PAIRS) >= 25


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_first_spelling_is_right(name: str) -> None:
    """Otherwise all spellings could be wrong together."""
    verdict = judge(*reference(name))
    assert verdict.truth.clear
    assert verdict.sound, verdict
    assert verdict.equal, verdict
    assert verdict.counted, verdict
    assert verdict.complete, verdict


def assert_same_function(first: Network, second: Network) -> None:
    """Equal outputs from equal parameters, to rounding."""
    randomise(first.module, torch.Generator().manual_seed(3))
    second.module.load_state_dict(first.module.state_dict())
    inputs = first.inputs(torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected, found = first.module(*inputs), second.module(*inputs)
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10), (found - expected).abs().max()


@pytest.mark.parametrize(("name", "spelling"), one_in(3, PAIRS))
def test_every_spelling_has_the_same_symmetries(name: str, spelling: str) -> None:
    first, expected = reference(name)
    assert_same_symmetries(expected, found(name, spelling), first.module)


@pytest.mark.parametrize(("name", "spelling"), one_in(6, PAIRS))
def test_no_spelling_calls_free_what_moves(name: str, spelling: str) -> None:
    """What cannot be seen through is not sought: nothing that a translation or a scale moves is said to be free."""
    families = reference(name)[1].of_kind("translation", "scale", "rescale", "linear")
    moved = {parameter for family in families for parameter in family.parameters}
    assert not moved & {c.parameter for c in found(name, spelling).coverage if c.status == "free"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_spellings_are_the_same_function(name: str) -> None:
    first, _ = reference(name)
    for spelling in list(FUNCTIONS[name].steps)[1:]:
        assert_same_function(first, FUNCTIONS[name].network(spelling))
