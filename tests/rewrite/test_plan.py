"""A plan does to each tensor what its changes say one after the other, whichever tensor is asked for first."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from neuralmechanics.rewrite.plan import AddImage, Centre, Copy, Factor, Fill, Mix, Multiply, Permute, Place, Plan
from neuralmechanics.rewrite.plan import plan as plan_module
from neuralmechanics.slices import SliceView
from neuralmechanics.symmetry.families.actions import MapFactor
from neuralmechanics.symmetry.families.spaces import Digit, Entry, Placement

SIZE = 6


def _params(dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    shapes = {
        "gain": (SIZE,),
        "shift": (SIZE,),
        "reader": (4, SIZE),
        "bias": (4,),
        "writer": (SIZE, 3),
        "packed": (24,),
    }
    return {name: torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype) for name, shape in shapes.items()}


def _matrix(size: int, copies: int = 1) -> torch.Tensor:
    noise = torch.randn(copies, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.linalg.qr(noise)[0].squeeze(0)


def _folded() -> Plan:
    whole, reader = Place.whole(0, SIZE), MapFactor(SliceView("reader", (4, SIZE), (0, 1)), True)
    return Plan(
        (
            AddImage("bias", (reader,), Factor.of("shift", SIZE), np.arange(SIZE)),
            Fill("shift", 0.0),
            Multiply("reader", Place.whole(1, SIZE), Factor.of("gain", SIZE, offset=1.0)),
            Fill("gain", 1.0, origin=1.0),
            Mix("reader", Place.whole(1, SIZE), _matrix(SIZE), Factor.of("gain", SIZE, -1.0, offset=1.0)),
            Mix("writer", whole, _matrix(SIZE)),
            Permute("writer", whole, np.array([2, 0, 1, 5, 4, 3])),
        )
    )


def test_changes_read_the_others_as_those_before_have_left_them() -> None:
    before = _params()
    after = _folded().apply(before)
    matrix = _matrix(SIZE)
    torch.testing.assert_close(after["bias"], before["bias"] + before["reader"] @ before["shift"])
    # The gain is 1 when the reader is mixed: it passes through nothing.
    torch.testing.assert_close(after["reader"], before["reader"] @ torch.diag(1 + before["gain"]) @ matrix.T)
    torch.testing.assert_close(after["writer"], (matrix @ before["writer"])[[2, 0, 1, 5, 4, 3]])
    assert after["gain"].abs().max() == 0
    assert after["shift"].abs().max() == 0
    assert after["packed"] is before["packed"]


def test_a_tensor_can_be_asked_for_alone() -> None:
    before, plan = _params(), _folded()
    whole = plan.apply(before)
    for name in plan.tensors:
        asked: list[str] = []

        def load(other: str, asked: list[str] = asked) -> torch.Tensor:
            asked.append(other)
            return before[other]

        assert torch.equal(plan.value(name, load), whole[name])
        assert set(asked) <= set(plan.reads(name))
    assert plan.reads("writer") == ("writer",)
    assert set(plan.reads("bias")) == {"bias", "shift", "reader"}


def test_a_large_tensor_in_blocks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    before, plan = _params(), _folded()
    whole = plan.apply(before)
    monkeypatch.setattr(plan_module, "_BLOCK", 5)
    for name, value in plan.apply(before).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_are_rounded_once(dtype: torch.dtype) -> None:
    before = _params(dtype)
    exact = _folded().apply({name: value.double() for name, value in before.items()})
    for name, value in _folded().apply(before).items():
        assert value.dtype == dtype
        assert torch.equal(value, exact[name].to(dtype)), name


def test_what_has_an_inverse_is_taken_back() -> None:
    before, whole = _params(), Place.whole(0, SIZE)
    reader = MapFactor(SliceView("reader", (4, SIZE), (0, 1)), True)
    plan = Plan(
        (
            Multiply("gain", whole, Factor(torch.linspace(1, 2, SIZE, dtype=torch.float64)), origin=1.0),
            AddImage("bias", (reader,), Factor.of("gain", SIZE), np.arange(SIZE)),
            Permute("gain", whole, np.array([1, 2, 3, 4, 5, 0])),
            Mix("reader", Place.whole(1, SIZE), _matrix(SIZE), Factor.of("gain", SIZE)),
        )
    )
    inverse = plan.inverse()
    assert inverse is not None
    back = inverse.apply(plan.apply(before))
    assert all(torch.allclose(back[name], before[name], rtol=1e-12, atol=1e-12) for name in before)
    assert _folded().inverse() is None


def test_blocks_stand_where_the_digits_say() -> None:
    """Four heads of three channels, in the second half of a packed bias; written out head by head."""
    entry = Entry("packed", (24,), Placement(0, 12, (Digit(3, 4), Digit(4, 1, 0))))
    matrix, before = _matrix(3, 4), _params()
    after = Plan((Mix("packed", Place.of(entry, (4,)), matrix),)).apply(before)["packed"]
    expected = before["packed"].clone()
    for head in range(4):
        rows = [12 + head + 4 * channel for channel in range(3)]
        expected[rows] = matrix[head] @ before["packed"][rows]
    torch.testing.assert_close(after, expected)


def test_a_copy_is_tied_no_longer_and_changes_apart() -> None:
    before = _params() | {"tied": (value := _params()["writer"])}
    before["writer"] = value
    plan = Plan(
        (
            Copy("tied", "writer"),
            Mix("writer", Place.whole(0, SIZE), _matrix(SIZE)),
            Centre("tied", Place.whole(0, SIZE)),
        )
    )
    after = plan.apply(before)
    torch.testing.assert_close(after["tied"], value - value.mean(0))
    torch.testing.assert_close(after["writer"], _matrix(SIZE) @ value)
    assert plan.untied == ("tied",)
    assert plan.reads("tied") == ("writer",)


def test_other_names_of_a_tensor_follow() -> None:
    before = _params()
    before["head"] = before["writer"]
    plan = Plan((Centre("writer", Place.whole(0, SIZE)),), {"head": "writer"})
    after = plan.apply(before)
    assert after["head"] is after["writer"]
    assert plan.source("head") == "writer"
    assert plan.source("gain") is None


def test_signs_stay_where_they_are_asked_to() -> None:
    plan = Plan((Fill("gain", 1.0, origin=1.0, signs=True),))
    gain = torch.tensor([-3.0, -1.0, 0.5], dtype=torch.float64)
    assert plan.apply({"gain": gain})["gain"].tolist() == [-2.0, 0.0, 0.0]


def test_a_plan_is_printed_and_summed_up() -> None:
    lines = str(_folded()).splitlines()
    assert lines[0] == "bias: plus reader · shift"
    assert lines[2] == "reader: times (1 + gain) along axis 1"
    assert json.loads(json.dumps(_folded().to_dict()))["changes"][3] == {"kind": "fill", "tensor": "gain", "value": 0.0}


def test_a_gain_of_zero_is_not_divided_by() -> None:
    before = _params()
    before["gain"][2] = 0.0
    plan = Plan((Mix("reader", Place.whole(1, SIZE), _matrix(SIZE), Factor.of("gain", SIZE)),))
    with pytest.raises(ValueError, match="gain has zeros, through which 'reader' cannot be mixed: fold first"):
        plan.apply(before)
    with pytest.raises(KeyError, match="the plan reads 'gain', which is missing"):
        plan.apply({"reader": before["reader"]})


def test_a_change_that_reads_its_own_tensor_reads_what_was_there() -> None:
    """w ∘ w^-1 = 1, and then 1 ∘ 1^2: each factor is made of the tensor as the change before has left it."""
    w = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64)
    place = Place.whole(0, 3)
    inverse, square = (Multiply("w", place, Factor.of("w", 3, power)) for power in (-1.0, 2.0))
    assert Plan((inverse,)).apply({"w": w})["w"].tolist() == [1.0, 1.0, 1.0]
    assert Plan((inverse, square)).apply({"w": w})["w"].tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(Plan((square, inverse)).apply({"w": w})["w"], torch.ones(3, dtype=torch.float64))
    assert torch.equal(Plan((square,)).apply({"w": w})["w"], w**3)
    assert Plan((square, inverse)).reads("w") == ("w",)
