"""What finding the symmetries takes as networks grow, beside the export that any tool on graphs begins with."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from growth import Stream, perceptron
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from suite.rows import Row, exponent, least_seconds

TITLE = "The search for symmetries"
TEXT = """\
`find_symmetries` beside `torch.export` of the same network, and, where the network is small enough, beside
what answers the same question without a graph: the null space of the Jacobian of its outputs, by singular
values. That one gives a number of directions at one point, and no names."""


def rows(quick: bool) -> list[Row]:
    """A perceptron and a residual stream, in three numbers of layers; three widths beside dense algebra."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    find_symmetries(nn.Linear(2, 2), torch.zeros(1, 2))  # what export loads at its first call
    found = []
    layers = [2, 4] if quick else [16, 32, 64]
    for name, build in (("layers with ReLU", lambda n: perceptron(n, 16)), ("residual layers with norms", Stream)):
        times = []
        for count in layers:
            row = _beside_export(build(count), f"{name}, {count}", 1 if quick else 3)
            times.append(row.value)
            found.append(row)
        found.append(Row(f"exponent in {name}", "", exponent(layers, times), "", "in proportion", 1.0))
    return found + [_beside_algebra(width) for width in ([4, 8] if quick else [8, 16, 24])]


def _beside_export(model: nn.Module, size: str, rounds: int) -> Row:
    batch = torch.zeros(5, 16)
    works: dict[str, Callable[[], object]] = {
        "search": lambda: find_symmetries(model, batch),
        "export": lambda: torch.export.export(model, (batch,), strict=False),
    }
    took = least_seconds(works, rounds)
    return Row("search", size, took["search"], "s", "torch.export alone", took["export"])


def _beside_algebra(width: int) -> Row:
    model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 4))
    parameters = sum(p.numel() for p in model.parameters())
    took = least_seconds(
        {"search": lambda: find_symmetries(model, torch.zeros(2, width)), "algebra": lambda: null_space(model, width)},
        rounds=2,
    )
    size = f"perceptron, {parameters:,} parameters"
    return Row("search", size, took["search"], "s", "null space of the Jacobian", took["algebra"])


def null_space(model: nn.Module, width: int) -> int:
    """The nullity of the Jacobian of outputs at as many inputs as make it twice as high as wide."""
    params = {name: p.detach().double() for name, p in model.named_parameters()}
    count = 2 * sum(p.numel() for p in params.values()) // 4
    inputs = 3 * torch.randn(count, width, dtype=torch.float64)

    def outputs(given: dict[str, Tensor]) -> Tensor:
        result: Tensor = torch.func.functional_call(model, given, (inputs,))
        return result.flatten()

    jacobian = torch.cat([part.flatten(1) for part in torch.func.jacrev(outputs, chunk_size=256)(params).values()], 1)
    sizes = torch.linalg.svdvals(jacobian)
    return int((sizes < 1e-10 * sizes.max()).sum())
