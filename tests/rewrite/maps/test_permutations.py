"""Permutation specifications: any choice of the permutations that one names leaves the function unchanged."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from neuralmechanics.experiments import build_model
from neuralmechanics.rewrite.maps import permutation_spec

from .applying import permute_all
from .networks import decoder, symmetries_of_a_decoder, texts


def assert_permutations_change_nothing(model: nn.Module, batch: torch.Tensor, spec) -> None:
    draw = torch.Generator().manual_seed(3)
    chosen = {name: torch.randperm(width, generator=draw) for name, width in spec.widths.items()}
    moved = copy.deepcopy(model)
    moved.load_state_dict(permute_all(model.state_dict(), spec.axes_to_perm, chosen))
    before, after = model(batch), moved(batch)
    assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), moved.parameters(), strict=True))
    assert (after - before).abs().max() < 1e-12 * before.abs().max()


def test_a_perceptron_has_the_specification_that_people_write() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    spec = permutation_spec(model, torch.zeros(2, 3))
    first, second = spec.perm_to_axes
    assert spec.perm_to_axes == {
        first: [("0.weight", 0), ("0.bias", 0), ("2.weight", 1)],
        second: [("2.weight", 0), ("2.bias", 0), ("4.weight", 1)],
    }
    assert spec.axes_to_perm == {
        "0.weight": (first, None), "0.bias": (first,), "2.weight": (second, first), "2.bias": (second,),
        "4.weight": (None, second), "4.bias": (None,),
    }  # fmt: skip


def test_both_directions_of_a_specification_say_the_same() -> None:
    spec = permutation_spec(decoder(), texts(), symmetries=symmetries_of_a_decoder())
    pairs = {(perm, name, axis) for perm, places in spec.perm_to_axes.items() for name, axis in places}
    back = {(p, n, k) for n, perms in spec.axes_to_perm.items() for k, p in enumerate(perms) if p is not None}
    assert pairs == back
    assert set(spec.axes_to_perm) == set(decoder().state_dict())


def test_permuting_a_decoder_leaves_the_function_unchanged() -> None:
    model = decoder()
    spec = permutation_spec(model, texts(), symmetries=symmetries_of_a_decoder())
    assert sorted(spec.widths.values()) == [8, 12, 12]
    assert_permutations_change_nothing(model, texts(), spec)
    (heads, each) = sorted({refusal.reason for refusal in spec.refused})
    assert heads.startswith("each of its 2 heads, groups or experts has its own permutation")
    assert each.startswith("its 2 channels are a part of, or spread over, 8 places")


@pytest.mark.parametrize("name", ["vgg11-bn", "resnet18"])
@pytest.mark.slow
def test_permuting_convolutions_with_running_statistics_leaves_the_function_unchanged(name: str) -> None:
    model = build_model(name, input_shape=(3, 32, 32), classes=4, seed=0).double().eval()
    batch = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        model.train()(batch)
    spec = permutation_spec(model.eval(), batch)
    assert any("running_mean" in tensor for places in spec.perm_to_axes.values() for tensor, _ in places)
    assert_permutations_change_nothing(model, batch, spec)


def test_tied_names_are_permuted_together() -> None:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "up": nn.Linear(4, 6), "down": nn.Linear(6, 4)})
    model["head"] = nn.Linear(4, 5, bias=False)
    model["head"].weight = model["embed"].weight

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model.double()

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            x = self.parts["embed"](tokens)
            x = x + self.parts["down"](torch.relu(self.parts["up"](x)))
            return self.parts["head"](x)

    network, batch = Tied(), torch.arange(5)
    spec = permutation_spec(network, batch)
    assert spec.axes_to_perm["parts.head.weight"] == spec.axes_to_perm["parts.embed.weight"]
    assert_permutations_change_nothing(network, batch, spec)


def test_one_tensor_with_a_space_along_both_dimensions_is_refused() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.again, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            state = torch.relu(self.into(x))
            return self.out(torch.relu(state + self.again(state)))

    with pytest.raises(ValueError, match="along two dimensions of again"):
        permutation_spec(Recurrent(), torch.zeros(2, 3))
