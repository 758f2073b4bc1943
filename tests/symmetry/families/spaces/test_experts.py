"""Experts that may be exchanged: whatever the layout; and not where the model tells one of them from the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import Space, spaces_table
from neuralmechanics.symmetry.finding.blocks import experts
from neuralmechanics.symmetry.lowering.replay import points, relabelled

from ...zoo.experts import Experts
from ...zoo.routing import Dense, RowsAdded, RowsOfEveryPlace, best_then_softmax, softmax_of_masked, softmax_then_best

EXPERTS, WIDTH, HIDDEN = 4, 3, 2
Twist = Callable[[Tensor], Tensor]


class Stacked(nn.Module):
    """Rectified experts in stacked matrices; what happens to scores, to the choice and to what each gives is told."""

    def __init__(self, scores: Twist | None = None, chosen: Twist | None = None, given: Twist | None = None) -> None:
        super().__init__()
        self.router = nn.Parameter(torch.randn(EXPERTS, WIDTH))
        self.up = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH))
        self.down = nn.Parameter(torch.randn(EXPERTS, 2, HIDDEN))
        self.twists = [f or (lambda x: x) for f in (scores, chosen, given)]
        self.register_buffer("prior", torch.tensor([0.3, -0.2, 0.1, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        scores, chosen, given = self.twists
        values, places = scores(x @ self.router.T).softmax(-1).topk(2, -1)
        at = chosen(places)
        hidden = torch.relu(torch.einsum("nkhd,nd->nkh", self.up[at], x))
        return (given(torch.einsum("nkoh,nkh->nko", self.down[at], hidden)) * values[..., None]).sum(1)


def some(names: Iterable[str], *quick: str) -> list[Any]:
    """The quick ones in every run of the tests, the others in the slow one."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def moved(model: nn.Module, x: Tensor, space: Space, permutation: Tensor) -> float:
    """How far the output is moved by an element, relative to its size."""
    params = dict(model.named_parameters()) | dict(model.named_buffers())
    with torch.no_grad():
        before, after = (functional_call(model, p, (x,)) for p in (params, space.transform(params, permutation)))
    return float((after - before).abs().max() / before.abs().max())


def of_experts(model: nn.Module, x: Tensor, count: int) -> list[Space]:
    return [s for s in find_symmetries(model, x).spaces if s.width == count and not s.copies and _holds_router(s)]


def _holds_router(space: Space) -> bool:
    return any("router" in name or "scores" in name for name in space.parameters)


class Added(nn.Module):
    """Whole networks with norms and biases, each given its share of every row, and added up in a loop."""

    def __init__(self, *eps: float) -> None:
        super().__init__()
        self.router = nn.Linear(3, len(eps))
        self.experts = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(3, eps=e), nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 3)) for e in eps
        )

    def forward(self, x: Tensor) -> Tensor:
        best, chosen = self.router(x).topk(2, -1)
        shares = (functional.one_hot(chosen, len(self.experts)) * best.sigmoid()[..., None]).sum(-2)
        total = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            total = total + shares[..., k, None] * expert(x)
        return total


ADDED = "modules with norms and biases, added in a loop"
FOUND: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "picked matrices": (lambda: Stacked(), 4),
    "noise-free temperature": (lambda: Stacked(scores=lambda s: s / 0.7), 4),
    "each squashed": (lambda: Stacked(given=torch.tanh), 4),
    "batched": (lambda: Experts("batched", 3, 3, 4, gate=True, bias=True, flip=False), 3),
    "sorted and grouped": (lambda: Experts("grouped", 3, 3, 4, gate=True, bias=True, flip=True), 3),
    "modules, rows added": (lambda: RowsAdded(best_then_softmax), 3),
    "modules, rows replaced": (lambda: RowsOfEveryPlace(softmax_then_best), 3),
    "modules, all computed": (lambda: Dense(softmax_of_masked), 3),
    ADDED: (lambda: Added(0.1, 0.1, 0.1), 3),
}


@pytest.mark.parametrize("name", some(FOUND, "picked matrices", "sorted and grouped", "modules, rows added", ADDED))
def test_experts_are_exchanged_with_the_rows_of_their_router(name: str) -> None:
    """Every permutation leaves the output; the router's rows alone, in another order, do not."""
    torch.manual_seed(0)
    make, count = FOUND[name]
    model, x = make().double(), torch.randn(40, WIDTH, dtype=torch.float64)
    (space,) = of_experts(model, x, count)
    for seed in range(3):
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        assert moved(model, x, space, order) < 1e-9
    if space.blocks:
        assert len(space.blocks) == count
        assert "exchanged whole: experts.{0…2}" in spaces_table([space])
    swap = torch.tensor([1, 0, *range(2, count)])
    params = dict(model.named_parameters())
    router = next(e for e in space.entries if e.axis == 0)
    one = params | {router.parameter: params[router.parameter][swap]}
    with torch.no_grad():
        assert (functional_call(model, one, (x,)) - model(x)).abs().max() > 1e-6
    assert Space.from_dict(space.to_dict()).blocks == space.blocks


def second_scaled(x: Tensor) -> Tensor:
    return x * torch.tensor([1.0, 2.0, 1.0, 1.0], dtype=x.dtype)


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "one score is scaled": lambda: Stacked(scores=second_scaled),
    "scores shifted by place": lambda: Stacked(scores=lambda s: s + torch.arange(4, dtype=s.dtype)),
    "scores summed along": lambda: Stacked(scores=lambda s: s.cumsum(-1)),
    "scores reversed": lambda: Stacked(scores=lambda s: s.flip(-1)),
    "one score masked": lambda: Stacked(scores=lambda s: s.masked_fill(torch.arange(4) == 2, -5.0)),
    "another expert": lambda: Stacked(chosen=lambda k: (k + 1) % 4),
    "halved numbers": lambda: Stacked(chosen=lambda k: k // 2),
    "clamped numbers": lambda: Stacked(chosen=lambda k: k.clamp(max=2)),
    "numbers in order": lambda: Stacked(chosen=lambda k: k.sort(-1)[0]),
    "numbers mirrored": lambda: Stacked(chosen=lambda k: 3 - k),
}


@pytest.mark.parametrize("name", some(REFUSED, "one score is scaled", "another expert", "scores reversed"))
def test_experts_that_are_told_apart_are_not_exchanged(name: str) -> None:
    """Nothing is claimed where a transposition of experts and rows changes the output."""
    torch.manual_seed(0)
    model, x = REFUSED[name]().double(), torch.randn(40, WIDTH, dtype=torch.float64)
    for space in of_experts(model, x, EXPERTS):
        for order in ([1, 0, 2, 3], [1, 2, 3, 0]):
            assert moved(model, x, space, torch.tensor(order)) < 1e-9
    params = dict(model.named_parameters())
    with torch.no_grad():
        changes = [
            (functional_call(model, {k: v[order] for k, v in params.items()}, (x,)) - model(x)).abs().max()
            for order in ([1, 0, 2, 3], [1, 2, 3, 0])
        ]
    assert max(changes) > 1e-6
    assert not of_experts(model, x, EXPERTS)


class OneTold(Dense):
    """Modules, of which one gives half of what it says."""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        shares = (functional.one_hot(chosen, 3) * weight[..., None]).sum(1)
        given = [expert(x) / (2 if k == 1 else 1) for k, expert in enumerate(self.experts)]
        return torch.einsum("ne,end->nd", shares, torch.stack(given))


class Overwritten(RowsAdded):
    """Rows that the last expert to which they go replaces."""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, place = torch.where(chosen == number)
            out[rows] = weight[rows, place, None] * expert(x[rows])
        return out


class Twice(RowsAdded):
    """The rows of the first expert go to the second, too."""

    def collected(self, x: Tensor, weight: Tensor, chosen: Tensor) -> Tensor:
        rows, _ = torch.where(chosen == 0)
        return super().collected(x, weight, chosen).index_add(0, rows, self.experts[1](x[rows]))


def test_norms_with_constants_of_their_own_tell_experts_apart() -> None:
    """One eps is another: nothing but that changes where the experts of this kind are exchanged."""
    torch.manual_seed(0)
    assert not of_experts(Added(0.1, 0.1, 0.2).double(), torch.randn(5, 3, dtype=torch.float64), 3)


@pytest.mark.parametrize("kind", [OneTold, Overwritten, pytest.param(Twice, marks=pytest.mark.slow)])
def test_modules_that_are_told_apart_are_not_exchanged(kind: type[RowsAdded]) -> None:
    torch.manual_seed(0)
    model, x = kind(best_then_softmax).double(), torch.randn(40, WIDTH, dtype=torch.float64)
    assert of_experts(model, x, 3) == []


@pytest.fixture
def credulous(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is tried is taken for a symmetry by those who read the program."""
    monkeypatch.setattr(experts, "leaves_the_output", lambda *_: True)


def identical(model: nn.Module) -> nn.Module:
    """Experts that start as copies of one, whose outputs start at zero."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name != "router":
                value[:] = 0 if name == "down" else value[:1]
    return model


TOLD: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "one score is scaled": (REFUSED["one score is scaled"], EXPERTS),
    "another expert": (REFUSED["another expert"], EXPERTS),
    "copies of one": (lambda: identical(REFUSED["scores shifted by place"]()), EXPERTS),
    "one module told apart": (lambda: OneTold(best_then_softmax), 3),
    "modules that overwrite": (lambda: Overwritten(best_then_softmax), 3),
}


@pytest.mark.usefixtures("credulous")
@pytest.mark.parametrize("double", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", some(TOLD, "copies of one", "modules that overwrite"))
def test_a_run_of_the_graph_refutes_what_the_program_says(
    name: str, double: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong claim is dropped, in float64 and in the precision of a large model; without the run it would be made."""
    if not double:
        monkeypatch.setattr(relabelled, "DOUBLE", 0)
    torch.manual_seed(0)
    make, count = TOLD[name]
    model, x = make(), torch.randn(40, WIDTH)
    assert of_experts(model, x, count) == []
    with monkeypatch.context() as unguarded:
        unguarded.setattr(experts, "confirmed", lambda _, spaces: spaces)
        assert of_experts(model, x, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["picked matrices", "modules, rows added"])
def test_a_run_in_the_precision_of_a_large_model_confirms_what_holds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabelled, "DOUBLE", 0)
    torch.manual_seed(0)
    make, count = FOUND[name]
    assert len(of_experts(make(), torch.randn(40, WIDTH), count)) == 1


@pytest.mark.usefixtures("credulous")
def test_experts_on_the_meta_device_are_run_with_numbers_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, what is claimed is claimed of the program alone, as everything is, and a note says so."""
    with torch.device("meta"):
        right, wrong, x = FOUND["picked matrices"][0](), REFUSED["another expert"](), torch.randn(40, WIDTH)
    assert len(of_experts(right, x, EXPERTS)) == 1
    assert of_experts(wrong, x, EXPERTS) == []
    monkeypatch.setattr(points, "MATERIALISED", 0)
    assert len(of_experts(right, x, EXPERTS)) == 1
    assert any(note.startswith("not replayed beside the model") for note in find_symmetries(right, x).notes)
