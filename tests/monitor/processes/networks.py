"""A small VGG and a small Llama, alone and over several processes, trained on the same batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.nn import functional

import neuralmechanics as nm

BATCH = 8


class SmallVgg(nn.Module):
    """Convolutions with and without batch norm, a flatten, and a head of two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.hidden, self.head = nn.Linear(20, 8), nn.Linear(8, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.hidden(self.features(x))))
        return out


class RmsNorm(nn.Module):
    """Root mean square norm with a gain."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.8, 1.2, width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-12) * self.weight


class Attention(nn.Module):
    """Causal attention; as many heads as the projections make."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (p(x).unflatten(-1, (-1, self.head)).transpose(1, 2) for p in (self.q_proj, self.k_proj, self.v_proj))
        scores = (q @ k.mT / self.head**0.5).masked_fill(_future(x.shape[1]), float("-inf"))
        out: Tensor = self.o_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return out


def _future(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).triu(1)


class Mlp(nn.Module):
    """Gate, up, down."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, 12, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(12, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One block of a Llama."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = RmsNorm(width), Attention(width, 4)
        self.post_attention_layernorm, self.mlp = RmsNorm(width), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class SmallLlama(nn.Module):
    """Two blocks; linear blocks of 4 between values and outputs of each head, and between queries and keys."""

    def __init__(self, width: int = 8, layers: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed_tokens = nn.Embedding(10, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))
        self.norm, self.lm_head = RmsNorm(width), nn.Linear(width, 10, bias=False)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed_tokens(x)
        for layer in self.layers:
            h = layer(h)
        out: Tensor = self.lm_head(self.norm(h))
        return out


class DeepLinear(nn.Module):
    """Linear blocks of 6 that a cut through the rows of the first layer divides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 6, bias=False), nn.Linear(6, 4)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


@dataclass(frozen=True)
class Case:
    """A network with its data."""

    build: Callable[[], nn.Module]
    data: Callable[[torch.Generator], tuple[Tensor, Tensor]]

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.data(torch.Generator().manual_seed(100 + step))


def _pictures(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(BATCH, 1, 8, 8, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (BATCH,), generator=generator)


def _points(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(BATCH, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(4, (BATCH,), generator=generator)


def _tokens(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randint(10, (BATCH, 7), generator=generator)
    return x[:, :-1], x[:, 1:]


CASES = {
    "vgg": Case(SmallVgg, _pictures),
    "llama": Case(SmallLlama, _tokens),
    "linear": Case(DeepLinear, _points),
}


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    logits = model(batch[0])
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[1].reshape(-1))


def symmetries(name: str) -> nm.Symmetries:
    case = CASES[name]
    return nm.find_symmetries(case.build(), case.batch(0), loss_fn)


def tensor_parallel(model: nn.Module, mesh: Any) -> nn.Module:
    """The plan of the tutorials: projections by columns and rows, norms over shards of the sequence."""
    if not isinstance(model, SmallLlama):
        columns, rows = ("hidden", "head") if isinstance(model, SmallVgg) else ("first", "second")
        return parallelize_module(model, mesh, {columns: ColwiseParallel(), rows: RowwiseParallel()})
    plan: dict[str, Any] = {
        "embed_tokens": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "norm": SequenceParallel(),
        "lm_head": ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate()),
    }
    for number in range(len(model.layers)):
        at = f"layers.{number}"
        plan[f"{at}.input_layernorm"] = plan[f"{at}.post_attention_layernorm"] = SequenceParallel()
        for one in ("q_proj", "k_proj", "v_proj"):
            plan[f"{at}.self_attn.{one}"] = ColwiseParallel(input_layouts=Shard(1))
        for one in ("gate_proj", "up_proj"):
            plan[f"{at}.mlp.{one}"] = ColwiseParallel(input_layouts=Shard(1))
        plan[f"{at}.self_attn.o_proj"] = RowwiseParallel(output_layouts=Shard(1))
        plan[f"{at}.mlp.down_proj"] = RowwiseParallel(output_layouts=Shard(1))
    return parallelize_module(model, mesh, plan)
