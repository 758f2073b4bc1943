"""What ``torch.func.vmap`` computes for every entry of a batch has the symmetries of the same computed in a loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional

from neuralmechanics import find_symmetries

Member = Callable[[Tensor, Tensor, Tensor], Tensor]
_X = torch.arange(21.0).view(7, 3)

MEMBERS: dict[str, tuple[Member, int]] = {
    "rectified": (lambda w, b, v: (_X @ w.T + b).relu() @ v.T, 12),
    "of probabilities": (lambda w, b, v: ((_X @ w.T + b).relu() @ v.T).softmax(-1), 12 + 12),
    "with dropout": (lambda w, b, v: functional.dropout((_X @ w.T + b).relu(), 0.3) @ v.T, 12),
}


class Ensemble(nn.Module):
    def __init__(self, member: Member, *, vectorised: bool) -> None:
        super().__init__()
        self.member, self.vectorised = member, vectorised
        self.w, self.b, self.v = (nn.Parameter(torch.randn(3, *s)) for s in ((4, 3), (4,), (2, 4)))

    def forward(self, x: Tensor) -> Tensor:
        if self.vectorised:
            return x + vmap(self.member, randomness="different")(self.w, self.b, self.v)
        return x + torch.stack([self.member(*each) for each in zip(self.w, self.b, self.v, strict=True)])


@pytest.mark.parametrize("name", MEMBERS)
def test_an_ensemble_has_the_symmetries_of_its_members(name: str) -> None:
    member, charges = MEMBERS[name]
    vectorised, looped = (
        find_symmetries(Ensemble(member, vectorised=v), torch.zeros(()), lambda m, x: m(x).square().mean())
        for v in (True, False)
    )
    assert vectorised.unknown == ()
    assert vectorised.count() == looped.count()
    assert vectorised.charges == charges
