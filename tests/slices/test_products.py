"""Sums over slices by one read of rows and columns equal those of whole tensors, in plain torch and compiled."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralmechanics.slices import (
    AdamStep,
    Bilinear,
    Derived,
    ProductPlan,
    Products,
    Recipe,
    SliceMix,
    SliceTerm,
    SliceView,
    slice_products,
)
from neuralmechanics.slices.blocks import row_column_sums
from neuralmechanics.slices.layout import matrix_layouts
from neuralmechanics.slices.native import library as compiling
from neuralmechanics.slices.native import trial
from neuralmechanics.slices.native.job_layout import JOB, addresses_of, fill_job
from neuralmechanics.slices.native.runs import runs_of

HOST = torch.device("cpu")
# A tensor's shape with the views of it: shape and kept dimensions.
VIEWS: dict[str, tuple[tuple[int, ...], list[tuple[tuple[int, ...], tuple[int, ...]]]]] = {
    "vector": ((7,), [((7,), (0,)), ((7,), ())]),
    "number": ((), [((), ())]),
    "linear": ((5, 6), [((5, 6), (0,)), ((5, 6), (1,)), ((5, 6), ())]),
    "wide": ((2, 5000), [((2, 5000), (0,)), ((2, 5000), (1,))]),
    "tall": ((5000, 3), [((5000, 3), (0,)), ((5000, 3), (1,))]),
    "convolution": ((4, 3, 3, 3), [((4, 3, 3, 3), (0,)), ((4, 3, 3, 3), (1,))]),
    "both_sides": ((4, 3, 2, 2), [((4, 3, 2, 2), (0, 1)), ((4, 3, 2, 2), (1,)), ((4, 3, 2, 2), (3,))]),
    "behind_a_flatten": ((4, 12), [((4, 12), (0,)), ((4, 3, 4), (1,)), ((4, 12), (1,))]),
    "heads": ((12, 8), [((3, 2, 2, 8), (1,)), ((12, 8), (1,)), ((3, 2, 2, 8), (0, 2))]),
    "misfit": ((4, 6), [((8, 3), (0,)), ((6, 4), (0,)), ((4, 6), (1,))]),
    "of_ones": ((1, 6, 1), [((1, 6, 1), (1,)), ((1, 6, 1), (0,)), ((1, 6, 1), (0, 2))]),
}


def tensor(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def terms_of(views: Sequence[SliceView], seed: int) -> list[SliceTerm]:
    """Random coefficients of every slice of every view on five charges."""
    generator = np.random.default_rng(seed)
    terms = []
    for view in views:
        charges, slices = generator.integers(5, size=2 * view.size), np.tile(np.arange(view.size), 2)
        terms.append(SliceTerm(view, charges, slices, generator.normal(size=2 * view.size)))
    return terms


@pytest.fixture(params=["plain", "compiled"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    library = compiling.library()
    if request.param == "compiled" and library is None:
        pytest.skip("no compiler here")
    found = library if request.param == "compiled" else None
    monkeypatch.setattr("neuralmechanics.slices.plan.library", lambda: found)
    return str(request.param)


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_is_a_sum_of_rows_or_of_columns(name: str) -> None:
    shape, seen = VIEWS[name]
    a, b = tensor(shape, 0), tensor(shape, 1)
    views = [SliceView("w", *view) for view in seen]
    found: dict[int, Tensor] = {}
    for layout, held in matrix_layouts(views, shape):
        rows, columns = row_column_sums([a, b], [(0, 1)], (layout.rows, layout.columns))
        for k, by_rows, slice_of in zip(held, layout.by_rows, layout.slices, strict=True):
            out = torch.zeros(views[k].size, dtype=torch.float64)
            found[k] = out.index_add_(0, torch.from_numpy(slice_of), (rows if by_rows else columns)[0])
    for k, expected in enumerate(slice_products(a, b, views)):
        assert torch.allclose(found[k], expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", VIEWS)
def test_a_plan_measures_what_whole_tensors_give(name: str, dtype: torch.dtype, how: str) -> None:
    """Three operands, every pair, combined with weights; translations beside them. Products of floats are exact."""
    shape, seen = VIEWS[name]
    views = [SliceView("w", *view) for view in seen]
    quadratic, linear = SliceMix(5, terms_of(views, 1)), SliceMix(5, terms_of(views[:1], 2))
    x = [tensor(shape, seed, dtype) for seed in range(3)]
    pairs = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))
    weights = np.random.default_rng(0).normal(size=(2, 6))
    sums = np.random.default_rng(1).normal(size=(2, 3))
    plan = ProductPlan(5, quadratic, linear, {"w": x[0]}, HOST)
    recipe = Recipe(Bilinear(pairs, weights), Bilinear(((0, -1), (1, -1), (2, -1)), sums))
    for _ in range(2):  # the second time the jobs are written down already
        measured = plan.measure({"w": Products(tuple(x), recipe)}, 2)
    for f in range(2):
        expected = torch.zeros(5, dtype=torch.float64)
        for p, (i, j) in enumerate(pairs):
            expected += weights[f, p] * quadratic.products({"w": x[i]}, {"w": x[j]})
        for i in range(3):
            expected += sums[f, i] * linear.sums({"w": x[i]})
        assert torch.allclose(measured[f], expected, rtol=1e-12, atol=1e-11)


def test_weights_and_how_many_forms_they_make_may_change_from_step_to_step(how: str) -> None:
    """As a schedule changes them: the work is written down once, and what multiplies it is that of the step."""
    view = SliceView("w", (5, 6), (0,))
    quadratic, linear = SliceMix(5, terms_of([view], 1)), SliceMix(5, [])
    a, b = tensor((5, 6), 0), tensor((5, 6), 1)
    plan = ProductPlan(5, quadratic, linear, {"w": a}, HOST)
    squares = [quadratic.products({"w": x}, {"w": y}) for x, y in ((a, a), (a, b))]
    for numbers in ([[1.0, 2.0]], [[0.5, -1.0]], [[1.0, 0.0], [0.0, 3.0]], [[1.0, 2.0]]):
        weights = np.array(numbers)
        recipe = Recipe(Bilinear(((0, 0), (0, 1)), weights), Bilinear((), np.zeros((len(numbers), 0))))
        for _ in range(2):
            measured = plan.measure({"w": Products((a, b), recipe)}, len(numbers))
            assert torch.allclose(measured, torch.from_numpy(weights) @ torch.stack(squares), rtol=1e-12)


def test_channels_last_and_slices_of_tensors_are_read_as_they_lie(how: str) -> None:
    views = [SliceView("w", (4, 3, 5, 5), (0,)), SliceView("w", (4, 3, 5, 5), (1,))]
    mix = SliceMix(5, terms_of(views, 3))
    one = tensor((4, 3, 5, 5), 0).to(memory_format=torch.channels_last)
    for other in (
        tensor((4, 3, 5, 5), 1),
        tensor((4, 3, 5, 5), 1).to(memory_format=torch.channels_last),
        tensor((4, 3, 5, 10), 1)[..., ::2],
        tensor((1, 1, 1, 1), 1).expand(4, 3, 5, 5),
    ):
        for a, b in ((one, other), (other, one)):
            plan = ProductPlan(5, mix, SliceMix(5, []), {"w": a}, HOST)
            recipe = Recipe(Bilinear(((0, 1),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0))))
            measured = plan.measure({"w": Products((a, b), recipe)}, 1)[0]
            assert torch.allclose(measured, mix.products({"w": a}, {"w": b}), rtol=1e-12, atol=1e-12)


def test_complex_tensors_are_their_two_parts(how: str) -> None:
    mix = SliceMix(5, terms_of([SliceView("w", (4, 3), (0,)), SliceView("w", (4, 3), (1,))], 3))
    a, b = (torch.complex(tensor((4, 3), s), tensor((4, 3), s + 9)) for s in (0, 1))
    plan = ProductPlan(5, mix, SliceMix(5, []), {"w": a}, HOST)
    recipe = Recipe(Bilinear(((0, 1),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0))))
    measured = plan.measure({"w": Products((a, b), recipe)}, 1)[0]
    assert torch.allclose(measured, mix.products({"w": a}, {"w": b}), rtol=1e-13, atol=1e-13)


def test_differences_and_adams_step_are_taken_in_double_precision(how: str) -> None:
    """The difference of two floats near 1 keeps all its digits; Adam's step is its formula."""
    view = SliceView("w", (30, 70), (1,))
    mix = SliceMix(5, terms_of([view], 3))
    before = 1 + tensor((30, 70), 0, torch.float32) * 1e-3
    after, m, v = before + tensor((30, 70), 1, torch.float32) * 1e-7, tensor((30, 70), 2), tensor((30, 70), 3).square()
    plan = ProductPlan(5, mix, SliceMix(5, []), {"w": before}, HOST)
    recipe = Recipe(Bilinear(((0, 0),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0))))
    for operand, expected in (
        (Derived(after, before), after.double() - before.double()),
        (Derived(m, v, AdamStep(0.1, 1.5, 1e-3)), 0.1 * m / (1.5 * v.sqrt() + 1e-3)),
        (Derived(m, v, AdamStep(0.1, 1.5, 1e-3, squared=False)), 0.1 * m / (1.5 * v + 1e-3)),
    ):
        measured = plan.measure({"w": Products((operand,), recipe)}, 1)[0]
        assert torch.allclose(measured, mix.products({"w": expected}, {"w": expected}), rtol=1e-12, atol=1e-25)


def test_operands_of_another_kind_with_the_same_products_are_read_as_what_they_are(how: str) -> None:
    """A copy in the place of a momentum at one step, and back."""
    mix = SliceMix(5, terms_of([SliceView("w", (30, 70), (1,))], 3))
    a, b = tensor((30, 70), 0), tensor((30, 70), 1)
    plan = ProductPlan(5, mix, SliceMix(5, []), {"w": a}, HOST)
    recipe = Recipe(Bilinear(((0, 0),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0))))
    for operand, expected in ((a, a), (Derived(a, b), a - b), (b, b), (a.float(), a.float().double())):
        measured = plan.measure({"w": Products((operand,), recipe)}, 1)[0]
        assert torch.allclose(measured, mix.products({"w": expected}, {"w": expected}), rtol=1e-12, atol=1e-25)


def test_squares_of_floats_neither_vanish_nor_overflow(how: str) -> None:
    mix = SliceMix(1, [SliceTerm(SliceView("w", (3, 40), (0,)), np.zeros(3, int), np.arange(3), np.ones(3))])
    recipe = Recipe(Bilinear(((0, 0),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0))))
    for size in (1e-30, 1e30):
        w = torch.full((3, 40), size, dtype=torch.float32)
        plan = ProductPlan(1, mix, SliceMix(1, []), {"w": w}, HOST)
        energy = float(plan.measure({"w": Products((w,), recipe)}, 1))
        assert energy == pytest.approx(120 * float(w[0, 0].double()) ** 2, rel=1e-12, abs=0)


def test_parameters_that_are_not_given_contribute_nothing(how: str) -> None:
    views = [SliceView("a", (4, 3), (0,)), SliceView("b", (4, 3), (1,))]
    mix = SliceMix(5, terms_of(views, 3))
    x = {"a": tensor((4, 3), 0), "b": tensor((4, 3), 1)}
    recipe = Recipe(Bilinear(((0, 0),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0))))
    plan = ProductPlan(5, mix, SliceMix(5, []), x, HOST)
    both = plan.measure({name: Products((t,), recipe) for name, t in x.items()}, 1)[0]
    one = plan.measure({"b": Products((x["b"],), recipe)}, 1)[0]
    zero = {"a": torch.zeros(4, 3)}
    assert torch.allclose(both, mix.products(x, x), rtol=1e-13)
    assert torch.allclose(one, mix.products({**x, **zero}, {**x, **zero}), rtol=1e-13)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", [(700, 300), (300, 700), (3, 40_000), (40_000, 3), (257, 2049)])
def test_threads_share_a_matrix_without_losing_any_of_it(shape: tuple[int, int], threads: int) -> None:
    library = compiling.library()
    if library is None:
        pytest.skip("no compiler here")
    x = [tensor(shape, seed, torch.float32) for seed in range(2)]
    job = np.zeros(1, dtype=JOB)
    fill_job(job[0], x, [(0, 0), (1, 0)], (*shape, 0, shape[0]), forms=2, weights=0)
    out, weights = torch.zeros(2, sum(shape), dtype=torch.float64), np.eye(2)
    addresses = array("q", [a for t in x for a in addresses_of(t)])
    library.sums(job.ctypes.data, 1, addresses, weights.ctypes.data, out, threads)
    rows, columns = row_column_sums(x, [(0, 0), (1, 0)], shape)
    assert torch.allclose(out, torch.cat([rows, columns], 1), rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("trouble", ["no compiler", "broken compiler", "switched off", "no place", "wrong library"])
def test_without_the_library_there_is_the_plain_version(
    trouble: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if trouble == "no compiler":
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setattr(compiling.shutil, "which", lambda name: None)
    elif trouble == "broken compiler":
        monkeypatch.setenv("CXX", "false")
    elif trouble == "switched off":
        monkeypatch.setenv("NEURALMECHANICS_COMPILE", "0")
    elif trouble == "no place":
        (tmp_path / "neuralmechanics").write_text("a file in the place of the folder")
    else:
        monkeypatch.setattr(trial, "_sums_agree", lambda *arguments: False)
    assert compiling.library.__wrapped__() is None
    assert not list(tmp_path.rglob(".building-*"))


@pytest.mark.parametrize("shape", [(300, 301), (7, 20_000), (70_000,), (3, 150, 200)])
def test_mixes_of_large_tensors_are_those_of_small_ones(shape: tuple[int, ...]) -> None:
    """Read in blocks, rows and columns apart: against sums over whole tensors, with coefficients of either sign."""
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=draw) for _ in range(2))
    terms, expected_products, expected_sums = [], [], []
    for kept in range(len(shape)):
        view = SliceView("w", shape, (kept,))
        slices = np.array([0, shape[kept] // 2, shape[kept] - 1])
        coefficients = np.array([1.0, -2.0, 0.5])
        terms.append(SliceTerm(view, np.full(3, kept), slices, coefficients))
        others = [d for d in range(len(shape)) if d != kept]
        for made, out in (((a.double() * b.double()), expected_products), (a.double(), expected_sums)):
            whole = made.sum(others) if others else made
            out.append(float((whole[torch.from_numpy(slices)] * torch.from_numpy(coefficients)).sum()))
    mix = SliceMix(len(shape), terms)
    assert mix.products({"w": a}, {"w": b}).tolist() == pytest.approx(expected_products, rel=1e-11, abs=1e-9)
    assert mix.sums({"w": a}).tolist() == pytest.approx(expected_sums, rel=1e-11, abs=1e-9)
    counts = [3.5 * a.numel() / n for n in shape]  # Σ|c| over the elements
    assert mix.elements().tolist() == pytest.approx(counts)


@pytest.mark.parametrize("seed", range(20))
def test_runs_stand_for_the_map_that_they_were_made_of(seed: int) -> None:
    """Neighbours added to neighbours, one by one or several at a time, among entries that stand alone."""
    library = compiling.library()
    if library is None:
        pytest.skip("nothing can be compiled here")
    chance = np.random.default_rng(seed)
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(np.zeros(0), np.zeros(0), np.zeros(0))]
    for _ in range(chance.integers(0, 9)):
        each, count, alone = chance.integers(1, 4), chance.integers(1, 7), chance.integers(0, 6)
        of = np.arange(each * count)
        weight = np.full(len(of), chance.choice([1.0, -1.0, 0.5]))
        pieces.append((chance.integers(0, 20) + of, chance.integers(0, 20) + of // each, weight))
        pieces.append((chance.integers(0, 38, alone), chance.integers(0, 26, alone), chance.choice([1.0, -2.0], alone)))
    source, charge = (np.concatenate([piece[k] for piece in pieces]).astype(np.int32) for k in (0, 1))
    weight = np.concatenate([piece[2] for piece in pieces])
    values = torch.from_numpy(chance.standard_normal((3, 50)))[:, :38]
    for absolute in (False, True):
        out = torch.ones(3, 26, dtype=torch.float64)
        expected = out.numpy().copy()
        for s, c, w in zip(source, charge, weight, strict=True):
            expected[:, c] += (abs(w) if absolute else w) * values[:, s].numpy()
        library.add_mixed(values, runs_of(source, charge, weight), out, absolute=absolute)
        np.testing.assert_allclose(out.numpy(), expected, rtol=1e-12, atol=1e-12)
