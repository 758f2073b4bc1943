"""Tables whose rows the data choose, under norms that act on each token by itself; tokens that the head never reads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..blocks import Attention, Gated, Residual, RMSNorm, Tokens
from ..network import Network
from .registry import SMALL, small

_TOKENS, _VECTORS = (32, 4), (48, 4, 3)
_WORDS = 12  # fewer points on a sphere of four dimensions leave quadrics that vanish on all of them
_IN_THE_ZOO = ("embedding-into-rms-norm", "embedding-tied-under-norm")

TABLES: dict[str, Callable[[], Network]] = {}  # those of this file, in the zoo or not


class Read(nn.Module):
    """A function of the named parts of the module and of its input."""

    def __init__(self, forward: Callable[..., Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def table(width: int = 4) -> nn.Embedding:
    return nn.Embedding(_WORDS, width)


def register(name: str, build: Callable[[], nn.Module], shape: tuple[int, ...], head: str, tokens: int = 0) -> None:
    small(name, shape, head, tokens)(build)
    TABLES[name] = SMALL[name] if name in _IN_THE_ZOO else SMALL.pop(name)


def words(name: str, build: Callable[[], nn.Module], head: str = "output") -> None:
    register(name, build, _TOKENS, head, _WORDS)


def vectors(name: str, build: Callable[[], nn.Module]) -> None:
    register(name, build, _VECTORS, "cross_entropy")


for _name, _body in {
    "embedding-into-rms-norm": lambda: nn.RMSNorm(4),
    "embedding-into-layer-norm": lambda: nn.LayerNorm(4),
    "embedding-rectified-into-norm": lambda: nn.Sequential(nn.ReLU(), RMSNorm(4)),
    "embedding-into-linear-into-norm": lambda: nn.Sequential(
        nn.Linear(4, 3, bias=False), nn.RMSNorm(3), nn.Linear(3, 4)
    ),
    "embedding-plus-bias-into-norm": lambda: nn.Sequential(nn.Linear(4, 3), nn.RMSNorm(3), nn.Linear(3, 4)),
    "embedding-gated-into-norm": lambda: nn.Sequential(Gated(4, 3, "identity"), RMSNorm(4)),
    "embedding-residual-into-norm": lambda: nn.Sequential(Residual(nn.Linear(4, 4, bias=False)), nn.RMSNorm(4)),
    "embedding-residual-over-norm": lambda: nn.Sequential(
        Residual(nn.Sequential(nn.RMSNorm(4), nn.Linear(4, 4, bias=False))), nn.RMSNorm(4)
    ),
}.items():
    words(_name, lambda body=_body: Tokens(_WORDS, 4, body()), "cross_entropy")  # type: ignore[misc]

words("embedding-tied-under-norm", lambda: Tokens(_WORDS, 4, nn.RMSNorm(4), tied=True))
words("embedding-and-positions-under-norm", lambda: Tokens(_WORDS, 4, nn.RMSNorm(4), positions=4))


def under_norm(forward: Callable[..., Tensor], *tables: str, width: int = 4) -> Callable[[], nn.Module]:
    """Tables, a norm called ``n``, a head called ``h``."""
    return lambda: Read(forward, **{name: table(width) for name in tables}, n=nn.RMSNorm(4), h=nn.Linear(4, 3))


words("two-tables-of-one-index", under_norm(lambda m, t: m.h(m.n(m.a(t) + m.b(t))), "a", "b"))
words("two-tables-side-by-side", under_norm(lambda m, t: m.h(m.n(torch.cat([m.a(t), m.b(t)], -1))), "a", "b", width=2))
words("table-gated-by-table", under_norm(lambda m, t: m.h(m.n(m.a(t) * torch.sigmoid(m.b(t)))), "a", "b"))
words("rows-normed-then-added-up", under_norm(lambda m, t: m.h(m.n(m.a(t)).mean(1)), "a"))
words("rows-as-values-of-attention", under_norm(lambda m, t: m.h(torch.softmax(_scores(m, t), -1) @ m.n(m.a(t))), "a"))
words("rows-of-flattened-tokens", under_norm(lambda m, t: m.h(m.n(m.a(t).flatten(0, 1))).unflatten(0, t.shape), "a"))
words("rows-of-two-places-apart", under_norm(lambda m, t: m.h(m.n(m.a(t[:, :2])) * m.n(m.a(t)[:, 2:])), "a"))

# One scale for all rows, or none: tokens meet before the norm, or the rows are read past it.
words("rows-added-up-then-normed", under_norm(lambda m, t: m.h(m.n(m.a(t).mean(1))), "a"))
words("rows-of-two-places-added", under_norm(lambda m, t: m.h(m.n(m.a(t)[:, :2] + m.a(t)[:, 2:])), "a"))
words("rows-of-two-indices-added", under_norm(lambda m, t: m.h(m.n(m.a(t[:, :2]) + m.a(t[:, 2:]))), "a"))
words("rows-mixed-then-normed", under_norm(lambda m, t: m.h(torch.softmax(_scores(m, t), -1) @ m.a(t)), "a"))
words(
    "rows-read-past-the-norm",
    lambda: Read(
        lambda m, t: m.h(m.n(m.a(t))) + m.k(m.a(t)), a=table(), n=nn.RMSNorm(4), h=nn.Linear(4, 3), k=nn.Linear(4, 3)
    ),
)
words(
    "normed-over-tokens",
    lambda: Read(lambda m, t: m.h(functional.normalize(m.a(t), dim=1)), a=table(), h=nn.Linear(4, 3)),
)


def _scores(m: Read, t: Tensor) -> Tensor:
    rows = m.n(m.a(t))
    return rows @ rows.transpose(1, 2)


words(
    "cosines-of-two-tables",
    lambda: Read(lambda m, t: functional.cosine_similarity(m.a(t[:, 0]), m.b(t[:, 1]), dim=-1), a=table(), b=table()),
)
words(
    "products-of-two-tables",
    lambda: Read(lambda m, t: (m.a(t[:, 0]) * m.b(t[:, 1])).sum(-1), a=table(), b=table()),
)
words(
    "gain-of-each-row",
    lambda: Read(lambda m, t: m.h(torch.relu(m.a(t)) * m.b(t)), a=table(), b=table(1), h=nn.Linear(4, 3)),
)
words(
    "stacked-tables-under-norm",
    lambda: Read(
        lambda m, t: m.h(m.n(m.a[:, t])).sum(0),
        a=nn.Parameter(torch.randn(2, _WORDS, 4)),
        n=nn.RMSNorm(4),
        h=nn.Linear(4, 3),
    ),
)

for _mode in ("sum", "mean", "max"):
    for _kind, _norm in {"rms": nn.RMSNorm, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}.items():
        words(
            f"bag-{_mode}-into-{_kind}-norm",
            lambda mode=_mode, norm=_norm: Read(  # type: ignore[misc]
                lambda m, t: m.h(m.n(m.a(t))), a=nn.EmbeddingBag(_WORDS, 4, mode=mode), n=norm(4), h=nn.Linear(4, 3)
            ),
        )


def read_at(take: Callable[[Tensor], Tensor], mixed: bool = False) -> Callable[[], nn.Module]:
    """Positions added, perhaps attention, a feed-forward block, then only some tokens."""

    def build() -> nn.Module:
        think = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
        look = Residual(nn.Sequential(nn.LayerNorm(4), Attention(4, 1, 2, causal=True))) if mixed else nn.Identity()
        return Read(
            lambda m, x: m.h(take(m.think(m.look(x @ m.w + m.p)))),
            w=nn.Parameter(torch.randn(3, 4)),
            p=nn.Parameter(torch.randn(1, 4, 4)),
            look=look,
            think=Residual(think),
            h=nn.Linear(4, 3),
        )

    return build


vectors("first-token-of-tokens-apart", read_at(lambda x: x[:, 0]))
vectors("some-tokens-of-tokens-apart", read_at(lambda x: x[:, 1:3].mean(1)))
vectors("unbound-token", read_at(lambda x: x.unbind(1)[2]))
vectors("last-token-after-attention", read_at(lambda x: x[:, -1], mixed=True))
vectors("token-out-of-a-split", read_at(lambda x: x.split(2, dim=1)[1].flatten(1)[:, :4]))
