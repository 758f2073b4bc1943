"""Axes of one length: batch, tokens, heads and channels that a shape cannot tell apart."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import Loss, normal, register

_N = 4

Function = Callable[[Tensor, Tensor, Tensor], Tensor]


class Cube(nn.Module):
    """Three maps of a tensor with all axes of length four, brought together by a function, read by a fourth."""

    def __init__(self, function: Function, bias: bool, head: bool = True) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(_N, _N, bias=bias) for _ in range(3))
        self.head = nn.Linear(_N, _N) if head else nn.Identity()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.a(x), self.b(x), self.c(x)))


def _heads(x: Tensor) -> Tensor:
    return x.view(*x.shape[:-1], 2, 2).transpose(-3, -2)


_CUBE: dict[str, Function] = {
    "product with a transpose": lambda a, b, c: torch.relu(a) * torch.relu(b).mT,
    "product with a transpose, squared": lambda a, b, c: torch.relu(torch.relu(a) * torch.relu(b).mT).square() + 0 * c,
    "product with the batch transposed": lambda a, b, c: torch.relu(a) * torch.relu(b).transpose(0, 1),
    "matrix product": lambda a, b, c: torch.relu(a) @ torch.relu(b),
    "matrix product with a transpose": lambda a, b, c: torch.relu(a @ b.mT) @ c,
    "matrix product, first transposed": lambda a, b, c: torch.relu(a.mT @ b) @ c,
    "matrix product of both orders": lambda a, b, c: torch.relu(a @ b + b @ a),
    "commutator": lambda a, b, c: torch.tanh(a @ b - b @ a),
    "power": lambda a, b, c: torch.tanh(a @ a.mT @ b),
    "normalised rows": lambda a, b, c: torch.relu(a / a.norm(dim=-1, keepdim=True)) + torch.relu(b) + 0 * c,
    "normalised columns": lambda a, b, c: torch.relu(a / a.norm(dim=-2, keepdim=True)),
    "normalised over the batch": lambda a, b, c: torch.relu(a / a.norm(dim=0, keepdim=True)),
    "normalised by another": lambda a, b, c: (
        torch.relu(a) / (b.norm(dim=-2, keepdim=True) + c.norm(dim=-1, keepdim=True))
    ),
    "softmax of a transpose": lambda a, b, c: torch.softmax(a.mT, -1) @ b,
    "softmax over queries": lambda a, b, c: torch.softmax(a @ b.mT, -2) @ c,
    "softmax over the batch": lambda a, b, c: torch.softmax(a @ b.mT, 0) @ c,
    "softmax over channels": lambda a, b, c: torch.softmax(a, -1) * b,
    "softmax of an outer sum": lambda a, b, c: torch.softmax(a[..., :1] + b[..., :1].mT, -1) @ c,
    "softmax of an outer sum over rows": lambda a, b, c: torch.softmax(a[..., :1] + b[..., :1].mT, -2) @ c,
    "softmax of a sum with a transpose": lambda a, b, c: torch.softmax(a + b.mT, -1) @ c,
    "softmax twice": lambda a, b, c: torch.softmax(torch.softmax(a, -1) + torch.softmax(b, -2), -1) @ c,
    "layer norm of a transpose": lambda a, b, c: functional.layer_norm(a.mT, (_N,), eps=1e-20).mT.tanh(),
    "layer norm of a sum with a transpose": lambda a, b, c: functional.layer_norm(a + b.mT, (_N,), eps=1e-20).tanh(),
    "layer norm of two axes": lambda a, b, c: functional.layer_norm(a, (_N, _N), eps=1e-20).tanh(),
    "layer norm of an outer sum": lambda a, b, c: functional.layer_norm(
        a[..., :1] + b[..., :1].mT, (_N,), eps=1e-20
    ).tanh(),
    "instance norm": lambda a, b, c: functional.instance_norm(a, eps=1e-20).tanh(),
    "instance norm of a transpose": lambda a, b, c: functional.instance_norm(a.mT, eps=1e-20).mT.tanh(),
    "batch norm of channels in the middle": lambda a, b, c: functional.batch_norm(
        a, None, None, training=True, eps=1e-20
    ).tanh(),
    "batch norm of a transpose": lambda a, b, c: functional.batch_norm(
        a.mT, None, None, training=True, eps=1e-20
    ).mT.tanh(),
    "batch norm of a sum with a transpose": lambda a, b, c: functional.batch_norm(
        a + b.mT, None, None, training=True, eps=1e-20
    ).tanh(),
    "group norm of a transpose": lambda a, b, c: functional.group_norm(a.mT, 2, eps=1e-20).tanh(),
    "centred rows": lambda a, b, c: (a - a.mean(-1, keepdim=True)).tanh(),
    "centred columns": lambda a, b, c: (a - a.mean(-2, keepdim=True)).tanh(),
    "centred over the batch": lambda a, b, c: (a - a.mean(0, keepdim=True)).tanh(),
    "centred both ways": lambda a, b, c: (
        a - a.mean(-1, keepdim=True) - a.mean(-2, keepdim=True) + a.mean((-1, -2), keepdim=True)
    ).tanh(),
    "centred by another's mean": lambda a, b, c: (a + b - (a + c).mean(-2, keepdim=True)).tanh(),
    "centred by the mean of a transpose": lambda a, b, c: (a - a.mean(-1).unsqueeze(-2)).tanh(),
    "mean of columns from rows": lambda a, b, c: (a - a.mean(-2).unsqueeze(-1)).tanh(),
    "difference to a transpose": lambda a, b, c: (a - a.mT).tanh() + (b + b.mT).tanh(),
    "difference of batches": lambda a, b, c: (a - a.transpose(0, 1)).tanh(),
    "difference of flips": lambda a, b, c: (a - a.flip(0)).tanh() + (b - b.flip(1)).tanh() + (c - c.flip(2)).tanh(),
    "cyclic axes": lambda a, b, c: (a + b.permute(1, 2, 0) + c.permute(2, 0, 1)).tanh(),
    "cyclic axes of one": lambda a, b, c: (a + a.permute(1, 2, 0) - 2 * a.permute(2, 0, 1)).tanh(),
    "reshaped across": lambda a, b, c: (a + b.reshape(-1, _N, _N).flatten().view(_N, _N, _N).permute(2, 1, 0)).tanh(),
    "heads": lambda a, b, c: (torch.softmax(_heads(a) @ _heads(b).mT, -1) @ _heads(c)).transpose(-3, -2).flatten(-2),
    "heads not brought back": lambda a, b, c: (
        torch.softmax(_heads(a) @ _heads(b).mT, -1) @ _heads(c)
    ).reshape(a.shape),
    "heads split the other way": lambda a, b, c: (
        torch.softmax(a.view(*a.shape[:-1], 2, 2) @ b.view(*a.shape[:-1], 2, 2).mT, -1) @ c.view(*a.shape[:-1], 2, 2)
    ).flatten(-2),
    "heads of channels": lambda a, b, c: (torch.softmax(_heads(a).mT @ _heads(b), -1) @ _heads(c).mT).reshape(a.shape),
    "einsum across the batch": lambda a, b, c: torch.einsum("bij,jbk->bik", a, b).relu(),
    "einsum with a repeated axis": lambda a, b, c: torch.einsum("bii,bij->bij", a, b).relu(),
    "einsum of the trace": lambda a, b, c: torch.einsum("bij,bji->b", a, b)[:, None, None].tanh() * c,
    "einsum of three": lambda a, b, c: torch.einsum("bij,bjk,bkl->bil", a, b, c).tanh(),
    "einsum transposed": lambda a, b, c: torch.einsum("bij,bkj->bki", a, b).tanh(),
    "triangle": lambda a, b, c: torch.einsum("ikc,jkc->ijc", a, b).tanh() + torch.einsum("kic,kjc->ijc", b, c),
    "outer sum over the batch": lambda a, b, c: (a[:, None, 0] + b[None, :, 0]).tanh(),
    "outer sum over tokens": lambda a, b, c: (a[0][:, None] - b[0][None]).tanh() + c,
    "gather along a transpose": lambda a, b, c: a.gather(1, b.mT.argsort(1)),
    "scatter along a transpose": lambda a, b, c: torch.zeros_like(a).scatter_add(1, c.argsort(2), a.relu()) * b,
    "masked by a transpose": lambda a, b, c: torch.where(a > a.mT, a, a.mT).tanh(),
    "largest of a transpose": lambda a, b, c: torch.maximum(a, b.mT).tanh() + torch.maximum(c, c.mT),
    "linear attention": lambda a, b, c: a.softmax(-1) @ (b.softmax(-2).mT @ c),
    "linear attention, cumulated": lambda a, b, c: torch.einsum(
        "bti,btij->btj", a.relu(), torch.einsum("bti,btj->btij", b.relu(), c).cumsum(1)
    ),
    "decays": lambda a, b, c: torch.einsum("bti,btij->btj", a, (b[..., None] * c[..., None, :]).cumsum(1)).tanh(),
    "complex rotation": lambda a, b, c: torch.view_as_real(
        torch.view_as_complex(a.reshape(_N, _N, 2, 2)) * torch.view_as_complex(b.reshape(_N, _N, 2, 2))
    ).flatten(-2).tanh(),
    "complex attention": lambda a, b, c: (
        torch.complex(a, b) @ torch.complex(a, b).mH
    ).abs().softmax(-1) @ c,
}  # fmt: skip
for _name, _function in _CUBE.items():
    for _bias in (False, True):
        register(f"cube: {_name}{', biases' * _bias}", normal((_N, _N, _N)))(
            lambda function=_function, bias=_bias: Cube(function, bias)
        )


def _rotated(x: Tensor, how: str, angles: Tensor) -> Tensor:
    cos, sin = angles.cos(), angles.sin()
    if how == "halves":
        one, two = x.chunk(2, -1)
        return torch.cat([one * cos - two * sin, two * cos + one * sin], -1)
    if how == "interleaved":
        one, two = x[..., ::2], x[..., 1::2]
        return torch.stack([one * cos - two * sin, two * cos + one * sin], -1).flatten(-2)
    if how == "complex":
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    if how == "wrong sign":
        one, two = x.chunk(2, -1)
        return torch.cat([one * cos + two * sin, two * cos + one * sin], -1)
    if how == "partial":
        return torch.cat([_rotated(x[..., :2], "halves", angles[..., :1]), x[..., 2:]], -1)
    return x * torch.cat([cos, sin], -1)


class Rotary(nn.Module):
    """Attention whose queries and keys turn with their position, in forms that agree and forms that do not."""

    def __init__(self, queries: str, keys: str, same: bool = True) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.queries, self.keys, self.same = queries, keys, same

    def forward(self, x: Tensor) -> Tensor:
        position = torch.arange(x.shape[1], dtype=x.dtype)[:, None]
        angles = position * torch.tensor([1.0, 0.3], dtype=x.dtype)
        other = angles if self.same else angles.flip(-1) * 1.7
        q, k = _rotated(self.q(x), self.queries, angles), _rotated(self.k(x), self.keys, other)
        return torch.softmax(q @ k.mT, -1) @ self.v(x)


_FORMS = ("halves", "interleaved", "complex", "wrong sign", "partial", "gains")
for _one in _FORMS:
    register(f"rotary: {_one}", normal((2, 4, 4)), branched=_one in ("halves", "complex"))(
        lambda one=_one: Rotary(one, one)
    )
    register(f"rotary: {_one}, other angles for keys", normal((2, 4, 4)))(lambda one=_one: Rotary(one, one, False))
for _one, _two in (("halves", "interleaved"), ("complex", "interleaved"), ("halves", "partial"), ("complex", "halves")):
    register(f"rotary: {_one} against {_two}", normal((2, 4, 4)))(lambda one=_one, two=_two: Rotary(one, two))


def _of_logits(function: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    return lambda model, batch: function(model(batch[0]), batch[1])


_CLASSES = torch.arange(_N)
_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross entropy of a transpose": lambda z, y: functional.cross_entropy(z.T, _CLASSES),
    "cross entropy both ways": lambda z, y: (
        functional.cross_entropy(z, _CLASSES) + functional.cross_entropy(z.T, _CLASSES)
    ),
    "cross entropy of a symmetrised": lambda z, y: functional.cross_entropy(z + z.T, _CLASSES),
    "cross entropy of an antisymmetrised": lambda z, y: functional.cross_entropy(z - z.T, _CLASSES),
    "cross entropy of gram": lambda z, y: functional.cross_entropy(z @ z.T, _CLASSES),
    "cross entropy of distances": lambda z, y: functional.cross_entropy(
        -(z[:, None] - z[None]).square().sum(-1), _CLASSES
    ),
    "cross entropy of an outer sum": lambda z, y: functional.cross_entropy(z[:, :1] + z[:, 1:2].T, _CLASSES),
    "cross entropy of an outer sum, transposed": lambda z, y: functional.cross_entropy(
        (z[:, :1] + z[:, 1:2].T).T, _CLASSES
    ),
    "cross entropy with weights": lambda z, y: functional.cross_entropy(
        z, _CLASSES, weight=torch.arange(1.0, 5).double()
    ),
    "cross entropy with ignored": lambda z, y: functional.cross_entropy(z, _CLASSES, ignore_index=1),
    "cross entropy of the sorted": lambda z, y: functional.cross_entropy(z.sort(-1)[0], _CLASSES),
    "cross entropy over the batch": lambda z, y: -torch.log_softmax(z, 0).diagonal().mean(),
    "divergence": lambda z, y: functional.kl_div(z.log_softmax(-1), y.softmax(-1), reduction="batchmean"),
    "divergence of two views": lambda z, y: functional.kl_div(
        z.log_softmax(-1), z.T.log_softmax(-1), log_target=True, reduction="sum"
    ),
    "divergence of two axes": lambda z, y: (z.softmax(0) * (z.log_softmax(0) - z.log_softmax(1))).sum(),
    "margin ranking": lambda z, y: functional.margin_ranking_loss(z[:, 0], z[:, 1], y[:, 0].sign(), margin=0.1),
    "pairwise hinge": lambda z, y: (1 - y.sign() * (z[:, :1] - z[:, :1].T)).relu().mean(),
    "pairwise hinge of channels": lambda z, y: (1 - (z[:, :, None] - z[:, None])).relu().mean(),
    "triplet": lambda z, y: functional.triplet_margin_loss(z, z.roll(1, 0), z.flip(0), margin=2.0),
    "cosine embedding": lambda z, y: functional.cosine_embedding_loss(z, z.roll(1, 0), y[:, 0].sign()),
    "multi-margin": lambda z, y: functional.multi_margin_loss(z, _CLASSES),
    "multi-label margin": lambda z, y: functional.multilabel_soft_margin_loss(z, (y > 0).double()),
    "huber": lambda z, y: functional.huber_loss(z - z.mean(0), y),
    "smooth of differences": lambda z, y: functional.smooth_l1_loss(z[1:] - z[:-1], y[1:]),
    "correlation": lambda z, y: torch.corrcoef(z).square().sum(),
    "correlation of channels": lambda z, y: torch.corrcoef(z.T).square().sum(),
    "covariance": lambda z, y: torch.cov(z.T).tril(-1).square().sum(),
    "contrast of rolls": lambda z, y: (z * z.roll(1, 0)).sum(-1).sigmoid().log().mean(),
    "total variation": lambda z, y: z.diff(dim=0).abs().mean() + z.diff(dim=1).abs().sum().tanh(),
    "nuclear norm": lambda z, y: torch.linalg.svdvals(z - z.mean(0)).sum(),
    "determinant": lambda z, y: torch.linalg.slogdet(z @ z.T + torch.eye(_N, dtype=z.dtype))[1],
    "distances": lambda z, y: (torch.cdist(z, z) - y.abs()).square().mean(),
    "log of sums": lambda z, y: z.logsumexp(1).mean() - z.logsumexp(0).mean(),
    "Cox": lambda z, y: (z[:, 0] - z[:, 0].flip(0).logcumsumexp(0).flip(0)).mean(),
    "ordinal": lambda z, y: functional.binary_cross_entropy_with_logits(
        z[:, :1] - z[:, :1].T, (y[:, :1] > y[:, :1].T).double()
    ),
    "list of ranks": lambda z, y: -(y.softmax(0) * z.log_softmax(0)).sum(0).mean(),
    "energy": lambda z, y: (z.logsumexp(-1) - z.diagonal()).mean(),
    "mixture density": lambda z, y: -(z[:, :2].log_softmax(-1) - (z[:, 2:] - y[:, :2]).square()).logsumexp(-1).mean(),
    "quantile crossing": lambda z, y: (z[:, :-1] - z[:, 1:]).relu().mean(),
}  # fmt: skip
for _name, _loss in _LOSSES.items():
    register(f"square loss: {_name}", normal((_N, 3), (_N, _N)), _of_logits(_loss))(
        lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, _N))
    )
