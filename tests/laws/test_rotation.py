"""Angular momentum of a two-layer linear network, whose hidden units may be rotated: W1 → RW1, W2 → W2Rᵀ."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from neuralmechanics.laws import Drives, Hyperparameters, RotationLaw, rotation_defect

HIDDEN = 3
PLANES = [(0, 1), (0, 2), (1, 2)]


def moment(theta: list[Tensor], velocity: list[Tensor]) -> Tensor:
    """⟨θ,Av⟩ for each plane: rows of W1 and columns of W2 turn together."""
    rows = [(theta[0], velocity[0]), (theta[1].T, velocity[1].T)]
    return torch.stack([sum((a[i] @ v[j] - a[j] @ v[i]) for a, v in rows) for i, j in PLANES])


def train(make_optimizer, steps, buffer_name="momentum_buffer", seed_buffer=True, schedule=None, shrink=1.0):
    """J before the first and after every step, ⟨d,Av⟩ of every step, and |θ||v| at the end."""
    generator = torch.Generator().manual_seed(5)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator) * 0.4

    leaves = [draw(HIDDEN, 4).requires_grad_(), draw(2, HIDDEN).requires_grad_()]
    teacher = draw(2, 4)
    optimizer = make_optimizer(leaves)
    if seed_buffer:
        for leaf in leaves:
            optimizer.state[leaf]["momentum_buffer"] = draw(*leaf.shape)

    def snapshot():
        zeros = [torch.zeros_like(leaf) for leaf in leaves]
        velocity = [optimizer.state[leaf].get(buffer_name, zero) for leaf, zero in zip(leaves, zeros, strict=True)]
        return [leaf.detach().clone() for leaf in leaves], [v.clone() for v in velocity]

    theta, velocity = snapshot()
    moments, drives = [moment(theta, velocity)], []
    for step in range(steps):
        if schedule is not None:
            optimizer.param_groups[0].update(schedule(step))
        x = draw(8, 4) * 2.5
        loss = (x @ (leaves[1] @ leaves[0] - teacher).T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for leaf in leaves:
            leaf.data.mul_(shrink)
        optimizer.step()
        after, velocity = snapshot()
        drives.append(moment([b - a for a, b in zip(theta, after, strict=True)], velocity))
        theta = after
        moments.append(moment(theta, velocity))
    return torch.stack(moments), drives


def follow(moments, drives, hypers, *, measured=False):
    law = RotationLaw()
    law.start(moments[0])
    path = [law.value]
    for drive, hyper in zip(drives, hypers, strict=True):
        law.step(hyper, Drives(update_velocity=drive) if measured else Drives())
        path.append(law.value)
    return torch.stack(path)


@pytest.mark.parametrize("options", [{}, {"dampening": 0.5}, {"weight_decay": 0.1, "lr": 0.003}])
@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
def test_heavy_ball_keeps_beta_to_the_k_at_any_rate_batch_and_decay(momentum, options):
    settings = {"lr": 0.03, "momentum": momentum} | options
    moments, drives = train(lambda leaves: torch.optim.SGD(leaves, **settings), 200)
    powers = momentum ** torch.arange(201, dtype=torch.float64)
    assert moments[0].abs().min() > 0.01
    assert (moments - powers[:, None] * moments[0]).abs().max() < 1e-13
    hyper = Hyperparameters(settings["lr"], settings.get("weight_decay", 0.0), momentum, settings.get("dampening", 0.0))
    assert (follow(moments, drives, [hyper] * 200) - moments).abs().max() < 1e-13


def test_a_schedule_gives_the_product_of_the_momenta():
    def plan(step):
        return {"momentum": 0.99 if step < 20 else 0.7 + 0.002 * step, "lr": 0.05 / (1 + step)}

    moments, drives = train(lambda leaves: torch.optim.SGD(leaves, lr=0.1, momentum=0.9), 80, schedule=plan)
    hypers = [Hyperparameters(plan(k)["lr"], momentum=plan(k)["momentum"]) for k in range(80)]
    product = torch.tensor([plan(k)["momentum"] for k in range(80)], dtype=torch.float64).prod()
    assert (moments[-1] - product * moments[0]).abs().max() < 1e-13
    assert (follow(moments, drives, hypers) - moments).abs().max() < 1e-13


def test_decoupled_decay_shrinks_it_once_more():
    moments, drives = train(lambda leaves: torch.optim.SGD(leaves, lr=0.05, momentum=0.9), 100, shrink=1 - 0.05 * 0.4)
    law = follow(moments, drives, [Hyperparameters(0.05, 0.4, 0.9, decoupled=True)] * 100)
    assert (law - moments).abs().max() < 1e-13
    assert law[100, 0].item() == pytest.approx((0.98 * 0.9) ** 100 * moments[0, 0].item(), rel=1e-12)


def test_an_empty_buffer_has_no_angular_momentum_ever():
    moments, drives = train(lambda leaves: torch.optim.SGD(leaves, lr=0.1, momentum=0.9), 100, seed_buffer=False)
    assert moments.abs().max() < 1e-14
    hypers = [Hyperparameters(0.1, momentum=0.9, first_step=k == 0) for k in range(100)]
    assert not follow(moments, drives, hypers).any()


def test_momentum_to_zero_and_back_needs_the_idle_buffers_drive():
    def plan(step):
        return {"momentum": 0.0 if 10 <= step < 15 else 0.9}

    moments, drives = train(lambda leaves: torch.optim.SGD(leaves, lr=0.05, momentum=0.9), 30, schedule=plan)
    hypers = [Hyperparameters(0.05, momentum=plan(k)["momentum"]) for k in range(30)]
    known = follow(moments, drives, hypers, measured=True)
    assert (known[16:] - moments[16:]).abs().max() < 1e-13
    assert not known[11:16].any()  # the update itself carries none
    assert follow(moments, drives, hypers)[17:].isnan().all()


def violation(moments, momentum):
    """The largest single-step defect, relative to the largest J."""
    hyper = Hyperparameters(0.1, momentum=momentum)
    defects = torch.stack([rotation_defect(a, b, hyper) for a, b in pairwise(moments)])
    return (defects.abs().max() / moments.abs().max()).item()


def test_nesterov_and_adamw_violate_it_and_by_how_much(record_property):
    heavy, _ = train(lambda leaves: torch.optim.SGD(leaves, lr=0.05, momentum=0.9), 200)
    nesterov, drives = train(lambda leaves: torch.optim.SGD(leaves, lr=0.05, momentum=0.9, nesterov=True), 200)
    adamw, _ = train(lambda leaves: torch.optim.AdamW(leaves, lr=0.05), 200, buffer_name="exp_avg", seed_buffer=False)
    sizes = {"heavy ball": violation(heavy, 0.9), "nesterov": violation(nesterov, 0.9), "adamw": violation(adamw, 0.9)}
    for name, size in sizes.items():
        record_property(name, size)
    print(sizes)
    assert sizes["heavy ball"] < 1e-14
    assert sizes["nesterov"] > 1e-2
    assert sizes["adamw"] > 1e-2
    hypers = [Hyperparameters(0.05, momentum=0.9, nesterov=True)] * 200
    law = follow(nesterov, drives, hypers)
    assert law[1:].isnan().all()  # it says so
    assert (follow(nesterov, drives, hypers, measured=True) - nesterov).abs().max() < 1e-13
