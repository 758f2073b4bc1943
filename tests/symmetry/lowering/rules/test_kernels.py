"""Every rule held against null spaces: what is found around a call of its operation is true, and all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from tests.spread import one_in
from torch import Tensor

from neuralmechanics.symmetry import Symmetries
from neuralmechanics.symmetry.finding.find import analyse

from ...agreement import SOUND, diagonal_dimension, one_by_one, rank
from ...network import Network
from ...nullspace import kernel, randomise, trainable
from .case import Case, Head, idealised, network, plus, times, written
from .exempt import NOT_DERIVED, PARTIAL, not_held
from .tables import by_rule

CALLS = {rule: cases for rule, cases in by_rule().items() if any(o.trained for c in cases for o in c.operands())}
DERIVED = [r for r in CALLS if r not in NOT_DERIVED and not r.startswith("prims.")]  # torch has no derivative of prims
LARGEST = 44  # parameters of a network: the null spaces of larger ones take long, and show nothing else
POINTS = (4, 40)  # at few of them, an entry may lie on one side of a kink at every one: asked again where it matters
pytestmark = pytest.mark.filterwarnings("ignore")  # of operations that torch itself calls deprecated


@dataclass(frozen=True)
class Verdict:
    """What is found around a call, beside what is true."""

    unknown: tuple[object, ...]
    violation: float  # largest |Jξ| / (|J| |ξ|)
    found: tuple[int, int]  # dimensions of translations and of diagonal symmetries
    true: tuple[int, int]


def judged(case: Case, head: Head, seed: int, count: int) -> Verdict | None:
    """The search and the null spaces at ``count`` points with fresh data each; None for what has no derivative."""
    drawn = written(idealised(case), seed, head, read=False)
    if not drawn.captured.outputs or sum(p.numel() for p in drawn.parameters.values()) > LARGEST:
        return None
    found, net = analyse(drawn.captured), network(case, drawn)
    generator = torch.Generator().manual_seed(seed)
    points, jacobians, vectors = [], [], []
    for _ in range(count):
        point = randomise(net.module, generator)
        rows = jacobian(net, int(torch.randint(2**31, (), generator=generator)))
        if rows is None:
            return None
        if rows.isfinite().all():  # else outside of where the operation is defined
            points.append(point)
            jacobians.append(rows)
            vectors.append(generators(net, found))
    if len(points) < 3:
        return None
    sizes = [torch.linalg.matrix_norm(j, 2) for j in jacobians]
    violation = max(
        (
            float((j @ v).norm() / (size * v.norm()))
            for j, size, vs in zip(jacobians, sizes, vectors, strict=True)
            for _, v in vs
            if size > 0
        ),
        default=0.0,
    )
    return Verdict(found.unknown, violation, _found(points, jacobians, vectors), _true(points, jacobians))


def jacobian(net: Network, seed: int) -> Tensor | None:
    """∂ outputs/∂θ over two batches of fresh data; None where torch's own derivative of the call fails."""
    parameters = list(trainable(net.module).values())
    rows = []
    for offset in range(2):
        for entry in net.observed(net.batch(seed + offset)).flatten():
            try:
                parts = torch.autograd.grad(entry, parameters, retain_graph=True, allow_unused=True)
            except RuntimeError:  # none is written, or only for other arguments: sparse, a weight left out
                return None
            flat = [torch.zeros_like(p) if g is None else g.to_dense() for g, p in zip(parts, parameters, strict=True)]
            rows.append(torch.cat([g.flatten() for g in flat]))
    return torch.stack(rows) if rows else None


def generators(net: Network, found: Symmetries) -> list[tuple[str, Tensor]]:
    params = {name: p.detach() for name, p in trainable(net.module).items()}
    unpadded = [f for f in found if not any("padding" in told for told in f.requires)]
    return [(family.kind, v) for family in unpadded for v in one_by_one(family, params)]


def _true(points: Sequence[Tensor], jacobians: Sequence[Tensor]) -> tuple[int, int]:
    if not any(j.any() for j in jacobians):
        return len(points[0]), len(points[0])
    scaled = [j / j.abs().max().clamp_min(1e-300) for j in jacobians]
    return (
        kernel(torch.cat(scaled)).dimension,
        kernel(torch.cat([j * p for j, p in zip(scaled, points, strict=True)])).dimension,
    )


def _found(
    points: Sequence[Tensor], jacobians: Sequence[Tensor], vectors: Sequence[list[tuple[str, Tensor]]]
) -> tuple[int, int]:
    """Dimensions of the constant and of the diagonal generators; entries that nothing reads count in both."""
    silent = torch.cat(list(jacobians)).norm(dim=0) == 0
    lone = int(silent.sum())
    size = len(points[0])
    columns = [
        torch.stack([v for kind, v in vs if kind not in ("translation", "affine")] or [torch.zeros(size).double()], 1)
        for vs in vectors
    ]
    constant = [v for kind, v in vectors[0] if kind == "translation"]
    shifts = rank(torch.stack(constant, 1)[~silent]) if constant else 0
    return shifts + lone, diagonal_dimension(columns, list(points), silent) + lone


def chosen(cases: Sequence[Case], count: int) -> list[Case]:
    """So many of them, evenly spread."""
    step = max(1, len(cases) // count)
    return list(cases[::step])[:count]


def assert_right(rule: str, cases: Sequence[Case], heads: Sequence[Head] = (times, plus)) -> None:
    """Nothing false; nothing unknown; nothing missed, but where rules are known not to look."""
    for number, case in enumerate(cases):
        for head in heads if not not_held(str(case)) else ():
            verdict = judged(case, head, number, POINTS[0])
            if verdict is not None and verdict.found != verdict.true:
                verdict = judged(case, head, number, POINTS[1])
            if verdict is None:
                continue
            told = (str(case), head.__name__, verdict)
            assert verdict.unknown == (), told
            assert verdict.violation < SOUND, told
            assert rule in PARTIAL or verdict.found == verdict.true, told


@pytest.mark.parametrize("rule", one_in(2, DERIVED))
def test_what_is_found_around_an_operation_is_true(rule: str) -> None:
    """One of its calls, under one of the two readers in turns; all under both when slow."""
    assert_right(rule, chosen(CALLS[rule], 1), [(times, plus)[DERIVED.index(rule) % 2]])


@pytest.mark.slow
@pytest.mark.parametrize("rule", DERIVED)
def test_what_is_found_around_every_call_is_true(rule: str) -> None:
    assert_right(rule, CALLS[rule])
