"""Charges of linear blocks measured in one call equal those of whole Gram matrices, in plain torch and compiled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from neuralmechanics.slices import (
    AdamStep,
    Bilinear,
    Derived,
    GramBlocks,
    Operand,
    ProductPlan,
    Products,
    Recipe,
    SliceMix,
    SliceTerm,
    SliceView,
)
from neuralmechanics.slices.native import library as compiling
from neuralmechanics.slices.native import trial

HOST = torch.device("cpu")
PAIRS = ((0, 0), (1, 0), (1, 1))
# A tensor's shape, its view's shape and kept dimensions, and the width of the blocks.
VIEWS: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]] = {
    "rows": ((12, 70), (12, 70), (0,), 3),
    "columns": ((70, 12), (70, 12), (1,), 3),
    "heads": ((130, 48), (130, 3, 16), (1, 2), 16),
    "in_the_middle": ((5, 9, 33), (5, 9, 33), (1,), 9),
    "apart": ((4, 5, 6), (4, 5, 6), (0, 2), 4),
    "of_one_channel": ((7, 8), (7, 8), (0,), 1),
    "all_of_a_vector": ((48,), (48,), (0,), 16),
    "wide": ((170, 20), (170, 20), (0,), 170),
}


def tensor(shape: Sequence[int], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def blocks_of(name: str, parameter: str, seed: int, charges: int) -> tuple[GramBlocks, tuple[int, ...]]:
    """Channels of the view in a random order, cut into blocks that share places and have either sign."""
    shape, seen, kept, width = VIEWS[name]
    generator = np.random.default_rng(seed)
    view = SliceView(parameter, seen, kept)
    count = view.size // width
    slices = generator.permutation(view.size)[: count * width].reshape(count, width)
    if name in ("columns", "heads"):
        slices[0] = np.arange(width)
    each = width * (width + 1) // 2
    places = generator.integers(charges // each, size=count) * each
    return GramBlocks(view, slices, places, generator.choice([-1.0, 1.0], size=count)), shape


def reference(blocks: GramBlocks, a: Tensor, b: Tensor, charges: int) -> Tensor:
    """One entry after the other."""
    order = (*blocks.view.kept, *blocks.view.summed)
    rows = [t.double().reshape(blocks.view.shape).permute(order).reshape(blocks.view.size, -1).numpy() for t in (a, b)]
    out = np.zeros(charges)
    for channels, place, sign in zip(blocks.slices, blocks.places, blocks.signs, strict=True):
        number = int(place)
        for i, channel in enumerate(channels):
            for other in channels[i:]:
                value = rows[0][channel] @ rows[1][other] + rows[1][channel] @ rows[0][other]
                out[number] += sign * value / 2
                number += 1
    return torch.from_numpy(out)


@pytest.fixture(params=["plain", "compiled"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    library = compiling.library()
    if request.param == "compiled" and library is None:
        pytest.skip("no compiler here")
    found = library if request.param == "compiled" else None
    monkeypatch.setattr("neuralmechanics.slices.plan.library", lambda: found)
    return str(request.param)


def measured(
    blocks: Sequence[GramBlocks], operands: dict[str, tuple[Operand, ...]], weights: np.ndarray, charges: int
) -> Tensor:
    mix = SliceMix(charges, [])
    params = {name: o if isinstance(o, Tensor) else o.first for name, (o, *_) in operands.items()}
    plan = ProductPlan(charges, mix, mix, params, HOST, blocks)
    given = {
        name: Products(of, Recipe(Bilinear(PAIRS, weights), Bilinear((), np.zeros((len(weights), 0)))))
        for name, of in operands.items()
    }
    first = plan.measure(given, len(weights))
    second = plan.measure(given, len(weights))  # the jobs are written down already
    assert torch.equal(first, second)
    return second


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", VIEWS)
def test_a_plan_measures_entries_of_gram_matrices(name: str, dtype: torch.dtype, how: str) -> None:
    """Two parameters that add to the same charges, every pair of two operands, two forms of them."""
    width = VIEWS[name][3]
    charges = 3 * (width * (width + 1) // 2)
    (one, shape), (other, _) = (blocks_of(name, parameter, seed, charges) for seed, parameter in enumerate("ab"))
    weights = np.random.default_rng(2).normal(size=(2, 3))
    operands = {p: (tensor(shape, 2 * k, dtype), tensor(shape, 2 * k + 1, dtype)) for k, p in enumerate("ab")}
    expected = torch.zeros(2, charges, dtype=torch.float64)
    for blocks in (one, other):
        of = operands[blocks.parameter]
        for number, (left, right) in enumerate(PAIRS):
            expected += torch.from_numpy(weights[:, number, None]) * reference(blocks, of[left], of[right], charges)
    assert torch.allclose(measured([one, other], dict(operands), weights, charges), expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", ["rows", "heads", "in_the_middle"])
def test_differences_and_adams_step_enter_gram_matrices(name: str, how: str) -> None:
    width = VIEWS[name][3]
    charges = 3 * (width * (width + 1) // 2)
    blocks, shape = blocks_of(name, "a", 1, charges)
    after, m, v = tensor(shape, 0), tensor(shape, 1), tensor(shape, 2).square()
    weights = np.eye(3)
    step = AdamStep(0.1, 1.5, 1e-3)
    for derived, whole in (
        (Derived(m, v), m - v),
        (Derived(m, v, step), 0.1 * m / (1.5 * v.sqrt() + 1e-3)),
        (Derived(m, v, AdamStep(0.1, 1.5, 1e-3, squared=False)), 0.1 * m / (1.5 * v + 1e-3)),
    ):
        found = measured([blocks], {"a": (after, derived)}, weights, charges)
        parts = (after, whole)
        for number, (left, right) in enumerate(PAIRS):
            expected = reference(blocks, parts[left], parts[right], charges)
            assert torch.allclose(found[number], expected, rtol=1e-12, atol=1e-12)


def test_sizes_of_coefficients_are_those_of_slices_alone(how: str) -> None:
    """Where roundings are added up, entries of gram matrices are asked for elsewhere."""
    blocks, shape = blocks_of("rows", "a", 1, 18)
    draw = np.random.default_rng(3)
    view = SliceView("a", shape, (0,))
    term = SliceTerm(view, draw.integers(18, size=view.size), np.arange(view.size), draw.normal(size=view.size))
    mix, none = SliceMix(18, [term]), SliceMix(18, [])
    x = tensor(shape, 0)
    plan = ProductPlan(18, mix, none, {"a": x}, HOST, [blocks])
    given = {"a": Products((x,), Recipe(Bilinear(((0, 0),), np.ones((1, 1))), Bilinear((), np.zeros((1, 0)))))}
    sizes = mix.absolute().products({"a": x}, {"a": x})
    assert torch.allclose(plan.measure(given, 1, absolute=True)[0], sizes, rtol=1e-12)
    whole = mix.products({"a": x}, {"a": x}) + reference(blocks, x, x, 18)
    assert torch.allclose(plan.measure(given, 1)[0], whole, rtol=1e-12, atol=1e-12)


def test_strided_and_complex_tensors_are_read_as_they_lie(how: str) -> None:
    blocks, shape = blocks_of("rows", "a", 1, 18)
    wide = tensor((12, 140), 0)[:, ::2], tensor((70, 12), 1).T
    found = measured([blocks], {"a": wide}, np.eye(3), 18)
    for number, (left, right) in enumerate(PAIRS):
        assert torch.allclose(found[number], reference(blocks, wide[left], wide[right], 18), rtol=1e-12, atol=1e-12)
    turned = [torch.complex(tensor(shape, s), tensor(shape, s + 5)) for s in (0, 1)]
    found = measured([blocks], {"a": tuple(turned)}, np.eye(3), 18)
    for number, (left, right) in enumerate(PAIRS):
        expected = sum(
            reference(blocks, part(turned[left]), part(turned[right]), 18)
            for part in (lambda z: z.real.contiguous(), lambda z: z.imag.contiguous())
        )
        assert torch.allclose(found[number], torch.as_tensor(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_add_blocks_of_one_place_in_their_order(threads: int) -> None:
    """The same sums to the last bit, whatever the number of threads."""
    library = compiling.library()
    if library is None:
        pytest.skip("no compiler here")
    before = torch.get_num_threads()
    (one, shape), (other, _) = (blocks_of("heads", parameter, seed, 600) for seed, parameter in enumerate("ab"))
    operands = {p: (tensor(shape, 2 * k), tensor(shape, 2 * k + 1)) for k, p in enumerate("ab")}
    try:
        torch.set_num_threads(1)
        alone = measured([one, other], dict(operands), np.eye(3), 600)
        torch.set_num_threads(threads)
        assert torch.equal(measured([one, other], dict(operands), np.eye(3), 600), alone)
    finally:
        torch.set_num_threads(before)


def test_a_library_with_wrong_gram_matrices_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    library = compiling.library()
    if library is None:
        pytest.skip("no compiler here")
    assert trial.agrees(library)
    monkeypatch.setattr(library, "_grams", lambda *arguments: 0)
    assert not trial.agrees(library)
