"""What real training loops do to a monitor: wrappers, several optimisers, nested steps, copies, loads and swaps."""

from __future__ import annotations

import copy
import html
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics.cli import main
from neuralmechanics.monitor import MonitorWarning


def error(run: nm.Run, law: str) -> float:
    data = run.data
    found = (np.abs(data["predicted"].sel(law=law) - data["charge"]) / data["scale"]).values
    return float(np.nanmax(found))


def true_charge(training: Any) -> np.ndarray[Any, Any]:
    """The charges of the model as it is, in float64."""
    params = {name: p.detach().double() for name, p in training.model.named_parameters()}
    charge: np.ndarray[Any, Any] = training.symmetries.charge(params).numpy()
    return charge


def heard(work: Callable[[], Any]) -> tuple[Any, list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = work()
    return result, [w for w in said if issubclass(w.category, MonitorWarning)]


class Noisy(torch.optim.SGD):
    """Langevin noise after SGD's own step."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(torch.randn_like(parameter), alpha=0.05)


class Wrapper(torch.optim.Optimizer):
    """What Accelerate hands out: an optimiser by class that never ran its initialiser, and holds the real one."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.optimizer.param_groups

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return self.optimizer.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)


class TwoStep(torch.optim.Optimizer):
    """Sharpness-aware training that is called by its two halves."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1})

    @torch.no_grad()
    def second_step(self) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(parameter.grad, alpha=0.1)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        raise NotImplementedError


def test_a_step_inside_a_step_is_one(training: Any) -> None:
    torch.optim.SGD(training.model.parameters(), lr=0.1)  # from here on every SGD.step runs hooks of its own
    optimizer = Noisy(training.model.parameters(), lr=0.1)
    monitor = nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True)
    with monitor:
        _, said = heard(lambda: training.run(optimizer, range(20)))
    assert "at step 1 Noisy obeys no closed law" in str(said[0].message)
    assert monitor.step == 20
    assert error(monitor.run, "identity") < 1e-14
    assert np.allclose(monitor.run.data["charge"].values[-1], true_charge(training), rtol=1e-14)


def test_a_step_that_failed_leaves_no_trace_in_the_count(training: Any) -> None:
    torch.optim.SGD(training.model.parameters(), lr=0.1)
    optimizer = training.sgd(momentum=0.9)

    def stumbles() -> Tensor:
        raise ArithmeticError

    with nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True) as monitor:
        training.run(optimizer, range(7))
        with pytest.raises(ArithmeticError):
            optimizer.step(stumbles)
        training.run(optimizer, range(7, 15))
    assert list(monitor.run.data["step"].values) == [0, 5, 10, 15]
    assert error(monitor.run, "exact") < 1e-13


@pytest.mark.parametrize("depth", [1, 2])
def test_wrapped_optimisers_are_looked_into(training: Any, depth: int) -> None:
    optimizer: torch.optim.Optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    for _ in range(depth):
        optimizer = Wrapper(optimizer)
    with nm.Monitor(training.model, optimizer, training.symmetries, residuals=True, strict=True) as monitor:
        training.run(optimizer, range(20))
    assert monitor.step == 20
    assert error(monitor.run, "exact") < 1e-13
    assert monitor.run.config["optimizer"]["name"] == "SGD"


def test_what_runs_no_hooks_is_refused(training: Any) -> None:
    class Alone:
        param_groups: tuple[()] = ()

    with pytest.raises(ValueError, match=r"Alone runs no step hooks .*; give the torch optimiser itself") as caught:
        nm.Monitor(training.model, Alone(), training.symmetries)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_optimiser_of_another_model_is_refused(training: Any) -> None:
    optimizer = training.sgd()
    with pytest.raises(ValueError, match=r"SGD holds none of the 6 parameters"):
        nm.Monitor(copy.deepcopy(training.model), optimizer, training.symmetries)


def test_an_optimiser_that_is_never_stepped_is_said(training: Any) -> None:
    optimizer = TwoStep(training.model.parameters())

    def train() -> nm.Monitor:
        with nm.Monitor(training.model, optimizer, training.symmetries, strict=True) as monitor:
            for step in range(5):
                optimizer.zero_grad()
                x, y = training.batch(step)
                functional.cross_entropy(training.model(x), y).backward()
                optimizer.second_step()
        return monitor

    monitor, said = heard(train)
    assert "no step of TwoStep was seen" in str(said[-1].message)
    assert monitor.step == 0
    assert "no step of TwoStep was seen" in monitor.run.warnings[-1].message


def test_a_monitor_that_was_never_entered_is_said_once(training: Any) -> None:
    optimizer = training.sgd()

    def train() -> nm.Monitor:
        monitor = nm.Monitor(training.model, optimizer, training.symmetries)
        training.run(optimizer, range(5), lambda _, loss: monitor.log(loss=loss))
        monitor.close()
        return monitor

    monitor, said = heard(train)
    assert len(said) == 1
    assert "was never entered" in str(said[0].message)
    assert monitor.failure is None
    assert Path(said[0].filename).name == "test_loops.py"  # where log() was called, not inside the package


def test_warnings_point_at_the_users_line_and_are_kept_and_shown(
    training: Any, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    optimizer = training.sgd()

    def train() -> None:
        with nm.Monitor(training.model, optimizer, training.symmetries, store, every=1, strict=True):
            for step in range(3):
                optimizer.zero_grad()
                x, y = training.batch(step)
                functional.cross_entropy(training.model(x), y).backward()
                optimizer.step()
                training.model[0].weight.data.mul_(0.9)

    _, said = heard(train)
    assert len(said) == 1
    assert Path(said[0].filename).name == "test_loops.py"
    run = nm.open_run(store)
    assert [note.message for note in run.warnings] == [str(said[0].message)]
    assert "1 warnings" in repr(run)
    assert run.verify()["sound"].all()
    page = run.report(store.parent / "page.html").read_text()
    assert html.escape(str(said[0].message)) in page.replace("&#34;", "&quot;").replace("&#39;", "&#x27;")
    assert main(["errors", str(store)]) == 0
    assert f"warning: {said[0].message}" in capsys.readouterr().err
    assert "segment-0000/warnings.json" in list(run.verify()["shard"])


def matrices_and_the_rest(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    middle = model[2].weight  # type: ignore[index]
    return [middle], [p for p in model.parameters() if p is not middle]


def step_all(training: Any, optimizers: list[torch.optim.Optimizer], steps: range) -> Iterator[np.ndarray[Any, Any]]:
    for step in steps:
        x, y = training.batch(step)
        training.model.zero_grad()
        functional.cross_entropy(training.model(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
        yield true_charge(training)


def test_two_optimisers_are_one_iteration(training: Any) -> None:
    matrices, rest = matrices_and_the_rest(training.model)
    pair = [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=1e-3)]

    def train() -> tuple[nm.Monitor, list[np.ndarray[Any, Any]]]:
        with nm.Monitor(training.model, pair, training.symmetries, every=5, strict=True) as monitor:
            truth = [true_charge(training), *step_all(training, pair, range(20))]
        return monitor, truth

    (monitor, truth), said = heard(train)
    assert [str(w.message) for w in said if "no closed law" not in str(w.message)] == []
    data = monitor.run.data
    assert list(data["step"].values) == [0, 5, 10, 15, 20]
    assert np.allclose(data["charge"].values, np.array(truth)[data["step"].values], rtol=0, atol=1e-14)
    assert error(monitor.run, "identity") < 1e-13
    assert not data["outside"].values.any()


def test_one_of_two_optimisers_measures_the_other_as_outside(training: Any) -> None:
    matrices, rest = matrices_and_the_rest(training.model)
    pair = [torch.optim.AdamW(matrices, lr=1e-2), torch.optim.AdamW(rest, lr=1e-2)]

    def train() -> tuple[nm.Monitor, list[np.ndarray[Any, Any]]]:
        with nm.Monitor(training.model, pair[0], training.symmetries, every=5, strict=True) as monitor:
            truth = [true_charge(training), *step_all(training, pair, range(20))]
        return monitor, truth

    (monitor, truth), said = heard(train)
    assert "something other than the optimiser moved" in str(said[-1].message)
    data = monitor.run.data
    assert np.allclose(data["charge"].values, np.array(truth)[data["step"].values], rtol=0, atol=1e-14)
    assert error(monitor.run, "identity") < 1e-13  # begun anew at each record


def test_two_sgd_optimisers_keep_the_exact_law_where_charges_are_not_cut(training: Any) -> None:
    model: nn.Sequential = training.model
    heads = [model[4].bias]
    others = [p for p in model.parameters() if p is not heads[0]]
    pair = [torch.optim.SGD(others, lr=0.1, momentum=0.9), torch.optim.SGD(heads, lr=0.05, momentum=0.5, nesterov=True)]
    with nm.Monitor(model, pair, training.symmetries, every=4, residuals=True, strict=True) as monitor:
        list(step_all(training, pair, range(18)))
    assert error(monitor.run, "exact") < 1e-13
    assert np.isfinite(monitor.run.data["predicted"].sel(law="exact")).all()
    assert list(monitor.run.data["step"].values) == [0, 4, 8, 12, 16, 18]


def test_one_optimiser_a_parameter_stepped_inside_backward(training: Any) -> None:
    optimizers = {p: torch.optim.SGD([p], lr=0.1, momentum=0.9) for p in training.model.parameters()}

    def update(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad()  # type: ignore[index]

    hooks = [p.register_post_accumulate_grad_hook(update) for p in training.model.parameters()]
    every = list(optimizers.values())
    with nm.Monitor(training.model, every, training.symmetries, every=5, residuals=True, strict=True) as monitor:
        for step in range(20):
            x, y = training.batch(step)
            functional.cross_entropy(training.model(x), y).backward()
    for hook in hooks:
        hook.remove()
    assert monitor.step == 20
    assert error(monitor.run, "exact") < 1e-13
    assert float(np.nanmax(np.abs(monitor.run.data["residual"]))) < 1e-14


def test_an_optimiser_that_steps_less_often_makes_no_step_of_its_own(training: Any) -> None:
    """Five steps of one to one of the other, as critics are trained: each repetition is an iteration."""
    model: nn.Sequential = training.model
    often, rare = torch.optim.SGD(model[4].parameters(), lr=0.1), torch.optim.SGD([*model[0].parameters()], lr=0.1)

    def train() -> nm.Monitor:
        with nm.Monitor(model, [often, rare], training.symmetries, every=5, strict=True) as monitor:
            for step in range(15):
                x, y = training.batch(step)
                model.zero_grad()
                functional.cross_entropy(model(x), y).backward()
                often.step()
                if step % 5 == 4:
                    rare.step()
        return monitor

    monitor, _ = heard(train)
    assert list(monitor.run.data["step"].values) == [0, 5, 10, 15]
    assert np.allclose(monitor.run.data["charge"].values[-1], true_charge(training), rtol=1e-14)
    assert error(monitor.run, "identity") < 1e-13


def test_groups_that_change_and_keep_their_number_are_read_anew(training: Any) -> None:
    params = list(training.model.parameters())
    groups: list[dict[str, Any]] = [{"params": params[:-1]}, {"params": params[-1:], "lr": 0.001}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True) as monitor:
        training.run(optimizer, range(10))
        optimizer.param_groups[1]["params"], optimizer.param_groups[0]["params"] = params, []
        training.run(optimizer, range(10, 30))
    assert np.unique(monitor.run.data["learning_rate"].values[-1]) == [0.001]
    assert error(monitor.run, "exact") < 1e-13


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_differences_of_few_digits_are_taken_in_many(make: Callable[..., Any], dtype: torch.dtype) -> None:
    training = make("mlp", dtype)
    optimizer = training.sgd(momentum=0.9, lr=0.02)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True) as monitor:
        training.run(optimizer, range(30))
    assert error(monitor.run, "identity") < 1e-14
    assert np.allclose(monitor.run.data["charge"].values[-1], true_charge(training), rtol=1e-14)


def test_a_frozen_layer_that_keeps_its_gradients_leaves_the_closed_laws(training: Any) -> None:
    """SGD goes on moving it by its momentum, the gradient of the loss is another."""
    optimizer = training.sgd(momentum=0.9)

    def train() -> nm.Monitor:
        with nm.Monitor(training.model, optimizer, training.symmetries, every=5, residuals=True, strict=True) as mon:
            for step in range(30):
                if step == 10:
                    training.model[0].requires_grad_(False)
                optimizer.zero_grad(set_to_none=False)
                x, y = training.batch(step)
                functional.cross_entropy(training.model(x), y).backward()
                optimizer.step()
        return mon

    monitor, said = heard(train)
    assert len(said) == 1
    assert "at step 11 parameters of one charge differ" in str(said[0].message)
    data = monitor.run.data
    assert np.isnan(data["predicted"].sel(law="exact").values[-1]).sum() == 7
    assert error(monitor.run, "exact") < 1e-13
    assert error(monitor.run, "identity") < 1e-13


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_names_are_unwrapped_by_whole_parts(training: Any) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.submodule = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 4))
            self.module = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.module(torch.relu(self.submodule(x)))
            return out

    net = Net()
    batch = torch.randn(16, 5), torch.randint(4, (16,))
    symmetries = nm.find_symmetries(net, batch, lambda m, b: functional.cross_entropy(m(b[0]), b[1]))
    assert "submodule.0.weight" in symmetries.parameters
    assert "module.weight" in symmetries.parameters
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for wrapped in (net, torch.compile(net), nn.DataParallel(net), nn.DataParallel(torch.compile(net))):  # type: ignore[arg-type]
        with nm.Monitor(wrapped, optimizer, symmetries, strict=True) as monitor:
            functional.cross_entropy(net(batch[0]), batch[1]).backward()
            optimizer.step()
        assert monitor.step == 1


def test_a_run_that_is_there_is_not_glued_onto(training: Any, make: Callable[..., Any], store: Path) -> None:
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, store, strict=True):
        training.run(optimizer, range(12))
    again = make()
    with pytest.raises(ValueError, match=r"holds a run already; .* resume=True") as caught:
        nm.Monitor(again.model, again.sgd(), again.symmetries, store)
    assert "\n" not in str(caught.value)
    assert list(nm.open_run(store).data["step"].values) == [0, 10, 12]


def test_a_state_dict_resumes_off_a_record(make: Callable[..., Any], store: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"every": 10, "strict": True}
    whole = make()
    optimizer = whole.sgd(momentum=0.9)
    with nm.Monitor(whole.model, optimizer, whole.symmetries, tmp_path / "whole", **options):
        whole.run(optimizer, range(54))
    first = make()
    optimizer = first.sgd(momentum=0.9)
    with nm.Monitor(first.model, optimizer, first.symmetries, store, **options) as monitor:
        first.run(optimizer, range(34))
        checkpoint = tmp_path / "checkpoint.pt"
        states = (first.model.state_dict(), optimizer.state_dict(), monitor.state_dict())
        torch.save(states, checkpoint)
        first.run(optimizer, range(34, 41))
    second = make()
    optimizer = second.sgd(momentum=0.9)
    model, moments, watched = torch.load(checkpoint, weights_only=True)
    second.model.load_state_dict(model)
    optimizer.load_state_dict(moments)
    monitor = nm.Monitor(second.model, optimizer, second.symmetries, store, resume=True, **options)
    monitor.load_state_dict(watched)
    with monitor:
        second.run(optimizer, range(34, 54))
    assert monitor.step == 54
    a, b = nm.open_run(tmp_path / "whole").data, nm.open_run(store).data
    assert list(b["step"].values) == [0, 10, 20, 30, 34, 40, 50, 54]
    rows = [0, 10, 20, 30, 40, 50, 54]
    assert np.array_equal(b["charge"].sel(step=rows), a["charge"].sel(step=rows))
    assert np.array_equal(b["predicted"].sel(step=rows), a["predicted"].sel(step=rows), equal_nan=True)


def test_a_state_dict_of_other_weights_is_refused(make: Callable[..., Any]) -> None:
    training, other = make(), make()
    optimizer = training.sgd()
    with nm.Monitor(training.model, optimizer, training.symmetries, strict=True) as monitor:
        training.run(optimizer, range(3))
        state = monitor.state_dict()
        with pytest.raises(ValueError, match="before the first step"):
            monitor.load_state_dict(state)
    optimizer = other.sgd()
    monitor = nm.Monitor(other.model, optimizer, other.symmetries, strict=True)
    with pytest.raises(ValueError, match=r"lacks charge, laws"):
        monitor.load_state_dict({"step": 3})
    monitor.load_state_dict(state)
    with pytest.raises(ValueError, match="loaded is of step 3, the parameters are of another"), monitor:
        other.run(optimizer, range(1))


class ScheduleFree(torch.optim.Optimizer):
    """Schedule-free SGD: in training the parameters are y, in evaluation the average x."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 0.1, "beta": 0.9, "k": 0, "train_mode": True})

    @torch.no_grad()
    def turn(self, *, training: bool) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if group["train_mode"] != training and "z" in self.state[p]:
                    p.lerp_(self.state[p]["z"], 1 - group["beta"] if training else 1 - 1 / group["beta"])
            group["train_mode"] = training

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            group["k"] += 1
            for p in group["params"]:
                z = self.state[p].setdefault("z", p.clone())
                p.lerp_(z, 1 / group["k"])
                p.add_(p.grad, alpha=group["lr"] * (group["beta"] * (1 - 1 / group["k"]) - 1))
                z.sub_(p.grad, alpha=group["lr"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_swapped_in_and_out_are_no_news(make: Callable[..., Any], dtype: torch.dtype) -> None:
    training = make("mlp", dtype)
    optimizer = ScheduleFree(training.model.parameters())

    def train() -> nm.Monitor:
        with nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True) as monitor:
            for step in range(18):
                training.run(optimizer, range(step, step + 1))
                if step % 4 == 2:
                    optimizer.turn(training=False)
                    optimizer.turn(training=True)
            optimizer.turn(training=False)
        return monitor

    monitor, said = heard(train)
    assert ["obeys no closed law" in str(w.message) for w in said] == [True]
    assert list(monitor.run.data["step"].values) == [0, 5, 10, 15]  # the averages at the end are no step
    assert not monitor.run.data["outside"].values.any()
    assert error(monitor.run, "identity") < (1e-13 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("how", ["loaded", "zeroed", "cleared"])
def test_momentum_that_something_else_wrote_is_read_anew(training: Any, how: str) -> None:
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)

    def train() -> nm.Monitor:
        with nm.Monitor(training.model, optimizer, training.symmetries, every=5, residuals=True, strict=True) as mon:
            training.run(optimizer, range(7))
            saved = copy.deepcopy(optimizer.state_dict())
            training.run(optimizer, range(7, 13))
            if how == "loaded":
                optimizer.load_state_dict(saved)
            elif how == "zeroed":
                for state in optimizer.state.values():
                    state["momentum_buffer"].zero_()
            else:
                optimizer.state.clear()
            training.run(optimizer, range(13, 30))
        return mon

    monitor, said = heard(train)
    assert ["wrote the momentum" in str(w.message) for w in said] == ([] if how == "cleared" else [True])
    assert error(monitor.run, "exact") < 1e-13
    assert error(monitor.run, "identity") < 1e-13
    assert np.isfinite(monitor.run.data["predicted"].sel(law="exact")).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
def test_a_compiled_step_calls_the_hooks_as_they_are(training: Any, make: Callable[..., Any]) -> None:
    def train(training: Any, optimizer: torch.optim.Optimizer) -> None:
        step = torch.compile(optimizer.step, backend="eager")
        for number in range(8):
            x, y = training.batch(number)
            optimizer.zero_grad()
            functional.cross_entropy(training.model(x), y).backward()
            step()

    bare = make()
    train(bare, bare.sgd(momentum=0.9))
    optimizer = training.sgd(momentum=0.9)
    with nm.Monitor(training.model, optimizer, training.symmetries, every=4, residuals=True, strict=True) as monitor:
        train(training, optimizer)
    assert monitor.step == 8
    assert error(monitor.run, "exact") < 1e-13
    pairs = zip(training.model.parameters(), bare.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_step_that_was_cut_off_is_not_recorded(training: Any) -> None:
    optimizer = training.sgd(momentum=0.9)

    def half(group: Any) -> None:
        with torch.no_grad():
            group["params"][0].add_(1.0)
        raise KeyboardInterrupt

    def train() -> nm.Monitor:
        with nm.Monitor(training.model, optimizer, training.symmetries, every=5, strict=True) as monitor:
            training.run(optimizer, range(7))
            with pytest.raises(KeyboardInterrupt):
                optimizer.step(lambda: half(optimizer.param_groups[0]))
        return monitor

    monitor, said = heard(train)
    assert ["not seen to end after step 7" in str(w.message) for w in said] == [True]
    assert list(monitor.run.data["step"].values) == [0, 5]
    assert error(monitor.run, "exact") < 1e-13


def test_a_sharded_model_of_one_process_is_followed() -> None:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).double()
        batch = torch.randn(16, 6, dtype=torch.float64), torch.randint(4, (16,))
        symmetries = nm.find_symmetries(model, batch, lambda m, b: functional.cross_entropy(m(b[0]), b[1]))
        torch.distributed.fsdp.fully_shard(model, mesh=mesh)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        with nm.Monitor(model, optimizer, symmetries, every=4, residuals=True, strict=True) as monitor:
            for _ in range(12):
                optimizer.zero_grad()
                functional.cross_entropy(model(batch[0]), batch[1]).backward()
                optimizer.step()
        assert list(monitor.run.data["step"].values) == [0, 4, 8, 12]
        assert error(monitor.run, "exact") < 1e-13
        whole = {name: p.full_tensor().detach() for name, p in model.named_parameters()}  # type: ignore[attr-defined]
        assert np.allclose(monitor.run.data["charge"].values[-1], symmetries.charge(whole).numpy(), rtol=1e-14)
    finally:
        torch.distributed.destroy_process_group()
