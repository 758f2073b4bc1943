"""The work of reading spaces of channels grows as the network does: counted in equations, not in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.domains.channels import factors


def _equations(layers: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many equations are solved for the spaces of a chain of layers."""
    counted = [0]
    own = factors.null_space

    def solved(variables: Sequence[int], equations: Iterable[Mapping[int, Any]], modulus: int) -> Any:
        rows = list(equations)
        counted[0] += len(rows)
        return own(variables, rows, modulus)

    with monkeypatch.context() as patched:
        patched.setattr(factors, "null_space", solved)
        inside = [part for _ in range(layers) for part in (nn.Linear(3, 3), nn.ReLU())]
        find_symmetries(nn.Sequential(*inside, nn.Linear(3, 2)), torch.zeros(2, 3))
    return counted[0]


def test_equations_of_spaces_grow_linearly_with_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = [_equations(layers, monkeypatch) for layers in (3, 6, 9)]
    first, second = (after - before for before, after in pairwise(counts))
    assert first > 0
    assert first == second
