"""What all laws share: saving, replay, devices, linearity in the drives, and what they refuse."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuralmechanics.laws import (
    DriveHistory,
    Drives,
    ExactLaw,
    FirstOrderLaw,
    GradientFlowLaw,
    Hyperparameters,
    IdentityLaw,
    ModifiedFlowLaw,
    ModifiedLossLaw,
    RotationLaw,
    replay,
)

LAWS = {
    "exact": ExactLaw,
    "identity": lambda quadratic: ExactLaw(quadratic, measured_residual=True),
    "any optimiser": IdentityLaw,
    "gradient_flow": GradientFlowLaw,
    "modified_loss": ModifiedLossLaw,
    "modified_flow": ModifiedFlowLaw,
    "first_order": FirstOrderLaw,
}
DRIVES = [field.name for field in fields(Drives)]


def same(a, b):
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def continued(law, history, begin):
    for index in range(begin, len(history)):
        law.step(*history.step(index))
    return law.value


@pytest.mark.parametrize("name", LAWS)
def test_a_resumed_law_continues_to_the_last_bit(name, eventful):
    law = LAWS[name](eventful.quadratic)
    law.start(eventful.history.charge0)
    for index in range(310):  # in the middle of the spell without momentum
        law.step(*eventful.history.step(index))
    saved = {key: tensor.clone() for key, tensor in law.state_dict().items()}
    whole = continued(law, eventful.history, 310)
    resumed = LAWS[name](None)
    resumed.load_state_dict(saved)
    assert same(continued(resumed, eventful.history, 310), whole)
    assert all(isinstance(tensor, torch.Tensor) for tensor in saved.values())


@pytest.mark.parametrize("name", LAWS)
def test_a_step_reads_no_value_and_so_never_waits_for_a_device(name):
    """Meta tensors have no values: a step that branched on one, or took one to the host, would raise."""
    ghost = torch.empty(5, device="meta", dtype=torch.float64)
    flags = torch.empty(5, device="meta", dtype=torch.bool)
    law = LAWS[name](flags)
    law.start(ghost)
    drives = Drives(**dict.fromkeys(DRIVES, ghost))
    for hyper in (
        Hyperparameters(0.1, 1e-3, 0.9, first_step=True),
        Hyperparameters(0.1, 1e-3, 0.9, nesterov=True),
        Hyperparameters(ghost, ghost, ghost, ghost, flags, flags, flags, flags),
    ):
        law.step(hyper, drives)
    assert law.value.is_meta


@pytest.mark.parametrize("name", LAWS)
def test_numbers_and_tensors_say_the_same(name):
    drives = Drives(**{key: torch.rand(4, dtype=torch.float64) for key in DRIVES})
    quadratic = torch.tensor([True, False, True, False])
    plain, spread = LAWS[name](quadratic), LAWS[name](quadratic)
    options = {"learning_rate": 0.1, "weight_decay": 1e-3, "momentum": 0.9, "nesterov": True}
    for law, hyper in (
        (plain, Hyperparameters(**options)),
        (spread, Hyperparameters(**{k: torch.full((4,), v) if v is True else full(v) for k, v in options.items()})),
    ):
        law.start(torch.tensor([1.0, 2.0, -1.0, 0.5], dtype=torch.float64))
        for _ in range(5):
            law.step(hyper, drives)
    assert same(plain.value, spread.value)


def full(value):
    return torch.full((4,), value, dtype=torch.float64)


def test_hyperparameters_changed_in_place_are_noticed():
    rate = torch.tensor(0.1, dtype=torch.float64)
    law, hyper = GradientFlowLaw(), Hyperparameters(rate, 1.0)
    law.start(torch.ones(1, dtype=torch.float64))
    law.step(hyper, Drives())
    rate.fill_(0.3)
    law.step(hyper, Drives())
    assert law.value.item() == pytest.approx(torch.tensor(-0.8, dtype=torch.float64).exp().item(), rel=1e-15)


def test_replay_equals_stepping(grid):
    path = replay(ModifiedFlowLaw(grid.quadratic), grid.history)
    law = ModifiedFlowLaw(grid.quadratic)
    law.start(grid.history.charge0)
    assert path.shape == grid.charges.shape
    assert torch.equal(path[0], grid.charges[0])
    assert torch.equal(continued(law, grid.history, 0), path[-1])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(set(LAWS) - {"first_order"})),
    momentum=st.sampled_from([0.0, 0.3, 0.9, 0.999]),
    decay=st.floats(0, 0.1),
    rate=st.floats(1e-4, 1.0),
    nesterov=st.booleans(),
    decoupled=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_laws_are_linear_so_shards_of_a_parameter_add_up(name, momentum, decay, rate, nesterov, decoupled, seed):
    generator = torch.Generator().manual_seed(seed)
    quadratic = torch.tensor([True, False])
    hyper = [
        Hyperparameters(rate, decay, momentum, nesterov=nesterov, decoupled=decoupled, first_step=k == 0)
        for k in range(20)
    ]

    def history():
        drives = {key: torch.randn(20, 2, dtype=torch.float64, generator=generator) for key in DRIVES}
        return DriveHistory(torch.randn(2, dtype=torch.float64, generator=generator), hyper, Drives(**drives))

    a, b = history(), history()
    together = {key: getattr(a.drives, key) + getattr(b.drives, key) for key in DRIVES}
    whole = DriveHistory(a.charge0 + b.charge0, hyper, Drives(**together))
    parts = [replay(LAWS[name](quadratic), part) for part in (a, b, whole)]
    size = sum(part.abs().max() for part in parts)
    assert (parts[0] + parts[1] - parts[2]).abs().max() <= 1e-12 * size


@settings(max_examples=25, deadline=None)
@given(
    momentum=st.floats(0, 0.9999),
    decay=st.floats(0, 1e3),
    rate=st.floats(0, 10.0),
    dampening=st.floats(0, 1.0),
    decoupled=st.booleans(),
)
def test_the_modified_flow_of_an_undriven_norm_never_grows(momentum, decay, rate, dampening, decoupled):
    law = ModifiedFlowLaw()
    law.start(torch.ones(1, dtype=torch.float64))
    hyper = Hyperparameters(rate, decay, momentum, dampening, decoupled=decoupled)
    energies = []
    for _ in range(200):
        law.step(hyper, Drives(torch.zeros(1, dtype=torch.float64)))
        energies.append(law.value.abs())
    # at most the swing that the start itself can give: |x'(0)|/ω beside x(0)
    assert torch.stack(energies).max() <= 1 + 2 * (rate * decay + (rate * decay) ** 0.5) + 1e-9


@pytest.mark.parametrize(
    ("name", "missing", "nesterov"),
    [
        ("exact", "update_energy", False),
        ("exact", "update_velocity", True),
        ("identity", "residual", False),
        ("any optimiser", "parameter_update", False),
        ("modified_flow", "update_energy", False),
        ("modified_flow", "update_velocity", True),
        ("modified_loss", "gradient_energy", False),
        ("first_order", "gradient_energy", False),
    ],
)
def test_a_missing_drive_is_named(name, missing, nesterov):
    drives = Drives(**(dict.fromkeys(DRIVES, torch.ones(2, dtype=torch.float64)) | {missing: None}))
    law = LAWS[name](None)
    law.start(torch.ones(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=f"needs the drive {missing} at every step") as caught:
        law.step(Hyperparameters(0.1, momentum=0.9, nesterov=nesterov), drives)
    assert "\n" not in str(caught.value)


def test_translations_alone_need_no_drive():
    for law in (ExactLaw, ModifiedFlowLaw, ModifiedLossLaw, GradientFlowLaw):
        translations = law(torch.tensor([False]))
        translations.start(torch.ones(1, dtype=torch.float64))
        translations.step(Hyperparameters(0.1, 0.1, 0.9, nesterov=True), Drives())
        assert 0.8 < translations.value.item() < 1


def test_bad_input_is_refused_in_one_line():
    ones = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="weight_decay is -1, which is negative"):
        Hyperparameters(0.1, -1)
    with pytest.raises(ValueError, match="momentum is nan, which is not a number"):
        Hyperparameters(0.1, 0.0, float("nan"))
    with pytest.raises(RuntimeError, match="exact law has not begun"):
        ExactLaw().step(Hyperparameters(0.1), Drives(ones))
    with pytest.raises(RuntimeError, match="has not begun"):
        _ = ModifiedFlowLaw().value
    with pytest.raises(ValueError, match=r"quadratic of shape \[2\]"):
        ExactLaw(torch.tensor([True, False])).start(ones)
    law = ExactLaw()
    law.start(ones)
    with pytest.raises(ValueError, match=r"drive update_energy has shape \[2\]"):
        law.step(Hyperparameters(0.1), Drives(ones[:2]))
    with pytest.raises(ValueError, match=r"momentum has shape \[2\], the law follows \[3\] charges"):
        law.step(Hyperparameters(0.1, momentum=ones[:2]), Drives(ones))
    with pytest.raises(ValueError, match=r"cannot load the entries \['charge'\]"):
        law.load_state_dict({"charge": ones})
    with pytest.raises(ValueError, match="stack one row a step"):
        DriveHistory(ones, [Hyperparameters(0.1)] * 2, Drives(torch.ones(3, 3)))
    law.step(replace(Hyperparameters(0.1), active=False), Drives(ones))
    assert torch.equal(law.value, ones)


def test_rotation_law_saves_and_resumes():
    law, resumed = RotationLaw(), RotationLaw()
    law.start(torch.tensor([1.0, -2.0], dtype=torch.float64))
    law.step(Hyperparameters(0.1, momentum=0.9), Drives())
    resumed.load_state_dict(law.state_dict())
    for each in (law, resumed):
        each.step(Hyperparameters(0.1, momentum=0.5), Drives())
    assert torch.equal(law.value, resumed.value)
