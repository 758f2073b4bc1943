"""Entries that are masked, padded, picked and placed: by numbers of the model, by the data, by what is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small
from .tables import Read
from .traps import add as trap

_TOKENS, _IMAGE, _SEQUENCE = (32, 4, 3), (32, 2, 4, 4), (32, 2, 5)

Forward = Callable[[Any, Tensor], Tensor]
Part = Callable[[], nn.Module | nn.Parameter]

MAPS: dict[str, Part] = {
    "a": lambda: nn.Linear(3, 3),
    "c": lambda: nn.Linear(3, 3),
    "h": lambda: nn.Linear(3, 4),
}


def add(name: str, maps: str, forward: Forward, shape: tuple[int, ...] = _TOKENS, **parts: Part) -> None:
    """A network of the named linear maps and of other parts; its output is judged."""
    made = {part: MAPS[part] for part in maps} | parts
    small(name, shape, "output")(lambda: Read(forward, **{part: make() for part, make in made.items()}))


def two(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Two tensors of channels, each channel with a scale of its own."""
    return torch.relu(m.a(x)), torch.relu(m.c(x))


# --- masked, and selected -------------------------------------------------------------------------------------------

add("masked-with-zero", "ah", lambda m, x: m.h(torch.relu(m.a(x)).masked_fill(x > 0, 0.0)))
add("masked-with-number", "ah", lambda m, x: m.h(torch.relu(m.a(x)).masked_fill(x > 0, 0.7)))
add("masked-tokens-with-number", "ah", lambda m, x: m.h(m.a(x).masked_fill(x[..., :1] > 0, 0.7)))
add(
    "masked-scores-with-number",
    "ach",
    lambda m, x: m.h(torch.softmax((m.a(x) @ m.c(x).mT).masked_fill(x[:, :, :1] > 0.5, -2.0), -1) @ x),
)
add("selected-channels", "ach", lambda m, x: m.h(torch.where(x > 0, *two(m, x))))
add("selected-tokens", "ach", lambda m, x: m.h(torch.where(x[..., :1] > 0, m.a(x), m.c(x))))
add("selected-signs", "ah", lambda m, x: m.h(torch.where(x > 0, m.a(x).abs(), -m.a(x).abs())))
add("selected-with-data", "ah", lambda m, x: m.h(torch.where(x > 0, torch.relu(m.a(x)), x)))
add("selected-by-a-product-of-masks", "ach", lambda m, x: m.h(two(m, x)[0] * (x > 0) + two(m, x)[1] * (x <= 0)))

# --- padded ---------------------------------------------------------------------------------------------------------

add(
    "padded-tokens",
    "a",
    lambda m, x: m.h(functional.pad(torch.relu(m.a(x)), (0, 0, 1, 2)).flatten(1)),
    h=lambda: nn.Linear(21, 2),
)
add(
    "padded-channels-into-a-sum",
    "a",
    lambda m, x: m.h(functional.pad(torch.relu(m.a(x)), (1, 1)) + torch.relu(m.c(x))),
    c=lambda: nn.Linear(3, 5),
    h=lambda: nn.Linear(5, 3),
)
add(
    "padded-with-ones",
    "a",
    lambda m, x: m.h(functional.pad(torch.relu(m.a(x)), (1, 0), value=1.0)),
    h=lambda: nn.Linear(4, 5),
)
add(
    "padded-and-cropped",
    "a",
    lambda m, x: m.h(functional.pad(torch.relu(m.a(x)), (0, 0, 1, -2))),
    h=lambda: nn.Linear(3, 4),
)
for _mode in ("constant", "reflect", "replicate", "circular"):
    add(
        f"padded-{_mode}-between-convolutions",
        "",
        lambda m, x, mode=_mode: torch.tanh(m.h(functional.pad(torch.relu(m.a(x)), (1, 1), mode=mode))).mean(-1),
        shape=_SEQUENCE,
        a=lambda: nn.Conv1d(2, 3, 1),
        h=lambda: nn.Conv1d(3, 4, 3),
    )

# --- where the largest stands -----------------------------------------------------------------------------------------


def maxima_and_places(m: Any, x: Tensor) -> Tensor:
    values, places = torch.relu(m.a(x)).max(1)
    return m.h(values) + m.p(places).sum(1)


add("maxima-and-their-places", "ah", maxima_and_places, p=lambda: nn.Embedding(4, 4))
add(
    "largest-picked-by-its-place",
    "ah",
    lambda m, x: m.h(m.a(x).gather(1, m.a(x).argmax(1, keepdim=True))[:, 0]),
)
trap(
    "picked-by-the-place-of-another",
    lambda: Read(
        lambda m, x: m.h(torch.relu(m.a(x)).gather(1, m.c(x).argmax(1, keepdim=True))[:, 0]),
        **{part: make() for part, make in MAPS.items()},
    ),
    shape=_TOKENS,
)

# --- placed onto ------------------------------------------------------------------------------------------------------


def assigned(m: Any, x: Tensor) -> Tensor:
    whole, part = two(m, x)
    whole = whole.clone()
    whole[:, :2] = part[:, 1:3]
    return m.h(whole)


def assigned_channel(m: Any, x: Tensor) -> Tensor:
    whole, part = two(m, x)
    whole = whole.clone()
    whole[..., 1] = part[..., 0]
    return m.h(whole)


def assigned_where(m: Any, x: Tensor) -> Tensor:
    whole, part = two(m, x)
    whole = whole.clone()
    whole[x > 0] = part[x > 0]
    return m.h(whole)


def put(m: Any, x: Tensor) -> Tensor:
    whole, part = two(m, x)
    return m.h(whole.index_put((torch.arange(len(x)), x[..., 0].argmax(1)), part[:, 0]))


def placed(name: str, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """``function(whole, part, x)`` between the two tensors and the head."""
    add(name, "ach", lambda m, x: m.h(function(*two(m, x), x)))


_SOME = [2, 0]
add("slice-assigned", "ach", assigned)
add("channel-assigned", "ach", assigned_channel)
add("assigned-where-a-mask-holds", "ach", assigned_where)
add("put-at-places-of-the-data", "ach", put)
placed("scattered-onto", lambda y, z, x: y.scatter(1, x.argsort(1)[:, :2], z[:, :2]))
placed("scattered-and-added", lambda y, z, x: y.scatter_add(1, x.argsort(1)[:, :2], z[:, 1:3]))
placed("scattered-onto-zeros", lambda y, z, x: torch.zeros_like(y).scatter(1, x.argsort(1)[:, :2], y[:, 2:]) + z)
placed("scattered-over-channels", lambda y, z, x: y.scatter_add(2, x.argsort(2), z))
placed("rows-added-at-places", lambda y, z, x: y.index_add(1, torch.tensor(_SOME), z[:, :2]))
placed("rows-copied-to-places", lambda y, z, x: y.index_copy(1, torch.tensor(_SOME), z[:, :2]))
placed("largest-scattered", lambda y, z, x: y.scatter_reduce(1, x.argsort(1), z, "amax"))

# --- picked -----------------------------------------------------------------------------------------------------------


def picked(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    """``function(y, x)`` between rectified channels and the head."""
    add(name, "ah", lambda m, x: m.h(function(torch.relu(m.a(x)), x)))


picked("tokens-in-the-order-of-data", lambda y, x: y.gather(1, x.argsort(1)))
picked("channels-in-the-order-of-data", lambda y, x: y.gather(2, x.argsort(2)))
picked("one-token-that-the-data-choose", lambda y, x: y[torch.arange(len(x)), x[..., 0].argmax(1)])
add(
    "one-channel-that-the-data-choose",
    "a",
    lambda m, x: m.h(torch.relu(m.a(x)).gather(2, x.argmax(2, keepdim=True))),
    h=lambda: nn.Linear(1, 4),
)
picked("tokens-repeated", lambda y, x: y.repeat_interleave(torch.tensor([1, 0, 2, 1]), dim=1))
picked("tokens-listed", lambda y, x: y[:, [3, 1, 1]])
picked("channels-listed", lambda y, x: y[..., [2, 0, 2]])
picked("channels-rolled-by-a-list", lambda y, x: y[..., (torch.arange(3) + 1) % 3])
picked("tokens-masked-by-a-list", lambda y, x: y[:, torch.tensor([True, False, True, False])])
picked("channels-of-a-step", lambda y, x: y.gather(2, (x > 0).long()))
picked("tokens-up-to-a-bound", lambda y, x: y.gather(1, x.argsort(1).clamp(0, 1)))
picked("tokens-taken-along", lambda y, x: torch.take_along_dim(y, x.argsort(1), 1))
add(
    "weight-flattened",
    "h",
    lambda m, x: m.h(torch.relu(functional.linear(x.unfold(1, 2, 1).flatten(2), m.w.flatten(1)))),
    w=lambda: nn.Parameter(torch.randn(3, 3, 2)),
)
add(
    "weight-flattened-in-front",
    "",
    lambda m, x: m.h(torch.relu(torch.relu(m.a(x)) @ m.w.flatten(0, 1))),
    a=lambda: nn.Linear(3, 6),
    w=lambda: nn.Parameter(torch.randn(3, 2, 3)),
    h=lambda: nn.Linear(3, 2),
)
add(
    "weight-flattened-crosswise",
    "",
    lambda m, x: m.h(torch.relu(functional.linear(torch.relu(m.a(x)), m.w.permute(0, 2, 1, 3).reshape(4, 4)))),
    a=lambda: nn.Linear(3, 4),
    w=lambda: nn.Parameter(torch.randn(2, 2, 2, 2)),
    h=lambda: nn.Linear(4, 2),
)
add(
    "weight-flattened-and-whole",
    "",
    lambda m, x: (
        m.h(torch.relu(functional.linear(torch.relu(m.a(x)), m.w.flatten(1))))
        + m.g(torch.relu(torch.einsum("btc,ocd->btod", torch.relu(m.b(x)), m.w)).flatten(2))
    ),
    a=lambda: nn.Linear(3, 6),
    b=lambda: nn.Linear(3, 3),
    w=lambda: nn.Parameter(torch.randn(3, 3, 2)),
    h=lambda: nn.Linear(3, 2),
    g=lambda: nn.Linear(6, 2),
)
add(
    "weights-stacked-and-flattened",
    "",
    lambda m, x: (
        m.h(torch.relu(torch.bmm(torch.relu(m.a(x)).transpose(0, 1), m.w)).transpose(0, 1))
        + m.g(torch.relu(functional.linear(torch.relu(m.b(x)), m.w.flatten(1))))
    ),
    a=lambda: nn.Linear(3, 3),
    b=lambda: nn.Linear(3, 9),
    w=lambda: nn.Parameter(torch.randn(4, 3, 3)),
    h=lambda: nn.Linear(3, 2),
    g=lambda: nn.Linear(4, 2),
)
add(
    "weights-stacked-and-one-alone",
    "",
    lambda m, x: (
        m.h(torch.relu(torch.relu(m.a(x)) @ m.w[1]))
        + m.g(torch.relu(torch.bmm(torch.relu(m.b(x)).transpose(0, 1), m.w)).transpose(0, 1))
    ),
    a=lambda: nn.Linear(3, 3),
    b=lambda: nn.Linear(3, 3),
    w=lambda: nn.Parameter(torch.randn(4, 3, 3)),
    h=lambda: nn.Linear(3, 2),
    g=lambda: nn.Linear(3, 2),
)
add(
    "positions-reordered-by-data",
    "h",
    lambda m, x: m.h(torch.tanh((x @ m.w + m.p).gather(1, x.argsort(1)))),
    w=lambda: nn.Parameter(torch.randn(3, 3)),
    p=lambda: nn.Parameter(torch.randn(4, 3)),
)

# --- convolutions onto one position -----------------------------------------------------------------------------------


def onto_one(name: str, last: Callable[[], nn.Module], *middle: Callable[[], nn.Module], bias: bool = True) -> None:
    """An image, convolved onto one position, then what follows it."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(2, 3, 4, bias=bias), *(part() for part in middle), last(), nn.Flatten())

    small(name, _IMAGE, "output")(build)


onto_one("onto-one-position", lambda: nn.Conv2d(3, 4, 1), nn.ReLU)
onto_one("onto-one-position-and-back", lambda: nn.ConvTranspose2d(3, 2, 2), nn.ReLU)
onto_one("onto-one-position-in-groups", lambda: nn.Conv2d(3, 3, 1, groups=3), nn.ReLU)
onto_one("onto-one-position-normed", lambda: nn.Conv2d(3, 4, 1), lambda: nn.BatchNorm2d(3), nn.GELU)
onto_one("onto-one-position-padded", lambda: nn.Conv2d(3, 4, 3, padding=1), nn.ReLU, bias=False)
onto_one("onto-one-position-linear", lambda: nn.Conv2d(3, 4, 1))
onto_one("onto-one-position-pooled", lambda: nn.Conv2d(3, 4, 1), nn.ReLU, lambda: nn.AvgPool2d(1))

# --- chosen by their order, multiplied ------------------------------------------------------------------------------


def _from_the_median(x: Tensor) -> Tensor:
    """x from its median over the tokens, in units of the median distance."""
    centred = x - x.median(1, keepdim=True).values
    return centred / centred.abs().median(1, keepdim=True).values


add("median-and-distance", "ah", lambda m, x: m.h(torch.relu(_from_the_median(m.a(x)))))
add("quantiles-of-tokens", "ah", lambda m, x: m.h(torch.quantile(m.a(x), 0.3, dim=1) - m.a(x).kthvalue(2, 1).values))
add("largest-so-far", "ah", lambda m, x: m.h(torch.cummax(m.a(x), 1).values))
add(
    "product-of-pairs",
    "h",
    lambda m, x: m.h(m.e(x).unflatten(-1, (2, 3)).prod(-2)),
    e=lambda: nn.Linear(3, 6),
)
add(
    "triangular-factors",
    "h",
    lambda m, x: m.h(x @ (torch.tril(m.low, -1) + torch.eye(3, dtype=x.dtype)) @ torch.triu(m.up)),
    low=lambda: nn.Parameter(torch.randn(3, 3)),
    up=lambda: nn.Parameter(torch.randn(3, 3)),
)
add(
    "padded-with-minus-infinity",
    "ah",
    lambda m, x: m.h(functional.pad(m.a(x), (0, 0, 1, 1), value=-torch.inf).unfold(1, 3, 1).amax(-1)),
)
add(
    "padded-with-minus-infinity-behind",
    "ah",
    lambda m, x: m.h(torch.maximum(functional.pad(m.a(x), (0, 0, 0, 1), value=-torch.inf)[:, 1:], m.a(x))),
)
add(
    "padded-channels-with-minus-infinity",
    "ah",
    lambda m, x: m.h(functional.pad(m.a(x), (1, 1), value=-torch.inf).unfold(-1, 3, 1).amax(-1)),
)
