"""Message passing and graph attention: terms of sources and of targets met on edges, scattered back to nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import normal, register

_NODES, _IN, _OUT = 5, 3, 4
_SOURCE = torch.tensor([0, 1, 2, 3, 4, 0, 2, 4, 1])
_TARGET = torch.tensor([1, 2, 3, 4, 0, 2, 4, 1, 1])
_DENSE = torch.eye(_NODES, dtype=torch.float64).index_put((_TARGET, _SOURCE), torch.ones((), dtype=torch.float64))


def _sum_at_targets(messages: Tensor, how: str = "index_add") -> Tensor:
    zero = messages.new_zeros(_NODES, *messages.shape[1:])
    index = _TARGET.view(-1, *[1] * (messages.ndim - 1)).expand_as(messages)
    if how == "index_add":
        return zero.index_add(0, _TARGET, messages)
    if how == "scatter_add":
        return zero.scatter_add(0, index, messages)
    if how == "index_put":
        return zero.index_put((_TARGET,), messages, accumulate=True)
    if how == "in place":
        zero.index_add_(0, _TARGET, messages)
        return zero
    return zero.scatter_reduce(0, index, messages, reduce=how, include_self=False)


def _softmax_at_targets(scores: Tensor) -> Tensor:
    """Softmax over the edges that share a target, written out as the graph libraries do."""
    index = _TARGET.view(-1, *[1] * (scores.ndim - 1)).expand_as(scores)
    largest = scores.new_full((_NODES, *scores.shape[1:]), -1e9).scatter_reduce(0, index, scores, reduce="amax")
    weights = (scores - largest[_TARGET].detach()).exp()
    return weights / (_sum_at_targets(weights)[_TARGET] + 1e-30)


class GraphAttention(nn.Module):
    """LeakyReLU(aᵀ[Wh_i, Wh_j]) in its spellings: on dense pairs, on edges; as first written, or the second version."""

    def __init__(self, how: str, bias: bool = False) -> None:
        super().__init__()
        self.w = nn.Linear(_IN, _OUT, bias=bias)
        self.of_source, self.of_target = nn.Linear(_OUT, 1, bias=bias), nn.Linear(_OUT, 1, bias=bias)
        self.w2 = nn.Linear(_IN, _OUT, bias=bias)
        self.a = nn.Linear(2 * _OUT, 1, bias=bias)
        self.how = how

    def scores(self, x: Tensor, h: Tensor) -> Tensor:
        if self.how in ("dense", "dense masked"):
            scores = self.of_target(h) + self.of_source(h).T
        elif self.how == "dense broadcast":
            scores = (self.of_target(h)[:, None] + self.of_source(h)[None]).squeeze(-1)
        elif self.how == "dense concatenated":
            pairs = torch.cat([h[:, None].expand(-1, _NODES, -1), h[None].expand(_NODES, -1, -1)], -1)
            scores = self.a(pairs).squeeze(-1)
        elif self.how == "dense repeated":
            pairs = torch.cat([h.repeat(1, _NODES).view(_NODES**2, -1), h.repeat(_NODES, 1)], 1)
            scores = self.a(pairs).view(_NODES, _NODES)
        else:  # the second version: the nonlinearity before the scoring vector
            return self.of_target(functional.leaky_relu(h[:, None] + self.w2(x)[None], 0.2)).squeeze(-1)
        return functional.leaky_relu(scores, 0.2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.w(x)
        if self.how == "edges":
            scores = functional.leaky_relu((self.of_source(h)[_SOURCE] + self.of_target(h)[_TARGET]), 0.2)
            return torch.tanh(_sum_at_targets(_softmax_at_targets(scores) * h[_SOURCE]))
        if self.how == "edges, second version":
            scores = self.of_target(functional.leaky_relu(h[_SOURCE] + self.w2(x)[_TARGET], 0.2))
            return torch.tanh(_sum_at_targets(_softmax_at_targets(scores) * h[_SOURCE]))
        scores = self.scores(x, h)
        if self.how == "dense masked":
            scores = scores.masked_fill(_DENSE == 0, float("-inf"))
        return torch.tanh(torch.softmax(scores, 1) @ h)


_HOW = (
    "dense",
    "dense masked",
    "dense broadcast",
    "dense concatenated",
    "dense repeated",
    "dense, second version",
    "edges",
    "edges, second version",
)
for _how in _HOW:
    for _bias in (False, True):
        register(f"graph attention: {_how}{', biases' * _bias}", normal((_NODES, _IN)), branched=not _bias)(
            lambda how=_how, bias=_bias: GraphAttention(how, bias)
        )


class Messages(nn.Module):
    """An edge's message from its two ends, summed (or averaged, or the largest taken) at the target."""

    def __init__(self, how: str, activation: nn.Module, split: bool) -> None:
        super().__init__()
        self.source, self.target = nn.Linear(_IN, _OUT), nn.Linear(_IN, _OUT, bias=False)
        self.joint = nn.Linear(2 * _IN, _OUT)
        self.out = nn.Linear(_OUT, 2)
        self.how, self.activation, self.split = how, activation, split

    def forward(self, x: Tensor) -> Tensor:
        if self.split:
            edges = self.source(x)[_SOURCE] + self.target(x)[_TARGET]
        else:
            edges = self.joint(torch.cat([x[_SOURCE], x[_TARGET]], -1))
        return self.out(_sum_at_targets(self.activation(edges), self.how))


for _how in ("index_add", "scatter_add", "index_put", "in place", "mean", "amax", "sum", "prod"):
    for _name, _activation in (("tanh", nn.Tanh), ("relu", nn.ReLU)):
        for _split in (True, False):
            register(
                f"messages: {_how}, {_name}, {'two maps' if _split else 'one map'}",
                normal((_NODES, _IN)),
                branched=_how == "in place",
            )(lambda how=_how, activation=_activation, split=_split: Messages(how, activation(), split))


class Convolution(nn.Module):
    """Graph convolutions with fixed, normalised or learned adjacency."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.w, self.self_loop = nn.Linear(_IN, _OUT), nn.Linear(_IN, _OUT)
        self.out = nn.Linear(_OUT, 2)
        self.left, self.right = nn.Parameter(torch.randn(_NODES, 2)), nn.Parameter(torch.randn(_NODES, 2))
        self.epsilon = nn.Parameter(torch.tensor(0.3))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "normalised":
            degree = _DENSE.sum(1).rsqrt()
            return self.out(torch.relu((degree[:, None] * _DENSE * degree[None]) @ self.w(x)))
        if self.how == "sparse":
            return self.out(torch.relu(torch.sparse.mm(_DENSE.to_sparse_coo(), self.w(x))))
        if self.how == "neighbours and itself":
            return self.out(torch.tanh(_DENSE @ self.w(x) + self.self_loop(x)))
        if self.how == "mean of neighbours and itself":
            return self.out(torch.tanh(_DENSE @ self.w(x) / _DENSE.sum(1, keepdim=True) + self.self_loop(x)))
        if self.how == "isomorphism":
            return self.out(torch.relu(self.w((1 + self.epsilon) * x + _DENSE @ x)))
        if self.how == "learned adjacency":
            adjacency = torch.softmax(torch.relu(self.left @ self.right.T), 1)
            return self.out(torch.tanh(adjacency @ self.w(x)))
        if self.how == "antisymmetric adjacency":
            adjacency = torch.tanh(self.left @ self.right.T - self.right @ self.left.T)
            return self.out(torch.tanh(adjacency @ self.w(x)))
        h = self.w(x)  # edge convolution
        return self.out(torch.relu(self.self_loop(x)[:, None] - h[:, None] + h[None]).amax(1))


for _how in (
    "normalised",
    "sparse",
    "neighbours and itself",
    "mean of neighbours and itself",
    "isomorphism",
    "learned adjacency",
    "antisymmetric adjacency",
    "edge convolution",
):
    register(f"graph convolution: {_how}", normal((_NODES, _IN)))(lambda how=_how: Convolution(how))


@register("graph: equivariant coordinates", normal((_NODES, _IN), (_NODES, 3)))
def equivariant_coordinates() -> nn.Module:
    class Equivariant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.edge, self.weight, self.node = nn.Linear(2 * _IN + 1, 4), nn.Linear(4, 1), nn.Linear(4 + _IN, 2)

        def forward(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
            difference = position[_TARGET] - position[_SOURCE]
            square = difference.square().sum(-1, keepdim=True)
            message = functional.silu(self.edge(torch.cat([x[_TARGET], x[_SOURCE], square], -1)))
            moved = position + _sum_at_targets(difference * self.weight(message))
            return moved, self.node(torch.cat([x, _sum_at_targets(message)], -1))

    return Equivariant()


@register("graph: line graph of pair terms", normal((_NODES, _IN)))
def line_graph() -> nn.Module:
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(_IN, 3, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            edge = self.a(x)[_SOURCE] + self.b(x)[_TARGET]
            return torch.tanh(_sum_at_targets(edge)[_SOURCE] - self.c(x)[_TARGET])

    return Line()


class GraphTransformer(nn.Module):
    """Attention with a bias for each edge, made from a table of relations or from a map of both ends."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(_IN, _OUT) for _ in range(3))
        self.table = nn.Embedding(2, 1)
        self.row, self.column = nn.Linear(_IN, 1), nn.Linear(_IN, 1)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q(x) @ self.k(x).T
        if self.how == "table":
            scores = scores + self.table(_DENSE.long()).squeeze(-1)
        elif self.how == "rows and columns":
            scores = scores + self.row(x) + self.column(x).T
        else:
            scores = scores + torch.where(_DENSE > 0, self.row(x).expand(-1, _NODES), self.column(x).T)
        return torch.tanh(torch.softmax(scores, -1) @ self.v(x))


for _how in ("table", "rows and columns", "chosen by edges"):
    register(f"graph transformer: {_how}", normal((_NODES, _IN)))(lambda how=_how: GraphTransformer(how))
