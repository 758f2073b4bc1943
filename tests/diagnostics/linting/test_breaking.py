"""The measured residual of a broken scale family is what the norm's eps predicts, for every kind of norm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.linting.measured_breaking import measure_breaking
from neuralmechanics.experiments import build_model


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    logits = model(batch[0])
    return nn.functional.cross_entropy(logits.flatten(0, -2), batch[1].flatten())


def image_net(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)).double()


def token_net(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), norm, nn.Tanh(), nn.Linear(4, 3)).double()


IMAGES = {
    "batch": lambda: nn.BatchNorm2d(4, eps=1e-2),
    "instance": lambda: nn.InstanceNorm2d(4, eps=1e-2, affine=True),
    "group": lambda: nn.GroupNorm(2, 4, eps=1e-2),
}
TOKENS = {
    "layer": lambda: nn.LayerNorm(4, eps=1e-2),
    "rms": lambda: nn.RMSNorm(4, eps=1e-2),
    "batch-of-vectors": lambda: nn.BatchNorm1d(4, eps=1e-2),
}


@pytest.mark.parametrize("name", [*IMAGES, *TOKENS])
def test_the_residual_is_the_one_that_eps_predicts(name: str) -> None:
    torch.manual_seed(0)
    model = image_net(IMAGES[name]()) if name in IMAGES else token_net(TOKENS[name]())
    with torch.no_grad():
        for p in model[1].parameters():
            p.add_(0.3 * torch.randn_like(p))
    inputs = torch.randn(6, 2, 4, 4) if name in IMAGES else torch.randn(6, 5)
    batch = inputs.double(), torch.randint(3, (6,))
    frame = measure_breaking(find_symmetries(model, batch, loss_fn), model, loss_fn, batch)
    assert len(frame) == 1
    row = frame.iloc[0]
    assert (row.kind, row.constant, row.value, row["where"]) == ("scale", "eps", 1e-2, "1")
    assert 1e-3 < row.share < 1
    assert row.residual > 1e-4
    assert row.predicted == pytest.approx(row.residual, rel=1e-9)
    assert row.contribution == row.predicted


def test_the_residual_stream_adds_the_norms_up() -> None:
    """One global scale through five layer norms: the sum of their pulls."""
    torch.manual_seed(0)
    model = build_model("gpt", input_shape=(6,), classes=7).double()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.1
    batch = torch.randint(7, (3, 6)), torch.randint(7, (3, 6))
    frame = measure_breaking(find_symmetries(model, batch, loss_fn), model, loss_fn, batch)
    assert len(frame) == 5
    assert (frame.residual > 1e-3).all()
    assert frame.predicted.to_numpy() == pytest.approx(frame.residual.to_numpy(), rel=1e-9)
    assert frame.contribution.nunique() == 5


def test_the_residual_falls_with_eps_in_proportion() -> None:
    torch.manual_seed(0)
    batch = torch.randn(16, 5).double(), torch.randint(3, (16,))
    model = token_net(nn.BatchNorm1d(4))
    found = []
    for eps in (1e-4, 1e-6, 1e-8):
        model[1].eps = eps
        found.append(
            float(measure_breaking(find_symmetries(model, batch, loss_fn), model, loss_fn, batch).residual.iloc[0])
        )
    assert found[0] / found[1] == pytest.approx(100, rel=1e-2)
    assert found[1] / found[2] == pytest.approx(100, rel=1e-3)


def test_nothing_in_the_model_changes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.ReLU(inplace=True), nn.Linear(4, 3))
    batch = torch.randn(6, 5), torch.randint(3, (6,))
    symmetries = find_symmetries(model, batch, loss_fn)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    measure_breaking(symmetries, model, loss_fn, batch)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def test_without_a_broken_family_the_table_is_empty() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    batch = torch.randn(6, 5), torch.randint(3, (6,))
    frame = measure_breaking(find_symmetries(model, batch, loss_fn), model, loss_fn, batch)
    assert len(frame) == 0
    assert list(frame.columns)[:5] == ["family", "kind", "constant", "value", "where"]


def test_a_loss_that_is_no_number_is_refused() -> None:
    model = token_net(nn.BatchNorm1d(4))
    batch = torch.randn(6, 5).double(), torch.randint(3, (6,))
    symmetries = find_symmetries(model, batch, loss_fn)
    with pytest.raises(ValueError, match="must return one number"):
        measure_breaking(symmetries, model, lambda m, b: m(b[0]), batch)
