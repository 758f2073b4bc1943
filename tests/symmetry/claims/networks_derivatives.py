"""Losses that differentiate inside: penalties on gradients, physics, forces, traces, meta-learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vmap
from torch.nn import functional

from .entry import Loss, normal, register


class ReluSquared(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


class ReluCubed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x).pow(3)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "relu squared": ReluSquared,
    "leaky": lambda: nn.LeakyReLU(0.2),
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}


def _net(activation: Callable[[], nn.Module], outputs: int = 1, inputs: int = 3) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(inputs, 4), activation(), nn.Linear(4, outputs))


def _input_gradient(model: Any, x: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    x = x.clone().requires_grad_()
    out = model(x)
    return x, out, torch.autograd.grad(out.sum(), x, create_graph=True, **options)[0]


def _penalty(model: nn.Module, batch: Any) -> Tensor:
    slope = _input_gradient(model, batch[0])[2]
    return (slope.norm(dim=1) - 1).square().mean()


def _critic(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    mixed = 0.3 * x + 0.7 * y
    return model(x).mean() - model(y).mean() + 10 * _penalty(model, (mixed,))


def _squared_slope(model: nn.Module, batch: Any) -> Tensor:
    _, out, slope = _input_gradient(model, batch[0])
    return out.square().mean() + slope.square().sum(1).mean()


def _slope_alone(model: nn.Module, batch: Any) -> Tensor:
    return _input_gradient(model, batch[0])[2].square().sum(1).mean()


def _physics(model: nn.Module, batch: Any) -> Tensor:
    """u_t = u_xx + u of a network of (t, x, p)."""
    x, out, slope = _input_gradient(model, batch[0])
    second = torch.autograd.grad(slope[:, 1].sum(), x, create_graph=True)[0][:, 1]
    return (slope[:, 0] - second - out[:, 0]).square().mean() + out[:2].square().mean()


def _laplacian(model: nn.Module, batch: Any) -> Tensor:
    x, _, slope = _input_gradient(model, batch[0])
    trace = sum(torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(3))
    return (trace - 0.2).square().mean()


def _forces(model: nn.Module, batch: Any) -> Tensor:
    _, energy, slope = _input_gradient(model, batch[0])
    return (energy[:, 0] - batch[1][:, 0]).square().mean() + (-slope - batch[1]).square().mean()


def _forces_alone(model: nn.Module, batch: Any) -> Tensor:
    return (-_input_gradient(model, batch[0])[2] - batch[1]).square().mean()


def _pair_forces(model: nn.Module, batch: Any) -> Tensor:
    x = batch[0].clone().requires_grad_()
    energy = model(x[:, None] - x[None]).sum() + model(x[None] - x[:, None]).tanh().sum()
    return (torch.autograd.grad(energy, x, create_graph=True)[0] - batch[1]).square().mean()


def _hessian_vector(model: nn.Module, batch: Any) -> Tensor:
    x, out, slope = _input_gradient(model, batch[0])
    product = torch.autograd.grad((slope * batch[1]).sum(), x, create_graph=True)[0]
    return (product * batch[1]).sum(1).mean() + out.sin().mean()


def _score(model: nn.Module, batch: Any) -> Tensor:
    """Sliced score matching: ½ |s|² + vᵀ ∇(sᵀ v)."""
    x = batch[0].clone().requires_grad_()
    score = model(x)
    directional = torch.autograd.grad((score * batch[1]).sum(), x, create_graph=True)[0]
    return 0.5 * score.square().sum(1).mean() + (directional * batch[1]).sum(1).mean()


def _jacobian_norm(model: nn.Module, batch: Any) -> Tensor:
    x = batch[0].clone().requires_grad_()
    out = model(x)
    rows = [torch.autograd.grad(out[:, k].sum(), x, create_graph=True)[0] for k in range(out.shape[1])]
    return functional.cross_entropy(out, torch.arange(len(x)) % out.shape[1]) + torch.stack(rows).square().sum()


def _double_backprop(model: nn.Module, batch: Any) -> Tensor:
    x = batch[0].clone().requires_grad_()
    loss = functional.cross_entropy(model(x), torch.arange(len(x)) % 3)
    slope = torch.autograd.grad(loss, x, create_graph=True)[0]
    return loss + 10 * slope.square().sum()


def _adversarial(model: nn.Module, batch: Any) -> Tensor:
    """A step of the input against its own gradient, differentiated through."""
    x = batch[0].clone().requires_grad_()
    target = torch.arange(len(x)) % 3
    slope = torch.autograd.grad(functional.cross_entropy(model(x), target), x, create_graph=True)[0]
    return functional.cross_entropy(model(x + 0.5 * slope), target)


def _adversarial_detached(model: nn.Module, batch: Any) -> Tensor:
    x = batch[0].clone().requires_grad_()
    target = torch.arange(len(x)) % 3
    slope = torch.autograd.grad(functional.cross_entropy(model(x), target), x)[0]
    return functional.cross_entropy(model(x + 0.5 * slope), target)


def _functional_gradient(model: nn.Module, batch: Any) -> Tensor:
    slopes = vmap(grad(lambda x: model(x)[0]))(batch[0])
    return slopes.square().sum(1).mean()


def _functional_hessian(model: nn.Module, batch: Any) -> Tensor:
    second = vmap(hessian(lambda x: model(x)[0]))(batch[0])
    return second.diagonal(dim1=1, dim2=2).sum(1).sub(0.1).square().mean() + model(batch[0]).cos().mean()


def _functional_jacobian(model: nn.Module, batch: Any) -> Tensor:
    return vmap(jacrev(model))(batch[0]).square().sum((1, 2)).mean()


def _functional_push(model: nn.Module, batch: Any) -> Tensor:
    out, push = jvp(model, (batch[0],), (batch[1],))
    return out.square().mean() + push.square().mean()


def _push_alone(model: nn.Module, batch: Any) -> Tensor:
    return jvp(model, (batch[0],), (batch[1],))[1].square().mean()


def _maml(model: nn.Module, batch: Any) -> Tensor:
    params = dict(model.named_parameters())
    inner = model(batch[0]).square().mean()
    steps = torch.autograd.grad(inner, list(params.values()), create_graph=True)
    fast = {name: p - 0.1 * g for (name, p), g in zip(params.items(), steps, strict=True)}
    return functional_call(model, fast, (batch[1],)).sub(1).square().mean()


def _maml_first_order(model: nn.Module, batch: Any) -> Tensor:
    params = dict(model.named_parameters())
    inner = model(batch[0]).square().mean()
    steps = torch.autograd.grad(inner, list(params.values()))
    fast = {name: p - 0.1 * g for (name, p), g in zip(params.items(), steps, strict=True)}
    return functional_call(model, fast, (batch[1],)).sub(1).square().mean()


def _maml_functional(model: nn.Module, batch: Any) -> Tensor:
    params = dict(model.named_parameters())
    steps = grad(lambda p: functional_call(model, p, (batch[0],)).square().mean())(params)
    fast = {name: p - 0.1 * steps[name] for name, p in params.items()}
    return functional_call(model, fast, (batch[1],)).sub(1).square().mean()


def _gradient_norm(model: nn.Module, batch: Any) -> Tensor:
    loss = model(batch[0]).square().mean()
    slopes = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    return loss + 0.1 * sum(g.square().sum() for g in slopes)


def _last_layer_gradient(model: nn.Module, batch: Any) -> Tensor:
    loss = model(batch[0]).square().mean()
    last = list(model.parameters())[-2]
    return torch.autograd.grad(loss, last, create_graph=True)[0].square().sum()


def _sharpness_aware(model: nn.Module, batch: Any) -> Tensor:
    params = dict(model.named_parameters())
    steps = torch.autograd.grad(model(batch[0]).square().mean(), list(params.values()))
    size = torch.stack([g.norm() for g in steps]).norm()
    moved = {name: p + 0.05 * g / size for (name, p), g in zip(params.items(), steps, strict=True)}
    return functional_call(model, moved, (batch[0],)).square().mean()


def _backward_inside(model: nn.Module, batch: Any) -> Tensor:
    x = batch[0].clone().requires_grad_()
    out = model(x)
    out.sum().backward(create_graph=True, inputs=[x])
    return x.grad.square().mean() + out.mean()


_EVERY: dict[str, tuple[Loss, int]] = {
    "gradient penalty": (_penalty, 1),
    "squared slope": (_squared_slope, 1),
    "slope alone": (_slope_alone, 1),
    "physics": (_physics, 1),
    "forces": (_forces, 1),
    "double backprop": (_double_backprop, 3),
    "functional gradient": (_functional_gradient, 1),
    "functional hessian": (_functional_hessian, 1),
    "push": (_functional_push, 1),
}
_SOME: dict[str, tuple[Loss, int]] = {
    "critic": (_critic, 1),
    "laplacian": (_laplacian, 1),
    "forces alone": (_forces_alone, 1),
    "pair forces": (_pair_forces, 1),
    "hessian vector": (_hessian_vector, 1),
    "score matching": (_score, 3),
    "jacobian norm": (_jacobian_norm, 3),
    "adversarial": (_adversarial, 3),
    "adversarial, detached": (_adversarial_detached, 3),
    "functional jacobian": (_functional_jacobian, 2),
    "push alone": (_push_alone, 2),
    "meta-learning": (_maml, 1),
    "meta-learning, first order": (_maml_first_order, 1),
    "meta-learning, functional": (_maml_functional, 1),
    "gradient norm": (_gradient_norm, 1),
    "gradient norm of the last layer": (_last_layer_gradient, 1),
    "sharpness aware": (_sharpness_aware, 1),
    "backward inside": (_backward_inside, 1),
}
for _losses, _names in ((_EVERY, tuple(ACTIVATIONS)), (_SOME, ("tanh", "relu", "relu squared"))):
    for _name, (_loss, _outputs) in _losses.items():
        for _kind in _names:
            register(f"derivative: {_name}, {_kind}", normal((6, 3), (6, 3)), _loss)(_net(ACTIVATIONS[_kind], _outputs))


class _Asking(nn.Module):
    """The net behind a branch on its data, for single rows too."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(-x if x.detach().sum() < -1e12 else x)


for _name in ("gradient penalty", "physics", "forces"):
    register(f"derivative: {_name} through a branch, relu squared", normal((6, 3), (6, 3)), _EVERY[_name][0])(
        lambda: _Asking(_net(ReluSquared)())
    )


class Potential(nn.Module):
    """A model whose output is itself a gradient: a conservative field, or Hamilton's equations."""

    def __init__(self, activation: Callable[[], nn.Module], how: str) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 5), activation(), nn.Linear(5, 1))
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "functional":
            slope = vmap(grad(lambda row: self.net(row)[0]))(x)
        else:
            with torch.enable_grad():
                x = x.clone().requires_grad_()
                slope = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]
        first, second = slope.chunk(2, -1)
        return torch.cat([second, -first], -1) if self.how == "hamiltonian" else slope


for _how in ("gradient", "hamiltonian", "functional"):
    for _kind in ("tanh", "relu", "relu squared", "softplus"):
        register(f"derivative: a model that is a {_how}, {_kind}", normal((6, 4)))(
            lambda how=_how, kind=_kind: Potential(ACTIVATIONS[kind], how)
        )


def _deep(activation: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(
        nn.Linear(3, 4), activation(), nn.Linear(4, 4), nn.LayerNorm(4), activation(), nn.Linear(4, 1)
    )


for _name in ("gradient penalty", "forces", "functional gradient", "double backprop"):
    for _kind in ("relu", "tanh"):
        register(f"derivative: {_name} under a layer norm, {_kind}", normal((6, 3), (6, 3)), _EVERY[_name][0])(
            _deep(ACTIVATIONS[_kind]) if _name != "double backprop" else _net(ACTIVATIONS[_kind], 3)
        )
