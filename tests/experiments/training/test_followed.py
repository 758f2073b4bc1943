"""Some charges of each family and their sum: a symmetry, of which every law holds; a resumed run follows the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import neuralmechanics as nm
from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig, build_model, cross_entropy, train
from neuralmechanics.experiments.config import SUM
from neuralmechanics.experiments.training.followed import some_of_each


@pytest.fixture(scope="module")
def network():
    model = build_model("vgg-small-bn", input_shape=(1, 8, 8), classes=5).double()
    batch = torch.randn(6, 1, 8, 8, dtype=torch.float64), torch.arange(6) % 5
    return model, batch, cross_entropy, nm.find_symmetries(model, batch, cross_entropy)


def test_sums_are_charges_and_their_generators_symmetries(network):
    model, batch, loss, symmetries = network
    fewer = some_of_each(symmetries, 4)
    params = {name: value.detach() for name, value in model.named_parameters()}
    assert nm.check_symmetries(fewer, model, loss, [batch]).ok
    names = [family.name for family in fewer]
    for family in symmetries:
        charges = family.charge(params)
        lone = family.name.endswith(".bias")
        if family.charges <= 5:
            assert torch.equal(fewer[family.name].charge(params), charges)
            continue
        chosen = fewer[family.name]
        assert torch.allclose(chosen.charge(params), charges[np.linspace(0, len(charges) - 1, 4).round()], rtol=1e-13)
        assert [label in family.labels for label in chosen.labels] == [True] * 4
        assert (family.name + SUM in names) != lone
        if not lone:
            whole = fewer[family.name + SUM]
            assert float(whole.charge(params)[0]) == pytest.approx(float(charges.sum()), rel=1e-12, abs=1e-12)
            assert whole.kind == family.kind
    assert some_of_each(symmetries, None) is symmetries
    assert some_of_each(symmetries, 1000).charges == symmetries.charges


def test_every_law_is_the_same_for_a_charge_followed_among_few(tmp_path):
    """And the recorded sum is the sum of what a run of all charges recorded, with what each law says of it."""
    config = TrainConfig(
        model="vgg-small-bn",
        steps=12,
        batch_size=16,
        precision="float64",
        optimizer=OptimizerConfig(learning_rate=0.05, momentum=0.9, weight_decay=1e-3),
        record=RecordConfig(every=3),
    )
    train(config, tmp_path / "all")
    train(replace(config, record=replace(config.record, charges=3)), tmp_path / "few")
    whole, few = (nm.open_run(tmp_path / name).data for name in ("all", "few"))
    assert few.sizes["charge"] < whole.sizes["charge"] / 4
    labels = whole["label"].values.tolist()
    checked = 0
    for position, (label, family) in enumerate(zip(few["label"].values, few["family"].values, strict=True)):
        one = few.isel(charge=position)
        if str(family).endswith(SUM):
            mine = whole.isel(charge=whole["family"].values == str(family).removesuffix(SUM))
            assert np.allclose(one["charge"], mine["charge"].sum("charge"), rtol=1e-12, atol=1e-12)
            for law in few["law"].values:
                predicted = mine["predicted"].sel(law=law).sum("charge", skipna=False)
                assert np.allclose(one["predicted"].sel(law=law), predicted, rtol=1e-9, atol=1e-9, equal_nan=True)
                checked += bool(np.isfinite(predicted).all())
        else:
            same = whole.isel(charge=labels.index(label))
            assert np.allclose(one["predicted"], same["predicted"], rtol=1e-10, atol=1e-10, equal_nan=True)
    assert checked >= 3 * 9


def test_a_resumed_training_follows_the_same_charges(tmp_path):
    config = TrainConfig(
        model="mlp", steps=8, batch_size=32, checkpoint_every=4, record=RecordConfig(every=2, charges=5)
    )
    train(replace(config, steps=8), tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "step-000000008.pt").unlink()
    (tmp_path / "run" / "result.json").unlink()
    train(config, tmp_path / "run", resume=True)
    run = nm.open_run(tmp_path / "run")
    assert run.data["step"].values.tolist() == [0, 2, 4, 6, 8]
    exact = run.errors().query("law == 'exact'")
    assert exact["max_error"].max() < 1e-5
