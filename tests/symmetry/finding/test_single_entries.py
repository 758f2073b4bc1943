"""What one entry alone is compared with itself for does not matter, nor what is multiplied by zeros: all is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuralmechanics import find_symmetries

from ..agreement import judge
from ..network import Network, prepared

Scores = Callable[[Tensor], Tensor]


class _Weighed(nn.Module):
    """A network times what is made of scores, which come from maps of their own."""

    def __init__(self, how: Scores) -> None:
        super().__init__()
        self.how = how
        self.read, self.write = nn.Linear(4, 5), nn.Linear(5, 2)
        self.score, self.scale = nn.Linear(4, 3), nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.how(torch.tanh(self.scale(torch.tanh(self.score(x)))))
        out: Tensor = self.write(torch.relu(self.read(x))) * weights
        return out


class _Attention(nn.Module):
    """Two heads over as many keys as there are tokens, here or everywhere."""

    def __init__(self, keys: int, spelling: str) -> None:
        super().__init__()
        self.keys, self.spelling = keys, spelling
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4) for _ in range(4))
        self.last = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(len(x), -1, 4)
        q, k, v = (m(tokens).unflatten(-1, (2, 2)).transpose(1, 2) for m in (self.q, self.k, self.v))
        if self.spelling == "fused":
            mixed = functional.scaled_dot_product_attention(q, k[:, :, : self.keys], v[:, :, : self.keys])
        else:
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k[:, :, : self.keys])
            mixed = torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), v[:, :, : self.keys])
        out: Tensor = self.last(torch.tanh(self.o(mixed.transpose(1, 2).flatten(2)))).sum(1)
        return out


SILENT: dict[str, Scores] = {
    "softmax over one": lambda s: s[:, :, None].softmax(-1)[..., 0],
    "log softmax over one": lambda s: 1 + functional.log_softmax(s[:, None], 1)[:, 0],
    "softmax written out": lambda s: (s[..., None].exp() / s[..., None].exp().sum(-1, keepdim=True))[..., 0],
    "less its own maximum": lambda s: 1 + (s[..., None] - s[..., None])[..., 0],
    "layer norm of one channel": lambda s: 1 + functional.layer_norm(s[..., None], (1,))[..., 0],
    "group norm of one entry": lambda s: 1 + functional.group_norm(s[..., None], 2)[..., 0],
    "times zero": lambda s: 1 + 0 * s,
    "times a tensor of zeros": lambda s: 1 + s * torch.zeros(2),
    "a map of zeros": lambda s: 1 + s @ s.new_zeros(2, 2),
    "beside zeros, of which zeros are taken": lambda s: 1 + torch.cat([s, torch.zeros_like(s)], 1)[:, 2:],
    "none of it": lambda s: 1 + s[:, :0].sum(1, keepdim=True),
    "a mean over a batch of one": lambda s: 1 + torch.softmax(s.reshape(-1, 1), 1).reshape(s.shape),
}
HEARD: dict[str, Scores] = {
    "softmax over two": lambda s: s.softmax(-1),
    "softmax over the batch": lambda s: s.softmax(0),
    "a norm of two channels": lambda s: 1 + functional.layer_norm(s, (2,)) + s,
    "a sum beside zeros": lambda s: 1 + (torch.cat([s, torch.zeros_like(s)], 1)[:, 1:3]).sum(1, keepdim=True),
}


def _network(module: nn.Module, inputs: int = 4) -> Network:
    return Network(
        "", prepared(module), lambda g: (torch.randn(60, inputs, generator=g, dtype=torch.float64),), "output"
    )


@pytest.mark.parametrize("how", SILENT)
def test_all_that_is_silent_is_found(how: str) -> None:
    network = _network(_Weighed(SILENT[how]))
    found = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, found)
    assert verdict.sound
    assert verdict.complete
    assert found.count() == {"translation": 3 * 4 + 3 + 2 * 3, "scale": 0, "rescale": 5, "linear": 0}


@pytest.mark.parametrize("how", HEARD)
def test_what_is_heard_is_not_called_silent(how: str) -> None:
    network = _network(_Weighed(HEARD[how]))
    found = find_symmetries(network.module, network.batch(), network.loss_fn)
    assert judge(network, found).sound
    assert not any(family.kind == "translation" and "score.weight" in family.parameters for family in found)


@pytest.mark.parametrize("spelling", ["fused", "written out"])
@pytest.mark.parametrize(("tokens", "keys"), [(1, 1), (3, 1), (3, 3)])
def test_attention_over_one_key(tokens: int, keys: int, spelling: str) -> None:
    network = _network(_Attention(keys, spelling), 4 * tokens)
    found = find_symmetries(network.module, network.batch(), network.loss_fn)
    verdict = judge(network, found)
    assert verdict.sound
    assert verdict.complete
    silent = [family for family in found if family.kind == "translation" and "q.weight" in family.parameters]
    assert bool(silent) == (keys == 1)
    assert all(any("over one entry" in text for text in family.requires) for family in silent)
