"""What a record takes in time and on the disk, and a run when it is opened, beside a file of tensors a record."""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import neuralmechanics as nm
from suite.rows import Row

TITLE = "The store"
TEXT = """\
A record at every step: charges measured, the exact law followed, both published so that a killed process loses
nothing. Beside it the writing alone of the same two tensors by `torch.save`, a file a record, without checksums,
names or hyperparameters."""


def rows(quick: bool) -> list[Row]:
    """Charges at one number of records, then records at one number of charges."""
    warnings.simplefilter("ignore", nm.monitor.MonitorWarning)
    torch.set_num_threads(1)
    cases = [(10, 5), (20, 5)] if quick else [(100, 400), (1000, 400), (10_000, 400), (1000, 100), (1000, 1600)]
    with tempfile.TemporaryDirectory() as folder:
        _case(4, 2, Path(folder) / "first")  # what reading loads at its first call
        return [row for k, case in enumerate(cases) for row in _case(*case, Path(folder) / str(k))]


def _case(units: int, records: int, folder: Path) -> list[Row]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, units), nn.ReLU(), nn.Linear(units, 4))
    batch = torch.randn(8, 4), torch.randint(4, (8,))
    symmetries = nm.find_symmetries(model, batch, _loss)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
    _loss(model, batch).backward()
    plain = folder.with_suffix(".plain")
    plain.mkdir()
    bare = [_spent(optimizer.step) for _ in range(20)]
    ours, theirs = [], []
    params = dict(model.named_parameters())
    with nm.Monitor(model, optimizer, symmetries, folder, every=1, laws=["exact"], strict=True):
        for step in range(records):
            ours.append(_spent(optimizer.step))
            value = symmetries.charge(params)
            # Computing the charges is the same for both; writing is what differs.
            theirs.append(
                _spent(lambda value=value, step=step: torch.save((value, value.clone()), plain / f"{step}.pt"))
            )
    size = f"{symmetries.charges:,} charges, {records:,} records"
    own, other = (1e3 * sorted(times)[len(times) // 2] for times in (ours, theirs))
    own -= 1e3 * min(bare)
    loaded = _spent(lambda: [torch.load(path, weights_only=True) for path in sorted(plain.iterdir())])
    opened = _spent(lambda: nm.open_run(folder).data["charge"].values)
    return [
        Row("a step with its record", size, own, "ms", "torch.save a record", other),
        Row("on the disk", size, _bytes(folder) / 1e6, "MB", "torch.save a record", _bytes(plain) / 1e6),
        Row("opened and read", size, opened, "s", "torch.load of all", loaded),
    ]


def _spent(work: object) -> float:
    begun = time.process_time()
    work()  # type: ignore[operator]
    return time.process_time() - begun


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])
