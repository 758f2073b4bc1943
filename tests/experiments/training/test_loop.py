"""The training loop: a function of its configuration, to the last bit, whatever interrupts it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch.func import functional_call

from neuralmechanics.experiments import (
    ImageConfig,
    OptimizerConfig,
    RecordConfig,
    ScheduleConfig,
    TrainConfig,
    mean_squared_error,
    open_metrics,
    train,
)
from neuralmechanics.experiments.data import Batches, Position, load_data
from neuralmechanics.experiments.losses import loss_function
from neuralmechanics.experiments.measuring.curvature import top_eigenvalues
from neuralmechanics.experiments.training import loop
from neuralmechanics.experiments.training.checkpoints import last_checkpoint, save_checkpoint
from neuralmechanics.experiments.training.observer import Training
from neuralmechanics.experiments.training.runfolder import CHECKPOINTS
from neuralmechanics.optimizers.lamb import Lamb

CPU = torch.device("cpu")
QUIET = RecordConfig(enabled=False)
SMALL = ImageConfig(train_limit=200, test_limit=50)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_digits_are_learned():
    sgd = OptimizerConfig(learning_rate=0.05, momentum=0.9, weight_decay=5e-4)
    result = train(TrainConfig(model="mlp-bn", epochs=8, batch_size=32, optimizer=sgd, record=QUIET))
    assert result.performance.top1 > 0.95
    assert result.performance.top5 > 0.99
    assert result.steps == 8 * 45


@pytest.mark.parametrize(
    "optimizer",
    [
        OptimizerConfig(learning_rate=0.3, weight_decay=1e-3),
        OptimizerConfig(learning_rate=0.1, momentum=0.9, dampening=0.5),
        OptimizerConfig(learning_rate=0.05, momentum=0.9, nesterov=True),
        OptimizerConfig("adam", learning_rate=0.003),
        OptimizerConfig("adamw", learning_rate=0.003, weight_decay=0.1),
        OptimizerConfig("rmsprop", learning_rate=0.001, momentum=0.5),
        OptimizerConfig("lamb", learning_rate=0.01, weight_decay=0.01),
    ],
    ids=lambda config: f"{config.name}-{config.momentum}-{config.nesterov}",
)
def test_every_optimizer_learns_and_repeats_itself(optimizer):
    config = TrainConfig(model="mlp", epochs=6, batch_size=20, optimizer=optimizer, images=SMALL, record=QUIET)
    torch.manual_seed(1)
    first = train(config)
    torch.manual_seed(2)
    second = train(config)
    assert first.performance.top1 > 0.6
    assert same(first.model, second.model)


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_precisions_agree_to_their_rounding(loss):
    def trained(precision):
        config = TrainConfig(
            model="mlp", steps=20, batch_size=32, loss=loss, precision=precision, images=SMALL, record=QUIET
        )
        return torch.cat([p.detach().double().flatten() for p in train(config).model.parameters()])

    exact = trained("float64")
    for precision, tolerance in (("float32", 1e-6), ("bfloat16", 1e-2)):
        distance = (trained(precision) - exact).norm() / exact.norm()
        assert 0 < distance < tolerance


def test_mean_squared_error_is_against_one_hot_targets():
    model = torch.nn.Linear(3, 4)
    inputs, labels = torch.randn(5, 3), torch.tensor([0, 3, 1, 1, 2])
    expected = sum((model(x) - torch.eye(4)[y]).square().sum() for x, y in zip(inputs, labels, strict=True)) / 20
    torch.testing.assert_close(mean_squared_error(model, (inputs, labels)), expected)


DROPPY = """
from torch import nn

def make(classes):
    hidden = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5))
    return nn.Sequential(nn.Flatten(), hidden, nn.Linear(32, classes))
"""


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "droppy_mlp.py").write_text(DROPPY)
    config = TrainConfig(
        model="droppy_mlp:make",  # dropout draws from torch's random state
        data="digits",
        epochs=3,
        batch_size=64,
        precision="float32",
        checkpoint_every=2,
        optimizer=OptimizerConfig(learning_rate=0.01, momentum=0.9, weight_decay=1e-3),
        schedule=ScheduleConfig("double-batch", milestones=(1.0,)),
        images=ImageConfig(augment=True, train_limit=256, test_limit=20),
        record=QUIET,
    )
    whole = train(config, tmp_path / "whole")

    class InterruptError(Exception):
        pass

    def interrupt(folder, model, optimizer, position):
        save_checkpoint(folder, model, optimizer, position)
        if position.step == 6:
            raise InterruptError

    module = "neuralmechanics.experiments.training.loop.save_checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(module, interrupt)
        with pytest.raises(InterruptError):
            train(config, tmp_path / "parts")
    torch.manual_seed(99)
    parts = train(config, tmp_path / "parts", resume=True)
    assert parts.steps == whole.steps == 4 + 2 + 2
    assert same(whole.model, parts.model)
    assert parts.performance == whole.performance


def test_a_folder_belongs_to_one_configuration(tmp_path):
    config = TrainConfig(steps=2, images=SMALL, record=QUIET)
    train(config, tmp_path / "run")
    with pytest.raises(ValueError, match="continue it with --resume"):
        train(config, tmp_path / "run")
    with pytest.raises(ValueError, match="another configuration"):
        train(TrainConfig(steps=3, images=SMALL, record=QUIET), tmp_path / "run", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="is no training run"):
        train(config, tmp_path / "other")
    finished = train(config, tmp_path / "run", resume=True)
    assert finished.steps == 2


def test_a_damaged_checkpoint_is_named(tmp_path):
    config = TrainConfig(steps=2, images=SMALL, record=QUIET)
    train(config, tmp_path / "run")
    checkpoint = last_checkpoint(tmp_path / "run" / CHECKPOINTS)
    assert checkpoint is not None
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(ValueError, match="step-000000002"):
        train(config, tmp_path / "run", resume=True)


def test_divergence_stops_with_the_reason():
    config = TrainConfig(model="mlp", optimizer=OptimizerConfig(learning_rate=1e6), images=SMALL, record=QUIET)
    with pytest.raises(FloatingPointError, match=r"lower optimizer.learning_rate \(now 1000000.0\)"):
        train(config)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_ends_the_training(value):
    with pytest.raises(FloatingPointError, match=rf"the loss is {value} after step 3; lower optimizer.learning_rate"):
        loop._finite(torch.tensor(value), 3, TrainConfig())
    assert loop._finite(torch.tensor(1e38), 3, TrainConfig()) == pytest.approx(1e38)


def test_the_record_of_a_checkpoint_is_on_the_disk_before_it(tmp_path, monkeypatch):
    """A resumed training finds what was recorded until its checkpoint; the last one is written when all has ended."""
    done = []

    class Recording:
        def log(self, **_):
            done.append("log")

        def flush(self):
            done.append("flush")

    @contextmanager
    def attached(*_, **__):
        yield Recording()
        done.append("closed")

    def saved(folder, model, optimizer, position):
        done.append(f"checkpoint {position.step}")

    monkeypatch.setattr(loop, "attach_monitor", attached)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    train(TrainConfig(model="mlp", steps=5, checkpoint_every=2, record=RecordConfig(every=1)), tmp_path / "run")
    assert done == [
        *("log", "log", "flush", "checkpoint 2"),
        *("log", "log", "flush", "checkpoint 4"),
        *("log", "closed", "checkpoint 5"),
    ]


def test_every_metric_from_one_run(tmp_path):
    everything = RecordConfig(
        enabled=False,
        every=3,
        subset=4,
        eigenvalues=2,
        metrics=("performance", "gradient-norm", "weights-subset", "phase-space", "weights", "gradients", "hessian"),
    )
    config = TrainConfig(model="mlp", epochs=2, batch_size=50, images=SMALL, record=everything)
    result = train(config, tmp_path / "run")
    metrics = open_metrics(tmp_path / "run")
    assert metrics["step"].values.tolist() == [0, 3, 6]
    assert metrics["evaluation"].values.tolist() == [4, 8]
    assert metrics["performance/top1"].values[-1] == result.performance.top1
    weight, gradient = metrics["weights/head.weight"].values, metrics["gradients/head.weight"].values
    head = list(dict(result.model.named_parameters())).index("head.weight")
    assert metrics["gradient-norm"].values[:, head] == pytest.approx((gradient**2).sum((1, 2)) ** 0.5, rel=1e-5)
    # Plain SGD: the velocity of a weight is minus its gradient.
    velocity, position = metrics["phase-space/velocity"].values, metrics["phase-space/position"].values
    assert (position == metrics["weights-subset"].values).all()
    where = 4 * head
    flat = weight[0].reshape(-1)
    for k in range(4):
        element = (flat == position[0, where + k].astype("float32")).argmax()
        assert velocity[0, where + k] == pytest.approx(-gradient[0].reshape(-1)[element], rel=1e-3, abs=1e-6)
    _require_those_of_the_loss(config, result.model, metrics)


def _require_those_of_the_loss(config, model, metrics):
    """Gradients and curvature are those of the loss on the batch of their step, at the weights recorded with them."""
    batches = Batches(load_data(config.data, SMALL), seed=0, augment=False, device=CPU, dtype=torch.float32)
    parameters = dict(copy.deepcopy(model).named_parameters())
    loss, position = loss_function(config.loss), Position()
    for step in range(7):
        batch, position = batches.take(position, config.batch_size)
        if step % 3:
            continue
        now = metrics.sel(step=step)
        point = {name: torch.from_numpy(now[f"weights/{name}"].values).requires_grad_() for name in parameters}
        value = partial(functional_call, WithLoss(model, loss), {f"model.{k}": p for k, p in point.items()}, (batch,))
        for name, slope in zip(point, torch.autograd.grad(value(), list(point.values())), strict=True):
            assert torch.allclose(torch.from_numpy(now[f"gradients/{name}"].values), slope, rtol=1e-4, atol=1e-6)
        curvature = top_eigenvalues(value, list(point.values()), 2)
        assert now["hessian"].values == pytest.approx(curvature.numpy(), rel=1e-3)
        assert curvature[0] > curvature[1] > 0


class WithLoss(torch.nn.Module):
    def __init__(self, model, loss):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch):
        return self.loss(self.model, batch)


def test_metrics_change_no_training(tmp_path):
    watched = RecordConfig(enabled=False, every=2, metrics=("phase-space", "hessian", "gradients"))
    plain = TrainConfig(model="convnet", steps=7, images=SMALL, record=QUIET)
    config = TrainConfig(model="convnet", steps=7, images=SMALL, record=watched)
    assert same(train(plain).model, train(config, tmp_path / "run").model)
    with pytest.raises(ValueError, match="holds no metrics"):
        open_metrics(tmp_path)


def test_lamb_rescales_each_tensor_to_its_own_norm():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    before = copy.deepcopy(weight.detach())
    weight.grad = torch.tensor([0.1, -7.0], dtype=torch.float64)
    Lamb([weight], learning_rate=0.01, epsilon=1e-12).step()
    update = weight.detach() - before
    # On the first step Adam's direction is the sign of the gradient; LAMB gives it the weight's norm.
    expected = -0.01 * 5 / 2**0.5 * torch.tensor([1.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(update, expected, rtol=1e-9, atol=0)


class _Onlooker:
    """Keeps, for every step, its numbers, and the sizes of gradient and update that it sees."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.gradients: list[float] = []
        self.updates: list[float] = []

    @contextmanager
    def watch(self, training: Training) -> Iterator[None]:
        self._weight = next(training.model.parameters())
        self.calls.append(("watch", 0))
        yield
        self.calls.append(("left", len(self.updates)))

    def before(self, step: int) -> None:
        self.calls.append(("before", step))
        self._held = self._weight.detach().clone()
        assert self._weight.grad is not None
        self.gradients.append(float(self._weight.grad.norm()))

    def after(self, step: int) -> None:
        self.calls.append(("after", step))
        self.updates.append(float((self._weight.detach() - self._held).norm()))


def test_an_observer_sees_every_step_and_changes_nothing():
    config = TrainConfig(
        model="mlp-bn", steps=3, precision="float64", images=SMALL, record=QUIET,
        optimizer=OptimizerConfig(learning_rate=0.25),
    )  # fmt: skip
    onlooker = _Onlooker()
    assert same(train(config, observer=onlooker).model, train(config).model)
    steps = [(name, number) for step in range(3) for name, number in (("before", step), ("after", step + 1))]
    assert onlooker.calls == [("watch", 0), *steps, ("left", 3)]
    assert onlooker.updates == pytest.approx([0.25 * gradient for gradient in onlooker.gradients], rel=1e-9)
