"""Plain functions of named tensors, without any module."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

WEIGHTS = {"body.w1": torch.randn(16, 3), "body.w2": torch.randn(2, 16)}


def network(params: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.relu(x @ params["body.w1"].T) @ params["body.w2"].T


def test_two_raw_tensors_have_a_rescaling_for_every_hidden_unit() -> None:
    symmetries = find_symmetries(network, torch.randn(8, 3), params=WEIGHTS)
    assert symmetries.count() == {"translation": 0, "scale": 0, "rescale": 16, "linear": 0}
    (family,) = symmetries
    assert family.parameters == ("body.w1", "body.w2")
    x = torch.randn(8, 3, dtype=torch.float64)
    before = {name: value.double() for name, value in WEIGHTS.items()}
    after = family.transform(before, torch.linspace(0.1, 10, 16, dtype=torch.float64))
    torch.testing.assert_close(network(after, x), network(before, x), rtol=1e-13, atol=1e-13)


def test_a_loss_of_inputs_and_labels_adds_the_softmax_translations() -> None:
    def loss(params: dict[str, Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(network(params, batch[0]), batch[1])

    batch = torch.randn(8, 3), torch.zeros(8, dtype=torch.long)
    assert find_symmetries(loss, batch, params=WEIGHTS).count()["translation"] == 16


@pytest.mark.parametrize(
    ("model", "params", "words"),
    [
        (network, None, "network is a plain function"),
        (nn.Linear(2, 2), WEIGHTS, "Linear brings its own"),
        (3, None, "got int"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(model: Any, params: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        find_symmetries(model, torch.randn(8, 3), params=params)
    assert "\n" not in str(caught.value)
