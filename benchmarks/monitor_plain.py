"""How few passes over the parameters plain torch can take: the sums of the exact law without anything compiled.

    python benchmarks/monitor_plain.py --threads 2

A heavy ball's law needs, of every matrix, the row and the column sums of v·v and θ·v, to 1e-10: products of floats have
48 digits of which a float keeps 24, so both operands are widened first. In torch that is eight kernels at least: two
conversions, two products, four sums. Each way of doing them is timed in blocks that fit the cache, into memory that is
there already, on one block over and over: no reading of parameters, no offsets, no other Python. What remains is a
bound from below for whatever is written with these kernels, in units of `torch._foreach_norm`, the pass. Beside it what
floats alone would take, whose products are wrong in the eighth digit, vanish below 1e-38 and overflow.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

SHAPE = (512, 4608)  # the commonest matrix of a VGG-16
Sums = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


class Blocks:
    """Memory that one block of a given height is worked on in."""

    def __init__(self, height: int, width: int, dtype: torch.dtype) -> None:
        self.p, self.v, self.product = (torch.empty(height, width, dtype=dtype) for _ in range(3))
        self.rows, self.columns = torch.empty(height, dtype=dtype), torch.empty(width, dtype=dtype)
        self.ones = torch.ones(max(height, width), dtype=dtype)

    def widen(self, p: Tensor, v: Tensor) -> None:
        self.p.copy_(p)
        self.v.copy_(v)

    def by_sums(self, p: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Reductions of products."""
        self.widen(p, v)
        found: list[Tensor] = []
        for left in (self.v, self.p):
            torch.mul(left, self.v, out=self.product)
            found += [self.product.sum(1), self.product.sum(0)]
        return tuple(found)

    def by_ones(self, p: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """The same as products with vectors of ones, which BLAS reads a matrix for once."""
        self.widen(p, v)
        height, width = p.shape
        found: list[Tensor] = []
        for left in (self.v, self.p):
            torch.mul(left, self.v, out=self.product)
            found += [torch.mv(self.product, self.ones[:width]), torch.mv(self.product.T, self.ones[:height])]
        return tuple(found)

    def by_wide_sums(self, p: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Products that are rounded to floats, summed in double precision: wrong in the eighth digit of each."""
        found: list[Tensor] = []
        for left in (v, p):
            torch.mul(left, v, out=self.product)
            found += [self.product.sum(1, dtype=torch.float64), self.product.sum(0, dtype=torch.float64)]
        return tuple(found)

    def by_einsum(self, p: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        """Contractions, which torch makes batches of inner products of."""
        self.widen(p, v)
        a, b = self.v, self.p
        rows = [torch.linalg.vecdot(left, a, dim=1) for left in (a, b)]
        columns = [torch.linalg.vecdot(left, a, dim=0) for left in (a, b)]
        return rows[0], columns[0], rows[1], columns[1]


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        work()
    return 1e3 * (time.process_time() - begun) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--millions", type=float, default=18, help="parameters of the pass")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    count = max(1, round(options.millions * 1e6 / (SHAPE[0] * SHAPE[1])))
    params = [torch.randn(SHAPE) for _ in range(count)]
    elements = count * SHAPE[0] * SHAPE[1]
    ways: dict[str, tuple[Callable[[], object], int]] = {}
    for height in (4, 8, 14, 28, 56):
        for name in ("by_sums", "by_ones", "by_einsum"):
            blocks = Blocks(height, SHAPE[1], torch.float64)
            p, v = torch.randn(2, height, SHAPE[1])
            check(getattr(blocks, name), p, v)
            ways[f"{name}, {height} rows"] = partial(getattr(blocks, name), p, v), height * SHAPE[1]
    floats = Blocks(28, SHAPE[1], torch.float32)
    p, v = torch.randn(2, 28, SHAPE[1])
    ways["floats alone, 28 rows"] = partial(floats.by_sums, p, v), 28 * SHAPE[1]
    ways["products of floats, wide sums, 28 rows"] = partial(floats.by_wide_sums, p, v), 28 * SHAPE[1]
    passes: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        one = milliseconds(lambda: torch._foreach_norm(params), 5)
        for name, (work, size) in ways.items():
            repeats = max(1, round(5e6 / size))
            passes[name].append(milliseconds(work, repeats) * elements / size / one)
    print(f"{options.threads} threads, {elements:,} parameters: passes that the kernels alone take")
    for name, each in sorted(passes.items(), key=lambda item: statistics.median(item[1])):
        print(f"  {name:34s} {statistics.median(each):6.1f}   (least {min(each):.1f})")


def check(way: Sums, p: Tensor, v: Tensor) -> None:
    """Whether the sums are those of double precision."""
    wide, other = v.double(), p.double()
    for found, product in zip(way(p, v)[::2], (wide * wide, other * wide), strict=True):
        torch.testing.assert_close(found, product.sum(1), rtol=1e-12, atol=1e-12)


if __name__ == "__main__":
    main()
