"""What is given in the wrong kind is refused in one line that names it, its value and what to give instead."""

from __future__ import annotations

import copy
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics.experiments import OptimizerConfig, RecordConfig, TrainConfig
from neuralmechanics.experiments.data.own import data_set
from neuralmechanics.laws import ChargeLaw, ExactLaw, replay
from neuralmechanics.monitor.explaining.comparison import compare_runs
from neuralmechanics.report import charges_and_laws
from neuralmechanics.rewrite.comparing import equivalent
from neuralmechanics.symmetry import Symmetries

flows = nm.flows


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()


BATCH = torch.randn(16, 5, generator=torch.Generator().manual_seed(0)).double(), torch.arange(16) % 4
MODEL = _model()
FOUND = nm.find_symmetries(MODEL, BATCH, _loss)


def _trained(laws: Any = None, make: Callable[..., Any] = torch.optim.SGD, steps: int = 12, **options: Any) -> Any:
    model = copy.deepcopy(MODEL)
    optimizer = make(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    with nm.Monitor(model, optimizer, FOUND, every=2, laws=laws, **options) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            _loss(model, BATCH).backward()
            optimizer.step()
    return monitor


@pytest.fixture(scope="module")
def monitor() -> Any:
    return _trained(drives=True)


def _simple(params: dict[str, Tensor]) -> Tensor:
    return params["x"].square().sum()


X = {"x": torch.ones(2, dtype=torch.float64)}

REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a loss without return": (
        lambda m: nm.find_symmetries(MODEL, BATCH, lambda model, batch: None),  # type: ignore[arg-type]
        "loss_fn returned a NoneType",
    ),
    "a loss that is a float": (
        lambda m: nm.find_symmetries(MODEL, BATCH, lambda model, batch: _loss(model, batch).item()),  # type: ignore[arg-type]
        "loss_fn returned a float",
    ),
    "a loss by its name": (lambda m: nm.find_symmetries(MODEL, BATCH, "mse"), "loss_fn is a str"),  # type: ignore[arg-type]
    "a detached loss": (
        lambda m: nm.check_symmetries(FOUND, MODEL, lambda model, batch: _loss(model, batch).detach(), [BATCH]),
        "the loss has no gradient",
    ),
    "a frozen model": (
        lambda m: nm.assert_symmetric(_model().requires_grad_(False), _loss, [BATCH]),
        "no trainable parameter",
    ),
    "one batch for a list": (
        lambda m: nm.check_symmetries(FOUND, MODEL, _loss, BATCH),
        r"give a single one as \[batch\]",
    ),
    "a loader for a list": (
        lambda m: nm.check_symmetries(FOUND, MODEL, _loss, iter([BATCH])),  # type: ignore[arg-type]
        "batches is a list_iterator",
    ),
    "expected numbers as text": (
        lambda m: nm.assert_symmetric(MODEL, _loss, [BATCH], expect={"rescale": "8"}),  # type: ignore[dict-item]
        r"expect\['rescale'\] is '8'",
    ),
    "expected numbers as a list": (
        lambda m: nm.assert_symmetric(MODEL, _loss, [BATCH], expect=["rescale"]),  # type: ignore[arg-type]
        "give numbers by kind",
    ),
    "nested tensors": (
        lambda m: nm.find_symmetries(lambda p, x: x, torch.ones(1), params={"a": {"b": torch.ones(1)}}),  # type: ignore[dict-item]
        r"params\['a'\] is a dict",
    ),
    "a family for families": (lambda m: Symmetries(FOUND.families[0]), "takes a tuple"),  # type: ignore[arg-type]
    "charges at a module": (lambda m: FOUND.families[0].charge(MODEL), "give tensors by name"),  # type: ignore[arg-type]
    "charges without a parameter": (lambda m: FOUND["scale: 0"].charge({}), "moves '0.weight', which is not given"),
    "an optimiser that is made": (
        lambda m: nm.update_defect(torch.optim.SGD(MODEL.parameters(), lr=0.1), MODEL, _loss, [BATCH], FOUND),
        "the optimizer is a SGD; give a function that makes one",
    ),
    "updates of some parameters": (
        lambda m: nm.update_defect(lambda p, g, s: {"0.bias": g["0.bias"]}, MODEL, _loss, [BATCH], FOUND),
        "0.weight, .* on one side only",
    ),
    "an optimiser that needs a closure": (
        lambda m: flows.descend(_simple, X, lambda p: torch.optim.LBFGS(p), steps=2),
        "LBFGS.step needs a closure",
    ),
    "groups with rates of their own": (
        lambda m: flows.descend(
            lambda p: p["x"].sum() + p["y"].sum(),
            X | {"y": X["x"]},
            lambda p: torch.optim.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 0.5}], lr=0.1),
            steps=2,
        ),
        r"steps of different lengths \(0.1, 0.5\)",
    ),
    "a time for times": (lambda m: flows.integrate(flows.GradientFlow(_simple), X, 1.0), "times is 1.0"),  # type: ignore[arg-type]
    "a noisy flow integrated": (
        lambda m: flows.integrate(flows.StochasticFlow(lambda p: p["x"], learning_rate=0.1), X, [0, 1]),  # type: ignore[arg-type]
        "sample its paths with simulate",
    ),
    "a flow without noise sampled": (
        lambda m: flows.simulate(flows.GradientFlow(_simple), X, [0, 1]),  # type: ignore[arg-type]
        "follow it with integrate",
    ),
    "half an example": (
        lambda m: flows.StochasticFlow(lambda p: p["x"], learning_rate=0.1, batch_size=1.5),  # type: ignore[arg-type]
        "batch_size is 1.5, expected a whole number",
    ),
    "a module for a loss": (
        lambda m: flows.integrate(flows.GradientFlow(MODEL), X, [0, 1]),  # type: ignore[arg-type]
        "the loss is a module",
    ),
    "a misspelt parameter of a flow": (
        lambda m: flows.module_loss(MODEL, _loss, BATCH)({"0.wieght": torch.ones(8, 5)}),
        "no parameter '0.wieght'",
    ),
    "a rate as text": (lambda m: flows.ModifiedFlow(_simple, learning_rate="a"), "learning_rate is 'a', a str"),  # type: ignore[arg-type]
    "momentum as text": (lambda m: flows.MomentumFlow(_simple, momentum="a"), "momentum is 'a', a str"),  # type: ignore[arg-type]
    "what if the rate were text": (lambda m: m.run.what_if(lr="a"), "lr is 'a', a str"),
    "what if the rate were true": (lambda m: m.run.what_if(lr=True), "lr is True, a bool"),
    "what if decay were no number": (lambda m: m.run.what_if(weight_decay=float("nan")), "weight_decay is nan"),
    "what if nothing were forgotten": (lambda m: m.run.what_if(momentum=1.0), "momentum is 1.0, expected 0 <="),
    "a forecast from half a step": (lambda m: m.run.forecast(learned_until=0.5), "learned_until is 0.5"),
    "a budget by what there is not": (lambda m: m.run.budget("layers"), "by='layers'"),
    "a run by its path": (lambda m: compare_runs(m.run, "runs/a"), "'runs/a' is a str and no run"),  # type: ignore[arg-type]
    "a family that is not drawn": (lambda m: charges_and_laws(m.run, families=["scale: 1"]), "no family 'scale: 1'"),
    "a law that is not made": (lambda m: replay(ExactLaw, m.run.drive_history()), "ExactLaw is no law"),  # type: ignore[arg-type]
    "a law for quadratic charges alone": (
        lambda m: replay(ExactLaw(), m.run.drive_history()),
        r"takes 17 of 33 charges for what they are not .*ExactLaw\(history.quadratic\)",
    ),
    "a run for its history": (lambda m: replay(ExactLaw(), m.run), "no history of drives"),
    "a copied monitor": (copy.deepcopy, "a Monitor cannot be copied"),
    "a pickled monitor": (pickle.dumps, "a Monitor cannot be pickled"),
    "half a step between records": (
        lambda m: nm.Monitor(MODEL, torch.optim.SGD(MODEL.parameters(), lr=0.1), FOUND, every=2.5),  # type: ignore[arg-type]
        "every is 2.5, expected a whole number",
    ),
    "a class for an optimiser": (lambda m: nm.Monitor(MODEL, torch.optim.SGD, FOUND), "SGD is a class"),  # type: ignore[arg-type]
    "model and optimiser changed over": (
        lambda m: nm.Monitor(torch.optim.SGD(MODEL.parameters(), lr=0.1), MODEL, FOUND),  # type: ignore[arg-type]
        "the model is a SGD",
    ),
    "modules for checkpoints": (
        lambda m: equivalent(MODEL, BATCH[0][:1], MODEL, MODEL),  # type: ignore[arg-type]
        r"a checkpoint is given as a Sequential; give its state_dict\(\)",
    ),
    "laws of an optimiser of torch": (
        lambda m: nm.count_laws(MODEL, BATCH, _loss, optimizer=torch.optim.SGD(MODEL.parameters(), lr=0.1)),  # type: ignore[arg-type]
        "the optimizer is a SGD; laws are counted for",
    ),
    "steps as text": (lambda m: TrainConfig(model="mlp", data="mine", steps="10"), "steps must be of type int"),  # type: ignore[arg-type]
    "examples by halves": (
        lambda m: TrainConfig(model="mlp", data="mine", batch_size=1.5),  # type: ignore[arg-type]
        "batch_size must be of type int, got 1.5",
    ),
    "settings as a table": (
        lambda m: TrainConfig(model="mlp", data="mine", optimizer={"learning_rate": 0.1}),  # type: ignore[arg-type]
        "optimizer must be of type OptimizerConfig",
    ),
    "a rate of the configuration as text": (
        lambda m: OptimizerConfig(learning_rate="a"),  # type: ignore[arg-type]
        "optimizer.learning_rate must be of type float, got 'a'",
    ),
    "records by halves": (lambda m: RecordConfig(every=1.5), "record.every must be of type int"),  # type: ignore[arg-type]
    "examples of several shapes": (
        lambda m: data_set(_Ragged(), "mine"),
        "data 'mine' could not be read and stacked .*all examples need one shape",
    ),
}


class _Ragged(torch.utils.data.Dataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3 + index % 2), 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_named_in_one_line(name: str, monitor: Any) -> None:
    ask, words = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=words) as refused:
        ask(monitor)
    assert "\n" not in str(refused.value)


def test_a_law_is_replayed_with_the_mask_of_its_history(monitor: Any) -> None:
    history = monitor.run.drive_history()
    path = replay(ExactLaw(history.quadratic), history)[::2].numpy()
    kept = monitor.run.data["kind"].values == "rescale"
    assert abs(path - monitor.run.data["charge"].values)[:, kept].max() < 1e-12


def test_a_law_of_the_wrong_shape_ends_the_monitor_and_not_the_run() -> None:
    class Short(ChargeLaw):
        """Three numbers, however many charges there are."""

        name = "short"

        def step(self, hyper: Any, drives: Any) -> None:
            self._state.move(None, charge=torch.zeros(3, dtype=torch.float64))

    with pytest.warns(UserWarning, match=r"values of shape \[3\] .* for each of the 33 charges"):
        ended = _trained(["exact", Short])
    assert ended.run.data.sizes["charge"] == 33


class _Zeroing(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        self.zero_grad(set_to_none=False)
        return found


class _Taking(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        self.zero_grad()
        return found


class _Clipping(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            nn.utils.clip_grad_norm_(group["params"], 1e-3)
        return super().step(closure)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_Zeroing, "does not leave the gradient of .* as it was; zero gradients outside of step"),
        (_Taking, "takes away the gradient of .*; zero gradients outside of step"),
        (_Clipping, "momentum that its step keeps of .* is not SGD's; clip or project gradients outside of step"),
    ],
)
def test_why_a_step_is_not_that_of_sgd_is_said(make: Any, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = _trained(make=make).run
    assert any(re.search(reason, one.message) for one in run.warnings), run.warnings
