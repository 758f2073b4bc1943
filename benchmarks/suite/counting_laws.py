"""What counting conservation laws takes, beside the one factorisation that only bounds the symmetries."""

from __future__ import annotations

import warnings

import torch
from torch import nn

from neuralmechanics import count_laws
from suite.rows import Row, exponent, least_seconds
from suite.searching import null_space

TITLE = "Counting conservation laws"
TEXT = """\
`count_laws` of perceptrons with ReLU, from parameters alone to a certificate, beside the null space of one
Jacobian, which bounds the symmetries at one point and says nothing of laws. The count is checked: one law a
hidden unit."""


def rows(quick: bool) -> list[Row]:
    """Widths of two hidden layers."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found, sizes, times = [], [], []
    for width in [2, 3] if quick else [4, 6, 8, 12]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )
        count = count_laws(model, torch.zeros(1, width))
        assert count.lower == count.upper == 2 * width, count
        took = least_seconds(
            {
                "count": lambda model=model, width=width: count_laws(model, torch.zeros(1, width)),
                "algebra": lambda model=model, width=width: null_space(model, width),
            },
            rounds=1 if quick else 2,
        )
        sizes.append(count.parameters)
        times.append(took["count"])
        size = f"{count.parameters} parameters, {count.upper} laws"
        found.append(Row("count", size, took["count"], "s", "null space of the Jacobian", took["algebra"]))
    found.append(Row("exponent in parameters", "", exponent(sizes, times), "", "dense algebra", 3.0))
    return found
