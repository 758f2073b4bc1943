"""A query to which a mask leaves no key reads zeros: shifts of the values then do not come out as they went in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import Symmetries, find_symmetries

_TOKENS = 4
_STRICT = torch.ones(_TOKENS, _TOKENS, dtype=torch.bool).tril(-1)
_CAUSAL = torch.ones(_TOKENS, _TOKENS, dtype=torch.bool).tril(0)
_SEES = "every query of scaled_dot_product_attention sees a key"


class Attention(nn.Module):
    """One head under a mask that the code makes, or that comes with the batch."""

    def __init__(self, written: Tensor | None) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(3, 3).double() for _ in range(4))
        self.written = None if written is None else written.tolist()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        mask = mask if self.written is None else torch.tensor(self.written)
        out: Tensor = self.o(functional.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x), mask))
        return out


def found(written: Tensor | None, given: Tensor = _CAUSAL) -> Symmetries:
    return find_symmetries(Attention(written), (torch.randn(2, _TOKENS, 3).double(), given))


@pytest.mark.parametrize("name", ["causal", "strict"])
def test_a_mask_that_is_written_in_the_code_is_looked_at(name: str) -> None:
    """The first token of the strict mask sees nothing, so that its output is the bias, whatever the values are."""
    symmetries = found({"causal": _CAUSAL, "strict": _STRICT}[name])
    answered = symmetries.of_kind("affine")
    assert [f.requires for f in answered] == ([()] if name == "causal" else [])
    assert symmetries.count()["linear"] > 0


@pytest.mark.parametrize("mask", [_CAUSAL, torch.zeros(_TOKENS, _TOKENS).double()])
def test_of_a_mask_that_is_data_it_is_said_what_it_must_leave(mask: Tensor) -> None:
    symmetries = found(None, mask)
    (answered,) = symmetries.of_kind("affine")
    assert answered.requires == (_SEES,)
    assert all(_SEES not in f.requires for f in symmetries if f.charges)


def test_what_is_said_is_needed() -> None:
    """The shift of the values that the last bias answers changes what a blind query reads, and nothing else."""
    torch.manual_seed(0)
    model = Attention(None)
    x = torch.randn(2, _TOKENS, 3).double()
    (answered,) = find_symmetries(model, (x, _CAUSAL)).of_kind("affine")
    params = {n: p.detach() for n, p in model.named_parameters()}
    moved = answered.transform(params, torch.ones(answered.size).double())
    change = [
        torch.func.functional_call(model, moved, (x, mask)) - torch.func.functional_call(model, params, (x, mask))
        for mask in (_CAUSAL, _STRICT)
    ]
    assert change[0].abs().max() < 1e-12
    assert change[1][:, 1:].abs().max() < 1e-12
    assert change[1][:, 0].abs().max() > 1e-2
