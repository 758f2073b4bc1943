"""A function that is computed twice is one function; what draws random numbers or is written into is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from neuralmechanics import find_symmetries

from ..claims.entry import Claim
from ..claims.held import falsehoods, search


def twice(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.a(torch.tanh(m.h(x))) - m.c(torch.tanh(m.h(x))))


def twice_in_other_words(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.a(torch.tanh(m.h(x))) - m.c(m.h(x).tanh()))


def of_other_numbers(m: Any, x: Tensor) -> Tensor:
    return torch.tanh(m.a(torch.tanh(m.h(x) * 1)) - m.c(torch.tanh(m.h(x) * True * 2)))


def before_and_after_a_write(m: Any, x: Tensor) -> Tensor:
    y = m.h(x) * 1
    before = torch.tanh(y)
    y.mul_(2)
    return torch.tanh(m.a(before) - m.c(torch.tanh(y)))


def written_into_separately(m: Any, x: Tensor) -> Tensor:
    u, v = torch.zeros_like(x[:, :1].expand(5, 4)), torch.zeros_like(x[:, :1].expand(5, 4))
    u += m.h(x)
    v += 2 * m.h(x)
    return torch.tanh(m.a(torch.tanh(u)) - m.c(torch.tanh(v)))


@pytest.mark.parametrize(
    ("form", "translations"),
    [
        (twice, 10),
        (twice_in_other_words, 10),
        (of_other_numbers, 2),
        (before_and_after_a_write, 2),
        (written_into_separately, 2),
    ],
)
def test_shifts_of_two_readers_cancel_where_they_read_one_function(
    form: Callable[[Any, Tensor], Tensor], translations: int
) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h, self.a, self.c = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return form(self, x)

    claim = Claim("twice", Net, lambda g: (torch.randn(5, 3, generator=g, dtype=torch.float64),))
    symmetries = search(claim)
    assert not falsehoods(claim, symmetries)
    assert symmetries.count()["translation"] == translations


def test_two_random_masks_are_two_functions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.h, self.a, self.c = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(self.h(x))
            left, right = nn.functional.dropout(h, 0.5, True), nn.functional.dropout(h, 0.5, True)
            return torch.tanh(self.a(left) - self.c(right))

    assert search(Claim("masks", Net, lambda g: (torch.randn(5, 3, generator=g, dtype=torch.float64),))).count() == {
        "translation": 2, "scale": 0, "rescale": 0, "linear": 0,
    }  # fmt: skip


class Computed(nn.Module):
    """A layer that is applied to the same values twice, and given back in one of several forms."""

    def __init__(self, form: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.form = nn.Linear(3, 4), nn.Linear(4, 2), form

    def forward(self, x: Tensor) -> Any:
        return self.form(self, torch.relu(self.a(x)))


def discarded(m: Any, h: Tensor) -> Tensor:
    m.b(h)
    return m.b(h)  # type: ignore[no-any-return]


@pytest.mark.parametrize("form", [discarded, lambda m, h: (m.b(h), m.b(h)), lambda m, h: {"u": m.b(h), "v": [m.b(h)]}])
def test_an_output_may_be_what_is_computed_twice(form: Callable[[Any, Tensor], Any]) -> None:
    found = find_symmetries(Computed(form), torch.zeros(5, 3))
    assert found.count()["rescale"] == 4
    assert found.unknown == ()


def test_any_change_of_what_no_output_reads_is_a_translation() -> None:
    """A result that is written over demands nothing of what it was made of."""
    found = find_symmetries(Computed(lambda m, h: m.b(h).clone().fill_(1.0) + m.b.bias), torch.zeros(5, 3))
    assert found.count() == {"translation": 12 + 4 + 8, "scale": 0, "rescale": 0, "linear": 0}
    assert [c.parameter for c in found.coverage if c.status == "free"] == ["b.bias"]


class Views(nn.Module):
    """One batch norm over two views; ``reading`` says what else is made of it."""

    def __init__(self, reading: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.norm, self.o = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.reading = reading

    def forward(self, x: Tensor) -> Tensor:
        return self.reading(self, torch.tanh(x), torch.sin(x))


def by_their_own_statistics(m: Any, x: Tensor, y: Tensor) -> Tensor:
    return torch.relu(m.norm(m.a(x))) - torch.relu(m.norm(m.a(y)))


def by_what_was_kept(m: Any, x: Tensor, y: Tensor) -> Tensor:
    kept = m.norm.running_mean, m.norm.running_var
    first = torch.relu(m.norm(m.a(x)))
    return first - torch.relu(nn.functional.batch_norm(m.a(y), *kept, m.norm.weight, m.norm.bias, False, eps=1e-20))


def with_what_was_kept(m: Any, x: Tensor, y: Tensor) -> Tensor:
    difference = by_their_own_statistics(m, x, y)
    return difference * m.norm.running_var


@pytest.mark.parametrize(
    ("reading", "scaled", "moved"),
    [(by_their_own_statistics, 4, True), (by_what_was_kept, 0, True), (with_what_was_kept, 0, False)],
)
def test_running_statistics_hold_weights_where_they_are_read(
    reading: Callable[[Any, Tensor, Tensor], Tensor], scaled: int, moved: bool
) -> None:
    """A norm that is called twice hands them on, which nothing sees: weights scale and channels change places."""
    claim = Claim("views", lambda: Views(lambda m, x, y: m.o(reading(m, x, y))), _rows)
    symmetries = search(claim)
    assert not falsehoods(claim, symmetries)
    scales = [family for family in symmetries.of_kind("scale") if "a.weight" in family.parameters]
    assert sum(family.charges for family in scales) == scaled
    spaces = [space for space in symmetries.spaces if any(e.parameter == "a.weight" for e in space.entries)]
    assert [space.width for space in spaces] == ([4] if moved else [])
    module, batch = claim.build(), claim.batch()
    for space in spaces:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        tensors = {name: value.detach().clone() for name, value in tensors.items()}
        turned = space.transform(tensors, torch.tensor([1, 2, 3, 0]))
        before, after = (functional_call(module, {**t}, batch) for t in (tensors, turned))
        assert (after - before).abs().max() < 1e-12


def _rows(generator: torch.Generator) -> tuple[Tensor, ...]:
    return (torch.randn(8, 3, generator=generator, dtype=torch.float64),)
