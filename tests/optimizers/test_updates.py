"""The update that is read back equals θ_{k+1} - θ_k for every mode of torch SGD, and by copies for any optimiser."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics.optimizers import StepWatch, Update, follows_sgd, read_setting

MODES = {
    "plain": {},
    "decay": {"weight_decay": 1e-2},
    "heavy_ball": {"momentum": 0.9, "weight_decay": 1e-2},
    "dampened": {"momentum": 0.9, "dampening": 0.5, "weight_decay": 1e-3},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-2},
    "nesterov_without_decay": {"momentum": 0.9, "nesterov": True},
    "maximize": {"momentum": 0.9, "maximize": True, "weight_decay": 1e-2},
    "maximize_plain": {"maximize": True, "weight_decay": 1e-2},
    "maximize_nesterov": {"momentum": 0.8, "nesterov": True, "maximize": True, "weight_decay": 1e-2},
}
IMPLEMENTATIONS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def small_model(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def backward(model: nn.Module, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(8, 4, generator=generator, dtype=torch.float64).to(next(model.parameters()).dtype)
    loss: Tensor = model(batch).square().mean()
    model.zero_grad()
    loss.backward()
    return loss


def watched_step(
    watch: StepWatch, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, Tensor], dict[str, Update | None]]:
    """One step; what really happened, and what was read."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    watch.before_step()
    optimizer.step()
    happened = {name: p.detach() - before[name] for name, p in model.named_parameters()}
    return happened, dict(watch.updates())


def make(model: nn.Module, **options: object) -> tuple[torch.optim.Optimizer, StepWatch]:
    optimizer = torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options})  # type: ignore[arg-type]
    return optimizer, StepWatch(optimizer, dict(model.named_parameters()))


def assert_read(happened: dict[str, Tensor], read: dict[str, Update | None], before: dict[str, Tensor]) -> None:
    for name, difference in happened.items():
        update = read[name]
        assert update is not None
        size = before[name].abs().max() + 1e-3
        # d is a difference of stored numbers: it is only known to the rounding of θ.
        assert (update.difference - difference).abs().max() <= 4e-16 * size
        assert (update.before() - before[name]).abs().max() <= 1e-15 * size


@pytest.mark.parametrize("how", IMPLEMENTATIONS)
@pytest.mark.parametrize("mode", MODES)
def test_update_is_the_difference_of_the_parameters(mode: str, how: str) -> None:
    model = small_model()
    optimizer, watch = make(model, **MODES[mode], **IMPLEMENTATIONS[how])
    for step in range(6):
        backward(model, step)
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        if step == 3:
            optimizer.param_groups[0]["lr"] = 0.03
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        happened, read = watched_step(watch, model, optimizer)
        assert_read(happened, read, before)
        for name, update in read.items():
            assert update is not None
            assert update.gradient is not None
            assert not update.measured
            sign = -1.0 if update.setting.maximize else 1.0
            assert (update.gradient - sign * gradients[name]).abs().max() <= 1e-15


def test_no_parameter_is_copied_for_sgd() -> None:
    model = small_model()
    optimizer, watch = make(model, momentum=0.9, nesterov=True, weight_decay=0.1)
    backward(model, 0)
    watched_step(watch, model, optimizer)
    assert not watch._copies


@pytest.mark.parametrize("how", IMPLEMENTATIONS)
def test_learning_rate_in_a_tensor(how: str) -> None:
    model = small_model()
    optimizer, watch = make(model, lr=torch.tensor(0.05), momentum=0.9, **IMPLEMENTATIONS[how])
    rate = float(torch.tensor(0.05))
    for step in range(3):
        backward(model, step)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        happened, read = watched_step(watch, model, optimizer)
        assert_read(happened, read, before)
        assert all(update is not None and update.setting.learning_rate == rate for update in read.values())


@pytest.mark.parametrize(
    "build",
    [
        lambda p: torch.optim.Rprop(p, lr=0.01),
        lambda p: torch.optim.Adadelta(p, lr=0.01, weight_decay=0.1),
        lambda p: torch.optim.RMSprop(p, lr=0.01, weight_decay=0.5),
    ],
)
def test_other_optimisers_are_read_from_copies(build: object) -> None:
    model = small_model()
    optimizer = build(model.parameters())  # type: ignore[operator]
    watch = StepWatch(optimizer, dict(model.named_parameters()))
    assert not watch.known
    for step in range(3):
        backward(model, step)
        happened, read = watched_step(watch, model, optimizer)
        for name, difference in happened.items():
            update = read[name]
            assert update is not None
            assert update.measured
            assert torch.equal(update.difference, difference)
            assert update.velocity is None


def test_exact_update_copies_and_is_the_stored_difference() -> None:
    model = small_model(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    watch = StepWatch(optimizer, dict(model.named_parameters()), exact_update=True)
    backward(model, 0)
    happened, read = watched_step(watch, model, optimizer)
    assert all(torch.equal(read[name].difference, d) for name, d in happened.items())  # type: ignore[union-attr]


def test_low_precision_is_read_from_copies() -> None:
    model = small_model(torch.bfloat16)
    optimizer, watch = make(model, momentum=0.9)
    backward(model, 0)
    happened, read = watched_step(watch, model, optimizer)
    for name, difference in happened.items():
        update = read[name]
        assert update is not None
        assert update.measured
        assert torch.equal(update.difference, difference)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    model = small_model()
    optimizer, watch = make(model, momentum=0.9, weight_decay=0.1)
    backward(model, 0)
    frozen = next(iter(model.parameters()))
    frozen.grad = None
    happened, read = watched_step(watch, model, optimizer)
    assert read["0.weight"] is None
    assert watch.role("0.weight") == (None, False)
    assert float(happened["0.weight"].abs().max()) == 0.0
    # Its first step comes later than that of the others.
    backward(model, 1)
    watched_step(watch, model, optimizer)
    assert watch.role("0.weight")[1]
    assert not watch.role("2.weight")[1]


@pytest.mark.parametrize("gone", ["none", "before the step", "after the step"])
def test_a_gradient_that_went_after_the_step_is_lost(gone: str) -> None:
    """Told from the buffer all the same; where there was none before the step, nothing moved and nothing is lost."""
    model = small_model()
    optimizer, watch = make(model, momentum=0.9)
    parameter = model.get_parameter("0.weight")
    for step in range(2):
        backward(model, step)
        before = parameter.detach().clone()
        watch.before_step()
        if step and gone == "before the step":
            parameter.grad = None
        optimizer.step()
        if step and gone == "after the step":
            parameter.grad = None
        update = dict(watch.updates())["0.weight"]
        read = update is not None and update.gradient is not None  # no gradient is kept beyond its step
        watch.finish()
    if gone == "before the step":
        assert update is None
        return
    assert update is not None
    assert update.lost == (gone == "after the step")
    assert read != update.lost
    torch.testing.assert_close(update.difference, parameter.detach() - before)


def test_first_step_is_the_one_without_a_buffer() -> None:
    model = small_model()
    optimizer, watch = make(model, momentum=0.9, dampening=0.5)
    firsts = []
    for step in range(3):
        backward(model, step)
        watched_step(watch, model, optimizer)
        firsts.append(watch.role("0.weight")[1])
    assert firsts == [True, False, False]
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer, watch = make(model, momentum=0.9, dampening=0.5)
    optimizer.load_state_dict(saved)
    assert set(watch.velocities()) == {name for name, _ in model.named_parameters()}
    backward(model, 3)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    happened, read = watched_step(watch, model, optimizer)
    assert_read(happened, read, before)
    assert not watch.role("0.weight")[1]


def test_momentum_switched_off_leaves_an_idle_buffer() -> None:
    model = small_model()
    optimizer, watch = make(model, momentum=0.9)
    for step, momentum in enumerate((0.9, 0.0, 0.9)):
        optimizer.param_groups[0]["momentum"] = momentum
        backward(model, step)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        happened, read = watched_step(watch, model, optimizer)
        assert_read(happened, read, before)
        assert watch.idle_buffers == (momentum == 0.0)
        assert read["0.weight"] is not None
        assert read["0.weight"].velocity is not None


def test_clipping_and_closures_are_what_is_read() -> None:
    model = small_model()
    optimizer, watch = make(model, momentum=0.9, weight_decay=0.1, nesterov=True)
    for step in range(3):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}

        def closure(step: int = step) -> float:
            loss = backward(model, step)
            nn.utils.clip_grad_norm_(model.parameters(), 1e-2)
            return float(loss.detach())

        watch.before_step()
        optimizer.step(closure)
        happened = {name: p.detach() - before[name] for name, p in model.named_parameters()}
        read = dict(watch.updates())
        assert_read(happened, read, before)
        norm = torch.stack([u.gradient.norm() for u in read.values() if u and u.gradient is not None]).norm()
        assert float(norm) <= 1e-2 * (1 + 1e-12)


def test_a_gradient_gone_before_it_was_read_is_an_error_not_a_guess() -> None:
    model = small_model()
    optimizer, watch = make(model, weight_decay=0.1)
    backward(model, 0)
    watch.before_step()
    optimizer.step()
    optimizer.zero_grad()
    with pytest.raises(RuntimeError, match=r"gradient of '0.weight' was gone"):
        list(watch.updates())


def test_settings_are_those_of_the_parameters_group() -> None:
    model = small_model()
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.5},  # type: ignore[index]
        {"params": list(model[2].parameters()), "weight_decay": 0.25},  # type: ignore[index]
    ]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.5)
    watch = StepWatch(optimizer, dict(model.named_parameters()))
    first, second = watch.settings()["0.bias"], watch.settings()["2.bias"]
    assert first is not None
    assert second is not None
    assert (first.learning_rate, first.weight_decay) == (0.5, 0)
    assert (second.learning_rate, second.weight_decay) == (0.1, 0.25)


def test_a_parameter_of_no_group_is_idle() -> None:
    model = small_model()
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)  # type: ignore[index]
    watch = StepWatch(optimizer, dict(model.named_parameters()))
    backward(model, 0)
    _, read = watched_step(watch, model, optimizer)
    assert read["2.weight"] is None
    assert "2.weight" not in watch.settings()


def test_reading_writes_nothing_into_the_optimiser() -> None:
    model = small_model()
    optimizer, watch = make(model, momentum=0.9)
    watch.before_step()
    watch.velocities()
    assert len(optimizer.state) == 0


def test_sparse_gradients() -> None:
    torch.manual_seed(0)
    table = nn.Embedding(6, 3, sparse=True).double()
    optimizer, watch = make(table)
    table(torch.tensor([1, 4, 1])).square().sum().backward()
    before = {"weight": table.weight.detach().clone()}
    happened, read = watched_step(watch, table, optimizer)
    assert_read(happened, read, before)


def test_which_optimisers_follow_sgd() -> None:
    class Renamed(torch.optim.SGD):
        """Keeps its step."""

    class Changed(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            return None

    parameters = list(small_model().parameters())
    assert follows_sgd(torch.optim.SGD(parameters, lr=0.1))
    assert follows_sgd(Renamed(parameters, lr=0.1))
    assert not follows_sgd(Changed(parameters, lr=0.1))
    assert not follows_sgd(torch.optim.Adam(parameters, lr=0.1))


def test_decoupled_decay_is_known() -> None:
    parameters = list(small_model().parameters())
    for build, decoupled in ((torch.optim.AdamW, True), (torch.optim.Adam, False), (torch.optim.SGD, False)):
        optimizer = build(parameters, lr=0.1)
        assert read_setting(optimizer, optimizer.param_groups[0]).decoupled is decoupled


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_copy_serves_the_step_that_needed_it_alone(momentum: float) -> None:
    """ηλ = 1 for one step: read from a copy; the steps before and after it are read from what torch leaves."""
    model = small_model()
    optimizer, watch = make(model, momentum=momentum)
    for step, decay in enumerate((0.0, 10.0, 0.01, 10.0, 0.0)):
        optimizer.param_groups[0]["weight_decay"] = decay
        backward(model, step)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        happened, read = watched_step(watch, model, optimizer)
        for name, update in read.items():
            assert update is not None
            needed = decay == 10.0 and momentum == 0.0
            assert update.measured == needed, (step, name)
            assert torch.allclose(update.difference, happened[name], rtol=1e-11, atol=1e-14)
            assert torch.allclose(update.before(), before[name], rtol=1e-11, atol=1e-14)


def test_two_groups_with_one_tensor_rate_and_with_two() -> None:
    """Groups that share a tensor move by it together; tensors that are equal are told apart all the same."""
    for shared in (True, False):
        model = small_model()
        rate = torch.tensor(0.1)
        rates = (rate, rate if shared else rate.clone())
        groups = [
            {"params": list(layer.parameters()), "lr": lr}
            for layer, lr in zip((model[0], model[2]), rates, strict=True)
        ]
        optimizer = torch.optim.SGD(groups, lr=0.1, foreach=False)
        watch = StepWatch(optimizer, dict(model.named_parameters()))
        for step, factor in enumerate((1.0, 0.5, 0.5)):
            rate.mul_(factor)
            backward(model, step)
            happened, read = watched_step(watch, model, optimizer)
            for name, update in read.items():
                assert update is not None
                assert torch.allclose(update.difference, happened[name], rtol=1e-6, atol=1e-12)
                expected = float(rates[0] if name.startswith("0") else rates[1])
                assert update.setting.learning_rate == pytest.approx(expected, rel=1e-7)
