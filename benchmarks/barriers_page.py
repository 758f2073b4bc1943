"""The page about barriers, made of the numbers alone; loads nothing else, so that a test can make it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Numbers = Mapping[str, Any]

INTRODUCTION = """# Barriers between two trainings

Made by `python benchmarks/barriers.py --json docs/about/barriers.json --page docs/about/barriers.md`: no number on this
page is written by hand. Two trainings of one network on scikit-learn's digits, from two seeds; the barrier is the
greatest rise of the cross entropy above the straight line between both ends, over 25 points of the way from a to g·b:
as the two are, after permutations alone (git re-basin's weight matching, heads and their channels included), and after
`align`, which sees 512 of the digits that were trained on with their labels.
"""
NETWORKS = {
    "perceptron": "perceptron, 64-64-64-10",
    "vgg": "VGG, six convolutions",
    "transformer": "transformer, two blocks of width 32",
}
DATA = {"held out": "On 497 digits that neither saw", "trained on": "On the 1300 digits that both were trained on"}

DISTANCES = """## Distance modulo all symmetries

What `distance` leaves of two trainings where both are of least norm, in units of their norm; of two points of one orbit
it is rounding.

"""


def page(found: Numbers) -> str:
    """The text of the page for the numbers of one run."""
    facts = {"date": found["date"], "revision": found["revision"], **found["machine"], **found["versions"]}
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    origin = f"| | |\n|---|---|\n{lines}\n\nThe numbers as data: {{download}}`barriers.json <barriers.json>`.\n"
    sections = (_section(title, data, found["pairs"]) for data, title in DATA.items())
    return "\n".join([INTRODUCTION, origin, *sections, _distances(found["pairs"])])


def _distances(pairs: list[Numbers]) -> str:
    """How far apart the two stay modulo all symmetries."""
    lines = ["| networks | seeds | distance |", "|---|---|---|"]
    for pair in pairs:
        seeds = "/".join(map(str, pair["seeds"]))
        lines.append(f"| {NETWORKS[pair['network']]} | {seeds} | {pair['distance']:.2f} |")
    return DISTANCES + "\n".join(lines) + "\n"


def _section(title: str, data: str, pairs: list[Numbers]) -> str:
    ways = list(pairs[0][data])
    lines = [
        f"| networks | seeds | {' | '.join(ways)} | align / permutations | seconds of align |",
        "|" + "---|" * (len(ways) + 4),
    ]
    for pair in pairs:
        heights = pair[data]
        ratio = heights["align"] / heights["permutations"]
        seeds = "/".join(map(str, pair["seeds"]))
        numbers = [f"{heights[way]:.3f}" for way in ways]
        lines.append(
            "| " + " | ".join([NETWORKS[pair["network"]], seeds, *numbers, f"{ratio:.2f}", str(pair["seconds"])]) + " |"
        )
    return f"## {title}\n\n" + "\n".join(lines) + "\n"
