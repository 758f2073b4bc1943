"""Networks where a careless rule claims a symmetry that is not there: comparisons, stopped gradients, penalties.

Almost everywhere derivatives cannot tell a comparison from a constant, so these are judged by what the loss does
under the finite transformation, and by the gradient that training would use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..network import prepared
from .architectures import Case, Loss
from .packed import Packed
from .registry import SLOW

TRAPS: dict[str, Callable[[], Case]] = {}

_ROWS, _IMAGES = (24, 4), (12, 2, 5, 5)


class Between(nn.Module):
    """A linear map, a function, a linear map."""

    def __init__(self, function: Callable[[Tensor], Tensor], first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.function, self.last = first, function, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x)))


class Taken(nn.Module):
    """Rows of a table that the data choose, and two layers with a rectifier between them."""

    def __init__(self, places: Callable[[Tensor], Tensor], table: nn.Module) -> None:
        super().__init__()
        self.places, self.table = places, table
        self.last = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.table(self.places(x)))
        return out


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(model(batch[0]), batch[1])


def add(
    name: str,
    module: Callable[[], nn.Module],
    loss: Loss = squared_error,
    shape: tuple[int, ...] = _ROWS,
    slow: bool = False,
) -> None:
    """Registers a trap; the target of the default loss is random."""
    SLOW.update([name] if slow else [])

    def case() -> Case:
        model = prepared(module())
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        if loss is squared_error:
            with torch.no_grad():
                target = torch.randn(model(x).shape, generator=generator, dtype=torch.float64)
        else:
            target = torch.randint(3, shape[:1], generator=generator)
        return model, (x, target), loss

    if name in TRAPS:
        raise ValueError(f"two traps are called {name!r}")
    TRAPS[name] = case


def rows(function: Callable[[Tensor], Tensor], bias: bool = True, hidden: int = 5) -> Callable[[], nn.Module]:
    return lambda: Between(function, nn.Linear(4, 5, bias=bias), nn.Linear(hidden, 3, bias=bias))


def images(*middle: Callable[[], nn.Module], bias: bool = True, side: int = 1) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        tail = [nn.AdaptiveAvgPool2d(side), nn.Flatten(), nn.Linear(4 * side * side, 3)]
        return nn.Sequential(nn.Conv2d(2, 4, 2, bias=bias), *(part() for part in middle), *tail)

    return build


_straight_through = lambda x: x + (torch.round(x) - x).detach()  # noqa: E731

for _name, _function in {
    "mask-above-threshold": lambda x: x * (x > 0.5),
    "where-above-one": lambda x: torch.where(x > 1.0, x, 0.1 * x),
    "where-above-zero": lambda x: torch.where(x > 0, x, 0.1 * x),
    "hardshrink": functional.hardshrink,
    "softshrink": functional.softshrink,
    "threshold": lambda x: functional.threshold(x, 0.3, 0.0),
    "hardtanh": functional.hardtanh,
    "relu6": functional.relu6,
    "hardswish": functional.hardswish,
    "clamp-at-tenth": lambda x: x.clamp(min=0.1),
    "maximum-with-number": lambda x: torch.maximum(x, torch.full_like(x, 0.2)),
    "plus-one": lambda x: torch.relu(x + 1.0),
    "plus-thousandth": lambda x: torch.relu(x) + 1e-3,
    "reciprocal": lambda x: 1.0 / (1.0 + x.abs()),
    "elu": functional.elu,
    "selu": functional.selu,
    "softsign": functional.softsign,
    "logsigmoid": functional.logsigmoid,
    "tanhshrink": functional.tanhshrink,
    "exponential": lambda x: torch.exp(0.3 * x),
    "sine": torch.sin,
    "cosine": torch.cos,
    "round": torch.round,
    "sign": torch.sign,
    "straight-through": _straight_through,
    "detached": lambda x: torch.relu(x).detach(),
    "detached-gate": lambda x: torch.relu(x) * torch.sigmoid(x).detach(),
    "detached-norm": lambda x: x / x.norm(dim=-1, keepdim=True).detach(),
    "argmax-one-hot": lambda x: functional.one_hot(x.argmax(-1), 5).to(x.dtype),
    "sorted": lambda x: torch.sort(x, dim=-1).values,
    "top-two": lambda x: x * torch.zeros_like(x).scatter(-1, x.topk(2, dim=-1).indices, 1.0),
    "top-two-where": lambda x: torch.where(
        functional.one_hot(x.topk(2, dim=-1).indices, 5).sum(-2).bool(), x, torch.zeros_like(x)
    ),
    "top-two-placed": lambda x: x * torch.zeros_like(x).scatter(-1, x.topk(2, -1).indices, torch.ones_like(x[:, :2])),
    "ranks": lambda x: x * x.sort(dim=-1).indices,
    "maximum-one-hot": lambda x: x + functional.one_hot(x.max(dim=-1).indices, 5).to(x.dtype),
    "pool-positions": lambda x: x + functional.max_pool1d(x[:, None], 5, return_indices=True)[1][:, 0].to(x.dtype),
    "median-position": lambda x: x + x.median(dim=-1, keepdim=True).indices.to(x.dtype),
    "argmin-of-differences": lambda x: x + (x - x[:, :1]).argmin(-1, keepdim=True),
    "equal-to-maximum": lambda x: x * (x == x.amax(-1, keepdim=True)),
    "drawn": lambda x: x * torch.bernoulli(torch.sigmoid(x)),
    "cumulative-sum": lambda x: torch.cumsum(torch.relu(x), dim=-1),
    "log-sum-exp": lambda x: torch.logsumexp(x, dim=-1, keepdim=True) + torch.zeros_like(x),
    "self-product": lambda x: x * x,
    "product-with-neighbour": lambda x: x * x.roll(1, dims=-1),
    "divided-by-sum": lambda x: x.abs() / x.abs().sum(-1, keepdim=True),
    "divided-by-maximum": lambda x: x / x.abs().amax(-1, keepdim=True),
    "batch-softmax": lambda x: torch.softmax(x, dim=0),
    "log-softmax": lambda x: torch.log_softmax(x, dim=-1),
    "log-softmax-by-hand": lambda x: x - x.logsumexp(-1, keepdim=True),
    "softmax-of-scaled": lambda x: torch.softmax(3.0 * x, dim=-1),
    "centred": lambda x: torch.tanh(x - x.mean(-1, keepdim=True)),
    "batch-centred": lambda x: torch.tanh(x - x.mean(0, keepdim=True)),
    "half-centred": lambda x: torch.tanh(x - 0.5 * x.mean(-1, keepdim=True)),
    "centred-on-first": lambda x: torch.tanh(x - x[:, :1]),
    "overwritten-column": lambda x: torch.cat([torch.ones_like(x[:, :1]), torch.relu(x[:, 1:])], dim=1),
    "standardised-by-hand": lambda x: (x - x.mean(0)) / x.std(0),
    "fourier": lambda x: torch.fft.rfft(torch.relu(x), dim=-1).abs().repeat(1, 2)[:, :5],
    "outer-product": lambda x: torch.einsum("bi,bj->bij", x, x).sum(-1),
    "determinant-like": lambda x: x * x.prod(dim=-1, keepdim=True),
    "triangular": lambda x: torch.relu(x) @ torch.tril(torch.ones(5, 5, dtype=x.dtype)),
    "power-one-and-half": lambda x: torch.relu(x) ** 1.5,
    "square-root": lambda x: torch.sqrt(torch.relu(x) + 1e-20),
}.items():
    add(_name, rows(_function))


def in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 0] = 1.0
    y[:, 1:3] *= 2.0
    return torch.relu_(y)


def in_place_view(x: Tensor) -> Tensor:
    y = torch.tanh(x) * 1.0
    y[:, :2].add_(0.5)
    return y


def shared_view(x: Tensor) -> Tensor:
    y = x * 1.0
    head = y[:, :2]
    y.tanh_()
    return torch.cat([head, y[:, 2:]], dim=1)


add("in-place", rows(in_place))
add("in-place-view", rows(in_place_view))
add("in-place-seen-through-a-view", rows(shared_view))


def image_trap(name: str, *middle: Callable[[], nn.Module], side: int = 1) -> None:
    add(name, images(*middle, side=side), shape=_IMAGES)


image_trap("padding-of-one", nn.ReLU, lambda: nn.ConstantPad2d(1, 1.0), side=2)
image_trap(
    "average-pool-with-padding-before-norm", lambda: nn.AvgPool2d(2, padding=1), lambda: nn.BatchNorm2d(4), nn.ReLU
)
image_trap(
    "average-pool-ceil-before-norm", lambda: nn.AvgPool2d(3, 2, ceil_mode=True), lambda: nn.BatchNorm2d(4), nn.Tanh
)
image_trap("padded-convolution-before-norm", lambda: nn.Conv2d(4, 4, 3, padding=1), lambda: nn.BatchNorm2d(4), nn.Tanh)
image_trap("plain-convolution-before-norm", lambda: nn.Conv2d(4, 4, 2), lambda: nn.BatchNorm2d(4), nn.Tanh)
image_trap("transposed-before-norm", lambda: nn.ConvTranspose2d(4, 4, 2), lambda: nn.BatchNorm2d(4), nn.Tanh)
image_trap(
    "bilinear-before-norm", lambda: nn.Upsample(scale_factor=2, mode="bilinear"), lambda: nn.BatchNorm2d(4), nn.Tanh
)
image_trap(
    "circular-before-norm", lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), lambda: nn.BatchNorm2d(4)
)
image_trap("power-average-pool", lambda: nn.LPPool2d(2, 2), nn.ReLU)
image_trap("local-response-norm", lambda: nn.LocalResponseNorm(3), nn.ReLU)
image_trap("layer-norm-of-everything", lambda: nn.LayerNorm([4, 4, 4]), nn.ReLU)
image_trap("group-norm-one-group", lambda: nn.GroupNorm(1, 4), nn.GELU)


class Settled(nn.BatchNorm1d):
    """Batch norm that stays in evaluation mode whatever the model around it does."""

    def train(self, mode: bool = True) -> Settled:
        return super().train(False)


add("norm-in-evaluation", lambda: nn.Sequential(nn.Linear(4, 5), Settled(5).eval(), nn.Tanh(), nn.Linear(5, 3)))


class FrozenNorm(nn.Module):
    """Batch norm used with its running statistics although the model trains."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.batch_norm(
            self.a(x), self.norm.running_mean, self.norm.running_var, self.norm.weight, self.norm.bias, training=False
        )
        return self.b(torch.relu(y))


add("norm-with-running-statistics", FrozenNorm)


class RowPlusColumn(nn.Module):
    """A gain that is a row part plus a column part of equal lengths: only one shift, not three, cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.column = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        return (x.reshape(-1, 3, 3) * (self.row[:, None] + self.column[None, :])).flatten(1)


add("row-plus-column-gain", RowPlusColumn, shape=(24, 9))


class Transposed(nn.Module):
    """One square matrix read as itself and as its transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(torch.relu(x @ self.weight) @ self.weight.T) @ self.weight


add("matrix-and-its-transpose", Transposed)


class Aliased(nn.Module):
    """Slices of one parameter used as different layers."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = nn.Parameter(torch.randn(4 * 5 + 5 + 5 * 3))

    def forward(self, x: Tensor) -> Tensor:
        first, bias, last = self.flat.split([20, 5, 15])
        return torch.relu(x @ first.view(4, 5) + bias) @ last.view(5, 3)


add("layers-out-of-one-flat-parameter", Aliased)


class Diagonal(nn.Module):
    """A weight that enters through its diagonal, its triangle and its trace."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x * self.weight.diagonal()) @ self.weight.triu(1) + self.weight.diagonal().sum()


add("diagonal-and-triangle", Diagonal)


class Hyper(nn.Module):
    """Weights that a network makes from the data, batched matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.make, self.last = nn.Linear(4, 12), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.make(x).view(-1, 3, 4)
        return self.last(torch.relu(torch.bmm(weight, x[:, :, None])[..., 0]))


add("weights-made-from-data", Hyper)


class SharedNorm(nn.Module):
    """One norm module applied to two different layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.c = nn.Linear(4, 5), nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.norm(self.b(torch.relu(self.norm(self.a(x)))))))


add("one-norm-used-twice", SharedNorm)


def _model() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def _loss(function: Callable[..., Tensor]) -> Loss:
    def loss(model: nn.Module, batch: Any) -> Tensor:
        return function(model, model(batch[0]), batch[1])

    return loss


for _title, _criterion in {
    "penalised-weights": lambda m, o, y: (
        functional.cross_entropy(o, y) + 1e-3 * sum(p.square().sum() for p in m.parameters())
    ),
    "penalised-absolute-weights": lambda m, o, y: functional.cross_entropy(o, y) + 1e-3 * m[3].weight.abs().sum(),
    "penalised-logits": lambda m, o, y: functional.cross_entropy(o, y) + 1e-3 * o.square().mean(),
    "z-loss": lambda m, o, y: functional.cross_entropy(o, y) + 1e-3 * torch.logsumexp(o, -1).square().mean(),
    "binary-cross-entropy": lambda m, o, y: functional.binary_cross_entropy_with_logits(
        o, functional.one_hot(y, 3).to(o.dtype)
    ),
    "soft-targets": lambda m, o, y: functional.cross_entropy(o, functional.one_hot(y, 3).to(o.dtype) * 0.7 + 0.2),
    "class-weights": lambda m, o, y: functional.cross_entropy(o, y, torch.tensor([1.0, 2.0, 3.0], dtype=o.dtype)),
    "nll-of-logits": lambda m, o, y: functional.nll_loss(o, y),
    "nll-of-log-softmax-over-batch": lambda m, o, y: functional.nll_loss(torch.log_softmax(o, dim=0), y),
    "multi-margin": lambda m, o, y: functional.multi_margin_loss(o, y),
    "smooth-l1": lambda m, o, y: functional.smooth_l1_loss(o, functional.one_hot(y, 3).to(o.dtype)),
    "focal": lambda m, o, y: (
        (1 - torch.softmax(o, -1).gather(1, y[:, None])) ** 2 * -torch.log_softmax(o, -1).gather(1, y[:, None])
    ).mean(),
    "entropy-of-predictions": lambda m, o, y: (torch.softmax(o, -1) * torch.log_softmax(o, -1)).sum(-1).mean(),
    "kl-divergence": lambda m, o, y: functional.kl_div(
        torch.log_softmax(o, -1), torch.full_like(o, 1 / 3), reduction="batchmean"
    ),
    "cosine-embedding": lambda m, o, y: 1 - functional.cosine_similarity(o, torch.ones_like(o), dim=-1).mean(),
    "spread-of-outputs": lambda m, o, y: o.std(dim=0).sum(),
    "detached-target": lambda m, o, y: (o - 2 * o.detach()).square().mean(),
}.items():
    add("loss-" + _title, _model, _loss(_criterion))


def copied_into(x: Tensor) -> Tensor:
    y = torch.relu(x)
    z = torch.zeros_like(y)
    z[:, 1:] = y[:, :-1]
    z[:, 0] = torch.sigmoid(y[:, 0])
    return z


def filled(x: Tensor) -> Tensor:
    y = torch.relu(x) * 1.0
    y[:, 2].fill_(0.7)
    return y


def masked_assignment(x: Tensor) -> Tensor:
    y = x.clone()
    y[y > 0.4] = 0.4
    return y


add("copied-into-a-buffer", rows(copied_into))
add("filled-column", rows(filled))
add("masked-assignment", rows(masked_assignment))
add("picked-by-argmax", rows(lambda x: x.gather(1, x.argmax(1, keepdim=True)).expand(-1, 5)))
add("batch-rows-by-argsort", rows(lambda x: torch.relu(x)[x[:, 0].argsort()]))
add("embedded-argmax", lambda: Between(lambda x: x.argmax(-1), nn.Linear(4, 6), nn.Embedding(6, 3)))
for _name, _table in {
    "rows-with-counted-gradients": lambda: nn.Embedding(6, 4, scale_grad_by_freq=True),
    "bags-with-counted-gradients": lambda: nn.EmbeddingBag(6, 4, mode="sum", scale_grad_by_freq=True),
}.items():
    taken = (lambda x: x[:, 0].abs().long() % 6) if "rows" in _name else (lambda x: x[:, :2].abs().long() % 6)
    add(_name, lambda taken=taken, table=_table: Taken(taken, table()))  # type: ignore[misc]
add("masked-fill-number", rows(lambda x: x.masked_fill(torch.arange(5) < 2, 0.5)))
add("masked-fill-zero", rows(lambda x: torch.relu(x).masked_fill(torch.arange(5) < 2, 0.0)))
add("masked-fill-by-sign", rows(lambda x: x.masked_fill(x < 0, 0.0)))
add("masked-fill-by-size", rows(lambda x: x.masked_fill(x < 0.3, 0.0)))
add("norm-order-one", rows(lambda x: x / x.abs().sum(-1, keepdim=True)))
add("lp-normalised", rows(lambda x: functional.normalize(x, p=3, dim=-1)))
add("batch-variance", rows(lambda x: x * x.var(0)))
add("layer-deviation", rows(lambda x: x / x.std(-1, keepdim=True)))
add("maximum-of-units", rows(lambda x: x.max(-1, keepdim=True).values.expand(-1, 5)))
add("median-of-units", rows(lambda x: x - x.median(-1, keepdim=True).values))
add("maximum-of-batch", rows(lambda x: torch.tanh(x - x.max(0).values)))
add("weighted-by-position", rows(lambda x: torch.relu(x) * torch.arange(5)))
add("lerp", rows(lambda x: torch.lerp(torch.relu(x), torch.ones_like(x), 0.3)))
add("addcmul", rows(lambda x: torch.addcmul(torch.relu(x), torch.relu(x), x.sign(), value=0.5)))
add("rounded-quotient", rows(lambda x: torch.div(x, 0.5, rounding_mode="floor")))
add("remainder", rows(lambda x: torch.remainder(x, 1.0)))
add(
    "distance-to-centres",
    lambda: Between(lambda x: torch.cdist(x, torch.eye(5, dtype=x.dtype)), nn.Linear(4, 5), nn.Linear(5, 3)),
)
add("gumbel-hard", rows(lambda x: torch.zeros_like(x).scatter(-1, x.argmax(-1, keepdim=True), 1.0) - x.detach() + x))


class Projected(nn.Module):
    """An LSTM whose hidden state is projected, two layers, both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.LSTM(2, 4, 2, batch_first=True, bidirectional=True, proj_size=2)
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(x)[0].sum(1))


add("lstm-with-projection", Projected, shape=(6, 3, 2))


class Quadratic(nn.Module):
    """Distances between projections: x enters twice, as itself and squared."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last((self.a(x) - self.b(x)) ** 2 + self.a(x).detach())


add("difference-squared", Quadratic)

for _how in ("overlapping", "one stream"):
    add(f"packed-rows-{_how.replace(' ', '-')}", lambda how=_how: Packed(how), shape=(24, 3))  # type: ignore[misc]


def _padded(x: Tensor, value: float) -> Tensor:
    """Windows of two over the rows of a batch, behind two rows of one number: the first window is of padding alone."""
    around = functional.pad(x, (0, 0, 2, 0), value=value)
    return torch.exp(torch.maximum(around[1:], around[:-1]))[: len(x)]


for _value in (-torch.inf, -2.0):
    add(f"padded-rows-with-{_value}", rows(lambda x, value=_value: _padded(x, value)))  # type: ignore[misc]


class Turned(nn.Module):
    """Two slices under norms of their own: ``how`` says what keeps them from turning."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.write, self.first, self.second, self.how = nn.Linear(4, 5), nn.Linear(3, 2), nn.Linear(3, 2), how
        self.gains = nn.Parameter(torch.zeros(5))

    def forward(self, x: Tensor) -> Tensor:
        h = self.write(x)
        a, b = h[..., :3] if self.how == "overlapping" else functional.pad(h[..., :2], (0, 1)), h[..., 2:]
        if self.how == "gains of others":
            b = b * self.gains[:3]
            a = a * self.gains[2:]
        if self.how == "entries":
            a = torch.tanh(a)
            b = torch.cat([b[..., :1].abs(), b[..., 1:]], -1)
        if self.how == "fourth powers":
            a, b = (t / (t**4).sum(-1, keepdim=True) ** 0.25 for t in (a, b))
        a, b = (functional.rms_norm(t, (3,), eps=1e-20) for t in (a, b))
        out: Tensor = self.first(a) + torch.tanh(self.second(b))
        return out


for _how in ("overlapping", "gains of others", "entries", "fourth powers"):
    add(f"slices-{_how.replace(' ', '-')}", lambda how=_how: Turned(how))  # type: ignore[misc]
