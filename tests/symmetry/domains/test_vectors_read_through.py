"""A vector that a product reads through something is not the vector itself: its entries scale and do not mix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neuralmechanics import check_symmetries, find_symmetries
from neuralmechanics.symmetry import check_rule

THROUGH: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "abs": torch.abs,
    "leaky relu": functional.leaky_relu,
    "clamp": lambda v: v.clamp(min=0),
    "dropout": lambda v: functional.dropout(v, 0.5, True),
    "a masked entry": lambda v: v.masked_fill(torch.arange(3) == 1, 0.0),
    "a chosen entry": lambda v: torch.where(torch.arange(3) > 0, v, 0.0),
}


def _kinds(network: Callable[[dict[str, Tensor], Tensor], Tensor]) -> dict[str, int]:
    weights = {"v": torch.randn(3), "w": torch.randn(3, 2)}
    return {kind: n for kind, n in find_symmetries(network, torch.ones(5, 1), params=weights).count().items() if n}


@pytest.mark.parametrize("name", THROUGH)
def test_entries_scale_and_do_not_mix(name: str) -> None:
    kinds = _kinds(lambda p, x: x * (THROUGH[name](p["v"]) @ p["w"]))
    assert kinds["rescale"] == 3
    assert "linear" not in kinds


def test_the_vector_itself_mixes() -> None:
    assert _kinds(lambda p, x: x * (p["v"] @ p["w"])) == {"linear": 6}
    assert _kinds(lambda p, x: x * (-2 * p["v"] @ p["w"])) == {"linear": 6}


def test_what_is_found_holds() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {"v": torch.randn(3, generator=generator), "w": torch.randn(3, 2, generator=generator)}
    network = lambda p, x: x * (torch.relu(p["v"]) @ p["w"])  # noqa: E731
    found = find_symmetries(network, torch.ones(5, 1), params=weights)
    loss = lambda model, batch: model(batch).square().mean()  # noqa: E731
    batches = [torch.randn(5, 1, generator=generator)]
    assert check_symmetries(found, network, loss, batches, params=weights).count()["exact"] == 1


def test_the_rule_of_relu_holds_on_a_vector() -> None:
    assert check_rule(torch.relu, torch.tensor([1.0, -2.0, 3.0])).ok
