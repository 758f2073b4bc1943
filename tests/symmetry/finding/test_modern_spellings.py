"""More functions of modern networks, each with the ways in which libraries write it: one function, one answer."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import Symmetries, find_symmetries

from ..agreement import judge
from ..network import Network
from .test_spellings import Function, Rewrite, _search, assert_same_function, assert_same_symmetries

# --- attention with one packed projection ---------------------------------------------------------------------------


def _packed_layers() -> dict[str, nn.Module]:
    return {"qkv": nn.Linear(3, 12), "o": nn.Linear(4, 3)}


def _packed(m: Any, attend: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.o(attend(inputs[0], m.qkv))


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, 2)).transpose(1, 2)


def _mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(_heads(q), _heads(k), _heads(v)).transpose(1, 2).flatten(2)


def _by_permute(x: Tensor, qkv: nn.Linear) -> Tensor:
    q, k, v = qkv(x).reshape(*x.shape[:2], 3, 2, 2).permute(2, 0, 3, 1, 4)
    return (torch.softmax(q @ k.transpose(-2, -1) * 2**-0.5, dim=-1) @ v).transpose(1, 2).reshape(*x.shape[:2], 4)


def _by_rows(x: Tensor, qkv: nn.Linear) -> Tensor:
    weights, biases = qkv.weight.chunk(3), qkv.bias.chunk(3)
    return _mixed(*(functional.linear(x, w, b) for w, b in zip(weights, biases, strict=True)))


def _by_baddbmm(x: Tensor, qkv: nn.Linear) -> Tensor:
    q, k, v = (_heads(part).flatten(0, 1) for part in qkv(x).split(4, -1))
    scores = torch.baddbmm(torch.empty(1, 1, 1).double(), q, k.mT, beta=0, alpha=2**-0.5)
    out = torch.bmm(scores.softmax(-1), v)
    return out.view(-1, 2, *out.shape[1:]).permute(0, 2, 1, 3).flatten(2)


def _by_letters(x: Tensor, qkv: nn.Linear) -> Tensor:
    weight, bias = qkv.weight.view(3, 2, 2, 3), qkv.bias.view(3, 2, 2)
    q, k, v = torch.einsum("btd,shcd->sbhtc", x, weight) + bias[:, None, :, None]
    weights = torch.softmax(torch.einsum("bhqc,bhkc->bhqk", q, k) / math.sqrt(2), -1)
    return torch.einsum("bhqk,bhkc->bqhc", weights, v).flatten(2)


def _head_by_head(x: Tensor, qkv: nn.Linear) -> Tensor:
    q, k, v = qkv(x).chunk(3, -1)
    outs = []
    for h in range(2):
        own = slice(2 * h, 2 * h + 2)
        scores = q[..., own] @ k[..., own].mT / math.sqrt(2)
        outs.append(scores.softmax(-1) @ v[..., own])
    return torch.cat(outs, -1)


_PACKED: dict[str, Rewrite] = {
    "chunk": lambda x, qkv: _mixed(*qkv(x).chunk(3, -1)),
    "split": lambda x, qkv: _mixed(*qkv(x).split(4, dim=2)),
    "slices": lambda x, qkv: _mixed(*(qkv(x)[..., k : k + 4] for k in (0, 4, 8))),
    "narrow": lambda x, qkv: _mixed(*(qkv(x).narrow(-1, k, 4) for k in (0, 4, 8))),
    "unflatten and unbind": lambda x, qkv: _mixed(*qkv(x).unflatten(-1, (3, 4)).unbind(2)),
    "index_select": lambda x, qkv: _mixed(*(qkv(x).index_select(-1, torch.arange(k, k + 4)) for k in (0, 4, 8))),
    "permute": _by_permute,
    "rows of the weight": _by_rows,
    "baddbmm": _by_baddbmm,
    "letters": _by_letters,
    "head by head": _head_by_head,
}

# --- causal attention -----------------------------------------------------------------------------------------------


def _causal_layers() -> dict[str, nn.Module]:
    return {"q": nn.Linear(3, 2), "k": nn.Linear(3, 2), "v": nn.Linear(3, 2), "o": nn.Linear(2, 2)}


def _causally(m: Any, mix: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    x = inputs[0]
    return m.o(mix(m.q(x), m.k(x), m.v(x)))


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(2)


_BEFORE = torch.ones(4, 4, dtype=torch.bool).tril()
_CAUSAL: dict[str, Rewrite] = {
    "masked_fill": lambda q, k, v: (
        _scores(q, k).masked_fill(~torch.ones(4, 4).tril().bool(), -math.inf).softmax(-1) @ v
    ),
    "fused": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    "fused with a mask": lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=_BEFORE),
    "where": lambda q, k, v: torch.where(_BEFORE, _scores(q, k), -math.inf).softmax(-1) @ v,
    "sum with a mask": lambda q, k, v: (
        torch.softmax(_scores(q, k) + torch.full((4, 4), -math.inf).double().triu(1), -1) @ v
    ),
    "compared positions": lambda q, k, v: (
        _scores(q, k).masked_fill(torch.arange(4)[None] > torch.arange(4)[:, None], -math.inf).softmax(-1) @ v
    ),
}

# --- gates of two projections ---------------------------------------------------------------------------------------


def _swiglu_layers() -> dict[str, nn.Module]:
    return {"gate": nn.Linear(3, 4), "up": nn.Linear(3, 4), "down": nn.Linear(4, 3)}


def _gated(m: Any, gated: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.down(gated(inputs[0], m.gate, m.up))


def _fused_weights(x: Tensor, gate: nn.Linear, up: nn.Linear) -> Tensor:
    both = functional.linear(x, torch.cat([gate.weight, up.weight]), torch.cat([gate.bias, up.bias]))
    a, b = both.chunk(2, -1)
    return functional.silu(a) * b


_SWIGLUS: dict[str, Rewrite] = {
    "silu": lambda x, gate, up: functional.silu(gate(x)) * up(x),
    "sigmoid": lambda x, gate, up: gate(x) * torch.sigmoid(gate(x)) * up(x),
    "one sigmoid": lambda x, gate, up: (lambda h: h * h.sigmoid() * up(x))(gate(x)),
    "quotient": lambda x, gate, up: (lambda h: h / (1 + (-h).exp()) * up(x))(gate(x)),
    "fused weights": _fused_weights,
    "glu": lambda x, gate, up: (lambda h: functional.glu(torch.cat([h * up(x), h], -1), -1))(gate(x)),
    "stacked": lambda x, gate, up: (lambda h: functional.silu(h[0]) * h[1])(torch.stack([gate(x), up(x)])),
    "addcmul": lambda x, gate, up: torch.addcmul(torch.zeros(4).double(), functional.silu(gate(x)), up(x)),
    "einsum": lambda x, gate, up: torch.einsum("bc,bc->bc", functional.silu(gate(x)), up(x)),
}

# --- a leaky unit ---------------------------------------------------------------------------------------------------


def _two_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4), "b": nn.Linear(4, 3)}


def _activated(m: Any, activation: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(activation(m.a(inputs[0])))


_LEAKY: dict[str, Rewrite] = {
    "leaky_relu": lambda h: functional.leaky_relu(h, 0.25),
    "where": lambda h: torch.where(h > 0, h, 0.25 * h),
    "where, the other way round": lambda h: torch.where(h <= 0, h / 4, h),
    "maximum": lambda h: torch.maximum(h, 0.25 * h),
    "two parts": lambda h: torch.relu(h) - 0.25 * torch.relu(-h),
    "sum": lambda h: 0.25 * h + 0.75 * h.relu(),
    "clamps": lambda h: h.clamp(min=0) + 0.25 * h.clamp(max=0),
    "prelu": lambda h: functional.prelu(h, torch.full((1,), 0.25).double()),
    "masks": lambda h: h * (h > 0) + 0.25 * h * (h <= 0),
    "absolute value": lambda h: 0.625 * h + 0.375 * h.abs(),
}

# --- norms without an eps -------------------------------------------------------------------------------------------


def _standard_layers() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 5), "b": nn.Linear(5, 2)}


def _standardised(m: Any, standardise: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.tanh(standardise(m.entry(inputs[0]))))


def _by_var_mean(h: Tensor) -> Tensor:
    variance, mean = torch.var_mean(h, -1, keepdim=True, unbiased=False)
    return (h - mean) / variance.sqrt()


_STANDARD: dict[str, Rewrite] = {
    "layer_norm": lambda h: functional.layer_norm(h, (5,), eps=0.0),
    "std": lambda h: (h - h.mean(-1, keepdim=True)) / h.std(-1, keepdim=True, correction=0),
    "std_mean": lambda h: (lambda s, m: (h - m) / s)(*torch.std_mean(h, -1, keepdim=True, correction=0)),
    "var_mean": _by_var_mean,
    "rsqrt of var": lambda h: (h - h.mean(1, True)) * h.var(1, False, True).rsqrt(),
    "normalize": lambda h: functional.normalize(h - h.mean(-1, keepdim=True), dim=-1, eps=0.0) * math.sqrt(5),
    "rms_norm of the centred": lambda h: functional.rms_norm(h - h.mean(-1, keepdim=True), (5,), eps=0.0),
    "norm of the centred": lambda h: (lambda c: c / c.norm(dim=-1, keepdim=True) * math.sqrt(5))(
        h - h.sum(-1, keepdim=True) / 5
    ),
}


def _rms_layers() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 5), "norm": nn.RMSNorm(5, eps=1e-20), "b": nn.Linear(5, 2)}


def _through_norm(m: Any, norm: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.tanh(norm(m.entry(inputs[0]), m.norm)))


_RMS: dict[str, Rewrite] = {
    "module": lambda h, n: n(h),
    "gain apart": lambda h, n: functional.rms_norm(h, (5,), eps=n.eps) * n.weight,
    "chained": lambda h, n: h.mul(h.pow(2).mean(-1, True).add(n.eps).rsqrt()).mul(n.weight),
    "reciprocal of a root": lambda h, n: n.weight * h * (h.square().mean(-1, keepdim=True) + n.eps).sqrt().reciprocal(),
    "division in place": lambda h, n: h.clone().div_((h**2).mean(-1, keepdim=True).add_(n.eps).sqrt_()) * n.weight,
    "mean by a product": lambda h, n: (
        h * torch.rsqrt(h.square() @ torch.full((5, 1), 0.2, dtype=torch.float64) + n.eps) * n.weight
    ),
    "dot product": lambda h, n: h * torch.rsqrt(torch.linalg.vecdot(h, h)[:, None] / 5 + n.eps) * n.weight,
}

# --- a linear map behind a norm --------------------------------------------------------------------------------------


def _norm_then_linear() -> dict[str, nn.Module]:
    return {"entry": nn.Linear(3, 5), "norm": nn.LayerNorm(5), "a": nn.Linear(5, 4), "b": nn.Linear(4, 2)}


def _affine_behind_norm(m: Any, layer: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(torch.tanh(layer(m.norm(m.entry(inputs[0])), m.a)))


_AFFINE: dict[str, Rewrite] = {
    "module": lambda h, a: a(h),
    "conv1d": lambda h, a: functional.conv1d(h[..., None], a.weight[..., None], a.bias)[..., 0],
    "conv2d": lambda h, a: functional.conv2d(h[:, :, None, None], a.weight[:, :, None, None], a.bias).flatten(1),
    "scaled bias": lambda h, a: torch.addmm(a.bias / 2, h, a.weight.T, beta=2),
    "alpha": lambda h, a: torch.add(h @ a.weight.T, a.bias, alpha=1),
    "half and half": lambda h, a: 2 * (functional.linear(h / 2, a.weight) + a.bias / 2),
    "thirds of the weight": lambda h, a: 3 * (functional.linear(h, a.weight / 3) - a.bias / -3),
    "negative halves": lambda h, a: ((h / -7) @ a.weight.T + (a.bias / 7).neg()).unsqueeze(0).mul(-7)[0],
    "expanded bias": lambda h, a: a.bias.expand(len(h), 4) + h.matmul(a.weight.t()),
    "in place": lambda h, a: functional.linear(h, a.weight).add_(a.bias),
    "rows and columns": lambda h, a: (a.weight @ h.T + a.bias[:, None]).T,
    "tensordot": lambda h, a: torch.tensordot(h, a.weight, ([1], [1])) + a.bias.reshape(1, 4),
    "unequal parts": lambda h, a: torch.cat(
        [functional.linear(h, a.weight[:1], a.bias[:1]), functional.linear(h, a.weight[1:], a.bias[1:])], -1
    ),
    "unit by unit": lambda h, a: torch.stack([h @ a.weight[k] + a.bias[k] for k in range(4)], -1),
    "input by input": lambda h, a: sum(h[:, k, None] * a.weight[:, k] for k in range(5)) + a.bias,
    "bmm of an expanded weight": lambda h, a: torch.bmm(h[:, None], a.weight.T.expand(len(h), 5, 4))[:, 0] + a.bias,
}

# --- tied weights ----------------------------------------------------------------------------------------------------


def _tied_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4)}


def _autoencoded(m: Any, decode: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return decode(torch.relu(m.a(inputs[0])), m.a.weight)


_TIED: dict[str, Rewrite] = {
    "matmul": lambda h, w: h @ w,
    "linear": lambda h, w: functional.linear(h, w.T),
    "einsum": lambda h, w: torch.einsum("bo,oi->bi", h, w),
    "transposed": lambda h, w: (w.mT @ h.mT).mT,
    "convolution": lambda h, w: functional.conv_transpose1d(h[..., None], w[..., None])[..., 0],
    "row by row": lambda h, w: sum(h[:, k, None] * w[k] for k in range(4)),
}

# --- mixing tokens ---------------------------------------------------------------------------------------------------


def _mixer_layers() -> dict[str, nn.Module]:
    return {"tokens": nn.Linear(4, 5), "back": nn.Linear(5, 4), "channels": nn.Linear(3, 2)}


def _over_tokens(m: Any, mix: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.channels(mix(inputs[0], m.tokens, m.back))


_MIXERS: dict[str, Rewrite] = {
    "transposes": lambda x, up, down: down(torch.relu(up(x.mT))).mT,
    "permutes": lambda x, up, down: down(torch.relu(up(x.permute(0, 2, 1)))).permute(0, 2, 1),
    "einsum": lambda x, up, down: (
        torch.einsum(
            "ot,btc->boc", down.weight, torch.relu(torch.einsum("ot,btc->boc", up.weight, x) + up.bias[:, None])
        )
        + down.bias[:, None]
    ),
    "products from the left": lambda x, up, down: (
        down.weight @ torch.relu(up.weight @ x + up.bias[:, None]) + down.bias[:, None]
    ),
    "convolutions": lambda x, up, down: functional.conv1d(
        torch.relu(functional.conv1d(x, up.weight[..., None], up.bias)), down.weight[..., None], down.bias
    ),
    "channel by channel": lambda x, up, down: torch.stack([down(torch.relu(up(c))) for c in x.unbind(-1)], -1),
}

# --- tables of places ------------------------------------------------------------------------------------------------


def _place_layers() -> dict[str, nn.Module]:
    return {"a": nn.Linear(3, 4), "places": nn.Embedding(6, 4), "b": nn.Linear(4, 2)}


def _placed(m: Any, add: Rewrite, inputs: tuple[Tensor, ...]) -> Tensor:
    return m.b(add(m.a(inputs[0]), m.places).mean(1))


_PLACES: dict[str, Rewrite] = {
    "embedding": lambda h, table: h + table(torch.arange(4)),
    "slice": lambda h, table: h + table.weight[:4],
    "narrow": lambda h, table: torch.add(h, table.weight.narrow(0, 0, 4)[None]),
    "index": lambda h, table: h + table.weight[torch.arange(4)][None],
    "expanded index": lambda h, table: h + table(torch.arange(4).expand(len(h), 4)),
    "one-hot": lambda h, table: h + functional.one_hot(torch.arange(4), 6).double() @ table.weight,
    "token by token": lambda h, table: torch.stack([h[:, t] + table.weight[t] for t in range(4)], 1),
}

FUNCTIONS: dict[str, Function] = {
    "packed attention": Function(_packed_layers, _packed, _PACKED, (32, 4, 3)),
    "causal attention": Function(_causal_layers, _causally, _CAUSAL, (32, 4, 3)),
    "gate of two projections": Function(_swiglu_layers, _gated, _SWIGLUS, (64, 3)),
    "leaky unit": Function(_two_layers, _activated, _LEAKY, (64, 3)),
    "standardisation": Function(_standard_layers, _standardised, _STANDARD, (64, 3)),
    "root mean square norm": Function(_rms_layers, _through_norm, _RMS, (64, 3)),
    "affine map behind a norm": Function(_norm_then_linear, _affine_behind_norm, _AFFINE, (64, 3)),
    "tied weights": Function(_tied_layers, _autoencoded, _TIED, (64, 3)),
    "mixed tokens": Function(_mixer_layers, _over_tokens, _MIXERS, (48, 4, 3)),
    "table of places": Function(_place_layers, _placed, _PLACES, (32, 4, 3)),
}
PENDING = {
    ("affine map behind a norm", "unit by unit"): "a product with each row is no part of one with the matrix",
    ("affine map behind a norm", "input by input"): "a sum of products with columns is not one with the matrix",
}
PAIRS = [(name, spelling) for name, f in FUNCTIONS.items() for spelling in list(f.steps)[1:]]


def _marks(name: str, spelling: str) -> list[pytest.MarkDecorator]:
    """One or two spellings of each function by default, all when slow ones are asked for."""
    chosen = spelling in (list(FUNCTIONS[name].steps)[1], "letters")
    marks = [] if chosen else [pytest.mark.slow]
    reason = PENDING.get((name, spelling))
    return marks if reason is None else [*marks, pytest.mark.xfail(reason=reason, strict=True)]


EXPECTED = [pytest.param(*pair, marks=_marks(*pair)) for pair in PAIRS]


@cache
def reference(name: str) -> tuple[Network, Symmetries]:
    """The first spelling with its symmetries."""
    function = FUNCTIONS[name]
    network = function.network(next(iter(function.steps)))
    return network, _search(network)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_first_spelling_is_right(name: str) -> None:
    verdict = judge(*reference(name))
    assert verdict.truth.clear
    assert verdict.sound, verdict


@pytest.mark.parametrize(("name", "spelling"), EXPECTED)
def test_every_spelling_has_the_same_symmetries(name: str, spelling: str) -> None:
    first, expected = reference(name)
    network = FUNCTIONS[name].network(spelling)
    assert_same_function(first, network)
    assert_same_symmetries(expected, _search(network), first.module)


class _Lengthless(nn.Module):
    """Queries and keys of length one, values as they are, all of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.out = nn.Parameter(torch.randn(3, 2, 4, 5)), nn.Linear(8, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = torch.einsum("btd,shcd->sbhtc", x, self.weight)
        query, key = (part / part.norm(dim=-1, keepdim=True) for part in (query, key))
        weights = torch.softmax(torch.einsum("bhqc,bhkc->bhqk", query, key), -1)
        out: Tensor = self.out(torch.einsum("bhqk,bhkc->bqhc", weights, value).flatten(2))
        return out


def test_a_rotation_that_blocks_make_in_part_alone_is_kept() -> None:
    """Blocks turn the values; the queries and keys beside them turn by the rotation that all three share."""
    found = find_symmetries(_Lengthless(), torch.randn(2, 6, 5))
    assert [type(f.action).__name__ for f in found.of_kind("linear")] == ["LinearBlocks", "Rotation"]
