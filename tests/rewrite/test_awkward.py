"""Every action on every awkward network is exact, or says why not; none is silent, none touches the model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import rewrite

from .awkward import NETWORKS
from .networks import change, disturbed, vectors

ACTIONS = {
    "fold": rewrite.fold,
    "rotate": lambda *given: rewrite.rotate(*given, prepare=True),
    "hadamard": lambda *given: rewrite.rotate(*given, matrix="hadamard"),
    "permute": rewrite.permute,
    "centre": lambda *given: rewrite.centre(*given, prepare=True),
    "smooth": rewrite.smooth,
    "equalise": rewrite.equalise,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_or_refused(name: str) -> None:
    model, batch = NETWORKS[name]()
    model = disturbed(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for action, act in ACTIONS.items():
        rewritten = act(model, batch)
        assert rewritten.plan.changes or rewritten.refused, action
        assert rewritten.certificate.ok, action
        assert change(model, rewritten.params, batch) < 1e-12, action
        assert all(refusal.reason for refusal in rewritten.refused)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_norm_used_in_several_places_is_folded() -> None:
    model, batch = NETWORKS["a norm used three times"]()
    folded = rewrite.fold(disturbed(model), batch)
    assert folded.refused == ()
    assert bool((folded.params["n.weight"] == 1).all())
    assert bool((folded.params["n.bias"] == 0).all())
    assert change(model, folded.params, batch) < 1e-12


class Branching(nn.Module):
    """The data decide which of two layers reads the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)
        self.one, self.other = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x))
        out: Tensor = self.one(h) if float(x.sum()) > 0 else self.other(h)
        return out


def test_a_branch_that_the_data_take_is_refused() -> None:
    """Folded for this batch, the gain would be lost to the layer that another batch takes."""
    model = disturbed(Branching())
    folded = rewrite.fold(model, vectors().abs())
    assert folded.plan.changes == ()
    assert "other data may take another branch" in folded.refused[0].reason
