"""Rotary embeddings as models write them: interleaved, as complex numbers, halves computed apart, on some channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .architectures import Case, full
from .configurations import _SMALL, _WORDS, _build, _words
from .registry import small

_LENGTH, _WIDTH = 4, 4


def _angles(length: int, pairs: int) -> Tensor:
    return torch.arange(length)[:, None] * 2.0 ** -torch.arange(pairs)


def interleaved(x: Tensor) -> Tensor:
    """GPT-J: channels 2i and 2i + 1 by stack and flatten."""
    cos, sin = (
        f(_angles(x.shape[-2], x.shape[-1] // 2)).repeat_interleave(2, -1).to(x) for f in (torch.cos, torch.sin)
    )
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + turned * sin


def complex_numbers(x: Tensor) -> Tensor:
    """Llama's reference code: pairs as complex numbers."""
    angle = _angles(x.shape[-2], x.shape[-1] // 2).to(x)
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def halves(x: Tensor) -> Tensor:
    """Both halves written out, joined at the end."""
    cos, sin = (f(_angles(x.shape[-2], x.shape[-1] // 2)).to(x) for f in (torch.cos, torch.sin))
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def partial(x: Tensor) -> Tensor:
    """GPT-NeoX: half of the channels are rotated, half-split; the others pass."""
    rotated, passed = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    cos, sin = (f(_angles(x.shape[-2], rotated.shape[-1] // 2)) for f in (torch.cos, torch.sin))
    cos, sin = (torch.cat((t, t), dim=-1).to(x) for t in (cos, sin))
    first, second = rotated.chunk(2, dim=-1)
    return torch.cat((rotated * cos + torch.cat((-second, first), dim=-1) * sin, passed), dim=-1)


def reflected(x: Tensor) -> Tensor:
    """The conjugate of each pair is turned."""
    cos, sin = (f(_angles(x.shape[-2], x.shape[-1] // 2)).to(x) for f in (torch.cos, torch.sin))
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos + second * sin, first * sin - second * cos), dim=-1)


class Turned(nn.Module):
    """Scores of queries and keys through a rotation; values are the inputs themselves, read by a linear head."""

    def __init__(self, turn: Callable[[Tensor], Tensor], key: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(_WIDTH, _WIDTH, bias=False), nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.head, self.turn, self.key = nn.Linear(_WIDTH, 6), turn, key or turn

    def forward(self, x: Tensor) -> Tensor:
        scores = self.turn(self.q(x)) @ self.key(self.k(x)).transpose(-1, -2)
        return self.head(torch.softmax(scores, dim=-1) @ x)


@small("rotary-interleaved", (32, _LENGTH, _WIDTH))
def rotary_interleaved() -> nn.Module:
    return Turned(interleaved)


@small("rotary-complex", (32, _LENGTH, _WIDTH))
def rotary_complex() -> nn.Module:
    return Turned(complex_numbers)


@small("rotary-halves", (32, _LENGTH, _WIDTH))
def rotary_halves() -> nn.Module:
    return Turned(halves)


@small("rotary-partial", (32, _LENGTH, _WIDTH))
def rotary_partial() -> nn.Module:
    return Turned(partial)


@small("rotary-reflected", (32, _LENGTH, _WIDTH))
def rotary_reflected() -> nn.Module:
    return Turned(reflected)


@small("rotary-conjugate-keys", (32, _LENGTH, _WIDTH))
def rotary_conjugate_keys() -> nn.Module:
    return Turned(halves, reflected)


def backwards(x: Tensor) -> Tensor:
    """Turned by the opposite angles, the halves changed over."""
    cos, sin = (f(_angles(x.shape[-2], x.shape[-1] // 2)).to(x) for f in (torch.cos, torch.sin))
    first, second = x.chunk(2, dim=-1)
    return torch.cat((second * cos - first * sin, first * cos + second * sin), dim=-1)


def uneven(x: Tensor) -> Tensor:
    """No rotation: one sine is twice as large."""
    cos, sin = (f(_angles(x.shape[-2], x.shape[-1] // 2)).to(x) for f in (torch.cos, torch.sin))
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - 2 * second * sin, second * cos + first * sin), dim=-1)


@small("rotary-keys-backwards", (32, _LENGTH, _WIDTH))
def rotary_keys_backwards() -> nn.Module:
    return Turned(halves, backwards)


@small("rotary-keys-flipped", (32, _LENGTH, _WIDTH))
def rotary_keys_flipped() -> nn.Module:
    return Turned(halves, lambda x: halves(x).flip(-1))


@small("rotary-keys-uneven", (32, _LENGTH, _WIDTH))
def rotary_keys_uneven() -> nn.Module:
    return Turned(halves, uneven)


@small("rotary-keys-in-other-pairs", (32, _LENGTH, _WIDTH))
def rotary_keys_in_other_pairs() -> nn.Module:
    return Turned(halves, interleaved)


class Tables(Turned):
    """Cosines and sines of all channels as the model's own tensors, the same for both channels of a pair."""

    def __init__(self, how: str) -> None:
        super().__init__(self.turned)
        angles = torch.cat([_angles(_LENGTH, _WIDTH // 2)] * 2, -1)
        tables = {"cos": angles.cos(), "sin": angles.sin()}
        tables["sin"][:, : _WIDTH // 2] *= -1 if how == "signed" else 1
        self.how = how
        for name, table in tables.items():
            if how == "frozen":
                self.register_parameter(name, nn.Parameter(table, requires_grad=False))
            else:
                self.register_buffer(name, table, persistent=how == "picked")

    def turned(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        other = torch.cat((second if self.how == "signed" else -second, first), dim=-1)
        at = torch.arange(_LENGTH) if self.how == "picked" else slice(None)
        return x * self.cos[at] + other * self.sin[at]


for _how in ("plain", "signed", "frozen", "picked"):
    small(f"rotary-tables-{_how}", (32, _LENGTH, _WIDTH))(lambda how=_how: Tables(how))  # type: ignore[misc]


def doubled(x: Tensor) -> Tensor:
    """RoFormer: one table of sines and cosines, each stacked beside itself."""
    angles = _angles(x.shape[-2], x.shape[-1] // 2).to(x)
    sin, cos = torch.cat((angles.sin(), angles.cos()), -1)[None].chunk(2, dim=-1)
    sin, cos = (torch.stack([t, t], dim=-1).reshape(1, *x.shape[-2:]) for t in (sin, cos))
    turned = torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).reshape_as(x)
    return x * cos + turned * sin


@small("rotary-doubled", (32, _LENGTH, _WIDTH))
def rotary_doubled() -> nn.Module:
    return Turned(doubled)


@small("rotary-unsqueezed", (32, _LENGTH, _WIDTH))
def rotary_unsqueezed() -> nn.Module:
    """The same by new dimensions, joined and flattened; keys turned as others write it."""

    def turn(x: Tensor) -> Tensor:
        angles = _angles(x.shape[-2], x.shape[-1] // 2).to(x)
        cos, sin = (torch.cat((t[..., None], t[..., None]), -1).flatten(-2) for t in (angles.cos(), angles.sin()))
        return x * cos + torch.cat((-x[..., 1::2, None], x[..., ::2, None]), -1).flatten(-2) * sin

    return Turned(turn, interleaved)


def _length(x: Tensor) -> Tensor:
    return functional.rms_norm(x, (_WIDTH,), eps=1e-20)


@small("rotary-of-lengths", (32, _LENGTH, _WIDTH))
def rotary_of_lengths() -> nn.Module:
    return Turned(lambda x: halves(_length(x)))


@small("rotary-then-lengths", (32, _LENGTH, _WIDTH))
def rotary_then_lengths() -> nn.Module:
    return Turned(lambda x: functional.normalize(complex_numbers(x), dim=-1, eps=1e-20))


@small("rotary-keys-of-length", (32, _LENGTH, _WIDTH))
def rotary_keys_of_length() -> nn.Module:
    return Turned(halves, lambda x: halves(_length(x)))


@full("hf-gptj")
def gptj() -> Case:
    settings = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": _WORDS, "rotary_dim": 4, "n_positions": 8}
    return _words(_build("GPTJForCausalLM", "GPTJConfig", **settings, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))


@full("hf-gpt-neox")
def gpt_neox() -> Case:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    return _words(
        _build(
            "GPTNeoXForCausalLM", "GPTNeoXConfig", **_SMALL | {"hidden_size": 16, "num_hidden_layers": 1},
            intermediate_size=12, rope_parameters=rope, rotary_pct=0.5, attention_dropout=0.0, hidden_dropout=0.0,
        )
    )  # fmt: skip


@full("hf-cohere")
def cohere() -> Case:
    return _words(
        _build(
            "CohereForCausalLM", "CohereConfig", **_SMALL | {"num_hidden_layers": 1}, num_key_value_heads=1,
            intermediate_size=12, pad_token_id=0,
        )
    )  # fmt: skip


@full("hf-deepseek-v2")
def deepseek() -> Case:
    ranks = {"kv_lora_rank": 6, "q_lora_rank": 6, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
    return _words(
        _build(
            "DeepseekV2ForCausalLM", "DeepseekV2Config", **_SMALL | {"num_hidden_layers": 1}, **ranks, head_dim=4,
            num_key_value_heads=2, intermediate_size=12, first_k_dense_replace=1, pad_token_id=0,
        )
    )  # fmt: skip
