"""`assert_symmetric` catches every planted fault and passes on the correct twins."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.checking.asserting import assert_symmetric

from .faults import FAULTS, Fault, batches, cross_entropy


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str) -> None:
    fault = FAULTS[name]
    message = "families broken" if fault.expect is None else "rescale charges found, 6 expected"
    with pytest.raises(AssertionError, match=message):
        assert_symmetric(fault.build(name).double(), fault.loss, batches(), expect=fault.expect)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "fault",
    {(fault.build, fault.loss): fault for fault in FAULTS.values()}.values(),
    ids=lambda fault: fault.build.__name__,
)
def test_the_twin_passes(fault: Fault, dtype: torch.dtype) -> None:
    report = assert_symmetric(fault.build("none").to(dtype), fault.loss, batches(dtype), expect=fault.expect)
    assert report.ok
    assert report.families


def test_there_are_enough_faults() -> None:
    assert len(FAULTS) >= 12


FORWARD: dict[str, nn.Module] = {
    "activation without homogeneity": nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3)),
    "norm over the wrong part": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.LayerNorm(6), nn.Linear(6, 3)),
    "bias forgotten": nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)),
}


@pytest.mark.parametrize("name", FORWARD)
def test_a_symmetric_forward_fault_shows_in_the_numbers(name: str) -> None:
    model = FORWARD[name].double()
    twin = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    expect = {"translation": 7, "scale": 0, "rescale": 6}
    assert assert_symmetric(twin, cross_entropy, batches(), expect=expect).ok
    with pytest.raises(AssertionError, match="expected"):
        assert_symmetric(model, cross_entropy, batches(), expect=expect)


def test_nothing_to_test_is_no_success() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()

    def fourth_power(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return model(batch[0]).pow(4).mean()

    with pytest.raises(AssertionError, match="nothing was tested"):
        assert_symmetric(model, fourth_power, batches())
    assert not assert_symmetric(model, fourth_power, batches(), expect={}).families


def test_no_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        assert_symmetric(nn.Linear(2, 2), cross_entropy, [])
