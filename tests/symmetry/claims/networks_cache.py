"""Writes into views: preallocated caches, slices filled in place, masks on views, with and without a data branch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .entry import normal, register

_ROWS, _WIDTH = 5, 4

Write = Callable[[Tensor, Tensor], Tensor]


class Written(nn.Module):
    """Two maps of the input, brought together by writing in place, through a tanh, to a third map."""

    def __init__(self, write: Write, outer: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, _WIDTH), nn.Linear(3, _WIDTH), nn.Linear(_WIDTH, 2)
        self.write, self.outer = write, outer

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.outer(self.write(self.a(x), self.b(x))))


def _rows(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[1:] = a[1:]
    return y


def _channels(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[:, 1:] = a[:, 1:]
    return y


def _halves(a: Tensor, b: Tensor) -> Tensor:
    y = a.new_empty(a.shape)
    y[:, :2], y[:, 2:] = a[:, :2], b[:, 2:]
    return y


def _index_put(a: Tensor, b: Tensor) -> Tensor:
    return torch.zeros_like(a).index_put_((torch.tensor([0, 2]),), b[:2])


def _index_put_list(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[[0, 2]] = b[:2]
    return y


def _index_put_add(a: Tensor, b: Tensor) -> Tensor:
    return a.clone().index_put_((torch.tensor([0, 2]),), b[:2], accumulate=True)


def _index_copy(a: Tensor, b: Tensor) -> Tensor:
    return a.clone().index_copy_(0, torch.tensor([3, 1]), b[:2])


def _index_add(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y.index_add_(0, torch.tensor([3, 1, 0, 2, 4]), b)
    return y


def _index_fill(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y.index_fill_(1, torch.tensor([0]), 0.3)
    return y


def _scatter(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    return y.scatter_(0, (torch.arange(_ROWS)[:, None] + torch.arange(_WIDTH)) % _ROWS, b)


def _scatter_add(a: Tensor, b: Tensor) -> Tensor:
    y = torch.ones_like(a)
    return y.scatter_add_(0, (torch.arange(_ROWS)[:, None] * torch.arange(_WIDTH)) % _ROWS, b)


def _copied(a: Tensor, b: Tensor) -> Tensor:
    y = torch.empty_like(a)
    y.copy_(a)
    y[:2].copy_(b[:2])
    return y


def _narrowed(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y.narrow(0, 1, 3).copy_(b[:3])
    return y


def _added(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[:3].add_(a[:3])
    y[2:].add_(b[2:], alpha=0.5)
    return y


def _subtracted(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[1:] -= b[:-1]
    return y


def _multiplied(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[:, :2] *= b[:, 2:]
    return y


def _masked_view(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[:, 1:].masked_fill_(torch.eye(_ROWS, _WIDTH - 1, dtype=torch.bool), 0.5)
    return y


def _mask_of_data(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[y < 0] = 0.2
    return y


def _masked_scatter(a: Tensor, b: Tensor) -> Tensor:
    return a.clone().masked_scatter_(torch.eye(_ROWS, _WIDTH, dtype=torch.bool), b)


def _filled(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[0].fill_(1.0)
    y.diagonal().fill_(0.5)
    return y


def _diagonal(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y.diagonal().copy_(a[0])
    y.diagonal(1).copy_(b[0, :3])
    return y


def _transposed_view(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y.t()[1:] = a.t()[1:]
    return y


def _chain_of_views(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros(_ROWS * _WIDTH, dtype=a.dtype)
    y.view(_ROWS, _WIDTH)[1:][:, 1:].copy_(b[1:, 1:])
    return y.view(_ROWS, _WIDTH)


def _base_after_view(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    view = y[1:]
    y.add_(a)
    return torch.cat([view, b[:1]])


def _view_before_base(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    view = y.flatten()
    y[2] = b[2]
    return view.view(_ROWS, _WIDTH)


def _through_views_of_views(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y.narrow(1, 0, 2)[1:].add_(a[1:, :2])
    y.narrow(1, 2, 2).t()[:, :3].add_(b[:3, :2].t())
    return y


def _row_by_row(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    for t in range(_ROWS):
        y[t] = a[t] + (y[t - 1] if t else 0)
    return y


def _swapped(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[0], y[1] = b[1], y[0].clone()
    return y


def _out_argument(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[1:] = torch.relu(a[1:])
    y.clamp_(max=1.5)
    return y


def _relu_of_view(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[:, :2].relu_()
    return y


def _tanh_of_view(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[1:].tanh_()
    return y


def _zeroed_view(a: Tensor, b: Tensor) -> Tensor:
    y = a.clone()
    y[1:3].zero_()
    return y


def _set_elements(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[0, 0] = a[1, 1]
    y[1, 2] = b[0, 0]
    return y


def _ellipsis(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros(2, _ROWS, _WIDTH, dtype=a.dtype)
    y[0, ..., 1:] = a[..., 1:]
    y[1, ..., :2] = b[..., :2]
    return y.sum(0)


def _strided(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[::2], y[1::2] = a[::2], b[1::2]
    return y


def _written_to_result(a: Tensor, b: Tensor) -> Tensor:
    a[:, 0] = b[:, 0]
    return a


def _added_to_result(a: Tensor, b: Tensor) -> Tensor:
    a[1:].add_(b[:-1])
    return a


def _detached_write(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y[1:] = a[1:].detach()
    return y + b


def _data_write(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    y.data[1:] = a.data[1:]
    return y + b


def _data_write_over(a: Tensor, b: Tensor) -> Tensor:
    y = a * 1.0
    y.data.copy_(b.data)
    return y


def _no_grad_write(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros_like(a)
    with torch.no_grad():
        y[1:] = a[1:]
    return y + b


def _real_and_imaginary(a: Tensor, b: Tensor) -> Tensor:
    y = torch.zeros(_ROWS, _WIDTH, dtype=torch.complex128)
    y.real[:] = a
    y.imag[:] = b
    return y.abs()


_WRITES: dict[str, Write] = {
    name.strip("_").replace("_", " "): function
    for name, function in list(globals().items())
    if name.startswith("_") and callable(function) and getattr(function, "__module__", "") == __name__
}
for _name, _write in _WRITES.items():
    register(f"write: {_name}", normal((_ROWS, 3)), branched=True)(lambda write=_write: Written(write))
for _name in ("rows", "channels", "halves", "index put", "added", "multiplied", "base after view"):
    register(f"write, relu: {_name}", normal((_ROWS, 3)), branched=True)(
        lambda write=_WRITES[_name]: Written(write, torch.relu)
    )


class Llama(nn.Module):
    """Attention with keys and values kept in a tensor of the module, as the first public Llama code writes them."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(4, 4) for _ in range(4))
        self.where = where
        cache = torch.zeros(8, 5, 4, dtype=torch.float64)
        if where == "buffer":
            self.register_buffer("cache_k", cache.clone())
            self.register_buffer("cache_v", cache.clone())
        else:
            self.cache_k, self.cache_v = cache.clone(), cache.clone()

    def stored(self, cache: Tensor, value: Tensor) -> Tensor:
        count, length = value.shape[:2]
        if self.where == "index_copy":
            cache[:count].index_copy_(1, torch.arange(length), value)
        elif self.where == "copy":
            cache.narrow(0, 0, count).narrow(1, 0, length).copy_(value)
        else:
            cache[:count, 0:length] = value
        return cache[:count, :length]

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "moved":
            self.cache_k, self.cache_v = self.cache_k.to(x), self.cache_v.to(x)
        if self.where == "fresh":
            self.cache_k, self.cache_v = torch.zeros(8, 5, 4).to(x), torch.zeros(8, 5, 4).to(x)
        k, v = self.stored(self.cache_k, torch.tanh(self.k(x))), self.stored(self.cache_v, torch.tanh(self.v(x)))
        return self.o(torch.softmax(self.q(x) @ k.mT, -1) @ v)


for _where in ("buffer", "attribute", "moved", "fresh", "index_copy", "copy"):
    register(f"cache: Llama, {_where}", normal((2, 3, 4)), branched=True)(lambda where=_where: Llama(where))


class Kept(nn.Module):
    """tanh of a cache into which a map is written at a position that data may choose."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
        self.how = how
        self.cache = torch.zeros(8, 5, 4, dtype=torch.float64)
        self.register_buffer("state", torch.zeros(3, 4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.how == "position of data":
            start = int((x[0, 0, 0] > 100).item())
            self.cache[:2, start : start + 3] = y
            return self.b(torch.tanh(self.cache[:2, start : start + 3]))
        if self.how == "list":
            kept = [torch.zeros_like(y[:, 0])] * 3
            for t in range(3):
                kept[t] = y[:, t]
            return self.b(torch.tanh(torch.stack(kept, 1)))
        if self.how == "running state":
            self.state.mul_(0.5).add_(y.mean(0))
            return self.b(torch.tanh(self.state))
        if self.how == "state through data":
            self.state.data.copy_(y.detach().mean(0))
            return self.b(torch.tanh(self.state + y))
        if self.how == "dictionary":
            store = {"k": torch.zeros_like(y)}
            store["k"][:, :2] = y[:, :2]
            return self.b(torch.tanh(store["k"]))
        window = functional.pad(y, (0, 0, 2, 0))
        window[:, :2] = y[:, :2] * 2
        return self.b(torch.tanh(window))


for _how in ("position of data", "list", "running state", "state through data", "dictionary", "padded window"):
    register(f"cache: {_how}", normal((2, 3, 3)), branched=True)(lambda how=_how: Kept(how))
