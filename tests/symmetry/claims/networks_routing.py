"""Routers, sets, orders and indices: what is chosen by data or by parameters, and what is left when it is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import normal, register

_ROWS, _IN, _EXPERTS, _OUT = 6, 4, 3, 2


class Mixture(nn.Module):
    """Experts under a router in one of its public forms."""

    def __init__(self, how: str, bias: bool = True) -> None:
        super().__init__()
        self.router = nn.Linear(_IN, _EXPERTS, bias=bias)
        self.up = nn.Linear(_IN, _EXPERTS * 3, bias=bias)
        self.down = nn.Parameter(torch.randn(_EXPERTS, 3, _OUT))
        self.noise = nn.Linear(_IN, _EXPERTS, bias=False)
        self.register_buffer("balance", torch.tensor([0.1, -0.2, 0.05]))
        self.how = how

    def weights(self, x: Tensor) -> Tensor:
        """One weight a row and expert."""
        logits = self.router(x)
        zero = torch.zeros_like(logits)
        if self.how == "soft":
            return logits.softmax(-1)
        if self.how == "sigmoid":
            return logits.sigmoid()
        if self.how == "top-k softmax":
            top, index = logits.topk(2, -1)
            return zero.scatter(-1, index, top.softmax(-1))
        if self.how == "masked softmax":
            top = logits.topk(2, -1)[0][:, -1:]
            return logits.masked_fill(logits < top, float("-inf")).softmax(-1)
        if self.how in ("softmax top-k", "softmax top-k renormalised", "softmax top-k renormalised in place"):
            top, index = logits.softmax(-1).topk(2, -1)
            if self.how.endswith("in place"):
                top /= top.sum(-1, keepdim=True)
            elif self.how.endswith("renormalised"):
                top = top / top.sum(-1, keepdim=True)
            return zero.scatter(-1, index, top)
        if self.how == "switch":
            top, index = logits.softmax(-1).max(-1)
            return functional.one_hot(index, _EXPERTS) * top[:, None]
        if self.how == "hard":
            return functional.one_hot(logits.argmax(-1), _EXPERTS).to(x)
        if self.how == "expert choice":
            top, index = logits.softmax(-1).T.topk(2, -1)
            return torch.zeros_like(logits.T).scatter(-1, index, top).T
        if self.how == "expert choice over tokens":
            top, index = logits.T.softmax(-1).topk(2, -1)
            return torch.zeros_like(logits.T).scatter(-1, index, top).T
        if self.how == "sigmoid with balance":
            scores = logits.sigmoid()
            index = (scores + self.balance).topk(2, -1)[1]
            top = scores.gather(-1, index)
            return zero.scatter(-1, index, top / top.sum(-1, keepdim=True))
        if self.how == "noisy":
            noisy = logits + torch.randn_like(logits) * functional.softplus(self.noise(x))
            top, index = noisy.topk(2, -1)
            return zero.scatter(-1, index, top.softmax(-1))
        if self.how == "gumbel":
            return functional.gumbel_softmax(logits, tau=0.7, hard=False)
        if self.how == "gumbel hard":
            return functional.gumbel_softmax(logits, tau=0.7, hard=True)
        if self.how == "straight through":
            soft = logits.softmax(-1)
            return functional.one_hot(soft.argmax(-1), _EXPERTS) + soft - soft.detach()
        if self.how == "cosine":
            keys = functional.normalize(self.router.weight, dim=-1)
            return (functional.normalize(x, dim=-1) @ keys.T / 0.3).softmax(-1)
        if self.how == "differences":
            return (logits[:, :, None] - logits[:, None]).sigmoid().prod(-1)
        if self.how == "differences of tokens":
            return (logits[:, None] - logits[None]).sigmoid().mean(1)
        if self.how == "sparsemax":
            ordered = logits.sort(-1, descending=True)[0]
            total = ordered.cumsum(-1) - 1
            steps = torch.arange(1, _EXPERTS + 1)
            support = (ordered * steps > total).sum(-1, keepdim=True)
            return (logits - total.gather(-1, support - 1) / support).clamp(min=0)
        scores = logits.exp()  # normalised over tokens and experts in turn
        for _ in range(2):
            scores = scores / scores.sum(-1, keepdim=True)
            scores = scores / scores.sum(0, keepdim=True)
        return scores

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.up(x)).view(-1, _EXPERTS, 3)
        return torch.einsum("ne,neh,eho->no", self.weights(x), hidden, self.down)


_ROUTERS = (
    "soft",
    "sigmoid",
    "top-k softmax",
    "masked softmax",
    "softmax top-k",
    "softmax top-k renormalised",
    "softmax top-k renormalised in place",
    "switch",
    "hard",
    "expert choice",
    "expert choice over tokens",
    "sigmoid with balance",
    "noisy",
    "gumbel",
    "gumbel hard",
    "straight through",
    "cosine",
    "differences",
    "differences of tokens",
    "sparsemax",
    "Sinkhorn",
)
for _how in _ROUTERS:
    register(f"router: {_how}", normal((_ROWS, _IN)), branched=_how in ("top-k softmax", "soft", "straight through"))(
        lambda how=_how: Mixture(how)
    )


class Looped(nn.Module):
    """Experts visited one by one, each for the rows that chose it, written back in place."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.router = nn.Linear(_IN, _EXPERTS, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(_IN, 3), nn.ReLU(), nn.Linear(3, _IN)) for _ in range(_EXPERTS)
        )
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        weight, index = self.router(x).softmax(-1).topk(1, -1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            if self.how == "where":
                rows, slots = torch.where(index == number)
                out.index_add_(0, rows, expert(x[rows]) * weight[rows, slots, None])
            elif self.how == "mask":
                mask = index[:, 0] == number
                out[mask] = expert(x[mask]) * weight[mask]
            else:
                mask = (index[:, 0] == number).to(x)[:, None]
                out += mask * expert(x) * weight
        return torch.tanh(out)


for _how in ("where", "mask", "dense"):
    register(f"router: looped, {_how}", normal((_ROWS, _IN)))(lambda how=_how: Looped(how))


class OfSets(nn.Module):
    """A function of the elements, a function that forgets their order, a function of the result."""

    def __init__(self, pool: str, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(_IN, 4), activation(), nn.Linear(4, 4))
        self.outer = nn.Linear(4, 2)
        self.seeds = nn.Parameter(torch.randn(2, 4))
        self.score = nn.Linear(4, 1)
        self.pool = pool

    def pooled(self, h: Tensor) -> Tensor:
        if self.pool == "largest":
            return h.amax(1)
        if self.pool == "largest with index":
            return h.max(1)[0]
        if self.pool == "equivariant":
            return (h - h.amax(1, keepdim=True)).tanh().mean(1)
        if self.pool == "centred":
            return (h - h.mean(1, keepdim=True)).tanh().mean(1)
        if self.pool == "moments":
            return h.var(1) / (h.mean(1).square() + 1)
        if self.pool == "logarithm":
            return h.logsumexp(1)
        if self.pool == "median":
            return h.median(1)[0]
        if self.pool == "quantile":
            return torch.quantile(h, 0.3, dim=1)
        if self.pool == "sorted":
            return h.sort(1)[0][:, 1:3].mean(1)
        if self.pool == "range":
            return h.amax(1) - h.amin(1)
        if self.pool == "softmax":
            return (self.score(h).softmax(1) * h).sum(1)
        if self.pool == "seeds":
            return (torch.softmax(self.seeds @ h.mT, -1) @ h).flatten(1)[:, :4]
        if self.pool == "accumulated":
            return h.cumsum(1).tanh().mean(1)
        if self.pool == "running maximum":
            return h.cummax(1)[0].tanh().mean(1)
        if self.pool == "product":
            return h.prod(1)
        if self.pool == "accumulated product":
            return h.cumprod(1).mean(1)
        if self.pool == "k-th":
            return h.kthvalue(2, 1)[0]
        if self.pool == "order by score":
            order = self.score(h)[..., 0].argsort(1)
            return h.gather(1, order[..., None].expand_as(h))[:, 0]
        if self.pool == "best by score":
            return h[torch.arange(len(h)), self.score(h)[..., 0].argmax(1)]
        if self.pool == "gated best":
            value, index = self.score(h)[..., 0].topk(2, 1)
            return (h.gather(1, index[..., None].expand(-1, -1, 4)) * value.sigmoid()[..., None]).mean(1)
        if self.pool == "differences in time":
            return (h[:, 1:] - h[:, :-1]).tanh().mean(1)
        if self.pool == "rolled":
            return (h - h.roll(1, 1)).tanh().mean(1)
        if self.pool == "rolled channels":
            return (h - h.roll(1, 2)).tanh().mean(1)
        if self.pool == "flipped channels":
            return (h - h.flip(2)).tanh().mean(1)
        if self.pool == "diff":
            return h.diff(dim=1).tanh().mean(1)
        return (
            torch.einsum("bnd,bmd->bnm", h, h).softmax(-1).mul(h @ h.mT).sum((1, 2), keepdim=True)[:, 0].expand(-1, 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.pooled(self.inner(x)))


_POOLS = (
    "largest",
    "largest with index",
    "equivariant",
    "centred",
    "moments",
    "logarithm",
    "median",
    "quantile",
    "sorted",
    "range",
    "softmax",
    "seeds",
    "accumulated",
    "running maximum",
    "product",
    "accumulated product",
    "k-th",
    "order by score",
    "best by score",
    "gated best",
    "differences in time",
    "rolled",
    "rolled channels",
    "flipped channels",
    "diff",
    "pairs",
)
for _pool in _POOLS:
    register(f"set: {_pool}", normal((5, 4, _IN)))(lambda pool=_pool: OfSets(pool))


class Induced(nn.Module):
    """Attention of a few learned points to the set, and of the set back to them."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(1, 3, 4))
        self.to_points = nn.MultiheadAttention(4, 2, batch_first=True)
        self.back = nn.MultiheadAttention(4, 2, batch_first=True)
        self.entry = nn.Linear(_IN, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.entry(x)
        points = self.points.expand(len(x), -1, -1)
        h = points + self.to_points(points, x, x, need_weights=False)[0]
        return x + self.back(x, h, h, need_weights=False)[0]


register("set: induced attention", normal((3, 4, _IN)))(Induced)


class Indexed(nn.Module):
    """Parameters that choose: indices, orders and thresholds made from weights."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.w, self.head = nn.Linear(_IN, 4), nn.Linear(4, 2)
        self.choice = nn.Parameter(torch.randn(4))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.w(x))
        if self.how == "order of a parameter":
            h = h[:, self.choice.argsort()]
        elif self.how == "order of the norms of rows":
            h = h[:, self.w.weight.norm(dim=1).argsort()]
        elif self.how == "largest rows":
            h = h * (self.w.weight.norm(dim=1) >= self.w.weight.norm(dim=1).median()).to(h)
        elif self.how == "magnitude pruning":
            kept = self.w.weight.abs() >= self.w.weight.abs().flatten().kthvalue(8)[0]
            h = torch.relu(functional.linear(x, self.w.weight * kept, self.w.bias))
        elif self.how == "learned threshold":
            h = h * (h > self.choice)
        elif self.how == "sorted parameter":
            h = h * self.choice.sort()[0]
        elif self.how == "position from a parameter":
            h = h * h[:, int(self.choice.detach().argmax())][:, None]
        elif self.how == "sign of a weight":
            h = torch.relu(functional.linear(x, self.w.weight.sign() * self.w.weight.abs().mean(), self.w.bias))
        elif self.how == "binary straight through":
            w = self.w.weight
            h = torch.relu(functional.linear(x, w + (w.sign() * w.abs().mean() - w).detach(), self.w.bias))
        elif self.how == "quantised by row":
            w = self.w.weight
            step = w.abs().amax(1, keepdim=True) / 7
            h = torch.relu(functional.linear(x, w + (torch.round(w / step) * step - w).detach(), self.w.bias))
        return self.head(h)


for _how in (
    "order of a parameter",
    "order of the norms of rows",
    "largest rows",
    "magnitude pruning",
    "learned threshold",
    "sorted parameter",
    "position from a parameter",
    "sign of a weight",
    "binary straight through",
    "quantised by row",
):
    register(f"indices: {_how}", normal((_ROWS, _IN)))(lambda how=_how: Indexed(how))
