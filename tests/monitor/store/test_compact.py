"""What is written of a record is what was measured: to the last bit, and for models in floats to their rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neuralmechanics as nm
from neuralmechanics.monitor.store.merging import merged
from neuralmechanics.monitor.store.shards.compact import compacted, expanded
from neuralmechanics.monitor.store.shards.narrow import broadened, narrowed
from neuralmechanics.monitor.store.shards.shard import Arrays

N = 40


def record(seed: int = 0, **changes: Any) -> Arrays:
    """A record as a monitor makes it: a law that is near its charge, one that is far, the laws' state."""
    chance = np.random.default_rng(seed)
    charge = chance.normal(size=(1, N))
    arrays: Arrays = {
        "step": np.array([seed], dtype=np.int64),
        "time": np.array([0.5]),
        "charge": charge,
        "residual": 1e-9 * chance.normal(size=(1, N)),
        "predicted/exact": charge * (1 + 1e-7 * chance.normal(size=(1, N))),
        "predicted/gradient_flow": charge * 0.8,
        "state/exact/companion": chance.normal(size=N),
        "state/exact/buffered": np.ones(N, dtype=bool),
        "state/exact/speed": np.full(N, np.nan),
        "state/broken": chance.random(N) < 0.5,
        "scalar/loss": np.array([0.1]),
        "hyper/learning_rate": np.array([[0.1]]),
    }
    arrays["state/exact/charge"] = arrays["predicted/exact"][0].copy()
    arrays["state/gradient_flow/charge"] = chance.normal(size=N)  # broken somewhere: not what is predicted
    return arrays | {name.replace("__", "/"): value for name, value in changes.items()}


def same(a: Arrays, b: Arrays) -> bool:
    return set(a) == set(b) and all(
        a[k].dtype == b[k].dtype and np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a
    )


AWKWARD: dict[str, dict[str, Any]] = {
    "plain": {},
    "nan predicted": {"predicted__exact": np.full((1, N), np.nan)},
    "some nan": {"predicted__exact": np.where(np.arange(N) % 3, 1.0, np.nan)[None]},
    "charge inf": {"charge": np.where(np.arange(N) % 3, 1.0, np.inf)[None]},
    "charge nan": {"charge": np.where(np.arange(N) % 3, 1.0, np.nan)[None]},
    "prediction ran away": {"predicted__gradient_flow": np.full((1, N), 1e300)},
    "prediction infinite": {"predicted__gradient_flow": np.full((1, N), np.inf)},
    "zero": {"charge": np.zeros((1, N)), "residual": np.zeros((1, N))},
    "outside": {"outside": np.ones((1, N))},
}


@pytest.mark.parametrize("case", AWKWARD)
def test_a_record_in_double_precision_comes_back_to_the_last_bit(case: str) -> None:
    arrays = record(**AWKWARD[case])
    assert same(expanded(compacted(arrays, single=False)), arrays)


@pytest.mark.parametrize("case", AWKWARD)
def test_a_record_in_floats_comes_back_to_rounding(case: str) -> None:
    """Charges exactly; a prediction to 6e-8 of its distance from the charge."""
    arrays = record(**AWKWARD[case])
    back = expanded(compacted(arrays, single=True))
    assert set(back) == set(arrays)
    assert all(back[name].dtype == array.dtype for name, array in arrays.items())
    assert np.array_equal(back["charge"], arrays["charge"], equal_nan=True)
    for name in ("predicted/exact", "predicted/gradient_flow"):
        with np.errstate(invalid="ignore"):
            distance = np.nan_to_num(np.abs(arrays[name] - arrays["charge"]), posinf=0.0)
        assert np.allclose(back[name], arrays[name], rtol=3e-16, atol=6e-8 * distance.max(), equal_nan=True)
    for name in ("residual", "state/exact/companion"):
        assert np.allclose(back[name], arrays[name], rtol=6e-8, atol=0, equal_nan=True)
    for name in ("state/exact/speed", "state/broken", "state/gradient_flow/charge"):
        assert np.array_equal(back[name], arrays[name], equal_nan=arrays[name].dtype.kind == "f")


@pytest.mark.parametrize(
    ("single", "share", "kept"), [(True, 1e-5, True), (True, 1e-7, False), (False, 1e-10, True), (False, 1e-16, False)]
)
def test_what_breaks_a_symmetry_by_rounding_alone_goes_without_saying(single: bool, share: float, kept: bool) -> None:
    """Of the motion of a charge, by the precision of the gradient; all is kept where one charge has more."""
    step, decay = np.full((1, N), 0.5), np.full((1, N), -0.5)
    broken = np.zeros((1, N))
    broken[0, 3] = -share
    arrays = record(budget__finite_step=step, budget__weight_decay=decay, budget__broken_symmetry=broken)
    back = expanded(compacted(arrays, single=single))
    assert ("budget/broken_symmetry" in back) == kept
    assert not kept or np.allclose(back["budget/broken_symmetry"], broken, rtol=1e-6, atol=0)


def test_a_merged_shard_may_hold_rows_of_both_kinds() -> None:
    """A record whose charges ran away keeps its predictions themselves, its neighbours their differences."""
    rows = [record(0), record(1, **AWKWARD["charge inf"]), record(2)]
    back = expanded(merged([compacted(each, single=True) for each in rows]))
    for number, arrays in enumerate(rows):
        for name in ("charge", "predicted/exact", "predicted/gradient_flow"):
            assert np.allclose(back[name][number], arrays[name][0], rtol=0, atol=1e-7, equal_nan=True)
    assert np.array_equal(back["state/exact/charge"], back["predicted/exact"][-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_of_floats_is_written_in_half_the_bytes_and_resumed_where_it_was(
    dtype: torch.dtype, tmp_path: Any
) -> None:
    """Twelve steps in one go and in two: the same predictions, to rounding of what the floats themselves know."""

    def trained(store: Any, *, parts: list[int]) -> tuple[nm.Run, int]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 300), nn.ReLU(), nn.Linear(300, 4)).to(dtype)
        x, y = torch.randn(8, 6, dtype=dtype), torch.randint(4, (8,))
        symmetries = nm.find_symmetries(model, (x, y), lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
        for number, steps in enumerate(parts):
            with nm.Monitor(model, optimizer, symmetries, store, every=3, resume=number > 0, strict=True):
                for _ in range(steps):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x), y).backward()
                    optimizer.step()
        last = max(store.glob("*/records-*"), key=lambda path: (path.parent.name, path.name))
        return nm.open_run(store), last.stat().st_size

    whole, size = trained(tmp_path / "whole", parts=[12])
    split, _ = trained(tmp_path / "split", parts=[6, 6])
    assert np.array_equal(whole.data["charge"].values, split.data["charge"].values)
    predicted = whole.data["predicted"]
    error = np.abs(predicted - split.data["predicted"]) / whole.data["scale"]
    distance = np.abs(predicted - whole.data["charge"]) / whole.data["scale"]
    # once, at the resume, less than a float of the charge's size would round
    tight, loose = (3e-8, 2e-7) if dtype == torch.float32 else (1e-15, 0.0)
    assert float(error.sel(law="exact").max()) < tight
    assert bool((error <= tight + loose * distance).where(predicted.notnull(), True).all())
    charges, laws = len(whole.data["charge"][0]), len(whole.data["law"])
    # charge; the residual; predictions; companions and the oscillator's slope and companion of two laws
    numbers = 8 + (4 if dtype == torch.float32 else 8) * (1 + laws + 3)
    assert size < charges * (numbers + 8 * 8) + 6000


def test_a_shard_of_many_records_keeps_its_last_exactly_and_movements_as_floats() -> None:
    chance = np.random.default_rng(0)
    moved = np.cumsum(chance.normal(size=(9, N)) * 1e-3, axis=0)
    rows = [record(number, charge=(1e3 + moved[number])[None]) for number in range(9)]
    together = merged([compacted(row, single=True) for row in rows])
    short = narrowed(together)
    back, whole = broadened(short), expanded(together)
    assert short["charge"].dtype == np.float32
    for name in ("charge", "residual"):
        assert np.array_equal(back[name][-1], together[name][-1])
    distance = np.abs(together["charge"] - together["charge"][-1])
    assert (np.abs(back["charge"] - together["charge"]) <= 6e-8 * distance + 1e-12).all()
    assert np.allclose(back["residual"], together["residual"], rtol=2**-8, atol=0)
    again = expanded(short)
    assert set(again) == set(whole)
    assert all(again[name].dtype == array.dtype for name, array in whole.items())
    errors = [each["predicted/exact"] - each["charge"] for each in (again, whole)]
    assert np.allclose(*errors, rtol=2**-8, atol=1e-12)
    assert np.array_equal(errors[0][-1], errors[1][-1])
    assert np.array_equal(again["state/exact/charge"], whole["state/exact/charge"])
    assert same(narrowed(broadened(short)), short)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e-45, 3.4028235e38, -1.0])
def test_residuals_of_8_digits_are_what_they_were(value: float) -> None:
    rows = {"charge": np.zeros((2, 1)), "residual": np.full((2, 1), value, dtype=np.float32)}
    back = broadened(narrowed(rows))["residual"][:1]
    if value in (1e-45, 3.4028235e38):  # below the smallest, above the largest that 16 bits hold
        assert np.isin(back, [0.0, np.inf, np.float32(value)]).all()
    else:
        assert np.array_equal(back, rows["residual"][:1], equal_nan=True)


@pytest.mark.parametrize("case", ["charge inf", "charge nan"])
def test_charges_that_are_no_numbers_stay_as_they_are(case: str) -> None:
    rows = merged([compacted(record(number, **AWKWARD[case]), single=True) for number in range(4)])
    assert narrowed(rows)["charge"].dtype == np.float64
    assert same(broadened({"charge": rows["charge"]}), {"charge": rows["charge"]})


def test_records_in_double_precision_are_not_narrowed() -> None:
    rows = merged([compacted(record(number), single=False) for number in range(4)])
    assert same(narrowed(rows), rows)


def budgeted(count: int, width: int = N, **changes: Any) -> Arrays:
    """Rows of one shard with a budget that leaves the rounding of floats: what was done is a sum of known parts."""
    chance = np.random.default_rng(count)
    parts = {
        "finite_step": 1e-4 * chance.random((count, width)),
        "weight_decay": -1e-5 * chance.random((count, width)),
        "momentum_memory": 1e-3 * chance.normal(size=(count, width)),
    }
    rounding = 1e-9 * chance.normal(size=(count, width))
    charge = 10 + np.cumsum(sum(parts.values()) + rounding, axis=0)
    arrays: Arrays = {"charge": charge, "residual": np.zeros((count, width), dtype=np.float32)}
    arrays |= {f"budget/{name}": part.astype(np.float32) for name, part in parts.items()}
    return arrays | {name.replace("__", "/"): value for name, value in changes.items()}


def rounding_of(arrays: Arrays) -> np.ndarray:
    parts = sum(np.nan_to_num(a[1:].astype(np.float64)) for n, a in arrays.items() if n.startswith("budget/"))
    outside = np.nan_to_num(arrays["outside"][1:]) if "outside" in arrays else 0.0
    left: np.ndarray = np.diff(arrays["charge"], axis=0) - parts - outside
    return left


@pytest.mark.parametrize("outside", [False, True])
def test_parts_of_a_budget_keep_8_digits_and_add_up_as_before(outside: bool) -> None:
    """Each part to 2^-8, the greatest to that of the others, and what they leave of the change to 2^-8 of itself."""
    rows = budgeted(9)
    if outside:
        rows["outside"] = np.where(np.arange(9)[:, None] == 4, 1e-2, np.nan) * np.ones((9, N))
        rows["charge"] = rows["charge"] + np.where(np.arange(9)[:, None] >= 4, 1e-2, 0.0)
    short = narrowed(rows)
    back = broadened(short)
    assert "budget/momentum_memory" not in short
    assert set(back) == set(rows)
    for name in ("finite_step", "weight_decay"):
        assert np.allclose(back[f"budget/{name}"], rows[f"budget/{name}"], rtol=2**-8, atol=0)
    others = np.abs(rows["budget/finite_step"]) + np.abs(rows["budget/weight_decay"])
    error = np.abs(back["budget/momentum_memory"] - rows["budget/momentum_memory"])
    assert (error <= 2**-8 * others + 1e-9).all()
    assert np.allclose(rounding_of(back), rounding_of(rows), rtol=2**-8, atol=1e-14)


def test_a_part_that_was_not_there_in_some_records_stays_away() -> None:
    rows = budgeted(6)
    for name in [name for name in rows if name.startswith("budget/")]:
        rows[name] = rows[name].astype(np.float64)  # as gaps make it
        rows[name][2] = np.nan
    rows["charge"][2:] += rows["charge"][1] - rows["charge"][2]
    back = broadened(narrowed(rows))
    for name in [name for name in rows if name.startswith("budget/")]:
        assert np.array_equal(np.isnan(back[name]), np.isnan(rows[name]))
    assert np.allclose(rounding_of(back), rounding_of(rows), rtol=2**-8, atol=1e-14)


@pytest.mark.parametrize("value", [np.inf, 1e38])
def test_a_budget_that_ran_away_stays_as_it_is(value: float) -> None:
    rows = budgeted(4, budget__finite_step=np.full((4, N), value, dtype=np.float32))
    back = broadened(narrowed(rows))
    assert all(np.array_equal(back[name], array) for name, array in rows.items() if name.startswith("budget/"))


def test_a_part_that_stands_alone_is_what_is_left() -> None:
    rows = {name: array for name, array in budgeted(5).items() if not name.startswith("budget/")}
    rows["budget/finite_step"] = np.concatenate([np.zeros((1, N)), np.diff(rows["charge"], axis=0)]).astype(np.float32)
    back = broadened(narrowed(rows))
    assert np.allclose(back["budget/finite_step"], rows["budget/finite_step"], rtol=2**-20, atol=1e-9)
