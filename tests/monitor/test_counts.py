"""What a followed training costs, told by counts of what is made, held and looked at: no machine changes them."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.monitor.processes.portion import Whole
from neuralmechanics.optimizers import watch
from neuralmechanics.optimizers.hyperparameters import groups
from neuralmechanics.slices import jobs

UNITS = 400


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


class Training:
    """Two layers on batches that change from step to step."""

    def __init__(self, *, penalty: float = 0.0, momentum: float = 0.9) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, UNITS), nn.ReLU(), nn.Linear(UNITS, 4))
        self.penalty = penalty
        self.symmetries = nm.find_symmetries(self.model, self.batch(), loss_fn)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-2, momentum=momentum, weight_decay=1e-4)

    def batch(self) -> tuple[Tensor, Tensor]:
        return torch.randn(16, 6), torch.randint(4, (16,))

    def step(self) -> None:
        self.optimizer.zero_grad()  # gradients are other tensors at every step
        loss = loss_fn(self.model, self.batch())
        if self.penalty:
            loss = loss + self.penalty * self.model[0].weight.abs().sum()
        loss.backward()
        self.optimizer.step()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Callable[[object, str], Counter[str]]:
    """Counts the calls of a function that an object holds, whatever it does."""

    def count(where: Any, name: str) -> Counter[str]:
        calls: Counter[str] = Counter()
        real = getattr(where, name)

        def counting(*given: Any, **named: Any) -> Any:
            calls[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(where, name, counting)
        return calls

    return count


def test_steps_that_repeat_make_nothing_anew(counted: Any) -> None:
    """Settings, updates and the work that is written down for the library are those of the step before."""
    training = Training()
    with nm.Monitor(training.model, training.optimizer, training.symmetries, every=100, strict=True, laws=["exact"]):
        for _ in range(3):
            training.step()
        made = [counted(watch, "Update"), counted(groups, "read_setting"), counted(jobs, "_write")]
        for _ in range(5):
            training.step()
        assert sum(map(Counter.total, made)) == 0
        training.optimizer.param_groups[0]["lr"] = 5e-3
        training.step()
        assert [calls.total() for calls in made] == [4, 1, 0]


def test_a_momentum_that_is_another_tensor_is_read() -> None:
    """What is kept of the step before is not believed where a tensor was put in another's place."""
    training = Training()
    first = training.model[0].weight
    with nm.Monitor(
        training.model, training.optimizer, training.symmetries, every=1, strict=True, residuals=True
    ) as monitor:
        for step in range(6):
            if step == 3:
                first.data = first.data.clone()
            if step == 4:
                state = training.optimizer.state[first]
                state["momentum_buffer"] = state["momentum_buffer"].clone()
            training.step()
    errors = monitor.run.errors()
    assert errors[errors["law"].isin(["exact", "identity"])]["max_error"].max() < 1e-5


def test_sizes_are_looked_at_only_where_charges_object(counted: Any) -> None:
    """A pass over parameters and gradients for each is made at first and not again: the symmetries hold."""
    training = Training()
    looks = counted(Whole, "sizes")
    with nm.Monitor(training.model, training.optimizer, training.symmetries, every=1, strict=True, laws=["exact"]):
        for _ in range(4):
            training.step()
        before = looks.total()
        for _ in range(12):
            training.step()
        assert looks.total() == before


@pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.warning.MonitorWarning")
def test_charges_that_were_left_ask_for_nothing_any_more(counted: Any) -> None:
    """A penalty breaks every symmetry at once; from then on no record looks at sizes for what is known."""
    training = Training(penalty=1e-2)
    looks = counted(Whole, "sizes")
    with nm.Monitor(training.model, training.optimizer, training.symmetries, every=1, strict=True, laws=["exact"]):
        for _ in range(4):
            training.step()
        before = looks.total()
        for _ in range(12):
            training.step()
        assert looks.total() - before <= 2


def test_what_is_held_for_a_charge(tmp_path: Path) -> None:
    """Ten numbers in double precision, two in single and three flags; no gradient and no record."""
    training = Training()
    training.step()
    gc.collect()
    before = {id(each) for each in gc.get_objects() if type(each) is Tensor}
    options: dict[str, Any] = {"every": 100, "strict": True, "laws": ["exact"]}
    with nm.Monitor(training.model, training.optimizer, training.symmetries, tmp_path / "run", **options):
        for _ in range(3):
            training.step()
        training.optimizer.zero_grad()
        gc.collect()
        kept = [each for each in gc.get_objects() if type(each) is Tensor and id(each) not in before]
        sizes = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in kept}
        for parameter in training.model.parameters():
            sizes.pop(parameter.untyped_storage().data_ptr(), None)
    assert sum(sizes.values()) <= (10 * 8 + 2 * 4 + 3) * training.symmetries.charges + 1000
