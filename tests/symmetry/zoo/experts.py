"""Mixtures of experts as Transformers computes them: rows sorted by expert, or each row with its expert's matrices."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Residual
from .architectures import Case, full
from .configurations import _SMALL, _build, _words
from .registry import small


class Experts(nn.Module):
    """Linear experts or rectified ones, gated or not, the best two of each row by a linear router."""

    def __init__(self, how: str, width: int, experts: int, hidden: int, *, gate: bool, bias: bool, flip: bool) -> None:
        super().__init__()
        self.how, self.gate = how, gate
        self.router = nn.Linear(width, experts)
        rows = hidden * (2 if gate else 1)
        sizes = {"up": (width, rows), "down": (hidden, width)}
        self.weights = nn.ParameterDict(
            {name: torch.randn(experts, *(size if flip else size[::-1])) for name, size in sizes.items()}
        )
        if bias:
            self.biases = nn.ParameterDict({"up": torch.randn(experts, rows), "down": torch.randn(experts, width)})
        self.settings = {"num_experts": experts, "has_gate": gate, "has_bias": bias, "is_transposed": flip}

    def _apply_gate(self, x: Tensor) -> Tensor:
        gate, up = x.chunk(2, dim=-1)
        return functional.silu(gate) * up

    def forward(self, x: Tensor) -> Tensor:
        moe = _double_precision()
        chance = torch.softmax(self.router(x), dim=-1)
        weight, chosen = torch.topk(chance, 2, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        up = "gate_up_proj" if self.gate else "up_proj"
        tensors = {up: self.weights["up"], "down_proj": self.weights["down"]}
        if self.settings["has_bias"]:
            tensors |= {f"{up}_bias": self.biases["up"], "down_proj_bias": self.biases["down"]}
        module = SimpleNamespace(
            **self.settings, **tensors, act_fn=torch.relu, _apply_gate=self._apply_gate, _is_expert_parallel=False,
            has_post_expert_norm=False,
        )  # fmt: skip
        forward = {"grouped": moe.grouped_mm_experts_forward, "batched": moe.batched_mm_experts_forward}[self.how]
        out: Tensor = forward(module, x, chosen, weight)
        return out


def _double_precision() -> Any:
    """The experts of Transformers, grouped products by the operation that takes float64."""
    from transformers.integrations import moe

    moe._can_use_grouped_mm = lambda *_: False
    return moe


def _experts(how: str, **settings: bool) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), Residual(Experts(how, 3, 3, 3, **settings)), nn.Linear(3, 4))


@small("experts-grouped", (128, 3))
def grouped() -> nn.Module:
    return _experts("grouped", gate=False, bias=False, flip=False)


@small("experts-grouped-gate", (128, 3))
def grouped_gate() -> nn.Module:
    return _experts("grouped", gate=True, bias=False, flip=True)


@small("experts-grouped-biases", (128, 3))
def grouped_biases() -> nn.Module:
    return _experts("grouped", gate=False, bias=True, flip=False)


@small("experts-batched", (128, 3))
def batched() -> nn.Module:
    return _experts("batched", gate=False, bias=False, flip=True)


@small("experts-batched-gate-biases", (128, 3))
def batched_gate_biases() -> nn.Module:
    return _experts("batched", gate=True, bias=True, flip=False)


def _mixtral(how: str) -> Case:
    _double_precision()
    return _words(
        _build(
            "MixtralForCausalLM", "MixtralConfig", **_SMALL, num_key_value_heads=1, intermediate_size=6,
            num_local_experts=3, num_experts_per_tok=2, experts_implementation=how,
        )
    )  # fmt: skip


@full("hf-mixtral-grouped")
def mixtral_grouped() -> Case:
    return _mixtral("grouped_mm")


@full("hf-mixtral-batched")
def mixtral_batched() -> Case:
    return _mixtral("batched_mm")
