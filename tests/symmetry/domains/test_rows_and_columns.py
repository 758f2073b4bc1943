"""Weights too large for a variable an element: what shifts of rows and of columns have in common is counted once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.domains.shift import domain

from ..agreement import one_by_one, rank
from ..zoo import SMALL

NAMES = [
    "attention-pre-layer-norm",
    "bert",
    "cross-attention",
    "label-smoothing",
    "layer-norm-into-linear",
    "padded-tokens",
    "returns-tuple",
    "used-twice",
    "vgg",
    "vit",
    "vit-mean-pool",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_counted_shift_is_independent_of_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "ELEMENTWISE_LIMIT", 1)
    network = SMALL[name]()
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    params = {key: value.detach().double() for key, value in network.module.named_parameters()}
    shifts = symmetries.of_kind("translation")
    vectors = [vector for family in shifts for vector in one_by_one(family, params)]
    assert len(vectors) == sum(family.size for family in shifts)
    assert rank(torch.stack(vectors, dim=1)) == len(vectors)


def test_the_last_layer_of_a_classifier_has_one_shift_a_column() -> None:
    """512 columns and 200 classes: the shift of the whole weight is the sum of those of its columns."""
    model = nn.Sequential(nn.Linear(7, 512), nn.ReLU(), nn.Linear(512, 200))
    assert model[2].weight.numel() > domain.ELEMENTWISE_LIMIT

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    symmetries = find_symmetries(model, (torch.randn(8, 7), torch.randint(0, 200, (8,))), loss)
    assert [(f.parameters, f.size) for f in symmetries.of_kind("translation")] == [
        (("2.weight",), 512),
        (("2.bias",), 1),
    ]


def test_a_table_behind_a_layer_norm_has_one_shift_a_row() -> None:
    """Kept are the shifts of single rows, not one of the whole table in the place of one of them."""
    model = nn.Sequential(nn.Embedding(400, 200), nn.LayerNorm(200), nn.Linear(200, 3))
    symmetries = find_symmetries(model, torch.randint(0, 400, (8,)), lambda m, batch: m(batch).square().mean())
    assert [f.name for f in symmetries.of_kind("translation")] == ["translation: 0.weight"]
    assert list(symmetries.of_kind("translation")[0].labels) == [f"0.weight[{k}]" for k in range(400)]
