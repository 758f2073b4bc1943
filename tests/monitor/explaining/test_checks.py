"""Each check on numbers of either side of its bounds: what it says, of what, and where it is silent."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuralmechanics.laws import BUDGET_PARTS
from neuralmechanics.monitor.explaining.findings import balances, constants, loop_faults
from neuralmechanics.monitor.explaining.findings.books import books_of
from neuralmechanics.monitor.explaining.findings.constants import _law_error
from neuralmechanics.monitor.explaining.findings.facts import MISSING, THERE, ZERO, Facts, Parameter
from neuralmechanics.monitor.warning import Note

LAYERS, FAMILIES = ("a", "a", "b"), ("a rows", "a rows", "b rows")
STEPS = 10 * np.arange(11)


def family(name: str, charges: int, *parameters: str, broken_by: Sequence[Any] = ()) -> Any:
    return SimpleNamespace(name=name, charges=charges, parameters=parameters, broken_by=tuple(broken_by))


def facts(
    parts: dict[str, Any] | None = None,
    *,
    charge: Any = 4.0,
    notes: Sequence[Note] = (),
    parameters: Sequence[Parameter] = (),
    observed: dict[str, Any] | None = None,
    predicted: Any = np.nan,
    config: dict[str, Any] | None = None,
    turns: dict[str, float] | None = None,
) -> Facts:
    """Three scale charges of two layers over ten intervals of ten steps; what each cause did is told by interval."""
    shape = (len(BUDGET_PARTS), len(STEPS) - 1, 3)
    change = np.zeros(shape)
    for name, values in (parts or {}).items():
        change[BUDGET_PARTS.index(name)] = np.broadcast_to(np.asarray(values), shape[1:])
    found = Facts(SimpleNamespace(config=config or {}), SimpleNamespace(segments=[]))  # type: ignore[arg-type]
    data = xr.Dataset(
        {
            "charge": (("step", "charge"), np.broadcast_to(np.asarray(charge, dtype=float), (len(STEPS), 3)).copy()),
            "scale": ("charge", np.full(3, 4.0)),
            "predicted": (("law", "step", "charge"), np.broadcast_to(np.asarray(predicted), (1, len(STEPS), 3)).copy()),
        },
        coords={"step": STEPS, "law": ["exact"]},
    )
    budget = xr.Dataset(
        {"change": (("part", "step", "charge"), change)},
        coords={"part": np.array(BUDGET_PARTS, dtype=object), "step": STEPS[1:], "layer": ("charge", list(LAYERS))},
    )
    families = [family("a rows", 2, "a.weight"), family("b rows", 1, "b.weight", broken_by=[_EPS])]
    rows = pd.DataFrame({"layer": list(turns or {}), "rotation": list((turns or {}).values())})
    found.__dict__ |= {
        "data": data,
        "budget": budget,
        "books": books_of(budget),
        "notes": list(notes),
        "parameters": list(parameters),
        "kinds": np.array(["scale"] * 3),
        "layers": np.array(LAYERS),
        "families": np.array(FAMILIES),
        "symmetries": SimpleNamespace(charged=families, of_kind=lambda kind: families if kind == "scale" else []),
        "forecast": SimpleNamespace(scales=rows),
        "observed": (observed or {}).get,
    }
    return found


class _Constant:
    constant, where = "eps", "norm"

    def __str__(self) -> str:
        return "eps of norm"


_EPS = _Constant()


def told(check: Any, given: Facts) -> list[tuple[str, tuple[str, ...]]]:
    return [(finding.code, finding.place) for finding in check(given)]


def test_numbers_that_are_none_begin_where_the_monitor_or_a_record_saw_them() -> None:
    charge = np.full((11, 3), 4.0)
    assert told(loop_faults.not_finite, facts(charge=charge)) == []
    charge[4:, 2] = np.inf
    (seen,) = loop_faults.not_finite(facts(charge=charge))
    assert (seen.code, seen.place, dict(seen.evidence)) == ("not-finite", ("b",), {"step": 40, "charges": 1})
    notes = [Note(3, "…", "divergence"), Note(37, "…", "not a number")]
    (said,) = loop_faults.not_finite(facts(charge=charge, notes=notes))
    assert said.evidence["step"] == 37


def test_of_a_subject_the_first_note_counts() -> None:
    notes = [Note(4, "…", "outside"), Note(7, "…", "divergence"), Note(9, "…", "divergence")]
    (found,) = loop_faults.divergence(facts(notes=notes))
    assert (found.code, found.evidence["step"]) == ("divergence", 7)
    assert told(loop_faults.divergence, facts(notes=notes[:1])) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[THERE, ZERO, MISSING], [THERE, ZERO, MISSING]], {"never-a-gradient": ("c",), "zero-gradient": ("b",)}),
        ([[THERE, MISSING, MISSING], [THERE, ZERO, THERE]], {"zero-gradient": ("b",)}),
        ([[THERE, ZERO, MISSING], [THERE, THERE, THERE]], {}),
        ([[MISSING, MISSING, MISSING]], {}),  # no backward pass yet
    ],
)
def test_a_gradient_that_came_once_is_there(rows: list[list[int]], said: dict[str, tuple[str, ...]]) -> None:
    parameters = [Parameter(name, 2, "float32", 0.0) for name in "abc"]
    given = facts(parameters=parameters, observed={"gradient": np.array(rows, dtype=float)})
    assert dict(told(loop_faults.without_gradient, given)) == said


@pytest.mark.parametrize(("moved", "places"), [(5e-4, ("b",)), (3e-4, ())])
def test_what_was_written_outside_counts_beyond_a_thousandth(moved: float, places: tuple[str, ...]) -> None:
    """Up and down again is written as well: 4·10⁻³ of a charge of 4 are the bound, over ten intervals."""
    outside = np.zeros((10, 3))
    outside[:, 2] = moved * (-1.0) ** np.arange(10)
    given = facts({"outside": outside, "finite_step": 1e-3})
    assert told(loop_faults.outside_writes, given) == [("outside-writes", places)] * bool(places)


@pytest.mark.parametrize(("clipped", "records", "said"), [(3, 10, True), (2, 10, False), (4, 4, False)])
def test_lengths_that_end_alike_are_clipped(clipped: int, records: int, said: bool) -> None:
    lengths = np.linspace(0.1, 0.4, records)
    lengths[:clipped] = 0.5 * (1 - 5e-5 * np.arange(clipped) / clipped)
    found = list(loop_faults.clipping(facts(observed={"gradient_norm": lengths})))
    assert [(f.code, f.evidence["length"]) for f in found] == [("clipping", 0.5)] * said


@pytest.mark.parametrize(
    ("grown", "decay", "held", "said"),
    [(1.6, 0.0, 0.0, True), (1.4, 0.0, 0.0, False), (1.6, -0.1, 0.0, False), (1.6, 0.0, 0.1, False)],
    ids=["grown by half", "grown by less", "with a decay's part", "decayed apart"],
)
def test_effective_rates_only_fall_without_decay(grown: float, decay: float, held: float, said: bool) -> None:
    charge = np.linspace(4.0, 4.0 * grown, 11)[:, None]
    parameters = [Parameter(f"{name}.weight", 2, "float32", held) for name in "ab"]
    given = facts({"weight_decay": decay, "finite_step": 0.1}, charge=charge, parameters=parameters)
    assert told(balances.falling_rates, given) == [("scale-free-without-decay", ("a", "b"))] * said


@pytest.mark.parametrize(("decays", "said"), [((0.1, 0.1, 0.0), True), ((0.1, 0.0, 0.1), False), ((0.0,) * 3, False)])
def test_decay_has_no_effect_where_only_directions_matter(decays: tuple[float, ...], said: bool) -> None:
    parameters = [Parameter(n, 2, "float32", d) for n, d in zip(("a.weight", "b.weight", "head"), decays, strict=True)]
    found = told(balances.decay_without_effect, facts(parameters=parameters))
    assert found == [("decay-without-effect", ("a.weight", "b.weight"))] * said


@pytest.mark.parametrize(("fast", "said"), [(0.011, True), (0.009, False)])
def test_layers_turn_unevenly_beyond_ten_times(fast: float, said: bool) -> None:
    found = list(balances.uneven_rotation(facts(turns={"a": fast, "b": 1e-3})))
    assert [(f.code, f.place, f.evidence["ratio"]) for f in found] == [
        ("uneven-rotation", ("a", "b"), pytest.approx(fast / 1e-3))
    ] * said


def test_of_several_jumps_the_greatest_is_told_with_its_step() -> None:
    """a by the sixth interval to a twentieth of its motion, b by the fifth to a third; a drift is no jump."""
    broken = np.zeros((10, 3))
    broken[5:, 0], broken[4:, 2] = 0.05 / 0.95, 1 / 2
    given = facts({"broken_symmetry": broken, "finite_step": np.where(np.arange(3) == 1, 0.0, 1.0)})
    (found,) = balances.residual_jump(given)
    assert (found.place, found.evidence["step"]) == (("b",), 50)
    assert found.evidence["share_of_motion_after"] == pytest.approx(1 / 3)
    drift = facts({"broken_symmetry": 0.1 * np.arange(10)[:, None], "finite_step": 1.0})
    assert told(balances.residual_jump, drift) == []


@pytest.mark.parametrize(
    ("subject", "drift", "weight"),
    [
        ("broken: clipping", 0.0, 60),
        ("broken: other", 5e-3, 54),
        ("broken: other", 3e-3, None),
        ("broken: mode", 1.0, None),
        ("broken: constant", 1.0, None),
    ],
)
def test_laws_end_where_a_cause_was_seen_or_the_charges_drifted(subject: str, drift: float, weight: int | None) -> None:
    message = "at step 30 two families: gradients are clipped by value; the closed laws end there"
    note = Note(30, message, subject)
    found = list(balances.ended_laws(facts({"broken_symmetry": drift / 10}, notes=[note])))
    assert [(f.code, f.weight, f.evidence["step"]) for f in found] == [("law-ends", weight, 30)] * (weight is not None)
    assert all(f.text.endswith("that was given: gradients are clipped by value") for f in found)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_what_a_constant_broke_explains_the_error_of_the_law(momentum: float) -> None:
    """δ' = -rδ + b in continuous time, r and b of an interval 1/(1-β) times what the budget's parts are."""
    lasting, rate, broken = 1 / (1 - momentum), 0.1, 5e-3
    r, b = rate * lasting, broken * lasting
    error = b / r * (1 - np.exp(-r * np.arange(11)))
    group = {"lr": 0.1, "weight_decay": 0.1, "momentum": momentum, "nesterov": False}
    config = {"optimizer": {"name": "SGD", "groups": [group]}}
    parts = {"weight_decay": -rate * 4.0, "broken_symmetry": broken, "finite_step": 0.01}
    given = facts(parts, predicted=4.0 - error[:, None], config=config)
    largest, explained = _law_error(given, np.array([True, True, False]))
    assert largest == pytest.approx(error[-1] / 4.0)
    assert explained > 0.995
    found = list(constants.broken_by_a_constant(given))
    assert [(f.code, f.place) for f in found] == [("broken-by-constant", ("b",))]  # the family that has an eps
    assert found[0].evidence["share_of_motion"] == pytest.approx(broken / (broken + 0.01 + 0.4))
    assert found[0].evidence["drift_of_the_charges"] == pytest.approx(10 * broken / 4)
