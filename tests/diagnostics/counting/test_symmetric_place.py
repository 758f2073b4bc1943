"""Counts at places that relabelings of channels leave as they are, against the same counts without them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from neuralmechanics.diagnostics.counting.counting import count_laws
from neuralmechanics.diagnostics.counting.folding import folded_count
from neuralmechanics.diagnostics.counting.folding.equivariance import relabelings
from neuralmechanics.diagnostics.counting.folding.folded_span import FoldedSpan
from neuralmechanics.diagnostics.counting.folding.group import RelabelingGroup, generated
from neuralmechanics.diagnostics.counting.point_moves import fresh_place
from neuralmechanics.diagnostics.counting.potentials import Potentials
from neuralmechanics.functional.inputs import pick, resample

from .networks import Attention, Block, SwiGLU, cross_entropy, feed_forward, linear_network, one


def _potentials(model: nn.Module, batch: Any, loss_fn: Any = None) -> Potentials:
    return Potentials(model, batch, loss_fn, None, 0, 0.0)


def _group(potentials: Potentials) -> RelabelingGroup:
    return generated(relabelings(potentials), potentials.dimension)


def _squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[1])


class Classifier(nn.Module):
    """A block, the mean over its tokens, and a layer of fewer classes than channels."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.block, self.head = Block(dim, 2, 2 * dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean(1))


_TOKENS = torch.zeros(1, 3, 4)


@pytest.mark.parametrize(
    ("model", "batch", "loss_fn"),
    [
        (Attention(4, 2, 2), _TOKENS, None),
        pytest.param(Attention(4, 2, 2, rotary=True), _TOKENS, None, marks=pytest.mark.slow),
        (SwiGLU(4, 6), one(4), None),
        (feed_forward(9, 6, nn.Tanh()), one(9), None),
        (linear_network(4, 2, 4), one(4), None),
        (nn.Linear(4, 3), (torch.zeros(3, 4), torch.tensor([0, 1, 2])), cross_entropy),
        pytest.param(feed_forward(4, 6, nn.ReLU()), one(4), None, marks=pytest.mark.slow),
        pytest.param(Block(4, 2, 8), _TOKENS, None, marks=pytest.mark.slow),
        pytest.param(Block(4, 2, 8), (_TOKENS, _TOKENS), _squared_error, marks=pytest.mark.slow),
        pytest.param(
            Classifier(4, 3),
            (torch.zeros(2, 3, 4), torch.tensor([0, 2])),
            cross_entropy,
            marks=pytest.mark.slow,
        ),
    ],
    ids=[
        "attention", "rotary", "swiglu", "tanh", "linear", "softmax", "relu", "block", "squared error", "classifier",
    ],
)  # fmt: skip
def test_the_count_is_that_of_a_generic_place(model: nn.Module, batch: Any, loss_fn: Any) -> None:
    generic = count_laws(model, batch, loss_fn, norm_eps=0.0)
    symmetric = count_laws(model, batch, loss_fn, norm_eps=0.0, point="symmetric")
    assert (symmetric.lower, symmetric.upper) == (generic.lower, generic.upper)
    assert (symmetric.fibre, symmetric.generators) == (generic.fibre, generic.generators)
    assert symmetric.certified
    assert symmetric.margin > 1e4


@pytest.mark.parametrize(
    ("model", "width", "orders"),
    [
        (feed_forward(4, 8, nn.Tanh()), 4, {2}),
        (feed_forward(9, 6, nn.Tanh()), 9, {3}),
        (linear_network(6, 6), 6, {2, 3}),
    ],
)
def test_a_folded_span_has_the_dimension_of_all_relabelled_vectors(
    model: nn.Module, width: int, orders: set[int]
) -> None:
    potentials = _potentials(model, one(width))
    group = _group(potentials)
    assert set(group.orders) == orders
    rows = torch.randn(3, potentials.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = torch.stack([rows[:, element] for element in _elements(potentials)]).flatten(0, 1)
    span = FoldedSpan.of(group, [rows], 1e-9, "")
    assert span.rank == int(torch.linalg.matrix_rank(moved))
    # relabelled vectors have the same parts but for factors χ(g), real or complex
    assert FoldedSpan.of(group, [rows, moved], 1e-9, "").rank == span.rank
    assert span.extend(moved / moved.norm(dim=1, keepdim=True))[0] == 0
    more = torch.randn(1, potentials.dimension, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    span.extend(more / more.norm())
    moved = torch.cat([moved, torch.stack([more[0, element] for element in _elements(potentials)])])
    assert span.rank == int(torch.linalg.matrix_rank(moved))


def _elements(potentials: Potentials) -> list[Tensor]:
    """All elements of the group, each as where every parameter comes from, by composing the generators."""
    elements: list[Tensor] = [torch.arange(potentials.dimension)]
    taken: list[Tensor] = []
    for one_of in relabelings(potentials):
        step = one_of.indices
        if all(torch.equal(step[other], other[step]) for other in taken):
            taken.append(step)
            powers = elements
            for _ in range(one_of.digit.order - 1):
                powers = [element[step] for element in powers]
                elements = elements + powers
    return elements


def test_parts_have_all_dimensions() -> None:
    potentials = _potentials(feed_forward(6, 4, nn.Tanh()), one(6))
    group = _group(potentials)
    assert int(group.dimensions().sum()) == potentials.dimension
    assert sum(multiplicity for _, multiplicity in group.characters()) == group.order


def test_a_relabeling_that_is_in_the_group_already_adds_nothing() -> None:
    potentials = _potentials(linear_network(6, 6), one(6))
    found = relabelings(potentials)
    group = generated([*found, *found], potentials.dimension)
    assert group.orders == generated(found, potentials.dimension).orders
    assert len(torch.unique(group.table, dim=0)) == group.order


class Crossed(nn.Module):
    """x ⊙ u ⊙ v backwards: each of u and v may go round while the other is uniform, and not both together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.randn(width)), nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.u * self.v.flip(0)


@pytest.mark.parametrize(("width", "strides"), [(3, []), (2, [1]), (4, [1, 2])])
def test_what_passes_alone_must_pass_together(width: int, strides: list[int]) -> None:
    """Backwards a cycle of three goes the other way; exchanges of two are their own inverses."""
    found = relabelings(_potentials(Crossed(width), one(width)))
    assert [one_of.digit.stride for one_of in found] == strides


class Mixed(nn.Module):
    """x ⊙ u + W v, the rows of W summing to one: beside a uniform v the channels of x may go round, and else not."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
        self.register_buffer("mean", torch.tensor([[4.0, 2.0, 2.0], [1.0, 6.0, 1.0], [2.0, 1.0, 5.0]]) / 8)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.u + self.mean @ self.v


def test_what_passes_at_a_uniform_place_must_pass_at_a_generic_one() -> None:
    assert relabelings(_potentials(Mixed(), one(3))) == []


def test_a_relabelled_network_takes_the_same_values_in_another_order() -> None:
    potentials = _potentials(Block(8, 2, 16), torch.zeros(1, 3, 8))
    found = relabelings(potentials)
    assert [(one_of.digit.order, one_of.digit.stride) for one_of in found] == [(2, 1), (2, 2), (2, 4)]
    theta = fresh_place(potentials)
    batch = pick(resample(potentials.batch, potentials.generator, 1), 0)
    for one_of in found:
        index = torch.arange(8).reshape(-1, 2, one_of.digit.stride).flip(1).reshape(-1)
        before = potentials.values(theta, batch).reshape(3, 8)[:, index]
        after = potentials.values(theta[one_of.indices], batch[..., index]).reshape(3, 8)
        assert torch.allclose(before, after, rtol=1e-12, atol=1e-12)


def test_channels_that_rotary_angles_tell_apart_are_not_relabelled() -> None:
    potentials = _potentials(Attention(8, 2, 4, rotary=True), torch.zeros(1, 3, 8))
    query = potentials.names.index("query.weight")
    within = next(one_of for one_of in relabelings(potentials) if one_of.digit.stride == 1)
    heads = next(one_of for one_of in relabelings(potentials) if one_of.digit.stride == 4)
    assert (within.parameters[query], heads.parameters[query]) == ((1,), (0, 1))


def test_hidden_channels_alone_are_no_relabeling() -> None:
    """The network is the same: its gradients at a place that is not moved do not tell the two channels apart."""
    potentials = _potentials(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), one(3))
    assert all(set(one_of.parameters[0]) == {1} for one_of in relabelings(potentials))


def test_functions_are_added_as_long_as_a_rank_may_rise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three functions at first, twice as many three times: the ranks of many at once, and not those of the first."""
    model = linear_network(4, 4, 4)
    expected = count_laws(model, one(4), point="symmetric")
    monkeypatch.setattr(folded_count, "_FUNCTIONS", 0.0)
    monkeypatch.setattr(folded_count, "_LEAST", 3)
    found = count_laws(model, one(4), point="symmetric")
    assert expected.certified
    assert (found.fibre, found.lower, found.upper) == (expected.fibre, expected.lower, expected.upper)
    monkeypatch.setattr(folded_count, "_DOUBLINGS", 1)
    assert count_laws(model, one(4), point="symmetric").fibre > expected.fibre


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "heavy_ball"}, "HeavyBall.* is not counted at a symmetric place; use point='generic'"),
        ({"data": [torch.randn(1, 4)]}, "a data set is not the same with its channels relabelled"),
    ],
)
def test_what_a_symmetric_place_is_not_for_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_laws(linear_network(4, 4), one(4), point="symmetric", symmetries=(), **settings)


def test_a_model_without_relabelings_is_refused() -> None:
    with pytest.raises(ValueError, match="no relabelings of channels were found"):
        count_laws(linear_network(17, 1), one(17), point="symmetric", symmetries=())


@pytest.mark.slow
def test_a_wide_block_is_counted_exactly() -> None:
    """Translations of the keys' bias and of the two output biases, gains against readers, and GL(8) eight times."""
    torch.manual_seed(0)
    count = count_laws(Block(32, 4, 128), torch.zeros(1, 3, 32), norm_eps=0.0)
    assert count.parameters == 12_704
    assert count.certified
    assert count.lower == (32 + 1) + 2 * 32 + 8 * (8 * 9 // 2)
    assert count.agreement.endswith("none is missing")
    assert "symmetric" in count.certificate
