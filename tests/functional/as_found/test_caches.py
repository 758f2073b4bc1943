"""Caches inside and outside a model hold real tensors after a search, or what they held before."""

from __future__ import annotations

import collections
import contextvars
import functools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.spread import one_in
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.symmetry import EmptiedCacheWarning


def mask_of(n: int) -> Tensor:
    return torch.tril(torch.ones(n, n))


def remembering(function: Callable[[int], Tensor]) -> Callable[[int], Tensor]:
    known: dict[int, Tensor] = {}

    def inner(n: int) -> Tensor:
        if n not in known:
            known[n] = function(n)
        return known[n]

    return inner


class Store:
    shared: dict[int, Tensor] = {}  # noqa: RUF012
    last: Tensor | None = None

    def __init__(self) -> None:
        self.own: dict[int, Tensor] = {}

    def get(self, n: int) -> Tensor:
        if n not in self.own:
            self.own[n] = mask_of(n)
        return self.own[n]

    @classmethod
    def of_class(cls, n: int) -> Tensor:
        if n not in cls.shared:
            cls.shared[n] = mask_of(n)
        return cls.shared[n]

    @staticmethod
    @functools.cache
    def static(n: int) -> Tensor:
        return mask_of(n)


MASK: Tensor | None = None
ONES: list[Tensor] = []
ORDERED: collections.OrderedDict[int, tuple[Tensor, str]] = collections.OrderedDict()
STORE = Store()
closed_over = remembering(mask_of)
local = threading.local()
variable: contextvars.ContextVar[Tensor | None] = contextvars.ContextVar("variable", default=None)
weak: weakref.WeakKeyDictionary[nn.Module, Tensor] = weakref.WeakKeyDictionary()


def in_global(n: int) -> Tensor:
    global MASK
    if MASK is None:
        MASK = mask_of(n)
    return MASK


def in_list(n: int) -> Tensor:
    if not ONES:
        ONES.append(mask_of(n))
    return ONES[0]


def in_ordered(n: int) -> Tensor:
    if n not in ORDERED:
        ORDERED[n] = (mask_of(n), "mask")
    return ORDERED[n][0]


def in_default(n: int, known: dict[int, Tensor] = {}) -> Tensor:  # noqa: B006
    if n not in known:
        known[n] = mask_of(n)
    return known[n]


def in_attribute(n: int) -> Tensor:
    known = in_attribute.__dict__.setdefault("known", {})
    if n not in known:
        known[n] = mask_of(n)
    out: Tensor = known[n]
    return out


def in_class(n: int) -> Tensor:
    if Store.last is None:
        Store.last = mask_of(n)
    return Store.last


def in_thread(n: int) -> Tensor:
    if not hasattr(local, "mask"):
        local.mask = mask_of(n)
    out: Tensor = local.mask
    return out


def in_variable(n: int) -> Tensor:
    if variable.get() is None:
        variable.set(mask_of(n))
    out = variable.get()
    assert out is not None
    return out


@functools.cache
def in_cache(n: int) -> dict[str, list[Tensor]]:
    return {"mask": [mask_of(n)]}


class Masked(nn.Module):
    def __init__(self, mask: Callable[[nn.Module, int], Tensor]) -> None:
        super().__init__()
        self.a, self.mask = nn.Linear(4, 4), mask

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mask(self, len(x)) @ self.a(x)
        return out


def in_weak(model: nn.Module, n: int) -> Tensor:
    if model not in weak:
        weak[model] = mask_of(n)
    return weak[model]


EXACT: dict[str, Callable[[nn.Module, int], Tensor]] = {
    "closure": lambda m, n: closed_over(n),
    "global": lambda m, n: in_global(n),
    "list": lambda m, n: in_list(n),
    "ordered": lambda m, n: in_ordered(n),
    "default": lambda m, n: in_default(n),
    "function attribute": lambda m, n: in_attribute(n),
    "class attribute": lambda m, n: in_class(n),
    "instance": lambda m, n: STORE.get(n),
    "class method": lambda m, n: Store.of_class(n),
    "thread": lambda m, n: in_thread(n),
    "context variable": lambda m, n: in_variable(n),
    "weak": in_weak,
}
REMEMBERED: dict[str, tuple[Callable[[nn.Module, int], Tensor], str]] = {
    "cache": (lambda m, n: in_cache(n)["mask"][0], "in_cache"),
    "static method": (lambda m, n: Store.static(n), "Store.static"),
}


@pytest.mark.parametrize("where", one_in(3, EXACT))
def test_a_cache_outside_is_freed_of_tensors_of_the_capture(where: str) -> None:
    model, x = Masked(EXACT[where]), torch.randn(5, 4)
    nm.find_symmetries(model, x)
    assert type(model(x)) is Tensor
    assert torch.equal(model.mask(model, 5), mask_of(5))


@pytest.mark.parametrize("where", REMEMBERED)
def test_a_function_that_remembers_is_emptied_and_named(where: str) -> None:
    mask, name = REMEMBERED[where]
    model, x = Masked(mask), torch.randn(5, 4)
    with pytest.warns(EmptiedCacheWarning, match=rf"test_caches\.{name} remembered .* cache_clear") as caught:
        nm.find_symmetries(model, x)
    assert caught[0].filename == __file__
    assert torch.equal(model(x), mask_of(5) @ model.a(x))


def test_real_entries_of_a_global_dict_stay() -> None:
    kept = mask_of(2)
    ORDERED[2] = (kept, "mine")
    nm.find_symmetries(Masked(EXACT["ordered"]), torch.randn(7, 4))
    assert ORDERED[2] == (kept, "mine")
    assert all(type(mask) is Tensor for mask, _ in ORDERED.values())


def test_a_buffer_registered_in_forward_is_not_there_after_a_search() -> None:
    class Alibi(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lin = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            if not hasattr(self, "mask"):
                self.register_buffer("mask", mask_of(len(x)), persistent=False)
            return self.mask @ self.lin(x)

    model, x = Alibi(), torch.randn(5, 4)
    nm.find_symmetries(model, (x,))
    assert not dict(model.named_buffers())
    assert model._non_persistent_buffers_set == set()
    assert torch.equal(model(x), mask_of(5) @ model.lin(x))


def test_a_gradient_pending_from_before_is_what_it_was() -> None:
    class Averaging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.register_buffer("scale", torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            self.scale.add_(self.a(x).detach().mean(0))
            return self.a(x) * self.scale

    model, x = Averaging(), torch.randn(5, 4)
    loss = model(x).square().sum()
    scale = model.scale.clone()
    nm.lint(model, x)
    nm.probe_symmetries(model, lambda m, b: m(b).square().sum(), [x])
    loss.backward()
    weight, y = model.a.weight, model.a(x).detach()
    assert torch.allclose(weight.grad, (2 * y * scale**2).mT @ x, rtol=1e-5)


def test_a_lazy_layer_is_named() -> None:
    model = nn.Sequential(nn.LazyLinear(3), nn.ReLU(), nn.LazyLinear(2))
    with pytest.raises(ValueError, match="'weight' of a LazyLinear has no shape yet; run the model once"):
        nm.find_symmetries(model, torch.zeros(2, 4))
    assert type(model[0]) is nn.LazyLinear


def test_a_layer_made_in_a_run_is_named_and_gone() -> None:
    class Growing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Any:
            if not hasattr(self, "late"):
                self.late = nn.Linear(4, 2)
            return self.late(torch.relu(self.a(x)))

    model, x = Growing(), torch.randn(3, 4)
    with pytest.raises(ValueError, match=r"makes parameter 'late\.weight' when it runs; run it once"):
        nm.find_symmetries(model, x)
    assert not hasattr(model, "late")
    model(x)
    assert nm.find_symmetries(model, x).count()["rescale"] == 4
