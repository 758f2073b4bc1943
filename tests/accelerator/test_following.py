"""A training on an accelerator is followed as one on a processor is, and is never made to wait for it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.monitor.equivalence.optimizers import ROWS, SGD
from tests.monitor.equivalence.situations import COLUMNS, applies, charges, loss_fn, network
from tests.monitor.equivalence.table import cell
from torch import Tensor, nn

import neuralmechanics as nm

COMPILED = ("compiled model", "compiled step")
# Rows that torch has for accelerators alone.
CAPTURABLE: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "RMSprop": torch.optim.RMSprop,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "exact law": {"laws": ["exact"]},
    "all laws": {},
    "all laws, residuals": {"residuals": True},
}
STEPPING: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9, weight_decay=1e-3),
    "SGD fused": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9, weight_decay=1e-3, fused=True),
    "Nesterov": lambda ps: torch.optim.SGD(ps, lr=0.01, momentum=0.9, nesterov=True),
    "Adam": lambda ps: torch.optim.Adam(ps, lr=1e-3),
    "AdamW fused": lambda ps: torch.optim.AdamW(ps, lr=1e-3, fused=True),
    "AdamW capturable": lambda ps: torch.optim.AdamW(ps, lr=1e-3, capturable=True),
    "RMSprop": lambda ps: torch.optim.RMSprop(ps, lr=1e-3),
    "Adagrad": lambda ps: torch.optim.Adagrad(ps, lr=1e-3),
    "Muon": lambda ps: torch.optim.Muon([p for p in ps if p.ndim == 2], lr=1e-3),
}


@pytest.mark.parametrize(
    ("row", "column"),
    [(r, c) for r in ROWS for c in COLUMNS if applies(r, c) and (c not in COMPILED or r in ("SGD", "AdamW"))],
)
def test_the_table_of_optimisers_and_loops(row: str, column: str) -> None:
    found = cell(row, column, "cuda")
    assert not found.problems, (found.problems, found.reasons)
    if row in SGD and column == "plain":
        assert not found.withheld
        assert not found.reasons


@pytest.mark.parametrize("name", CAPTURABLE)
def test_capturable_optimisers(name: str, device: torch.device) -> None:
    """Their counters are tensors on the device: the identity reads them without a copy to the processor."""
    torch.manual_seed(0)
    model = network().double().to(device)
    batch = torch.randn(32, 5, dtype=torch.float64, device=device), torch.randint(4, (32,), device=device)
    optimizer = CAPTURABLE[name](model.parameters(), lr=2e-3, capturable=True)
    symmetries = nm.find_symmetries(model, batch, loss_fn)
    with nm.Monitor(model, optimizer, symmetries, every=4, strict=True) as monitor:
        for _ in range(12):
            step(model, optimizer, batch)
    data = monitor.run.data
    now = charges(dict(model.named_parameters())).cpu().numpy()
    assert abs(data["charge"].values[-1] - now).max() < 1e-10
    assert abs(data["predicted"].sel(law="identity").values[-1] - now).max() < 1e-9


def waiting(work: Callable[[], None]) -> set[str]:
    """The lines at which the processor was made to wait for the device."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {f"{w.filename}:{w.lineno}" for w in seen if "called a synchronizing" in str(w.message)}


def test_what_waits_is_seen(device: torch.device) -> None:
    value = torch.ones((), device=device)
    assert len(waiting(lambda: float(value))) == 1
    assert not waiting(lambda: value.mul(2))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", STEPPING)
def test_no_synchronisation_between_records(name: str, setting: str, device: torch.device) -> None:
    if setting == "exact law" and not name.startswith(("SGD", "Nesterov")):
        pytest.skip("that law is of SGD")
    torch.manual_seed(0)
    model = network().to(device)
    batch = torch.randn(32, 5, device=device), torch.randint(4, (32,), device=device)
    optimizer = STEPPING[name](list(model.parameters()))
    symmetries = nm.find_symmetries(model, batch, loss_fn)

    def steps(count: int) -> None:
        for _ in range(count):
            step(model, optimizer, batch)

    bare = waiting(lambda: steps(20))
    with warnings.catch_warnings():
        # Muon takes matrices alone, and the charges of the rest are said not to be its.
        warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
        with nm.Monitor(model, optimizer, symmetries, every=50, strict=True, **SETTINGS[setting]) as monitor:
            steps(3)
            followed = waiting(lambda: steps(20))
            steps(27)
    assert not followed - bare
    assert monitor.run.data["step"].values.tolist() == [0, 50]


def test_a_gradient_scaler_in_half_precision(device: torch.device) -> None:
    """Steps that the scaler leaves out are none, and gradients count as it has divided them."""

    def trained(*, followed: bool) -> tuple[list[Tensor], Any]:
        torch.manual_seed(0)
        model = network().to(device)
        batch = torch.randn(32, 5, device=device), torch.randint(4, (32,), device=device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40, growth_interval=5)
        symmetries = nm.find_symmetries(model, batch, loss_fn) if followed else None
        monitor = nm.Monitor(model, optimizer, symmetries, every=5, strict=True) if symmetries else None
        with monitor or torch.enable_grad():
            for _ in range(60):
                optimizer.zero_grad()
                with torch.autocast("cuda", torch.float16):
                    loss = loss_fn(model, batch)
                scaler.scale(loss).backward()
                scaler.step(optimizer)
                scaler.update()
        return [p.detach().clone() for p in model.parameters()], (model, monitor)

    plain, _ = trained(followed=False)
    same, (model, monitor) = trained(followed=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, same, strict=True))
    assert 30 < monitor.step < 60  # the first steps overflow
    data = monitor.run.data
    now = charges(dict(model.named_parameters())).cpu().numpy()
    assert abs(data["charge"].values[-1] - now).max() < 1e-5


def test_a_model_on_two_devices(device: torch.device) -> None:
    """One layer on the processor, the next on the accelerator: charges that span both are those of the definition."""

    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 4).to(device)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.second(self.first(x).relu().to(device))
            return result

    torch.manual_seed(0)
    model = Split()
    batch = torch.randn(32, 5), torch.randint(4, (32,), device=device)

    def loss(m: nn.Module, b: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(m(b[0]), b[1])

    symmetries = nm.find_symmetries(model, batch, loss)
    assert len(symmetries.of_kind("rescale").labels) == 7
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
    with nm.Monitor(model, optimizer, symmetries, every=5, strict=True) as monitor:
        for _ in range(20):
            optimizer.zero_grad()
            loss(model, batch).backward()
            optimizer.step()
    data = monitor.run.data
    now = model.first.weight.square().sum(1) + model.first.bias.square() - model.second.weight.square().sum(0).cpu()
    kinds = data["kind"].values == "rescale"
    assert abs(data["charge"].values[-1, kinds] - now.detach().numpy()).max() < 1e-6
    assert monitor.run.errors().query("law == 'exact'")["max_error"].max() < 1e-5


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    optimizer.zero_grad()
    loss_fn(model, batch).backward()
    optimizer.step()
