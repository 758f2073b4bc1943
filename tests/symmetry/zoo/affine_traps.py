"""Near misses of shears, of packed maps and of slices: one thing is different, and no such symmetry is left."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .traps import TRAPS, add

__all__ = ["TRAPS"]


class Reader(nn.Module):
    """A gain and a bias behind ``norm``, and a reader without a bias behind ``between``."""

    def __init__(self, norm: Callable[[Tensor], Tensor], between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.norm, self.between = norm, between
        self.write, self.read, self.last = nn.Linear(4, 4), nn.Linear(4, 3, bias=False), nn.Linear(3, 3)
        self.gain, self.bias = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.write(x))
        out: Tensor = self.last(torch.tanh(self.read(self.between(self.norm(h) * self.gain + self.bias, h))))
        return out


def _centred(h: Tensor) -> Tensor:
    return functional.layer_norm(h, (4,), eps=1e-20)


_NORMS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "of-lengths": (lambda h: functional.rms_norm(h, (4,), eps=1e-20), lambda y, h: y),
    "half-centred": (lambda h: h - 0.5 * h.mean(-1, keepdim=True), lambda y, h: y),
    "centred-over-rows": (lambda h: h - h.mean(0, keepdim=True), lambda y, h: y),
    "centred-on-the-median": (lambda h: h - h.median(-1, keepdim=True).values, lambda y, h: y),
    "rectified": (_centred, lambda y, h: torch.relu(y)),
    "beside-the-stream": (_centred, lambda y, h: y + h),
    "times-the-stream": (_centred, lambda y, h: y * h),
    "of-half-the-channels": (_centred, lambda y, h: functional.pad(y[:, 1:], (1, 0))),
    "centred-twice": (lambda h: _centred(h) ** 2, lambda y, h: y),
    "centred-on-other-rows": (lambda h: h - h.flip(0).mean(-1, keepdim=True), lambda y, h: y),
    "centred-on-a-part": (lambda h: h - h[:, :3].mean(-1, keepdim=True), lambda y, h: y),
    "centred-with-a-plus": (lambda h: h + h.mean(-1, keepdim=True), lambda y, h: y),
    "centred-on-its-square": (lambda h: h - (h**2).mean(-1, keepdim=True), lambda y, h: y),
    "centred-before-a-square": (_centred, lambda y, h: y**2),
}
for _name, (_norm, _between) in _NORMS.items():
    add(f"norm-bias-{_name}", lambda norm=_norm, between=_between: Reader(norm, between), slow=True)  # type: ignore[misc]


class PackedRows(nn.Module):
    """Two streams whose constants rows of one bias would answer, but for rows that are read by both, or twice."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.one, self.other, self.packed = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(2, 5)
        self.last, self.how = nn.Linear(3, 3), how

    def forward(self, x: Tensor) -> Tensor:
        one, other, (w, b) = self.one(x), self.other(torch.sin(x)), (self.packed.weight, self.packed.bias)
        above, below = one @ w[:3].T + b[:3], other @ w[2:].T + b[2:]
        if self.how == "others":
            above, below = one @ w[:3].T + b[2:], other @ w[2:].T + b[:3]
        out: Tensor = self.last(torch.tanh(above) * torch.sin(below))
        return out


for _how in ("shared", "others"):
    add(f"packed-biases-{_how}", lambda how=_how: PackedRows(how), slow=True)  # type: ignore[misc]
