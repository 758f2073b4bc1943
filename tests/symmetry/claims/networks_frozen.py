"""Norms kept in evaluation mode, running averages, stopped gradients, codebooks: what no gradient passes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import frozen, normal, register


class Backbone(nn.Module):
    """Convolutions under batch norms, of which some are frozen while the rest trains."""

    def __init__(self, first: bool, second: bool, affine: bool = True, how: str = "norm") -> None:
        super().__init__()
        self.entry, self.middle = nn.Conv2d(2, 3, 2, bias=False), nn.Conv2d(3, 3, 1)
        self.norm, self.other = nn.BatchNorm2d(3, affine=affine), nn.BatchNorm2d(3, affine=affine)
        for norm, chosen in ((self.norm, first), (self.other, second)):
            if chosen:
                frozen(norm)
        self.head = nn.Linear(3, 3)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.entry(x)))
        inner = self.other(self.middle(h))
        h = h + inner if self.how == "residual" else torch.tanh(inner)
        return self.head(h.mean((2, 3)))


for _first in (False, True):
    for _second in (False, True):
        for _how in ("norm", "residual"):
            register(f"batch norms: frozen {_first}, {_second}, {_how}", normal((6, 2, 3, 3)))(
                lambda first=_first, second=_second, how=_how: Backbone(first, second, how=how)
            )
register("batch norms: frozen without gains", normal((6, 2, 3, 3)))(lambda: Backbone(True, True, affine=False))
register("batch norms: frozen, behind a branch", normal((6, 2, 3, 3)), branched=True)(lambda: Backbone(True, False))


class Frozen(nn.Module):
    """A vector net whose norm is frozen, fused into the call, without statistics, or with its parameters frozen."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(4, track_running_stats=how != "no statistics")
        self.layer = nn.LayerNorm(4)
        self.how = how
        if how in ("statistics", "instance"):
            frozen(self.norm)
        if how == "gain":
            self.norm.requires_grad_(False)
        if how == "layer norm's gain":
            self.layer.requires_grad_(False)
        if how == "first layer":
            self.a.requires_grad_(False)
        if how == "dropout left out":
            self.drop = nn.Dropout(0.5)
            self.drop.stays_frozen = True  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.how == "functional":
            mean, variance = torch.full((4,), 0.2, dtype=x.dtype), torch.full((4,), 1.3, dtype=x.dtype)
            h = functional.batch_norm(h, mean, variance, self.norm.weight, self.norm.bias, training=False)
        elif self.how == "synchronised statistics":
            mean, variance = h.mean(0).detach(), h.var(0, unbiased=False).detach()
            h = (h - mean) / (variance + 1e-20).sqrt()
        elif self.how == "mean alone detached":
            h = (h - h.mean(0).detach()) / h.std(0)
        elif self.how == "size alone detached":
            h = h / h.norm(dim=1, keepdim=True).detach()
        elif self.how == "renormalised":
            r = (h.std(0) / 0.7).detach().clamp(0.3, 3)
            d = ((h.mean(0) - 0.1) / 0.7).detach().clamp(-1, 1)
            h = (h - h.mean(0)) / h.std(0) * r + d
        elif self.how == "layer norm's gain":
            h = self.layer(h)
        elif self.how != "dropout left out":
            h = self.norm(h)
        h = torch.relu(h)
        if self.how == "dropout left out":
            h = self.drop(h)
        return self.c(torch.relu(self.b(h)))


for _how in (
    "statistics",
    "no statistics",
    "gain",
    "layer norm's gain",
    "first layer",
    "dropout left out",
    "functional",
    "synchronised statistics",
    "mean alone detached",
    "size alone detached",
    "renormalised",
):
    register(f"frozen: {_how}", normal((6, 3)))(lambda how=_how: Frozen(how))


class Stopped(nn.Module):
    """Gradients stopped on one of two paths, or straight through a step."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)
        self.codes = nn.Parameter(torch.randn(5, 4))
        self.register_buffer("average", torch.randn(4))
        self.register_buffer("counts", torch.ones(5))
        self.how = how

    def hidden(self, x: Tensor) -> Tensor:
        h = torch.relu(self.a(x))
        if self.how == "one factor":
            return h * torch.relu(self.b(x)).detach()
        if self.how == "one summand":
            return h + torch.relu(self.b(x)).detach()
        if self.how == "one path of two":
            return h + self.a(x).detach()
        if self.how == "without gradient":
            with torch.no_grad():
                gate = torch.sigmoid(self.a(x))
            return h * gate
        if self.how == "inference of one path":
            with torch.no_grad():
                target = self.b(x)
            return (h - target).tanh()
        if self.how == "round":
            return h + (h.round() - h).detach()
        if self.how == "sign":
            return self.a(x).tanh() + (self.a(x).sign() - self.a(x).tanh()).detach()
        if self.how == "nearest code":
            distance = torch.cdist(h, self.codes)
            code = self.codes[distance.argmin(-1)]
            return h + (code - h).detach()
        if self.how == "nearest code, both trained":
            code = self.codes[(h[:, None] - self.codes[None]).square().sum(-1).argmin(-1)]
            return torch.stack([h + (code - h).detach(), code])
        if self.how == "rotated to the code":
            h = self.a(x)
            code = self.codes[(h @ self.codes.T).argmax(-1)]
            return (code.norm(dim=-1, keepdim=True) / h.norm(dim=-1, keepdim=True)).detach() * h
        if self.how == "running average":
            self.average.mul_(0.9).add_(h.mean(0).detach(), alpha=0.1)
            return h / (self.average.abs() + 0.1)
        if self.how == "average assigned":
            self.average = 0.9 * self.average + 0.1 * h.mean(0)
            return h - self.average
        if self.how == "gradient scaled":
            return h.detach() * 0.9 + h * 0.1
        if self.how == "clipped by its own size":
            return h * (1.0 / h.norm(dim=-1, keepdim=True).detach().clamp(min=1.0))
        if self.how == "gradient reversed":
            return -h + (2 * h).detach()
        index = (h @ self.codes.T).argmax(-1)
        self.counts.index_add_(0, index, torch.ones(len(h), dtype=h.dtype))
        return h * self.counts[index][:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.hidden(x))


for _how in (
    "one factor",
    "one summand",
    "one path of two",
    "without gradient",
    "inference of one path",
    "round",
    "sign",
    "nearest code",
    "nearest code, both trained",
    "rotated to the code",
    "running average",
    "average assigned",
    "gradient scaled",
    "clipped by its own size",
    "gradient reversed",
    "counted codes",
):
    register(
        f"stopped: {_how}",
        normal((6, 3)),
        branched=_how in ("without gradient", "nearest code", "running average", "inference of one path"),
    )(lambda how=_how: Stopped(how))


class Twins(nn.Module):
    """An online network and its slowly moving target."""

    def __init__(self) -> None:
        super().__init__()
        self.online, self.target = (nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
        self.predictor = nn.Linear(3, 3)


def _bootstrap(model: Twins, batch: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        target = functional.normalize(model.target(batch[1]), dim=-1)
    return 2 - 2 * (functional.normalize(model.predictor(model.online(batch[0])), dim=-1) * target).sum(-1).mean()


def _distillation(model: Twins, batch: tuple[Tensor, ...]) -> Tensor:
    teacher = torch.softmax(model.target(batch[0]).detach() / 0.5, -1)
    return -(teacher * torch.log_softmax(model.online(batch[0]), -1)).sum(-1).mean()


def _temporal_difference(model: Twins, batch: tuple[Tensor, ...]) -> Tensor:
    value = model.online(batch[0]).gather(1, torch.arange(len(batch[0]))[:, None] % 3)
    best = model.online(batch[1]).argmax(-1, keepdim=True)
    return (value - 0.9 * model.target(batch[1]).gather(1, best).detach()).square().mean()


def _soft_target(model: Twins, batch: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        for slow, fast in zip(model.target.parameters(), model.online.parameters(), strict=True):
            slow.mul_(0.9).add_(fast, alpha=0.1)
        target = model.target(batch[1])
    return (model.predictor(model.online(batch[0])) - target).square().mean()


for _name, _loss in {
    "bootstrap": _bootstrap,
    "distillation": _distillation,
    "temporal difference": _temporal_difference,
}.items():
    register(f"stopped loss: {_name}", normal((6, 3), (6, 3)), _loss)(Twins)
register("stopped loss: target moved inside", normal((6, 3), (6, 3)), _soft_target)(Twins)
