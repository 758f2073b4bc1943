"""Outer sums and other functions of two tokens, in every spelling: entry ij knows which term came from i."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import normal, register

_TOKENS = 6
_PERMUTED = torch.tensor([1, 0, 3, 2, 5, 4])
_SOURCES = torch.arange(_TOKENS).repeat_interleave(_TOKENS)
_TARGETS = torch.arange(_TOKENS).repeat(_TOKENS)

Function = Callable[[nn.Module, nn.Module, Tensor], Tensor]


class Two(nn.Module):
    """tanh of a function of two linear maps, read by a third."""

    def __init__(self, function: Function, width: int = 2, bias: bool = False, inputs: int = 3) -> None:
        super().__init__()
        self.a = nn.Linear(inputs, width, bias=bias)
        self.b = nn.Linear(inputs, width, bias=bias)
        self.head = nn.Linear(width, 2)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        terms = torch.tanh(self.function(self.a, self.b, x))
        return self.head(terms) if terms.shape[-1] == self.head.in_features else terms


_OUTER: dict[str, Function] = {
    "indexed with None": lambda a, b, x: a(x)[:, None] + b(x)[None],
    "transposed": lambda a, b, x: (a(x)[:, None] + b(x)[None]).transpose(0, 1) + b(x)[None],
    "same side transposed": lambda a, b, x: a(x)[:, None] + b(x)[:, None].transpose(0, 1),
    "difference": lambda a, b, x: a(x)[:, None] - b(x)[None],
    "negated twice": lambda a, b, x: -(-a(x)[:, None] + -(b(x)[None])),
    "one map twice": lambda a, b, x: a(x)[:, None] + a(x)[None] + 0 * b(x)[None],
    "one map against itself": lambda a, b, x: a(x)[:, None] - a(x)[None] + 0 * b(x)[None],
    "expanded": lambda a, b, x: a(x)[:, None].expand(-1, len(x), -1) + b(x)[None].expand(len(x), -1, -1),
    "unsqueezed": lambda a, b, x: a(x).unsqueeze(1) + b(x).unsqueeze(0),
    "viewed": lambda a, b, x: a(x).view(len(x), 1, -1) + b(x).view(1, len(x), -1),
    "repeated": lambda a, b, x: a(x)[:, None].repeat(1, len(x), 1) + b(x)[None].repeat(len(x), 1, 1),
    "repeated rows": lambda a, b, x: a(x).repeat_interleave(len(x), 0) + b(x).repeat(len(x), 1),
    "repeated rows reshaped": lambda a, b, x: (a(x).repeat_interleave(len(x), 0) + b(x).repeat(len(x), 1)).view(
        len(x), len(x), -1
    ),
    "expanded and flattened": lambda a, b, x: (
        a(x)[:, None].expand(-1, len(x), -1).reshape(len(x) ** 2, -1)
        + b(x)[None].expand(len(x), -1, -1).reshape(len(x) ** 2, -1)
    ),
    "einsum with ones": lambda a, b, x: (
        torch.einsum("id,j->ijd", a(x), x.new_ones(len(x))) + torch.einsum("jd,i->ijd", b(x), x.new_ones(len(x)))
    ),
    "kron with ones": lambda a, b, x: (
        torch.kron(a(x), x.new_ones(len(x), 1)) + torch.kron(x.new_ones(len(x), 1), b(x))
    ),
    "edges by index": lambda a, b, x: a(x)[_SOURCES] + b(x)[_TARGETS],
    "edges by index_select": lambda a, b, x: a(x).index_select(0, _SOURCES) + b(x).index_select(0, _TARGETS),
    "edges by gather": lambda a, b, x: (
        a(x).gather(0, _SOURCES[:, None].expand(-1, 2)) + b(x).gather(0, _TARGETS[:, None].expand(-1, 2))
    ),
    "indexed before": lambda a, b, x: a(x[_SOURCES]) + b(x[_TARGETS]),
    "expanded before": lambda a, b, x: a(x[:, None].expand(-1, len(x), -1)) + b(x[None].expand(len(x), -1, -1)),
    "tokens concatenated before": lambda a, b, x: (
        a(torch.cat([x, x.flip(0)])) + b(torch.cat([x, x.roll(1, 0)]))
    ),
    "stacked and summed": lambda a, b, x: torch.stack(
        torch.broadcast_tensors(a(x)[:, None], b(x)[None])
    ).sum(0),
    "concatenated and summed": lambda a, b, x: torch.cat(
        torch.broadcast_tensors(a(x)[:, None], b(x)[None]), -1
    ).unflatten(-1, (2, -1)).sum(-2),
    "three-way": lambda a, b, x: a(x)[:, None, None] + b(x)[None, :, None] + a(x)[None, None],
    "three-way, each its own side": lambda a, b, x: (
        a(x)[:, None, None] + b(x)[None, :, None] - (a(x) + b(x))[None, None]
    ),
    "flipped": lambda a, b, x: a(x) + b(x).flip(0),
    "rolled": lambda a, b, x: a(x) + b(x).roll(1, 0),
    "permuted": lambda a, b, x: a(x) + b(x)[_PERMUTED],
    "flipped before": lambda a, b, x: a(x) + b(x.flip(0)),
    "neighbours": lambda a, b, x: a(x)[1:] + b(x)[:-1],
    "neighbours before": lambda a, b, x: a(x[1:]) + b(x[:-1]),
    "padded neighbours": lambda a, b, x: a(x) + functional.pad(b(x)[:-1], (0, 0, 1, 0)),
    "accumulated": lambda a, b, x: a(x) + b(x).cumsum(0),
    "largest": lambda a, b, x: a(x) + b(x).max(0, keepdim=True)[0],
    "sorted": lambda a, b, x: a(x) + b(x).sort(0)[0],
    "running maximum": lambda a, b, x: a(x) + b(x).cummax(0)[0],
    "mean": lambda a, b, x: a(x) + b(x).mean(0, keepdim=True),
    "mean before": lambda a, b, x: a(x) + b(x.mean(0, keepdim=True)),
    "adjacency": lambda a, b, x: a(x) + torch.softmax(x @ x.T, -1) @ b(x),
    "unfolded": lambda a, b, x: a(x)[:5] + b(x).unfold(0, 2, 1)[..., 1],
    "scattered": lambda a, b, x: a(x) + torch.zeros_like(b(x)).index_add(0, _PERMUTED, b(x)),
    "chunks swapped": lambda a, b, x: a(x) + torch.cat(b(x).chunk(2)[::-1]),
    "split and stacked": lambda a, b, x: torch.stack([a(x)[i] + b(x)[len(x) - 1 - i] for i in range(len(x))]),
    "diagonal of a pair tensor": lambda a, b, x: (
        (a(x)[:, None] + b(x).flip(0)[None]).diagonal(dim1=0, dim2=1).T
    ),
    "upper triangle": lambda a, b, x: (a(x)[:, None] + b(x)[None])[torch.triu_indices(len(x), len(x)).unbind()],
    "block shuffled": lambda a, b, x: (
        a(x) + b(x).view(2, 3, -1).transpose(0, 1).reshape(len(x), -1)
    ),
    "strided": lambda a, b, x: a(x)[::2] + b(x)[1::2],
    "as_strided": lambda a, b, x: a(x)[1:] + b(x).contiguous().as_strided((5, 2), (2, 1)),
    "swapped by stack": lambda a, b, x: a(x) + torch.stack([b(x)[1::2], b(x)[::2]], 1).flatten(0, 1),
    "outer products of ones": lambda a, b, x: (
        a(x)[:, None] * torch.ones_like(x[:, :1])[None] + b(x)[None] * torch.ones_like(x[:, :1])[:, None]
    ),
    "masked pairs": lambda a, b, x: (a(x)[:, None] + b(x)[None]).masked_fill(
        torch.eye(len(x), dtype=torch.bool)[..., None], 0.0
    ),
    "where of pairs": lambda a, b, x: torch.where(
        torch.ones(len(x), len(x), 1).tril().bool(), a(x)[:, None], -b(x)[None]
    ),
    "pair tensor of inputs": lambda a, b, x: a(x[:, None] - x[None]) + b(x)[None],
    "pair tensor of inputs, transposed": lambda a, b, x: a(x[:, None] * x[None]) + b(x[None] - x[:, None]),
    "pair tensor against its transpose": lambda a, b, x: (
        a(x[:, None] - x[None]) + b(x[:, None] - x[None]).transpose(0, 1)
    ),
    "movedim": lambda a, b, x: (
        a(x[:, None] - x[None]) + b(x[:, None] - x[None]).movedim(0, 1)
    ),
    "rot90": lambda a, b, x: a(x) + b(x).rot90(2, (0, 1)),
}  # fmt: skip

for _name, _function in _OUTER.items():
    register(f"pair: {_name}", normal((_TOKENS, 3)), branched=_name in ("indexed with None", "flipped", "transposed"))(
        lambda function=_function: Two(function)
    )
for _name in ("indexed with None", "one map against itself", "three-way, each its own side", "edges by index"):
    register(f"pair, biases: {_name}", normal((_TOKENS, 3)))(lambda function=_OUTER[_name]: Two(function, bias=True))

# Square tensors: as many channels as tokens, so that a transpose keeps the shape.
_SQUARE: dict[str, Function] = {
    "map transposed": lambda a, b, x: a(x) + b(x).T,
    "both transposed": lambda a, b, x: a(x).T + b(x).T,
    "input transposed": lambda a, b, x: a(x) + b(x.T),
    "input and map transposed": lambda a, b, x: a(x) + b(x.T).T,
    "symmetrised": lambda a, b, x: a(x) + a(x).T + 0 * b(x),
    "antisymmetrised": lambda a, b, x: a(x) - a(x).T + 0 * b(x),
    "permuted by einsum": lambda a, b, x: a(x) + torch.einsum("ij->ji", b(x)),
    "flattened and read across": lambda a, b, x: a(x) + b(x).flatten().view(4, 4).t(),
    "batched transposes": lambda a, b, x: a(x[None]) + b(x[None]).mT,
    "two matrices": lambda a, b, x: a(x) @ b(x).T + b(x).T @ a(x),
    "rotated": lambda a, b, x: a(x) + b(x).rot90(1, (0, 1)),
    "swapaxes": lambda a, b, x: a(x) + b(x).swapaxes(0, 1),
    "diagonals": lambda a, b, x: a(x) + b(x).diagonal()[:, None],
    "rows as channels": lambda a, b, x: a(x) + b(x).diag_embed().sum(1),
    "sum over the other axis": lambda a, b, x: a(x) + b(x).sum(1, keepdim=True),
    "sum over the other axis as a row": lambda a, b, x: a(x) + b(x).sum(1)[None],
    "lower triangle": lambda a, b, x: a(x).tril() + b(x).T.triu(1),
    "outer sum of one channel": lambda a, b, x: a(x)[:, :1] + b(x)[:, :1].T,
    "outer sum of two channels": lambda a, b, x: a(x)[:, :1] + b(x)[:, 1:2].T,
    "outer sum against itself": lambda a, b, x: a(x)[:, :1] - a(x)[:, :1].T + 0 * b(x),
}
for _name, _function in _SQUARE.items():
    register(f"square: {_name}", normal((4, 4)), branched=_name in ("map transposed", "outer sum of one channel"))(
        lambda function=_function: Two(function, 4, inputs=4)
    )


@register("pair: batched outer sum", normal((2, 5, 3)), branched=True)
def batched() -> nn.Module:
    return Two(lambda a, b, x: a(x)[:, :, None] + b(x)[:, None])


@register("pair: as many sequences as tokens", normal((5, 5, 3)))
def as_many_sequences_as_tokens() -> nn.Module:
    """The batch axis transposed onto the axis of tokens."""
    return Two(lambda a, b, x: a(x) + b(x).transpose(0, 1))


@register("pair: axes of images exchanged", normal((2, 3, 4, 4)))
def axes_of_images_exchanged() -> nn.Module:
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tanh(self.a(x) + self.b(x).transpose(2, 3))

    return Crossed()


class Pairwise(nn.Module):
    """Additive attention scores, softmax over one side of an outer sum."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.a, self.b, self.v = (nn.Linear(3, 4) for _ in range(3))
        self.score = nn.Linear(4, 1)
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.a(x)[:, None] + self.b(x)[None])).squeeze(-1)
        return torch.softmax(scores, self.axis) @ self.v(x)


register("pair: additive attention", normal((_TOKENS, 3)))(lambda: Pairwise(1))
register("pair: additive attention over queries", normal((_TOKENS, 3)))(lambda: Pairwise(0))


class Biaffine(nn.Module):
    """Dozat and Manning's scorer: x U y + the linear terms of heads and of dependents."""

    def __init__(self, softmax: int | None) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)
        self.u = nn.Parameter(torch.randn(4, 4))
        self.of_a, self.of_b = nn.Linear(4, 1), nn.Linear(4, 1)
        self.softmax = softmax

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.relu(self.a(x)), torch.relu(self.b(x))
        scores = a @ self.u @ b.T + self.of_a(a) + self.of_b(b).T
        return torch.tanh(scores) if self.softmax is None else torch.log_softmax(scores, self.softmax)


for _axis in (None, 0, 1):
    register(f"pair: biaffine, softmax {_axis}", normal((_TOKENS, 3)))(lambda axis=_axis: Biaffine(axis))


@register("pair: relation network", normal((_TOKENS, 3)))
def relation_network() -> nn.Module:
    class Relations(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.g = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
            self.f = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            n = len(x)
            pairs = torch.cat([x[:, None].expand(n, n, -1), x[None].expand(n, n, -1)], -1)
            return self.f(self.g(pairs).sum((0, 1)))

    return Relations()


class Triangle(nn.Module):
    """Triangle multiplication on a pair representation, along outgoing or incoming edges."""

    def __init__(self, equation: str, gated: bool) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.entry = nn.Linear(3, 3, bias=False)
        self.norm = nn.LayerNorm(3)
        self.gate = nn.Linear(3, 3)
        self.equation, self.gated = equation, gated

    def forward(self, x: Tensor) -> Tensor:
        z = self.entry(x[:, None] * x[None])
        inner = self.norm(z)
        left, right = self.left(inner), self.right(inner)
        if self.gated:
            left = left * torch.sigmoid(self.gate(inner))
        return z + self.out(torch.einsum(self.equation, left, right))


for _equation in ("ikc,jkc->ijc", "kic,kjc->ijc", "ikc,kjc->ijc", "kic,jkc->ijc"):
    for _gated in (False, True):
        register(f"pair: triangle {_equation}{' gated' * _gated}", normal((4, 3)))(
            lambda equation=_equation, gated=_gated: Triangle(equation, gated)
        )


@register("pair: outer product mean", normal((2, 4, 3)))
def outer_product_mean() -> nn.Module:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            pairs = torch.einsum("sic,sjd->ijcd", self.a(x), self.b(x)).flatten(2) / len(x)
            return torch.tanh(self.out(pairs) + self.out(pairs).transpose(0, 1))

    return Mean()


class Axial(nn.Module):
    """Attention along rows, then along columns, of one pair tensor, with shared or separate maps."""

    def __init__(self, shared: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.bias = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)
        self.v2 = self.v if shared else nn.Linear(3, 3)

    def attend(self, z: Tensor, value: nn.Module) -> Tensor:
        scores = self.q(z) @ self.k(z).mT + self.bias(z).squeeze(-1)[None]
        return torch.softmax(scores, -1) @ value(z)

    def forward(self, z: Tensor) -> Tensor:
        z = z + self.attend(z, self.v)
        return z + self.attend(z.transpose(0, 1), self.v2).transpose(0, 1)


for _shared in (False, True):
    register(f"pair: axial attention{' shared' * _shared}", normal((4, 4, 3)))(lambda shared=_shared: Axial(shared))


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _siamese(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return (1 + (model(batch[0]) - model(batch[1])).square().sum(-1)).log().mean()


def _contrastive(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    one, two = (functional.normalize(model(x), dim=-1) for x in batch[:2])
    scores = one @ two.T / 0.5
    truth = torch.arange(len(scores))
    return functional.cross_entropy(scores, truth) + functional.cross_entropy(scores.T, truth)


def _ranking(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    scores = model(batch[0])[:, 0]
    return functional.softplus(-(scores[:, None] - scores[None]).triu(1)).mean()


def _crossed_ranking(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    out = model(batch[0])
    return functional.softplus(out[:, :1] - out[:, 1:2].T).mean()


def _alignment(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    one, two = model(batch[0]), model(batch[1])
    return (one - two).square().mean() + torch.pdist(one).pow(2).mul(-2).exp().mean().log()


def _decorrelation(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    one, two = ((out - out.mean(0)) / out.std(0) for out in map(model, batch[:2]))
    return (one.T @ two / len(one) - torch.eye(3, dtype=one.dtype)).square().sum()


def _neighbours(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    out = model(batch[0])
    affinity = torch.log_softmax(-(out[:, None] - out[None]).square().sum(-1), 1)
    return -affinity.diagonal(1).mean()


def _permuted_difference(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    out = model(batch[0])
    return (out - out[_PERMUTED]).square().cos().mean()


_PAIR_LOSSES = {
    "siamese": _siamese,
    "contrastive": _contrastive,
    "ranking": _ranking,
    "crossed ranking": _crossed_ranking,
    "alignment and uniformity": _alignment,
    "decorrelation": _decorrelation,
    "neighbour embedding": _neighbours,
    "difference to a permutation": _permuted_difference,
}
for _name, _loss in _PAIR_LOSSES.items():
    register(f"pair loss: {_name}", normal((_TOKENS, 3), (_TOKENS, 3)), _loss)(Embedder)
