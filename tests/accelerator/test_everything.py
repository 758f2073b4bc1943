"""Every public function takes a model on an accelerator, finds what it finds on a processor, and leaves no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.functional.as_found.test_every_function import CALLS
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics import experiments, flows, rewrite
from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig, train
from neuralmechanics.monitor import open_run

Batch = tuple[Tensor, Tensor]


def squares(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def perceptron() -> nn.Sequential:
    """With a dropout that is alone in evaluation mode, as the case of every function has it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 5), nn.LayerNorm(5), nn.Linear(5, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def states() -> tuple[bytes, ...]:
    return (
        bytes(torch.get_rng_state().numpy()),
        *(bytes(state.cpu().numpy()) for state in torch.cuda.get_rng_state_all()),
    )


@pytest.mark.parametrize("call", CALLS)
def test_every_function_leaves_random_states_and_parameters(call: str, device: torch.device) -> None:
    model = perceptron().double().to(device)
    model[4].eval()
    batch = tuple(torch.randn(4, 2, dtype=torch.float64, device=device) for _ in range(2))
    if call == "Monitor":
        pytest.skip("its case names the parameters of another model")
    before, parameters = states(), {name: value.clone() for name, value in model.state_dict().items()}
    if call == "experiments.evaluate":
        experiments.evaluate(model, [(batch[0], torch.zeros(4, dtype=torch.long, device=device))])
    else:
        CALLS[call](model, batch)  # type: ignore[arg-type]
    assert states() == before
    assert all(torch.equal(value, parameters[name]) for name, value in model.state_dict().items())
    assert {value.device for value in model.state_dict().values()} == {device}


def test_dropout_draws_what_it_would_have_drawn(device: torch.device) -> None:
    """A search, a check and a measurement between two steps change no random number of the training on the device."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)).to(device)
    batch = torch.randn(4, 2, device=device), torch.randn(4, 2, device=device)
    torch.cuda.manual_seed(5)
    known = model(batch[0])
    torch.cuda.manual_seed(5)
    symmetries = nm.find_symmetries(model, batch, squares)
    report = nm.check_symmetries(symmetries, model, squares, [batch])
    assert report.ok
    assert torch.equal(model(batch[0]), known)


def networks() -> dict[str, tuple[nn.Module, Any]]:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    tokens = torch.randn(2, 5, 8)
    return {
        "perceptron": (perceptron().eval(), torch.randn(6, 2)),
        "convolutions": (
            nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
            ),
            images,
        ),
        "attention": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), tokens),
        "recurrent": (nn.GRU(8, 4, batch_first=True), tokens),
    }


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "attention", "recurrent"])
def test_the_same_symmetries_are_found_and_hold(name: str, device: torch.device) -> None:
    model, inputs = networks()[name]

    def loss(m: nn.Module, x: Tensor) -> Tensor:
        out = m(x)
        return (out[0] if isinstance(out, tuple) else out).square().mean()

    known = nm.find_symmetries(model.double(), inputs.double(), loss)
    model, inputs = model.to(device), inputs.double().to(device)
    found = nm.find_symmetries(model, inputs, loss)
    assert found.labels == known.labels
    assert found.unknown == known.unknown
    assert nm.check_symmetries(found, model, loss, [inputs]).ok


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "attention", "recurrent"])
def test_charges_of_each_kind_alone_are_those_of_the_processor(name: str, device: torch.device) -> None:
    """A model may have no translation, or no quadratic charge: sums over nothing lie on the device, too."""
    model, inputs = networks()[name]

    def loss(m: nn.Module, x: Tensor) -> Tensor:
        out = m(x)
        return (out[0] if isinstance(out, tuple) else out).square().mean()

    found = nm.find_symmetries(model.double(), inputs.double(), loss)
    here = {n: p.detach() for n, p in model.named_parameters()}
    there = {n: p.to(device) for n, p in here.items()}
    assert found.kinds
    for kind in found.kinds:
        part = found.of_kind(kind)
        for measure in (part.charge, part.charge_scale, part.tangent_scale, lambda p, part=part: part.residual(p, p)):
            value = measure(there)
            assert value.device == device
            assert torch.allclose(value.cpu(), measure(here), rtol=1e-12, atol=1e-12)
        model.to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        with nm.Monitor(model, optimizer, part, every=2, strict=True) as monitor:
            for _ in range(4):
                optimizer.zero_grad()
                loss(model, inputs.double().to(device)).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        assert monitor.run.errors().query("law == 'identity'")["max_error"].max() < 1e-10
        model.to("cpu")


def test_rewrites_and_comparisons(device: torch.device) -> None:
    model = perceptron().eval().double().to(device)
    batch = torch.randn(4, 2, dtype=torch.float64, device=device), torch.randn(4, 2, dtype=torch.float64, device=device)
    turned = rewrite.permute(model, batch, squares)
    after = {**model.state_dict(), **turned.params}
    assert any(not torch.equal(after[name], value) for name, value in model.state_dict().items())
    known = squares(model, batch)
    assert rewrite.equivalent(model, batch, dict(model.state_dict()), after, squares).equal
    model.load_state_dict(after)
    assert torch.allclose(squares(model, batch), known, rtol=1e-12)


def test_gradient_flow_keeps_every_charge(device: torch.device) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)).double().to(device)
    batch = torch.randn(4, 2, dtype=torch.float64, device=device), torch.randn(4, 2, dtype=torch.float64, device=device)
    symmetries = nm.find_symmetries(model, batch, squares)
    loss = flows.module_loss(model, squares, batch)
    path = flows.integrate(flows.GradientFlow(loss), loss.theta0, [0.0, 0.5], symmetries, rtol=1e-12, atol=1e-14)
    assert path.charges is not None
    assert float((path.charges[0] - path.charges[-1]).abs().max()) < 1e-8
    assert float(path.losses[-1]) < 0.9 * float(path.losses[0])


def test_a_training_is_resumed_bit_by_bit(tmp_path: Path, device: torch.device) -> None:
    """Twenty steps, then twenty more from the checkpoint, are forty steps."""
    config = TrainConfig(
        model="convnet-bn",
        steps=40,
        batch_size=32,
        device=str(device),
        checkpoint_every=20,
        optimizer=OptimizerConfig(learning_rate=0.02, momentum=0.9, weight_decay=1e-3),
        record=RecordConfig(every=10),
    )
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        train(config, tmp_path / "whole")
        train(config, tmp_path / "again")
    finally:
        torch.use_deterministic_algorithms(deterministic)
    whole, again = (open_run(tmp_path / name) for name in ("whole", "again"))
    assert (whole.data["charge"].values == again.data["charge"].values).all()
    errors = whole.errors()
    assert errors[errors["law"] == "exact"]["max_error"].max() < 1e-4
