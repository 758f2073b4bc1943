"""The page about rounding to four bits, of the numbers alone; loads nothing else, so that a test can make it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Numbers = Mapping[str, Any]

INTRODUCTION = """# Four bits

Made by `python benchmarks/four_bits.py`, one process a section, of which each wrote its numbers with `--json`: no
number on this page is written by hand. Rounding is the plainest there is: to the nearest of 2^b - 1 symmetric levels,
the last at the greatest entry, one scale for a whole weight (every weight of a linear layer or a convolution) and one
for each token of the activations. Accuracy and cross entropy are of unseen data. *Lost* is what rounding
takes, against the same network not rounded; in brackets stands which part that is of what the planted network loses.
All rewrites are exact: the last column is the greatest difference of outputs that the certificate saw, and its bound.
"""
NETWORKS = {
    "mobilenet": """## A MobileNet on digits

Inverted residuals with depthwise convolutions, three of four with a residual connection, ReLU, batch norms folded into
the convolutions, on scikit-learn's digits (497 held out). As trained such a small network hardly suffers. *Uneven*:
moved by a random element of its own group, e^z with z standard normal on every rescaling and on the diagonal of every
linear block, so that the range of one channel is some tens of times that of another; then `equalise`.
""",
    "gains": """## A GPT with outliers in its gains

Four blocks of width 64 with RMS norms and GELU, on the letters of Python's language reference. *Outliers*: one channel
in sixteen of every norm's gain is multiplied or divided by 32, and what reads it the other way, so that some channels
of the activations and some columns of the weights are large; the function stays. `fold` alone takes these back, and
`rotate` (Hadamard, `prepare=True`) folds first.
""",
    "stream": """## A GPT with massive channels in its stream

The same, trained with a constant of 20 that was added to two channels of every position at the start. These outliers
are in the residual stream itself, and what was trained has found a way to live with them: four-bit weights alone lose
little, and no rewrite is sure to make that less. What they cost is four-bit activations, of which `smooth` and `rotate`
give most back; folding alone, which puts the trained gains into the weights, makes it worse.
""",
}
ORIGINALS = ("as trained", "uneven", "outliers")
PLANTED = ("uneven", "outliers")


def page(found: Numbers) -> str:
    """The text of the page for the numbers of one run."""
    names = dict.fromkeys(training["network"] for training in found["trainings"])
    sections = (_section(name, [t for t in found["trainings"] if t["network"] == name]) for name in names)
    return "\n".join([INTRODUCTION, _origin(found), *sections])


def _origin(found: Numbers) -> str:
    facts = {"date": found["date"], "revision": found["revision"], **found["machine"], **found["versions"]}
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"| | |\n|---|---|\n{lines}\n\nThe numbers as data: {{download}}`four_bits.json <four_bits.json>`.\n"


def _section(name: str, trainings: list[Numbers]) -> str:
    return f"{NETWORKS[name]}\n{_mobilenet(trainings) if name == 'mobilenet' else _gpt(trainings)}\n"


def _mobilenet(trainings: list[Numbers]) -> str:
    lines = [
        "| seed | network | not rounded | 4-bit weights | accuracy lost | cross entropy lost | change ≤ bound |",
        "|---|---|---|---|---|---|---|",
    ]
    for training in trainings:
        for way, cells in training["ways"].items():
            whole, coarse = cells["not rounded"], cells["4-bit weights"]
            lost = [_lost(training, way, "4-bit weights", measure) for measure in ("accuracy", "loss")]
            both = [f"{100 * c['accuracy']:.1f} %, {c['loss']:.3f}" for c in (whole, coarse)]
            lines.append(_line(training["seed"], way, *both, *lost, _proof(training, way)))
    return "\n".join(lines)


def _gpt(trainings: list[Numbers]) -> str:
    precisions = list(next(iter(trainings[0]["ways"].values())))[1:]
    lines = [
        _line("seed", "network", "not rounded", *(f"{p}: cross entropy lost" for p in precisions), "change ≤ bound"),
        "|" + "---|" * (len(precisions) + 4),
    ]
    for training in trainings:
        for way, cells in training["ways"].items():
            lost = [_lost(training, way, precision, "loss") for precision in precisions]
            whole = f"{cells['not rounded']['loss']:.3f}"
            lines.append(_line(training["seed"], way, whole, *lost, _proof(training, way)))
    return "\n".join(lines)


def lost(training: Numbers, way: str, precision: str, measure: str) -> float:
    """By how much rounding lowers the accuracy, or raises the cross entropy."""
    cells = training["ways"][way]
    difference: float = cells[precision][measure] - cells["not rounded"][measure]
    return -difference if measure == "accuracy" else difference


def _lost(training: Numbers, way: str, precision: str, measure: str) -> str:
    """The same in words, after a rewrite with its part of what was lost before."""
    value = lost(training, way, precision, measure)
    text = f"{100 * value:.1f} points" if measure == "accuracy" else f"{value:.3f}"
    if way in ORIGINALS:
        return text
    before = lost(training, next(w for w in PLANTED if w in training["ways"]), precision, measure)
    return f"{text} ({value / before:.3f})" if before > 0 else text


def _proof(training: Numbers, way: str) -> str:
    proof = training["proofs"].get(way)
    return "" if proof is None else f"{proof['change']:.0e} ≤ {proof['bound']:.0e}"


def _line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
