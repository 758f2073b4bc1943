"""The table: every optimiser in every situation, monitored, against a training without a monitor.

    python -m tests.monitor.equivalence.table [--device cuda]

The reference is the same training made anew without a monitor; its parameters are saved after every iteration, and its
charges are recomputed from these in double precision by their definition.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from tests.monitor.equivalence.optimizers import ROWS
from tests.monitor.equivalence.situations import COLUMNS, LABELS, SAMPLES, STEPS, Loop, applies, charges, loss_fn

import neuralmechanics as nm
from neuralmechanics.monitor import MonitorWarning

EVERY = 5
CHARGE = 1e-10


@cache
def symmetries(device: str = "cpu") -> nm.Symmetries:
    """Those of the network, in the order that the reference has."""
    loop = Loop("SGD", "plain", device)
    found = nm.find_symmetries(loop.model, (loop.inputs, loop.targets), loss_fn)
    assert found.labels == LABELS
    return found


@dataclass(frozen=True)
class Cell:
    """What one training showed. `law`: right, withheld, or by how much it was silently wrong."""

    charge_error: float
    bitwise: bool
    steps: int
    exact_error: float
    identity_error: float
    withheld: int
    reasons: tuple[str, ...]
    tolerance: float

    @property
    def problems(self) -> list[str]:
        """What is silently wrong."""
        found = []
        if not self.charge_error < CHARGE:
            found.append(f"charges off by {self.charge_error:.1e}")
        if not self.bitwise:
            found.append("the training was changed")
        if self.steps != STEPS:
            found.append(f"{self.steps} steps counted of {STEPS}")
        if not self.exact_error < self.tolerance:
            found.append(f"exact law off by {self.exact_error:.1e} without a word")
        if not self.identity_error < self.tolerance:
            found.append(f"identity off by {self.identity_error:.1e} without a word")
        if self.withheld and not self.reasons:
            found.append(f"{self.withheld} charges withheld without a reason")
        return found

    def __str__(self) -> str:
        if self.problems:
            return "WRONG"
        return "right" if not self.withheld else f"right, {self.withheld} withheld"


def cell(row: str, column: str, device: str = "cpu") -> Cell:
    """One optimiser in one situation."""
    known, state = _reference(row, column, device)
    torch._dynamo.reset()  # what was compiled before decides how numbers are compiled after
    loop = Loop(row, column, device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MonitorWarning)
        followed = symmetries(device)
        with nm.Monitor(loop.model, loop.optimizers, followed, every=EVERY, residuals=True, strict=True) as monitor:
            for _ in loop.steps():
                pass
    same = loop.state()
    data = monitor.run.data
    records = data["step"].values
    # Of what a charge was at its largest until then: trainings that blow up are to be followed as well.
    reference, scale = known[records], np.maximum.accumulate(np.maximum(np.abs(known), 1e-3))[records]
    exact = np.full_like(reference, np.nan)
    if "exact" in data["law"].values:
        exact = data["predicted"].sel(law="exact").values
    identity = data["predicted"].sel(law="identity").values
    precision = torch.bfloat16 if column == "autocast" else torch.float64
    return Cell(
        charge_error=float(np.abs((data["charge"].values - reference) / scale).max()),
        bitwise=len(same) == len(state) and all(torch.equal(a, b) for a, b in zip(same, state, strict=True)),
        steps=monitor.step,
        exact_error=_largest((exact - reference) / scale),
        identity_error=float(np.abs((identity - reference) / scale).max()),
        withheld=int(np.isnan(exact[-1]).sum()),
        reasons=tuple(note.message for note in monitor.run.warnings),
        tolerance=2 * float(torch.finfo(precision).eps) ** 0.5,
    )


def _reference(row: str, column: str, device: str) -> tuple[np.ndarray, list[torch.Tensor]]:
    """The charges after every iteration of the training without a monitor, and its last state."""
    torch._dynamo.reset()
    symmetries(device)  # found before: both trainings begin with the same random state
    loop = Loop(row, column, device)
    first = charges(loop.params).cpu().numpy()
    return np.stack([first, *(charges(loop.params).cpu().numpy() for _ in loop.steps())]), loop.state()


def _largest(values: np.ndarray) -> float:
    """The largest size of what is a number; 0 where nothing is."""
    return float(np.nanmax(np.abs(values))) if not np.isnan(values).all() else 0.0


def cells() -> list[tuple[str, str]]:
    """Every pair that people can do."""
    return [(row, column) for row in ROWS for column in COLUMNS if applies(row, column)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS))
    parser.add_argument("--columns", nargs="+", default=list(COLUMNS))
    parser.add_argument("--reasons", action="store_true", help="print what was said")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    chosen = [(r, c) for r, c in cells() if r in options.rows and c in options.columns]
    wrong = 0
    for row, column in chosen:
        found = cell(row, column, options.device)
        wrong += bool(found.problems)
        print(
            f"{row:22s} {column:16s} {found!s:22s} charges {found.charge_error:.0e} exact {found.exact_error:.0e} "
            f"identity {found.identity_error:.0e} {'; '.join(found.problems)}",
            flush=True,
        )
        if options.reasons or found.problems:
            for reason in found.reasons:
                print(f"    {reason}")
    print(f"{len(chosen)} trainings of {SAMPLES} samples and {STEPS} steps: {wrong} silent errors")


if __name__ == "__main__":
    main()
