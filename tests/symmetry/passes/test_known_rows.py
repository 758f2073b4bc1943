"""Rows of tables at places that a buffer, a joined index or a function of the words tells, against the null space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries

from ..agreement import Verdict, judge
from ..network import Network

WORDS, LENGTH, WIDTH = 6, 4, 3


class Tables(nn.Module):
    """Rows of a table of words and of a second one, read by a function without any symmetry of shifts."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.words = nn.Embedding(WORDS, WIDTH)
        self.others = nn.Embedding(LENGTH + 1, WIDTH)
        self.first = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.register_buffer("places", torch.arange(LENGTH))
        self.register_buffer("kinds", torch.tensor([0, 1, 1, 2, 0, 2]))

    def rows(self, x: Tensor) -> Tensor:
        first, words, places = self.first.expand(len(x), -1, -1), self.words(x), self.places
        body = {
            "buffer": lambda: torch.cat([first, words[:, 1:]], 1) + self.others(places),
            "expanded": lambda: torch.cat([first, words[:, 1:]], 1) + self.others(places.expand(len(x), -1)),
            "indexed": lambda: torch.cat([first, words[:, 1:]], 1) + self.others.weight[places],
            "selected": lambda: torch.cat([first, words[:, 1:]], 1) + self.others.weight.index_select(0, places),
            "reversed": lambda: torch.cat([first, words[:, 1:]], 1) + self.others(places.flip(0)),
            "where": lambda: words + self.others(torch.where(x != 0, 2, 0)),
            "compared": lambda: words + self.others((x > 2) * 1),
            "halved": lambda: words + self.others(x // 2),
            "clamped": lambda: words + self.others(x.clamp(max=2)),
            "looked up": lambda: words + self.others(self.kinds[x]),
            "joined": lambda: self.words(torch.cat([x[:, :2], x[:, 2:]], 1)) + self.others((x == 1).long()),
            "data": lambda: words + self.others(x.flip(1) // 2),
            "rolled": lambda: words + self.others((x != 0).cumsum(1) // 2),
        }
        return body[self.spelling]()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.rows(x))


def verdict(spelling: str) -> Verdict:
    module = Tables(spelling).double()
    if spelling not in ("buffer", "expanded", "indexed", "selected", "reversed"):
        module.first.requires_grad_(False)
    network = Network(spelling, module, lambda g: (torch.randint(0, WORDS, (24, LENGTH), generator=g),))
    return judge(network, find_symmetries(module, network.batch()[0]))


ALWAYS = ("buffer", "where", "looked up")
LATER = ("expanded", "indexed", "selected", "reversed", "compared", "halved", "clamped", "data", "rolled")
UNKNOWN = ("data", "rolled")  # which rows such an index never names is not known
MISSED = pytest.mark.xfail(strict=True, reason="parts of an index that are joined again are not seen to be that index")


@pytest.mark.parametrize(
    "spelling",
    [
        *ALWAYS,
        *(pytest.param(name, marks=pytest.mark.slow) for name in LATER),
        pytest.param("joined", marks=[pytest.mark.slow, MISSED]),
    ],
)
def test_shifts_of_rows_that_meet_are_those_of_the_null_space(spelling: str) -> None:
    found = verdict(spelling)
    assert found.sound, found
    assert found.translations == found.truth.translations - found.truth.lone, found
    assert found.silent == found.truth.lone or spelling in UNKNOWN, found


def test_what_depends_on_places_in_a_buffer_says_so() -> None:
    module = Tables("buffer").double()
    found = find_symmetries(module, torch.zeros(2, LENGTH, dtype=torch.long))
    told = [family for family in found if "first" in family.parameters]
    assert told
    assert all("places keeps the values that it had" in family.requires for family in told)
    module.places.copy_(torch.tensor([2, 0, 2, 2]))
    other = find_symmetries(module, torch.zeros(2, LENGTH, dtype=torch.long))
    alone = {family.parameters for family in other if family.kind == "translation"}
    assert ("first", "others.weight") in {family.parameters for family in found}
    assert ("first", "others.weight") not in alone


def test_places_that_are_not_known_bind_all_rows_alike() -> None:
    with torch.device("meta"):
        module = Tables("buffer")
    found = find_symmetries(module, torch.zeros(2, LENGTH, dtype=torch.long, device="meta"))
    assert found.count()["translation"] <= WIDTH
