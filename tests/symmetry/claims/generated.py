"""Random networks fixed by a number: outer sums, transposes of square tensors, writes, branches, reuse, derivatives."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional

from .entry import Claim, Loss, normal

_WIDTH, _INPUTS, _OUTPUTS = 4, 3, 3

Step = Callable[["Generated", Tensor, "Choice"], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "relu squared": lambda x: torch.relu(x).square(),
    "leaky": lambda x: functional.leaky_relu(x, 0.2),
    "softplus": functional.softplus,
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class Choice:
    """One step of a program: its name, the two maps it calls, an activation, an axis, a sign."""

    step: str
    one: int
    two: int
    activation: str
    axis: int
    sign: float

    def __str__(self) -> str:
        return f"{self.step}({self.one}, {self.two}, {self.activation}, {self.axis}, {self.sign:+.0f})"


def _outer(m: Generated, h: Tensor, c: Choice) -> Tensor:
    pairs = m.maps[c.one](h).unsqueeze(-2) + c.sign * m.maps[c.two](h).unsqueeze(-3)
    return m.act(pairs, c).mean(-2 if c.axis else -3)


def _outer_expanded(m: Generated, h: Tensor, c: Choice) -> Tensor:
    n = h.shape[-2]
    left = m.maps[c.one](h).unsqueeze(-2).expand(*h.shape[:-1], n, _WIDTH)
    right = m.maps[c.two](h).unsqueeze(-3).expand(*h.shape[:-2], n, n, _WIDTH)
    return m.act(torch.stack([left, c.sign * right]).sum(0), c).amax(-2 if c.axis else -3)


def _outer_scores(m: Generated, h: Tensor, c: Choice) -> Tensor:
    scores = m.maps[c.one](h)[..., :1] + c.sign * m.maps[c.two](h)[..., 1:2].mT
    return torch.softmax(m.act(scores, c), -1 if c.axis else -2) @ h


def _edges(m: Generated, h: Tensor, c: Choice) -> Tensor:
    n = h.shape[-2]
    source, target = torch.arange(n).repeat(n), torch.arange(n).repeat_interleave(n)
    edges = m.act(m.maps[c.one](h)[..., source, :] + c.sign * m.maps[c.two](h)[..., target, :], c)
    return torch.zeros_like(h).index_add(h.ndim - 2, target if c.axis else source, edges)


def _transposed(m: Generated, h: Tensor, c: Choice) -> Tensor:
    return m.act(m.maps[c.one](h) + c.sign * m.turned(m.maps[c.two](h)), c)


def _transposed_input(m: Generated, h: Tensor, c: Choice) -> Tensor:
    return m.act(m.maps[c.one](h) + c.sign * m.maps[c.two](m.turned(h)), c)


def _against_itself(m: Generated, h: Tensor, c: Choice) -> Tensor:
    v = m.maps[c.one](h)
    return m.act(v + c.sign * m.turned(v), c)


def _centred(m: Generated, h: Tensor, c: Choice) -> Tensor:
    v = m.maps[c.one](h)
    return m.act(v - v.mean(-1 if c.axis else -2, keepdim=True), c)


def _written(m: Generated, h: Tensor, c: Choice) -> Tensor:
    v = m.act(m.maps[c.one](h), c)
    out = torch.zeros_like(v)
    if c.axis:
        out[..., 1:] = v[..., 1:]
    else:
        out[..., 1:, :] = v[..., :-1, :]
    return out


def _written_over(m: Generated, h: Tensor, c: Choice) -> Tensor:
    out = m.maps[c.one](h).clone()
    view = out[..., :2] if c.axis else out[..., :2, :]
    other = m.maps[c.two](h)
    view.copy_(other[..., :2] if c.axis else other[..., :2, :])
    return m.act(out, c)


def _added_in_place(m: Generated, h: Tensor, c: Choice) -> Tensor:
    out = m.maps[c.one](h).clone()
    out[..., 1:, :].add_(m.maps[c.two](h)[..., :-1, :], alpha=c.sign)
    return m.act(out, c)


def _cached(m: Generated, h: Tensor, c: Choice) -> Tensor:
    cache = h.new_zeros(*h.shape[:-2], h.shape[-2] + 2, _WIDTH)
    cache[..., 1 : h.shape[-2] + 1, :] = m.maps[c.one](h)
    return m.act(cache[..., c.axis : h.shape[-2] + c.axis, :], c)


def _branched(m: Generated, h: Tensor, c: Choice) -> Tensor:
    if h.detach().sum() < -1e12:
        h = -h
    return m.act(m.maps[c.one](h), c)


def _attention(m: Generated, h: Tensor, c: Choice) -> Tensor:
    scores = m.maps[c.one](h) @ m.maps[c.two](h).mT
    return torch.softmax(scores, -1 if c.axis else -2) @ m.maps[0](h)


def _residual(m: Generated, h: Tensor, c: Choice) -> Tensor:
    return h + m.maps[c.two](m.act(m.maps[c.one](h), c))


def _used_twice(m: Generated, h: Tensor, c: Choice) -> Tensor:
    return m.act(m.maps[c.one](h), c) + c.sign * m.act(m.maps[c.one](m.maps[c.two](h)), c)


def _product(m: Generated, h: Tensor, c: Choice) -> Tensor:
    other = m.maps[c.two](h)
    return m.act(m.maps[c.one](h), c) * (m.turned(other) if c.axis else other)


def _normed(m: Generated, h: Tensor, c: Choice) -> Tensor:
    v = m.maps[c.one](h)
    v = v if c.axis else m.turned(v)
    return m.act(functional.layer_norm(v, v.shape[-1:], eps=1e-60), c)


def _gathered(m: Generated, h: Tensor, c: Choice) -> Tensor:
    n = h.shape[-2]
    index = (torch.arange(n)[:, None] * 2 + (torch.arange(_WIDTH) if c.axis else torch.zeros(_WIDTH).long())) % n
    return m.act(m.maps[c.one](h).gather(-2, index.expand(h.shape)), c)


def _rolled(m: Generated, h: Tensor, c: Choice) -> Tensor:
    return m.act(m.maps[c.one](h) + c.sign * m.maps[c.two](h).roll(1, -1 if c.axis else -2), c)


def _stopped(m: Generated, h: Tensor, c: Choice) -> Tensor:
    v = m.act(m.maps[c.one](h), c)
    return v + c.sign * m.maps[c.two](h).detach()


def _of_weights(m: Generated, h: Tensor, c: Choice) -> Tensor:
    w = m.maps[c.one].weight
    v = w.tril() if c.axis else w
    return m.act(h @ torch.tanh(v + c.sign * v.T), c)


def _plain(m: Generated, h: Tensor, c: Choice) -> Tensor:
    return m.act(m.maps[c.one](h), c)


STEPS: dict[str, Step] = {
    name.strip("_").replace("_", " "): function
    for name, function in list(globals().items())
    if name.startswith("_") and callable(function) and getattr(function, "__module__", "") == __name__
}


class Generated(nn.Module):
    """An entry, a program of steps on a tensor of tokens and channels that share a few maps, a head."""

    def __init__(self, program: tuple[Choice, ...], bias: bool, gradient: bool) -> None:
        super().__init__()
        self.entry = nn.Linear(_INPUTS, _WIDTH, bias=bias)
        self.maps = nn.ModuleList(nn.Linear(_WIDTH, _WIDTH, bias=bias) for _ in range(3))
        self.head = nn.Linear(_WIDTH, _OUTPUTS, bias=bias)
        self.program, self.gradient = program, gradient

    @staticmethod
    def act(x: Tensor, choice: Choice) -> Tensor:
        return ACTIVATIONS[choice.activation](x)

    @staticmethod
    def turned(x: Tensor) -> Tensor:
        """The transpose where it has the same shape, else the order of tokens reversed."""
        return x.mT if x.shape[-1] == x.shape[-2] else x.flip(-2)

    def value(self, x: Tensor) -> Tensor:
        h = self.entry(x)
        for choice in self.program:
            h = STEPS[choice.step](self, h, choice)
        return self.head(h)

    def forward(self, x: Tensor) -> Tensor:
        if not self.gradient:
            return self.value(x)
        x = x.clone().requires_grad_()
        return torch.autograd.grad(self.value(x)[..., 0].sum(), x, create_graph=True)[0]


def _mean_square(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    return (model(batch[0]) - 0.3).square().mean()


def _classes(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    out = model(batch[0]).flatten(0, -2)
    return functional.cross_entropy(out, torch.arange(len(out)) % out.shape[-1])


def _pairs(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    out = model(batch[0]).flatten(0, -2)
    return functional.softplus(out[:, None] - out[None]).square().mean()


def _penalised(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    x = batch[0].clone().requires_grad_()
    out = model(x)
    slope = torch.autograd.grad(out.sum(), x, create_graph=True)[0]
    return out.sin().mean() + slope.square().mean()


def _slope(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    x = batch[0].clone().requires_grad_()
    return (torch.autograd.grad(model(x)[..., 0].sum(), x, create_graph=True)[0] - 0.2).square().mean()


def _functional_slope(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    return (grad(lambda x: model(x)[..., 0].sum())(batch[0]) - 0.2).square().mean()


def _mapped_slope(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    return (vmap(grad(lambda x: model(x)[..., 0].sum()))(batch[0][None]) - 0.2).square().mean()


LOSSES: dict[str, Loss | None] = {
    "output": None,
    "mean square": _mean_square,
    "classes": _classes,
    "pairs": _pairs,
    "penalised": _penalised,
    "slope": _slope,
    "functional slope": _functional_slope,
    "mapped slope": _mapped_slope,
}
_INSIDE = ("penalised", "slope", "functional slope", "mapped slope")


def generated(seed: int) -> Claim:
    """The network of this number: one to three steps, with a loss that differentiates inside one time in four."""
    draw = random.Random(seed)
    names = list(STEPS)
    program = tuple(
        Choice(
            draw.choice(names),
            draw.randrange(3),
            draw.randrange(3),
            draw.choice(list(ACTIVATIONS)),
            draw.randrange(2),
            draw.choice((1.0, -1.0)),
        )
        for _ in range(draw.randint(1, 3))
    )
    bias, square = draw.random() < 0.5, draw.random() < 0.7
    if draw.random() < 0.25:
        head = draw.choice(_INSIDE)
    else:
        head = draw.choice(("output", "output", "mean square", "classes", "pairs"))
    if head in ("functional slope", "mapped slope") and any(c.step == "branched" for c in program):
        head = "slope"  # torch itself takes no branch under its function transforms
    gradient = LOSSES[head] is None and draw.random() < 0.15
    shape = (_WIDTH if square else 3, _INPUTS)
    if draw.random() < 0.4:
        shape = (2, *shape)
    text = f"{seed}: {' '.join(map(str, program))} → {head}{', gradient' * gradient}{', biases' * bias} {shape}"
    return Claim(text, lambda: Generated(program, bias, gradient), normal(shape), LOSSES[head])
