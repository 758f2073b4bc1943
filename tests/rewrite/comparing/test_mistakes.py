"""Mistakes of converters: each named by its tensor, on top of an exact conversion that raises no alarm."""

from __future__ import annotations

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared
from torch import nn

from neuralmechanics.rewrite.comparing import Element, Equivalence, equivalent
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.matching import matched
from neuralmechanics.rewrite.comparing.solving.suspects import _Trials

from .conversions import MISTAKES
from .planting import state_of

QUICK = [
    "offset gain folded without its offset",
    "experts reordered without the router",
]


def check(name: str, seed: int) -> None:
    mistake = MISTAKES[name]
    model, batch, before, exact, spoilt = mistake.build(seed)
    assert equivalent(model, batch, before, exact)
    found = equivalent(model, batch, before, spoilt)
    assert not found
    assert found.change > 1e-3
    assert found.decided
    assert {frozenset(found.tensors), frozenset(found.tensors) - set(found.unjudged)} & set(mistake.wrong), str(found)
    assert all(found.gaps[name] > 1e-6 for name in found.tensors)


@pytest.mark.parametrize("name", QUICK)
def test_named(name: str) -> None:
    check(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_named(name: str, seed: int) -> None:
    check(name, seed)


@pytest.mark.parametrize(
    "name", ["square output projection transposed", "packed projection reordered but for its bias"]
)
def test_what_shifts_add_through_a_wrong_map_is_not_read(name: str) -> None:
    """Without the one weight that is wrong the rest is one orbit, although biases are shifted through that weight."""
    mistake = MISTAKES[name]
    model, batch, before, _, spoilt = mistake.build(0)
    found = matched(Network.of(model, batch), spoilt, before, mistake.wrong[0])
    assert found.off < 1e-9
    assert all(found.gaps[wrong] > 1e-3 for wrong in mistake.wrong[0])


def test_what_the_batch_does_not_reach_is_left_undecided() -> None:
    """A row of a table that no example looks up differs: no symmetry explains it, and the outputs cannot tell."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 3), nn.Tanh(), nn.Linear(3, 2)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    after = {name: value.clone() for name, value in before.items()}
    after["0.weight"][5] += 1.0
    seen, reached = torch.tensor([[0, 1], [2, 3]]), torch.tensor([[0, 5], [2, 3]])
    unsure, sure = (equivalent(model, tokens, before, after) for tokens in (seen, reached))
    assert not unsure.equal
    assert not unsure.decided
    assert str(unsure).startswith("undecided: ")
    assert not sure.equal
    assert sure.decided
    assert str(sure).startswith("not equivalent: ")
    assert unsure.tensors == sure.tensors == ("0.weight",)


@pytest.mark.parametrize(("change", "decided"), [(0.0, False), (1e-9, False), (2e-9, True), (float("nan"), True)])
def test_a_difference_is_decided_once_the_function_is_seen_to_differ(change: float, decided: bool) -> None:
    """An output that is no number any more is seen to differ."""
    found = Equivalence(False, ("w",), change, Element(), {"w": 1.0}, bound=1e-9)
    assert found.decided is decided
    assert str(found).startswith("not equivalent: " if decided else "undecided: ")


def test_where_no_place_was_found_it_is_said_that_nothing_is_known() -> None:
    """What was hidden until the rest could be explained may be innocent."""
    names = ("a", "b", "c")
    found = Equivalence(False, names, 0.5, Element(), dict.fromkeys(names, 1.0), bound=1e-9, located=False)
    assert not found.decided
    assert str(found).startswith("undecided: the two are not equivalent")
    assert found.to_dict()["located"] is False


class Joined(nn.Module):
    """Attention whose queries and keys are one projection with a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.head = nn.Linear(4, 8), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k = self.qk(x).chunk(2, -1)
        out: torch.Tensor = self.head((q @ k.mT).softmax(-1) @ x)
        return out


@pytest.mark.parametrize(("names", "unjudged"), [(["qk.weight"], ("qk.bias",)), (["head.bias"], ())])
def test_a_bias_is_not_judged_without_its_weight(names: list[str], unjudged: tuple[str, ...]) -> None:
    """Any bias of queries is another in another basis, which only the weight would tell."""
    model = prepared(Joined())
    before = state_of(model)
    after = {name: value.flip(0) * 1.5 if name in names else value for name, value in before.items()}
    found = equivalent(model, torch.randn(2, 5, 4, dtype=torch.float64), before, after)
    assert set(found.tensors) == {*names, *unjudged}
    assert found.unjudged == unjudged
    assert ("cannot be judged" in str(found)) == bool(unjudged)


class Needs(_Trials):
    """What is left is one orbit wherever a and c are hidden."""

    def __init__(self) -> None:
        """Nothing is matched."""

    def holds(self, hidden: frozenset[str]) -> bool:
        return hidden >= {"a", "c"}


@pytest.mark.parametrize("hidden", ["abcd", "acz", "ac"])
def test_none_of_the_named_tensors_can_be_left_out(hidden: str) -> None:
    assert Needs().shrunk(frozenset(hidden)) == {"a", "c"}
