"""What makes gradients of scale-free weights as large as they are: each factor against an independent reference."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.distributions import Categorical

from neuralmechanics.diagnostics import GradientEnergy, gradient_energy
from neuralmechanics.symmetry import Symmetries, find_symmetries

Batch = tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Two tokens' queries and keys of unit length, times a gain; a norm before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(4, 4, bias=False) for _ in range(3))
        self.gain, self.head = nn.Parameter(torch.tensor(2.0)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key = (F.rms_norm(part(x), (4,), eps=0.0) for part in (self.query, self.key))
        mixed = F.scaled_dot_product_attention(self.gain * query, key, self.value(x)).mean(-2)
        out: Tensor = self.head(F.rms_norm(mixed, (4,), eps=0.0))
        return out


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """The mean cross-entropy."""
    return F.cross_entropy(model(batch[0]), batch[1])


def drawn(model: nn.Module, batch: Batch) -> Batch:
    """Labels that the model draws."""
    return batch[0], Categorical(logits=model(batch[0])).sample()


def scene(batches: int = 6, size: int = 5, seed: int = 0) -> tuple[nn.Module, list[Batch], Symmetries]:
    torch.manual_seed(seed)
    model = Attention().double()
    data = [(torch.randn(size, 2, 4, dtype=torch.float64), torch.randint(3, (size,))) for _ in range(batches)]
    return model, data, symmetries()


@cache
def symmetries() -> Symmetries:
    """They do not depend on the parameters."""
    return find_symmetries(
        Attention().double(), (torch.randn(5, 2, 4, dtype=torch.float64), torch.randint(3, (5,))), loss
    )


def gradients(model: nn.Module, data: list[Batch], name: str) -> Tensor:
    """One row a batch, by plain autograd."""
    parameter = dict(model.named_parameters())[name]
    return torch.stack([torch.autograd.grad(loss(model, batch), parameter)[0].reshape(-1) for batch in data])


def entry(found: GradientEnergy, name: str) -> int:
    return next(k for k, label in enumerate(found.labels) if name in label)


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_mean_and_noise_are_those_of_all_pairs_of_batches(name: str) -> None:
    model, data, known = scene()
    found = gradient_energy(model, loss, data, known)
    rows = gradients(model, data, f"{name}.weight")
    pairs = [float(a @ b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    k = entry(found, name)
    assert found.batch[k] == pytest.approx(float(rows.square().sum(1).mean()), rel=1e-12)
    assert found.mean[k] == pytest.approx(sum(pairs) / len(pairs), rel=1e-10)
    assert np.isnan(found.curvature).all()


def test_the_same_batch_twice_has_no_noise() -> None:
    model, data, known = scene()
    found = gradient_energy(model, loss, [data[0], data[0]], known)
    np.testing.assert_allclose(found.mean, found.batch, rtol=1e-12)


def test_the_curvature_is_the_trace_of_the_gauss_newton_matrix() -> None:
    # One example: tr F = Σ_k p_k |∇ log p_k|², summed over the labels one by one.
    model, data, known = scene(size=1)
    count = 80
    found = gradient_energy(model, loss, [data[0]] * count, known, draw=drawn)
    p = model(data[0][0]).softmax(-1)[0].detach()
    for name in ("query", "key", "value"):
        rows = gradients(model, [(data[0][0], torch.tensor([k])) for k in range(3)], f"{name}.weight")
        energies = rows.square().sum(1)
        trace = float((p * energies).sum())
        spread = float((p * (energies - trace).square()).sum().sqrt()) / count**0.5
        assert abs(found.curvature[entry(found, name)] - trace) < 4 * spread
        # and the mean of the gradients for such labels is zero, whatever the model is
        assert float((p[:, None] * rows).sum(0).norm()) < 1e-14


def test_where_the_model_is_right_about_its_labels_noise_and_curvature_are_one() -> None:
    model, data, known = scene(batches=80, size=2)
    with torch.no_grad():
        right = [drawn(model, batch) for batch in data]
    found = gradient_energy(model, loss, right, known, draw=drawn)
    rows = {name: gradients(model, right, f"{name}.weight").square().sum(1) for name in ("query", "key", "value")}
    for name, energies in rows.items():
        k = entry(found, name)
        # both are means over the batches of the same quantity, drawn independently of each other
        spread = float(energies.std()) * (2 / len(energies)) ** 0.5
        assert abs(found.batch[k] - found.curvature[k]) < 4 * spread
        assert abs(found.mean[k]) < 4 * spread


def test_what_a_scaling_does_is_the_norm_alone() -> None:
    model, data, known = scene()
    before = gradient_energy(model, loss, data, known, draw=drawn)
    factors = {"query": 3.0, "key": 0.25, "value": 1.5}
    with torch.no_grad():
        for name, factor in factors.items():
            model.get_parameter(f"{name}.weight").mul_(factor)
    growth = gradient_energy(model, loss, data, known, draw=drawn).growth_since(before)
    for name, factor in factors.items():
        k = entry(before, name)
        assert growth.norm[k] == pytest.approx(1 / factor, rel=1e-12)
        assert growth.gradient[k] == pytest.approx(1 / factor, rel=1e-9)
    for rest in (growth.curvature, growth.mean_gradient, growth.calibration):
        np.testing.assert_allclose(rest, 1.0, rtol=1e-9)
    assert growth.explained == pytest.approx(1.0, abs=1e-8)
    assert growth.explained_by_norm == pytest.approx(1.0, abs=1e-8)


def test_the_factors_multiply_to_the_growth() -> None:
    model, data, known = scene(batches=8, size=4)
    before = gradient_energy(model, loss, data, known, draw=drawn)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    growth = gradient_energy(model, loss, data, known, draw=drawn).growth_since(before)
    product = growth.norm * growth.curvature * growth.mean_gradient * growth.calibration
    np.testing.assert_allclose(product, growth.gradient, rtol=1e-12)
    frame = growth.to_frame()
    assert list(frame["label"]) == list(before.labels)
    logs = np.log(growth.calibration).mean() / np.log(growth.gradient).mean()
    assert growth.explained == pytest.approx(1 - abs(logs), rel=1e-12)


def test_a_gain_that_doubles_what_is_read_of_a_query_doubles_the_curvature() -> None:
    # at small gains attention is linear in gain · query̅, which no norm of the query knows of
    model, data, known = scene()
    found = []
    for gain in (1e-4, 2e-4):
        with torch.no_grad():
            model.gain.fill_(gain)  # type: ignore[operator]
        found.append(gradient_energy(model, loss, data, known, draw=drawn))
    growth = found[1].growth_since(found[0])
    k = entry(found[0], "query")
    assert growth.norm[k] == 1.0
    assert growth.curvature[k] == pytest.approx(2.0, rel=1e-2)


def test_nothing_of_the_caller_changes() -> None:
    model, data, known = scene()
    model.eval()
    model(data[0][0]).sum().backward()
    held = {n: (p.detach().clone(), None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()}
    state = torch.get_rng_state()
    first = gradient_energy(model, loss, data, known, draw=drawn)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    for name, parameter in model.named_parameters():
        value, slope = held[name]
        assert torch.equal(parameter, value)
        assert (parameter.grad is None) == (slope is None)
        assert slope is None or torch.equal(parameter.grad, slope)  # type: ignore[arg-type]
    again = gradient_energy(model, loss, data, known, draw=drawn)
    np.testing.assert_array_equal(first.curvature, again.curvature)


class Powers(nn.Module):
    """A norm of xUᵀ + b² forgets a factor of U and the root of it of b together; one of xVᵀ forgets that of V."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v = (nn.Parameter(torch.randn(4, 3)) for _ in range(2))
        self.b = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        bent = F.rms_norm(x @ self.u.T + self.b**2, (4,), eps=0.0)
        return bent + F.rms_norm(x @ self.v.T, (4,), eps=0.0)


def test_families_of_unlike_powers_are_passed_over_by_name() -> None:
    torch.manual_seed(0)
    model = Powers()
    data = [(torch.randn(5, 3), torch.randint(4, (5,))) for _ in range(3)]
    known = find_symmetries(model, data[0], loss)
    unlike = [f.name for f in known.of_kind("scale") if len(f.parameters) > 1]
    assert unlike, "the network has a family of several powers"
    found = gradient_energy(model, loss, data, known)
    assert list(found.passed_over) == unlike
    assert unlike[0] in repr(found)


def test_what_cannot_be_told_is_refused() -> None:
    model, data, known = scene()
    with pytest.raises(ValueError, match="at least 2"):
        gradient_energy(model, loss, data[:1], known)
    with pytest.raises(ValueError, match="no family is a scale"):
        gradient_energy(model, loss, data, known.of_kind("rescale"))
    with pytest.raises(ValueError, match=r"batches\[0\]"):
        gradient_energy(model, loss, [(torch.randn(5, 2, 3), data[0][1])] * 2, known)
    few = gradient_energy(model, loss, data, Symmetries(known.of_kind("scale").families[:1]))
    with pytest.raises(ValueError, match="not the same"):
        few.growth_since(gradient_energy(model, loss, data, known))


def test_a_plain_function_and_a_generator_of_labels() -> None:
    torch.manual_seed(0)
    params = {"w": torch.randn(3, 4, dtype=torch.float64)}

    def function(p: dict[str, Tensor], x: Any) -> Tensor:
        return F.rms_norm(x @ p["w"], (4,), eps=0.0)

    data = [(torch.randn(5, 3, dtype=torch.float64), torch.randint(4, (5,))) for _ in range(3)]
    known = find_symmetries(function, data[0][0], params=params)
    found = gradient_energy(function, loss, data, known, draw=drawn, params=params)
    assert found.squared_norm[0] == pytest.approx(float(params["w"].square().sum()))
    assert (found.curvature > 0).all()
