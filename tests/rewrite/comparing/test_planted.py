"""Elements of the whole group, all kinds mixed: found again from two checkpoints alone, on many networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from tests.symmetry.families.spaces.networks import prepared, transformer
from tests.symmetry.families.spaces.test_elements import CASES
from tests.symmetry.zoo import SMALL
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.rewrite.comparing import Element, align, assert_equivalent, distance, equivalent
from neuralmechanics.rewrite.comparing.align import _Between
from neuralmechanics.rewrite.comparing.checkpoints import Function, rounding
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep
from neuralmechanics.rewrite.comparing.parts.network import Network
from neuralmechanics.rewrite.comparing.solving.levelling import levelled

from .conversions import MISTAKES
from .planting import distance as gap
from .planting import planted, state_of

QUICK = ["relu", "linear", "layer-norm", "interleaved"]
OTHERS = [name for name in CASES if name not in QUICK]


def check(name: str, seed: int = 3) -> None:
    model, batch = CASES[name]()
    model = prepared(model)
    before = state_of(model)
    element = planted(find_symmetries(model, batch), seed)
    after = element.transform(before)
    assert gap(before, after) > 0.1
    assert gap(before, element.inverse().transform(after)) < 1e-12
    found = equivalent(model, batch, before, after)
    assert found.equal, str(found)
    assert found.change < 1e-9
    assert gap(after, found.element.transform(before)) < 1e-9


@pytest.mark.parametrize("name", QUICK)
def test_found(name: str) -> None:
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_found_in_larger_networks(name: str) -> None:
    check(name)


def test_composition_is_one_after_the_other() -> None:
    model, batch = CASES["glu"]()
    model = prepared(model)
    symmetries, before = find_symmetries(model, batch), state_of(model)
    first, second = planted(symmetries, 1), planted(symmetries, 2)
    twice = second.transform(first.transform(before))
    assert gap(twice, second.compose(first).transform(before)) < 1e-14
    assert gap(before, second.compose(first).inverse().transform(twice)) < 1e-12
    assert "channels change places" in first.summary()
    assert Element().summary() == "the identity"


def test_single_precision_is_judged_by_its_own_rounding() -> None:
    model, batch = CASES["relu"]()
    model = prepared(model)
    before = {name: value.float() for name, value in state_of(model).items()}
    after = planted(find_symmetries(model, batch), 3).transform(before)
    assert after["0.weight"].dtype == torch.float32
    assert equivalent(model, batch, before, after)
    after["0.weight"][0, 0] += 0.01
    assert equivalent(model, batch, before, after).tensors == ("0.weight",)


def test_networks_trained_apart_are_not_equivalent() -> None:
    """Distance stays far above a tenth between networks of different random weights, and 0 on one orbit."""
    model, batch = CASES["tanh"]()
    model = prepared(model)
    one, other = state_of(model), state_of(prepared(model, 7))
    moved = planted(find_symmetries(model, batch), 5).transform(one)
    assert distance(model, batch, one, moved) < 1e-12
    assert distance(model, batch, one, other) > 0.1
    found = equivalent(model, batch, one, other)
    assert not found
    assert len(found.tensors) > 1


def test_alignment_is_the_nearest_of_all_permutations_with_signs() -> None:
    """Against every signed permutation of four units, each tried."""
    from itertools import permutations, product

    model = prepared(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
    batch = torch.zeros(1, 3, dtype=torch.float64)
    a, b = state_of(model), state_of(prepared(model, 5))

    def moved(order: tuple[int, ...], signs: tuple[float, ...]) -> dict[str, Tensor]:
        p, s = torch.tensor(order), torch.tensor(signs, dtype=torch.float64)
        rows, bias = b["0.weight"][p] * s[:, None], b["0.bias"][p] * s
        return b | {"0.weight": rows, "0.bias": bias, "2.weight": b["2.weight"][:, p] * s}

    least = min(gap(a, moved(p, s)) for p in permutations(range(4)) for s in product((1.0, -1.0), repeat=4))
    assert gap(a, align(model, batch, a, b).transform(b)) == pytest.approx(least, rel=1e-12)


def test_assertion_is_one_line_that_names_the_tensor() -> None:
    mistake = MISTAKES["router left out"]
    model, batch, before, exact, spoilt = mistake.build()
    assert_equivalent(model, batch, before, exact)
    with pytest.raises(AssertionError, match=r"no symmetry of the model explains router\.weight") as error:
        assert_equivalent(model, batch, before, spoilt)
    assert "\n" not in str(error.value)


def test_tied_names_and_buffers() -> None:
    """A second name of a tied parameter that holds other numbers is named; unread running statistics are not."""
    tied = prepared(
        nn.Sequential(nn.Embedding(5, 4), nn.RMSNorm(4, elementwise_affine=False), nn.Linear(4, 5, bias=False))
    )
    tied[2].weight = tied[0].weight
    tokens = torch.tensor([[0, 1, 4]])
    state = {"0.weight": tied[0].weight.detach(), "2.weight": tied[0].weight.detach()}
    assert equivalent(tied, tokens, state, state)
    assert equivalent(tied, tokens, state, state | {"2.weight": 2 * state["2.weight"]}).tensors == ("2.weight",)
    read = prepared(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)))
    batch, before = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double(), state_of(read)
    moved = before | {"1.running_mean": before["1.running_mean"] + 1}
    assert equivalent(read.train(), batch, before, moved)
    assert equivalent(read.eval(), batch, before, moved).tensors == ("1.running_mean",)


def test_what_cannot_be_compared_is_refused() -> None:
    model, batch = CASES["relu"]()
    model = prepared(model)
    before = state_of(model)
    with pytest.raises(ValueError, match=r"parameter '0.bias' is missing in after"):
        equivalent(model, batch, before, {name: v for name, v in before.items() if name != "0.bias"})
    with pytest.raises(ValueError, match=r"'0.weight' of after is \(3, 4\) there, \(4, 3\) here"):
        equivalent(model, batch, before, before | {"0.weight": before["0.weight"].T})
    with pytest.raises(ValueError, match=r"'0.bias' holds values that are not finite"):
        equivalent(model, batch, before, before | {"0.bias": before["0.bias"] / 0})


@pytest.mark.slow
def test_whole_transformers_align() -> None:
    for norm in (nn.LayerNorm, nn.RMSNorm):
        model = prepared(transformer(norm, 4, 2))
        batch = torch.randint(7, (2, 3), generator=torch.Generator().manual_seed(0))
        before = state_of(model)
        after = planted(find_symmetries(model, batch), 8).transform(before)
        assert gap(after, align(model, batch, after, before).transform(before)) < 1e-9
        assert distance(model, batch, before, state_of(prepared(model, 3))) > 0.1


def test_a_checkpoint_is_itself_by_the_identity() -> None:
    """What a comparison removes on its way and puts back is not told."""
    for name in ("glu", "relu"):
        model, batch = CASES[name]()
        state = state_of(prepared(model))
        found = equivalent(model, batch, state, state)
        assert found.equal
        assert found.element.summary() == "the identity"


def test_steps_that_meet_become_one() -> None:
    """A group element and its inverse leave nothing behind but matrices, which are not joined."""
    model, batch = CASES["relu"]()
    model = prepared(model)
    symmetries, before = find_symmetries(model, batch), state_of(model)
    element = planted(symmetries, 1)
    assert len(element.steps) > 1
    assert element.inverse().compose(element).steps == ()
    for step in element.steps:
        one = Element((step,))
        twice = one.compose(one)
        assert len(twice.steps) <= 1
        assert gap(one.transform(one.transform(before)), twice.transform(before)) < 1e-14


def test_tensors_that_the_model_lacks_must_be_the_same_in_both() -> None:
    model, batch = CASES["relu"]()
    state = state_of(prepared(model))
    mask = {"mask": torch.ones(2)}
    assert equivalent(model, batch, state | mask, state | mask).equal
    for before, after in ((state, state | mask), (state | mask, state | {"mask": torch.zeros(2)})):
        with pytest.raises(ValueError, match="the model has no 'mask'"):
            equivalent(model, batch, before, after)
        with pytest.raises(ValueError, match="the model has no 'mask'"):
            align(model, batch, before, after)


def test_integers_are_no_weights() -> None:
    model, batch = CASES["relu"]()
    state = state_of(prepared(model))
    name = next(iter(state))
    with pytest.raises(ValueError, match=r"is torch.int32 there, torch.float64 here"):
        equivalent(model, batch, state, state | {name: state[name].to(torch.int32)})


@pytest.mark.parametrize(
    ("before", "after", "bound"),
    [
        ({torch.float64}, {torch.float64}, 1e-9),
        ({torch.float64}, {torch.float32}, 1e3 * 2.0**-23),
        ({torch.float32, torch.float64}, {torch.float64}, 1e3 * 2.0**-23),
        ({torch.float32}, {torch.bfloat16, torch.float32}, 0.05),
    ],
)
def test_what_rounding_may_leave_goes_by_the_coarsest_type(
    before: set[torch.dtype], after: set[torch.dtype], bound: float
) -> None:
    first, second = ({str(t): torch.zeros(2, dtype=t) for t in types} for types in (before, after))
    assert rounding(first, second) == pytest.approx(bound, rel=1e-12)
    assert rounding(first | {"whole": torch.zeros(2, dtype=torch.int64)}, second) == rounding(second, first)


class Of(Function):
    """A function of the tensors alone."""

    def __init__(self, function: Callable[[dict[str, Tensor]], Tensor]) -> None:
        super().__init__(nn.Identity(), None)
        object.__setattr__(self, "function", function)

    def __call__(self, params: Mapping[str, Tensor]) -> Tensor:
        return self.function(dict(params))  # type: ignore[attr-defined, no-any-return]


def test_half_way_a_network_is_held_against_the_mean_of_both_ends() -> None:
    """Of θ² at 1 and 3 the mean is 5, and half way there is 4; a function that is linear leaves nothing."""
    ends: list[dict[str, Tensor]] = [{"w": torch.tensor([x], dtype=torch.float64)} for x in (1.0, 3.0)]
    for function, expected in ((lambda p: p["w"] ** 2, 1.0), (lambda p: 7 * p["w"], 0.0)):
        assert _Between(*ends, Of(function))(Element()) == pytest.approx(expected, abs=1e-15)
    assert _Between(*ends, None)(Element()) == pytest.approx(2.0)


def test_products_of_steps_of_which_one_reads_what_another_moves() -> None:
    """A bias that answers a shift through a map, and a translation of that map, do not change places."""
    network = SMALL["attention-post-layer-norm"]()
    symmetries, before = find_symmetries(network.module, network.batch(), network.loss_fn), state_of(network.module)
    first, second = planted(symmetries, 1), planted(symmetries, 2)
    twice = second.transform(first.transform(before))
    assert gap(twice, second.compose(first).transform(before)) < 1e-12


def test_what_centring_norms_forget_is_level_whatever_mixes_the_heads_that_read_it() -> None:
    """Queries and keys read the stream before a norm in bases of their own: A = 1 + 1·vᵀ is level in any of them."""
    network = SMALL["attention-post-layer-norm"]()
    parts = Network.of(network.module, network.batch(), network.loss_fn)
    before = state_of(network.module)
    family = next(f for f in parts.families if getattr(f.action, "group", "") == "blind")
    draw = torch.Generator().manual_seed(3)
    amounts = [chosen for _, chosen in family.action.random_elements(0.5, draw)]
    heads = next(s for s in parts.symmetries.spaces if s.parameters[0].endswith("q.weight"))
    turned = heads.transform(before, heads.random_element(draw))
    moved = FamilyStep(family, amounts[-1]).transform(turned)
    level = {}
    for name, values in {"before": before, "turned": turned, "moved": moved}.items():
        matrix = levelled(parts, family, values)
        assert matrix is not None
        level[name] = FamilyStep(family, matrix).transform(values)
    assert gap(before, level["before"]) > 0.01
    assert gap(level["turned"], level["moved"]) < 1e-12
    assert torch.allclose(level["before"]["entry.weight"], level["moved"]["entry.weight"], atol=1e-12)


@pytest.mark.parametrize("name", ["norm-bias-behind-an-offset-gain", "cross-attention"])
def test_zeros_and_streams_read_by_one_packed_projection(name: str) -> None:
    """A norm's bias that is zero tells nothing; two streams that one tensor reads have matrices of their own."""
    network = SMALL[name]()
    model, batch, loss_fn = network.module, network.batch(), network.loss_fn
    before = state_of(model)
    after = planted(find_symmetries(model, batch, loss_fn), 0).transform(before)
    assert gap(before, after) > 0.1
    found = equivalent(model, batch, before, after, loss_fn)
    assert found.equal, str(found)
    assert gap(after, found.element.transform(before)) < 1e-9
