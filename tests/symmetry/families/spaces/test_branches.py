"""Branches that may be exchanged whole: heads that are modules, networks that are concatenated, added or mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry import Space
from neuralmechanics.symmetry.finding.blocks import experts

Join = Callable[[Sequence[Tensor], Tensor], Tensor]


class Head(nn.Module):
    """One head of causal attention, written out."""

    def __init__(self) -> None:
        super().__init__()
        self.key, self.query, self.value = (nn.Linear(6, 2, bias=False) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(-2, -1) * 2**-0.5
        hidden = torch.tril(torch.ones(x.shape[-2], x.shape[-2])) == 0
        out: Tensor = scores.masked_fill(hidden, float("-inf")).softmax(-1) @ self.value(x)
        return out


class Beside(nn.Module):
    """Branches that read the same, joined in some way; ``router`` says how much of each."""

    def __init__(self, make: Callable[[], nn.Module], join: Join, width: int = 4) -> None:
        super().__init__()
        self.branches = nn.ModuleList(make() for _ in range(3))
        self.router = nn.Linear(width, 3)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.join([branch(x) for branch in self.branches], self.router(x).softmax(-1))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4))


def network(join: Join, reads: int = 4, make: Callable[[], nn.Module] = perceptron) -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), Beside(make, join), nn.Tanh(), nn.Linear(reads, 2))


def heads(join: Join) -> nn.Module:
    return nn.Sequential(nn.Embedding(9, 6), Beside(Head, join, 6), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))


def images(training: bool, *eps: float) -> nn.Module:
    norms = iter(nn.BatchNorm2d(2, eps=e) for e in eps)
    model = nn.Sequential(
        Parallel(lambda: nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), next(norms), nn.ReLU()), len(eps)),
        nn.Conv2d(2 * len(eps), 4, 1),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.train(training)


class Parallel(nn.Module):
    """Branches concatenated along channels, as in an inception block."""

    def __init__(self, make: Callable[[], nn.Module], count: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(make() for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


FOUND: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "heads concatenated": (lambda: heads(lambda ys, _: torch.cat(list(ys), -1)), 3),
    "heads stacked": (lambda: heads(lambda ys, _: torch.stack(list(ys), -2).flatten(-2)), 3),
    "networks added": (lambda: network(lambda ys, _: sum(ys, torch.zeros(()))), 3),
    "their mean": (lambda: network(lambda ys, _: torch.stack(list(ys)).mean(0)), 3),
    "the largest of each": (lambda: network(lambda ys, _: torch.stack(list(ys)).amax(0)), 3),
    "concatenated": (lambda: network(lambda ys, _: torch.cat(list(ys), -1), 12), 3),
    "shares by slices": (lambda: network(lambda ys, w: w[:, :1] * ys[0] + w[:, 1:2] * ys[1] + w[:, 2:] * ys[2]), 3),
    "shares by entries": (
        lambda: network(lambda ys, w: sum((w[:, k, None] * y for k, y in enumerate(ys)), torch.zeros(()))),
        3,
    ),
    "shares of a stack": (lambda: network(lambda ys, w: (torch.stack(list(ys), -2) * w[..., None]).sum(-2)), 3),
    "shares by einsum": (lambda: network(lambda ys, w: torch.einsum("bne,bn->be", torch.stack(list(ys), 1), w)), 3),
    "batch norms of the batch": (lambda: images(True, 0.1, 0.1), 2),
    "batch norms of before": (lambda: images(False, 0.1, 0.1), 2),
}

REFUSED: dict[str, Callable[[], nn.Module]] = {
    "one counts twice": lambda: network(lambda ys, _: ys[0] + 2 * ys[1] + ys[2]),
    "one is mirrored": lambda: network(lambda ys, _: torch.cat([ys[0], ys[1], ys[2].flip(-1)], -1), 12),
    "shares in another order": lambda: network(lambda ys, w: w[:, :1] * ys[0] + w[:, :1] * ys[1] + w[:, 1:2] * ys[2]),
    "one before the other": lambda: network(lambda ys, _: ys[0] + torch.tanh(ys[1] + ys[2].detach() * ys[0])),
    "differences": lambda: network(lambda ys, _: ys[0] - ys[1] + ys[2] * ys[0]),
    "norms of before with constants of their own": lambda: images(False, 0.1, 0.3),
}


def drawn(model: nn.Module) -> Tensor:
    if isinstance(model[0], nn.Embedding):  # type: ignore[index]
        return torch.randint(0, 9, (2, 5))
    shape = (4, 3, 3, 3) if isinstance(model[0], Parallel) else (5, 3)  # type: ignore[index]
    return torch.randn(shape, dtype=torch.float64)


def of_blocks(model: nn.Module, x: Tensor) -> list[Space]:
    return [space for space in find_symmetries(model, x).spaces if space.blocks]


@pytest.mark.parametrize("name", FOUND)
def test_every_order_of_the_branches_leaves_the_output(name: str) -> None:
    """And the blocks alone, without what counts them, do not."""
    torch.manual_seed(0)
    make, count = FOUND[name]
    model = make().double()
    x = drawn(model)
    (space,) = of_blocks(model, x)
    assert (space.width, len(space.blocks)) == (count, count)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        before = model(x)
        for seed in range(3):
            order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
            moved = functional_call(model, space.transform(tensors, order), (x,))
            assert (moved - before).abs().max() < 1e-12 * before.abs().max()
        if space.entries:
            swapped = space.transform(tensors, torch.tensor([1, 0, *range(2, count)]))
            kept = swapped | {entry.parameter: tensors[entry.parameter] for entry in space.entries}
            assert (functional_call(model, kept, (x,)) - before).abs().max() > 1e-3


@pytest.mark.parametrize("name", REFUSED)
def test_branches_that_are_told_apart_are_not_exchanged(name: str) -> None:
    torch.manual_seed(0)
    model = REFUSED[name]().double()
    x = drawn(model)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for space in of_blocks(model, x):  # two of three may be alike
        order = torch.arange(space.width).roll(1)
        with torch.no_grad():
            moved = functional_call(model, space.transform(tensors, order), (x,))
            assert (moved - model(x)).abs().max() < 1e-12
        assert space.width < 3


def test_the_program_alone_tells_constants_of_norms_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the run of the graph, which a model that is too large is spared."""
    monkeypatch.setattr(experts, "confirmed", lambda captured, spaces: tuple(spaces))
    model = images(False, 0.1, 0.3).double()
    assert of_blocks(model, drawn(model)) == []
    alike = images(False, 0.1, 0.1).double()
    assert len(of_blocks(alike, drawn(alike))) == 1
