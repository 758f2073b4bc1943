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


def test_weight_norm_has_the_eigenvalues_of_the_written_out_one():
    torch.manual_seed(0)
    v, g, x = torch.randn(4, 5).double(), (0.5 + torch.rand(4, 1)).double(), torch.randn(7, 5).double()

    def loss(norm):
        leaf = v.clone().requires_grad_()
        return (lambda: (x @ norm(leaf).T).tanh().square().sum()), leaf

    fused, first = loss(lambda v: torch._weight_norm(v, g, 0))
    plain, second = loss(lambda v: v * (g / v.norm(dim=1, keepdim=True)))
    found, right = top_eigenvalues(fused, [first], 4), top_eigenvalues(plain, [second], 4)
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-12)
    assert float(right[0]) > 0.1
