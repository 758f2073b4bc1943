"""Mistakes of converters on architectures of Transformers, made tiny: each named by its tensor in a bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.checkpoints import Function
from neuralmechanics.rewrite.comparing.equivalence import compared
from neuralmechanics.rewrite.comparing.parts.network import Network

from .planting import planted, state_of

State = dict[str, Tensor]
LLAMA, UP = "model.layers.0.", "model.layers.0.mlp.up_proj.weight"
KEYS, VALUES = (f"{LLAMA}self_attn.{name}.weight" for name in ("k_proj", "v_proj"))
EXPERTS = [f"{LLAMA}mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")]
MOST = 60  # seconds of processor time


@dataclass(frozen=True)
class Mistake:
    """What is done to an exactly converted state, and the sets of tensors one of which must be named."""

    kind: str
    spoil: Callable[[State], State]
    wrong: tuple[frozenset[str], ...]


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[State], State]:
    """One tensor replaced."""
    return lambda state: {name: change(state[name])}


def one(kind: str, name: str, change: Callable[[Tensor], Tensor], *others: str) -> Mistake:
    """A mistake in one tensor; ``others`` may equally well be wrong."""
    return Mistake(kind, changed(name, change), tuple(frozenset(n.split(",")) for n in (name, *others)))


def reversed_parts(value: Tensor, size: int) -> Tensor:
    """So many parts of the rows in reverse order."""
    return value.unflatten(0, (size, -1)).flip(0).flatten(0, 1)


MISTAKES = {
    "positions off by one": one("gpt2", "transformer.wpe.weight", lambda w: w.roll(1, 0)),
    "one tensor rounded to bfloat16": one("mistral", LLAMA + "mlp.down_proj.weight", lambda w: w.bfloat16().double()),
    "heads permuted in queries only": one("llama", LLAMA + "self_attn.q_proj.weight", lambda w: reversed_parts(w, 2)),
    "rotary halves exchanged in keys only": one(
        "llama", LLAMA + "self_attn.k_proj.weight", lambda w: w.unflatten(0, (2, 2, -1)).flip(1).flatten(0, 2)
    ),
    "gate and up exchanged": Mistake(
        "llama",
        lambda s: {LLAMA + "mlp.gate_proj.weight": s[UP], UP: s[LLAMA + "mlp.gate_proj.weight"]},
        (frozenset({LLAMA + "mlp.gate_proj.weight", UP}),),
    ),
    "bias of queries lost": one("qwen2", LLAMA + "self_attn.q_proj.bias", torch.zeros_like),
    "offset of a gain kept": one("gemma2", LLAMA + "input_layernorm.weight", lambda w: w + 1),
    "words off by one in the head": one("llama", "lm_head.weight", lambda w: w.roll(1, 0)),
    "keys and values exchanged": Mistake(
        "llama", lambda s: {KEYS: s[VALUES], VALUES: s[KEYS]}, (frozenset({KEYS, VALUES}),)
    ),
    "an expert twice": Mistake(
        "mixtral",
        lambda s: {name: torch.cat([s[name][:1], s[name][:1], s[name][2:]]) for name in EXPERTS},
        (frozenset(EXPERTS),),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    from planted_elements import made

    mistake = MISTAKES[name]
    model, batch, loss_fn = made(f"hf/{mistake.kind}")
    network, function = Network.of(model, batch, loss_fn), Function(model, batch, loss_fn)
    before = {key: value.double() for key, value in state_of(model).items()}
    exact = planted(network.symmetries, 1).transform(before)
    assert compared(network, function, before, exact, tolerance=1e-9)
    start = time.process_time()
    found = compared(network, function, before, exact | mistake.spoil(exact), tolerance=1e-9)
    assert time.process_time() - start < MOST
    assert not found.equal
    assert found.decided
    assert frozenset(found.tensors) in mistake.wrong, str(found)
