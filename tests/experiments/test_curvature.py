"""Hessian eigenvalues against the dense Hessian."""

from __future__ import annotations

import torch
from torch.func import functional_call

from neuralmechanics.experiments import build_model, cross_entropy, top_eigenvalues


def test_lanczos_agrees_with_the_dense_hessian():
    model = build_model("vit", input_shape=(1, 4, 4), classes=3).double()
    head = dict(model.named_parameters())["head.weight"]
    inputs = torch.randn(9, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = (inputs, torch.arange(9) % 3)

    def at(weight: torch.Tensor) -> torch.Tensor:
        logits = functional_call(model, {"head.weight": weight}, (inputs,))
        return torch.nn.functional.cross_entropy(logits, batch[1])

    dense = torch.autograd.functional.hessian(at, head.detach()).reshape(head.numel(), head.numel())
    expected = torch.linalg.eigvalsh(dense).flip(0)[:3]
    found = top_eigenvalues(lambda: cross_entropy(model, batch), [head], 3, iterations=60)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_more_eigenvalues_than_parameters_are_nan():
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    values = top_eigenvalues(lambda: (theta**2).sum(), [theta], 4)
    torch.testing.assert_close(values[:1], torch.tensor([2.0], dtype=torch.float64))
    assert values[2:].isnan().all()
