"""Each finding has a training that provokes it and is not found in healthy ones; the planted problem comes first."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from tests.monitor.explaining.noise import followed
from tests.monitor.explaining.scenes import Batch, cross_entropy, digits, eval_mode, network, sgd, split, train
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.cli import main
from neuralmechanics.monitor.explaining.findings.balances import far_from_equilibrium

pytestmark = pytest.mark.filterwarnings("ignore::neuralmechanics.monitor.warning.MonitorWarning")


class Unused(nn.Module):
    """A network beside a layer that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.extra = network(), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def low() -> nn.Module:
    return network().to(torch.bfloat16)


def adamw(**options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.AdamW(model.parameters(), **{"lr": 2e-3, "weight_decay": 0.05, **options})


def clip(step: int, model: nn.Module, optimizer: Any) -> None:
    nn.utils.clip_grad_norm_(model.parameters(), 0.05)


def clip_values(step: int, model: nn.Module, optimizer: Any) -> None:
    nn.utils.clip_grad_value_(model.parameters(), 1e-3)


def signs(step: int, model: nn.Module, optimizer: Any) -> None:
    for p in model.parameters():
        assert p.grad is not None
        p.grad.sign_()


def project(step: int, model: nn.Module, optimizer: Any) -> None:
    with torch.no_grad():
        weight = model.get_parameter("0.weight")
        weight.div_(weight.flatten(1).norm(dim=1)[:, None, None, None])


def poison(step: int, model: nn.Module, optimizer: Any) -> None:
    if step == 60:
        gradient = model.get_parameter("0.weight").grad
        assert gradient is not None
        gradient.fill_(torch.nan)


def silence(step: int, model: nn.Module, optimizer: Any) -> None:
    gradient = model.get_parameter("9.bias").grad
    assert gradient is not None
    gradient.zero_()


class LatePenalty:
    """The loss that was given, and from call 91 on a penalty beside it."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        self.calls += 1
        weight = model.get_parameter("0.weight")
        return cross_entropy(model, batch) + (0.3 * weight.square().sum() if self.calls > 90 else 0.0)


def accumulated() -> nm.Run:
    """The gradients of all batches so far: a loop without zero_grad()."""
    return looped(lambda net, batch, optimizer: (cross_entropy(net, batch).backward(), optimizer.step()), lr=0.002)


def twice_stepped() -> nm.Run:
    def iterate(net: nn.Module, batch: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        cross_entropy(net, batch).backward()
        optimizer.step()
        optimizer.step()

    return looped(iterate, lr=0.05, momentum=0.9)


class Scaled:
    """Float16 under autocast with a scaler that begins at `scale` and grows every `interval` steps."""

    def __init__(self, scale: float, *, interval: int = 2000, growth: float = 2.0, calls: int = 1) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=interval, growth_factor=growth)
        self.calls, self.made = calls, 0

    def __call__(self, net: nn.Module, batch: Any, optimizer: Any) -> None:
        optimizer.zero_grad()
        for _ in range(self.calls):
            with torch.autocast("cpu", torch.float16):
                loss = nn.functional.cross_entropy(net(batch[0]).float(), batch[1])
            self.scaler.scale(loss / self.calls).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(optimizer)
        before = self.scaler.get_scale()
        self.scaler.update()
        self.made += self.scaler.get_scale() >= before


def looped(iterate: Callable[[nn.Module, Any, Any], object], **options: Any) -> nm.Run:
    """150 iterations of one's own."""
    torch.manual_seed(0)
    net = network()
    inputs, labels = digits()
    symmetries = nm.find_symmetries(net, (inputs[:32], labels[:32]), cross_entropy)
    optimizer = torch.optim.SGD(net.parameters(), **{"lr": 0.05, "weight_decay": 5e-4, **options})
    draw = torch.Generator().manual_seed(0)
    with nm.Monitor(net, optimizer, symmetries, every=5) as monitor:
        for _ in range(150):
            rows = torch.randint(len(labels), (32,), generator=draw)
            iterate(net, (inputs[rows], labels[rows]), optimizer)
    return monitor.run


def part_held(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(list(model.parameters())[3:], lr=0.05, momentum=0.9, weight_decay=5e-4)


class Streamed(nn.Module):
    """A stream of rows to which a layer adds, read by layer norms of a large eps."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 24), nn.Linear(24, 10)
        self.layer = nn.Sequential(nn.LayerNorm(24, eps=eps), nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 24))
        self.norm = nn.LayerNorm(24, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x[:, 0])
        out: Tensor = self.head(self.norm(x + self.layer(x)).mean(1))
        return out


PROVOKED: dict[str, tuple[str, Callable[[], nm.Run]]] = {
    "frozen norms": ("norm-in-evaluation-mode", lambda: train(sgd(lr=0.01, weight_decay=5e-4), begin=eval_mode)),
    "frozen norms, AdamW": ("norm-in-evaluation-mode", lambda: train(adamw(), begin=eval_mode)),
    "decay of biases": (
        "decay-of-biases-alone",
        lambda: train(split({"weight_decay": 0.0}, {"weight_decay": 0.05}, lr=0.05, momentum=0.9)),
    ),
    "bf16": ("rounding", lambda: train(sgd(lr=2e-4, weight_decay=5e-4), model=low)),
    "bf16, AdamW": ("rounding", lambda: train(adamw(lr=1e-5), model=low)),
    "clipped": ("clipping", lambda: train(sgd(weight_decay=5e-4), before_step=clip)),
    "clipped by value": ("law-ends", lambda: train(sgd(weight_decay=5e-4), before_step=clip_values)),
    "projected": ("outside-writes", lambda: train(sgd(weight_decay=5e-4), after_step=project)),
    "nan": ("not-finite", lambda: train(sgd(weight_decay=5e-4), before_step=poison)),
    "penalty": ("residual-jump", lambda: train(sgd(weight_decay=5e-4), loss=LatePenalty())),
    "no decay": ("scale-free-without-decay", lambda: train(sgd(lr=0.3))),
    "eps, AdamW": ("broken-by-constant", lambda: train(adamw(weight_decay=0.5), model=lambda: Streamed(0.1))),
    "accumulated": ("law-ends", accumulated),
    "stepped twice": ("law-ends", twice_stepped),
    "skipped": ("skipped-steps", lambda: looped(Scaled(2.0**60), momentum=0.9)),
    "skipped, two calls a step": ("skipped-steps", lambda: looped(Scaled(2.0**60, calls=2), momentum=0.9)),
    "in part": ("held-by-no-optimiser", lambda: train(part_held)),
    "a group of rate zero": ("rate-of-zero", lambda: train(split({"lr": 0.0}, {}, lr=0.05, weight_decay=5e-4))),
    "unused": ("never-a-gradient", lambda: train(sgd(weight_decay=5e-4), model=Unused)),
    "silenced": ("zero-gradient", lambda: train(sgd(weight_decay=5e-4), before_step=silence)),
    "diverging": ("divergence", lambda: train(sgd(lr=0.5, weight_decay=8.0, momentum=0.0), steps=40)),
    "far": (
        "far-from-equilibrium",
        lambda: followed(lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=1e-5), 300, norm=3.0, rows=2, every=20)[0],
    ),
}
FAST = (
    "accumulated",
    "skipped",
    "in part",
    "a group of rate zero",
    "frozen norms",
    "decay of biases",
    "bf16",
    "bf16, AdamW",
    "clipped",
    "penalty",
    "unused",
)
HEALTHY: dict[str, Callable[[], nm.Run]] = {
    "sgd": lambda: train(sgd(weight_decay=5e-4)),
    "adamw": lambda: train(adamw()),
    "groups": lambda: train(split({"weight_decay": 5e-4}, {"weight_decay": 0.0}, lr=0.05, momentum=0.9)),
    "nesterov": lambda: train(sgd(weight_decay=5e-4, nesterov=True)),
    "plain": lambda: train(sgd(lr=0.2, momentum=0.0, weight_decay=5e-4)),
    "without norms": lambda: train(sgd(lr=0.02, weight_decay=5e-4), model=lambda: network(norm=False)),
    "adam": lambda: train(lambda m: torch.optim.Adam(m.parameters(), lr=2e-3)),
    "rmsprop": lambda: train(lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, weight_decay=1e-4)),
    "other seed": lambda: train(sgd(weight_decay=1e-3), seed=5),
    "float64": lambda: train(sgd(weight_decay=5e-4), model=lambda: network().double()),
    "gently clipped": lambda: train(
        sgd(weight_decay=5e-4), before_step=lambda s, m, o: nn.utils.clip_grad_norm_(m.parameters(), 20.0) and None
    ),
    "layer norms, AdamW": lambda: train(adamw(weight_decay=0.5), model=lambda: Streamed(1e-5)),
    "scaled": lambda: looped(Scaled(2.0**16), momentum=0.9),
    "scaled, two calls a step": lambda: looped(Scaled(2.0**10, calls=2), momentum=0.9),
    "one cycle": lambda: train(
        sgd(weight_decay=5e-4),
        before_step=lambda s, m, o: o.param_groups[0].update(lr=0.05 * min(1.0, (s + 1) / 20) * (1 - s / 150)),
    ),
}


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in PROVOKED])
def test_what_is_planted_is_said_first(name: str) -> None:
    code, make = PROVOKED[name]
    found = make().findings()
    assert found, name
    assert found[0].code == code, [finding.code for finding in found]
    assert len(found) <= 10
    weights = [finding.weight for finding in found]
    assert weights == sorted(weights, reverse=True)
    assert all(finding.remedy and finding.evidence for finding in found)
    assert [finding.code for finding in found].count(code) == 1
    json.dumps([finding.to_dict() for finding in found], allow_nan=False)


@pytest.mark.parametrize(
    "name", [n if n in ("sgd", "adamw") else pytest.param(n, marks=pytest.mark.slow) for n in HEALTHY]
)
def test_nothing_is_said_of_healthy_trainings(name: str) -> None:
    assert [finding.text for finding in HEALTHY[name]().findings()] == []


def test_every_iteration_is_a_step_or_was_skipped() -> None:
    scaled = Scaled(2.0**40)
    run = looped(scaled, momentum=0.9)
    found = next(finding for finding in run.findings() if finding.code == "skipped-steps")
    steps, skipped = int(found.evidence["steps"]), int(found.evidence["skipped"])
    assert steps == scaled.made == run.data["step"].to_numpy()[-1]
    assert steps + skipped == 150


def test_no_step_is_said_when_the_run_is_over() -> None:
    model = network()
    optimizer = sgd()(model)
    symmetries = nm.find_symmetries(model, (torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)), cross_entropy)
    with nm.Monitor(model, optimizer, symmetries) as monitor:
        assert monitor.findings() == []
    assert [finding.code for finding in monitor.run.findings()] == ["no-step"]


@pytest.mark.parametrize("change", [signs, clip_values])
def test_elements_of_one_size_are_no_clipping_of_lengths(change: Callable[[int, nn.Module, Any], None]) -> None:
    """A gradient of signs has one length, √n, without anything being clipped to it."""
    found = train(sgd(lr=1e-3, weight_decay=5e-4), before_step=change, steps=40).findings()
    assert [finding.code for finding in found if finding.code in ("clipping", "law-ends")] == ["law-ends"]
    remedy = next(finding.remedy for finding in found if finding.code == "law-ends")
    assert "clipping by norm keeps them" in remedy


def test_the_numbers_that_were_planted_are_the_evidence() -> None:
    clipped = PROVOKED["clipped"][1]().findings()[0]
    assert clipped.evidence["length"] == pytest.approx(0.05, rel=1e-3)
    assert clipped.evidence["share_of_records"] > 0.9


@pytest.mark.parametrize(
    ("ratio", "needed", "steps", "said"),
    [(4.0, 900, 400, True), (4.0, 300, 400, False), (2.0, 900, 400, False), (4.0, 900, 100, False)],
)
def test_far_from_equilibrium_is_far_in_angle_and_in_time(ratio: float, needed: int, steps: int, said: bool) -> None:
    """Three times as fast as it will turn, more steps away than were made, and not in the first two hundred."""
    rows = pd.DataFrame(
        {
            "layer": ["a", "b"],
            "rotation": [0.01 * ratio] * 2,
            "equilibrium_rotation": [0.01] * 2,
            "steps_to_equilibrium": [needed, needed],
        }
    )
    facts = SimpleNamespace(forecast=SimpleNamespace(scales=rows), steps=steps)
    found = list(far_from_equilibrium(facts))  # type: ignore[arg-type]
    assert [(f.code, f.place, f.evidence["ratio"]) for f in found] == [
        ("far-from-equilibrium", ("a", "b"), pytest.approx(ratio))
    ] * said


@pytest.mark.slow
def test_eps_is_named_and_explains_the_error_of_the_law() -> None:
    """Batch norm, λ = .05, η = .1: weights shrink until eps counts, and the exact law is off by just what it did."""
    run = train(sgd(lr=0.1, weight_decay=0.05, momentum=0.0), steps=500)
    found = run.findings()
    assert found[0].code == "broken-by-constant"
    assert found[0].text.startswith("eps=1e-05 of 5")
    assert found[0].place == ("4",)
    assert found[0].evidence["error_of_the_exact_law"] > 0.01
    assert found[0].evidence["explained_by_it"] > 0.99


def test_the_monitor_tells_while_it_runs() -> None:
    seen: list[list[str]] = []
    model = network()
    optimizer = sgd(weight_decay=5e-4)(model)
    symmetries = nm.find_symmetries(model, (torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)), cross_entropy)
    with nm.Monitor(model, optimizer, symmetries, every=2) as monitor:
        for step in range(30):
            optimizer.zero_grad()
            cross_entropy(model, (torch.randn(16, 1, 8, 8), torch.randint(10, (16,)))).backward()
            clip(step, model, optimizer)
            optimizer.step()
            seen.append([finding.code for finding in monitor.findings()] if step % 10 == 9 else [])
    assert seen[0] == []
    assert "clipping" in seen[29]


def test_the_command_says_it_in_one_screen(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    optimizer = split({"weight_decay": 0.0}, {"weight_decay": 0.05}, lr=0.05)(model)
    symmetries = nm.find_symmetries(model, (torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)), cross_entropy)
    with nm.Monitor(model, optimizer, symmetries, store=tmp_path / "run", every=5):
        for _ in range(25):
            optimizer.zero_grad()
            cross_entropy(model, (torch.randn(16, 1, 8, 8), torch.randint(10, (16,)))).backward()
            optimizer.step()
    assert main(["findings", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("1. Weight decay acts on biases and gains alone")
    assert len(shown) < 40
    for command in ("findings", "budget", "forecast"):
        assert main([command, str(tmp_path / "run"), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told[{"findings": "findings", "budget": "rows", "forecast": "scales"}[command]]


@pytest.mark.parametrize("to_none", [True, False])
def test_gradients_that_are_gone_when_the_iteration_ends_were_there(to_none: bool) -> None:
    """An optimiser for each parameter, stepped and zeroed inside the backward pass."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(8, 3)
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def stepped(parameter: Tensor) -> None:
        optimizers[parameter].step()  # type: ignore[index]
        optimizers[parameter].zero_grad(set_to_none=to_none)  # type: ignore[index]

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(stepped)
    with nm.Monitor(model, list(optimizers.values()), nm.find_symmetries(model, x), every=2, strict=True) as monitor:
        for _ in range(6):
            model(x).square().mean().backward()
    assert [f.text for f in monitor.findings() if "gradient" in f.text] == []
    assert [note.message for note in monitor.run.warnings if note.subject.startswith("broken")] == []
