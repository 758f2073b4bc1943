"""Products, angles and distances of pairs of vectors, as two-tower models and their losses write them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import small

_ROWS = (40, 3)
_FEW = (5, 3)


class Towers(nn.Module):
    """A function of two encodings of the same rows; with one encoder the second encodes other features of them."""

    def __init__(self, of_pair: Callable[[Tensor, Tensor], Tensor], shared: bool = False) -> None:
        super().__init__()
        self.a = nn.Linear(3, 4)
        self.b = self.a if shared else nn.Linear(3, 4)
        self.of_pair = of_pair

    def forward(self, x: Tensor) -> Tensor:
        return self.of_pair(self.a(torch.tanh(x)), self.b(torch.sin(x)))


class Table(nn.Module):
    """A function of encodings and of the rows of a table."""

    def __init__(self, of_pair: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.table, self.of_pair = nn.Linear(3, 4), nn.Parameter(torch.zeros(6, 4)), of_pair

    def forward(self, x: Tensor) -> Tensor:
        return self.of_pair(self.a(torch.tanh(x)), self.table)


@small("product-of-towers", _ROWS, "output")
def product_of_towers() -> nn.Module:
    """All of GL(4) between the two."""
    return Towers(lambda a, b: (a * b).sum(-1))


@small("products-of-all-pairs", _ROWS, "output")
def products_of_all_pairs() -> nn.Module:
    return Towers(lambda a, b: (a[:, None] * b[None]).mean(-1))


@small("product-with-itself-elsewhere", _ROWS, "output")
def product_with_itself_elsewhere() -> nn.Module:
    """One encoder on both sides leaves the rotations."""
    return Towers(lambda a, b: (a * b).sum(-1), shared=True)


@small("scores-of-a-table", _ROWS)
def scores_of_a_table() -> nn.Module:
    return Table(lambda a, table: (a[:, None] * table).sum(-1))


@small("cosine-of-towers", _ROWS, "output")
def cosine_of_towers() -> nn.Module:
    return Towers(nn.CosineSimilarity(dim=1, eps=1e-20))


@small("cosine-written-out", _ROWS, "output")
def cosine_written_out() -> nn.Module:
    return Towers(lambda a, b: (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)), shared=True)


@small("distance-of-towers", _ROWS, "output")
def distance_of_towers() -> nn.Module:
    return Towers(lambda a, b: functional.pairwise_distance(a, b, eps=0.0))


@small("distances-to-a-table", _ROWS, "output")
def distances_to_a_table() -> nn.Module:
    return Table(torch.cdist)


@small("distances-written-out", _ROWS, "output")
def distances_written_out() -> nn.Module:
    """Codebooks and prototypes: |x|² - 2⟨x, t⟩ + |t|²."""
    return Table(lambda a, t: torch.exp(-(a.square().sum(-1, keepdim=True) - 2 * a @ t.T + (t * t).sum(-1))))


@small("distances-among-rows", _ROWS, "output")
def distances_among_rows() -> nn.Module:
    def among(a: Tensor, _: Tensor) -> Tensor:
        squares = a.norm(dim=1, keepdim=True) ** 2
        return (squares + squares.T - 2 * a @ a.T).clamp(min=0)[:6, 6:]

    return Towers(among, shared=True)


@small("distances-of-absolute-values", _ROWS, "output")
def distances_of_absolute_values() -> nn.Module:
    """No rotation keeps Σ|x - y|."""
    return Towers(lambda a, b: torch.cdist(a, b, p=1.0))


@small("squared-error-of-towers", _FEW, "output")
def squared_error_of_towers() -> nn.Module:
    """What is added to both, and rotations of both: a student beside a teacher that learns too."""
    return Towers(lambda a, b: functional.mse_loss(a, b)[None])


class Weighed(nn.Module):
    """Errors of two encodings, entry by entry, each times a gain."""

    def __init__(self, error: Callable[..., Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.error = nn.Linear(3, 4), nn.Linear(3, 4), error
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.error(self.a(torch.tanh(x)), self.b(torch.sin(x)), reduction="none") * self.weight


@small("squared-errors-with-gains", _ROWS, "output")
def squared_errors_with_gains() -> nn.Module:
    """A gain answers a factor of both encodings' channel."""
    return Weighed(functional.mse_loss)


@small("absolute-errors-with-gains", _ROWS, "output")
def absolute_errors_with_gains() -> nn.Module:
    return Weighed(functional.l1_loss)


@small("bent-errors-with-gains", _ROWS, "output")
def bent_errors_with_gains() -> nn.Module:
    """Huber's function bends at one: no factor is answered."""
    return Weighed(lambda a, b, reduction: functional.huber_loss(a, b, reduction=reduction, delta=0.05))


@small("contrastive-loss", _FEW, "output")
def contrastive_loss() -> nn.Module:
    def loss(a: Tensor, b: Tensor) -> Tensor:
        distance = functional.pairwise_distance(a, b, eps=0.0)
        return (distance.square() + torch.relu(1 - distance).square()).mean()[None]

    return Towers(loss, shared=True)


@small("triplet-loss", _FEW, "output")
def triplet_loss() -> nn.Module:
    return Towers(
        lambda a, b: functional.triplet_margin_loss(a, b, a.roll(1, 0), margin=9.0, eps=0.0)[None], shared=True
    )


@small("triplet-loss-of-angles", _FEW, "output")
def triplet_loss_of_angles() -> nn.Module:
    def angle(a: Tensor, b: Tensor) -> Tensor:
        return 1 - functional.cosine_similarity(a, b, eps=1e-20)

    return Towers(
        lambda a, b: functional.triplet_margin_with_distance_loss(
            a, b, a.roll(1, 0), distance_function=angle, margin=9.0
        )[None],
        shared=True,
    )


class Seen(nn.Module):
    """Two views of the same rows through one encoder, whose batch norm is called once a view."""

    def __init__(self, of_pair: Callable[[nn.Module, Tensor, Tensor], Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.a, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.of_pair = of_pair
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.of_pair(self, self.norm(self.a(torch.tanh(x))), self.norm(self.a(torch.sin(x))))


@small("two-views-through-one-batch-norm", (8, 3), "output")
def two_views_through_one_batch_norm() -> nn.Module:
    """Scales of what is normalised, biases that no view sees, and gains before the readers."""
    return Seen(lambda m, a, b: m.o(torch.relu(a)) + m.o(torch.relu(b)), o=nn.Linear(4, 2))


@small("barlow-twins", (8, 3), "output")
def barlow_twins() -> nn.Module:
    def loss(m: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        correlations = a.T @ b / len(a)
        entries = correlations.flatten()[:-1].view(3, 5)[:, 1:].flatten()
        return ((torch.diagonal(correlations) - 1).square().sum() + 0.005 * entries.square().sum())[None]

    module = Seen(loss)
    module.norm = nn.BatchNorm1d(4, affine=False)
    return module


@small("a-predictor-of-the-other-view", (6, 3), "output")
def a_predictor_of_the_other_view() -> nn.Module:
    """BYOL with one network on both sides and gradients through both."""

    def loss(m: nn.Module, a: Tensor, b: Tensor) -> Tensor:
        def unit(v: Tensor) -> Tensor:
            return functional.normalize(v, dim=-1, eps=1e-20)

        a, b = m.o(torch.relu(a)), m.o(torch.relu(b))
        return (2 - (unit(m.predictor(a)) * unit(b)).sum(-1) - (unit(m.predictor(b)) * unit(a)).sum(-1)).mean()[None]

    predictor = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    return Seen(loss, o=nn.Linear(4, 3), predictor=predictor)


@small("one-batch-norm-block-after-block", (4, 2, 3, 3), "output")
def one_batch_norm_block_after_block() -> nn.Module:
    """A residual block that is run three times, its running statistics handed from run to run."""

    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.entry, self.inner = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 3, 3, padding=1)
            self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.entry(x)
            for _ in range(3):
                x = x + torch.relu(self.norm(self.inner(x)))
            return self.head(x.mean((2, 3)))

    return Unrolled()
