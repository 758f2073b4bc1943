"""The table of Transformers' architectures in Markdown: what was found beside what a null space counts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["answers_in", "in_words", "page"]

_HEAD = """# Transformers, type by type

Made by `python benchmarks/coverage_of_transformers.py --null-space --lines FILE --page docs/about/transformers.md`.
Every model type of Transformers that has a head for words or images is built tiny, with random weights, and searched.
Where a still smaller one has at most 3,600 parameters, what was found is held against the null space of its Jacobian in
float64, with every eps next to zero: *translations* and *diagonal* symmetries common to random points, and the *fibre*,
all null directions at one point. A number alone says that found and counted are equal.
"""

_BELOW = """
The last column counts the null directions that no family explains, by what they move; the lines of the run name the
parameters of each.

- *Within one map*: the weight of one layer, and perhaps its bias. A map may move within the null space of what reads
  it, or of what it reads; or its outputs along the one direction that a norm behind it forgets, after a gain or a
  square map that must be inverted to find it.
- *Across several*: parameters of several layers move together. Along most only an infinitesimal step is unseen.

The table does not tell missed symmetries from kernels of finite data; sizes are chosen to leave few of these: more
words than an inner map has numbers, more classes than the stream has channels. A first layer that meets nothing but
eleven different words can change in any way that leaves its eleven outputs alone; such directions are properties of the
data, not actions of a group, and they go when the words are more. Parameters of what is not run take no part; those
that only choose tokens do, for they move with the gains that they read. What draws at random in training is measured in
evaluation. Rows that a run does not repeat stay as they were: those marked ~ were measured with columns' sizes of which
those of words not met were rounding (up to one too few counted), and one or two directions across several may be of a
word that was not met.

Of some types it is known what is left:

- `nomic_bert`: actions of a group that has no family yet, eight and one a layer. A norm with gain γ moves its bias by
  any δ, and the maps W behind it, which have no biases, give it back: W - (W δ)(1/γ)ᵀ/Σ(β/γ). What the stream itself
  gains values give back as well, by the inverse of the map behind them; in front of a gated map there is none, and the
  norm behind the sum forgets δ along the all-ones vector alone.
- `xmod`: fourteen directions of this batch. An adapter's bias is added to the rows of its language, so that it takes
  back what a norm's bias adds to all rows only where all are of one language, as they are here.
- `diffllama`: one direction a layer, along which exp(q·k) - exp(q'·k') stays and neither exponent does.
"""


def page(answers: Sequence[dict[str, Any]]) -> str:
    """The page for these answers, one row a model type, and what could not be had below."""
    ordered = sorted(answers, key=lambda answer: str(answer["kind"]))
    measured = [a for a in ordered if a.get("null space", {}).get("state") == "measured"]
    lines = [_HEAD, *_summary(ordered, measured), ""]
    lines += ["## Measured", "", "| type | parameters | translations | diagonal | fibre | not explained |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [_row(a) for a in measured]
    lines += [_BELOW]
    others = [a for a in ordered if a not in measured]
    if others:
        lines += ["## Not measured", "", "| type | search | null space |", "|---|---|---|"]
        lines += [f"| {a['kind']} | {_search(a)} | {_why(a)} |" for a in others]
    return "\n".join(lines) + "\n"


def _summary(answers: Sequence[dict[str, Any]], measured: Sequence[dict[str, Any]]) -> list[str]:
    versions = sorted({f"torch {a['torch']}, transformers {a['transformers']}" for a in answers if "torch" in a})
    found = [a for a in answers if a["state"] == "found"]
    beside = [a["null space"] for a in measured]
    counts = {
        "model types": len(answers),
        "searched": len(found),
        "… without an unknown operation": sum(not a["unknown"] for a in found),
        "measured": len(measured),
        "… all translations and diagonal symmetries found": sum(_linear(b) for b in beside),
        "… the whole fibre found": sum(_equal(b, "fibre") for b in beside),
        "… a family false": sum(bool(b["false"]) for b in beside),
        "… no clear gap of the singular values (marked ~)": sum(not b["clear"] for b in beside),
    }
    less = [f"`{a['kind']}`" for a in measured if not _linear(a["null space"])]
    lines = [f"With {'; '.join(versions)}:", "", "| | types |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in counts.items()]
    return [*lines, "", f"A translation or a diagonal symmetry is missing in {', '.join(less)}."] if less else lines


def _linear(beside: dict[str, Any]) -> bool:
    return _equal(beside, "translations") and _equal(beside, "diagonal")


def _equal(beside: dict[str, Any], kind: str) -> bool:
    found, counted = beside[kind]
    return bool(found == counted)


def _row(answer: dict[str, Any]) -> str:
    beside = answer["null space"]
    numbers = [f"{found}" if found == counted else f"**{found}** of {counted}" for found, counted in _pairs(beside)]
    rest = [in_words(beside["kernels"])] if beside["kernels"] else []
    if beside["false"]:
        rest.append(f"**{len(beside['false'])} false**")
    if beside["unknown"]:
        rest.append("unknown: " + ", ".join(beside["unknown"]))
    size = f"{beside['parameters']}" + ("" if beside["clear"] else " ~")
    return f"| {answer['kind']} | {size} | {' | '.join(numbers)} | {'; '.join(rest)} |"


def _pairs(beside: dict[str, Any]) -> list[list[int]]:
    return [beside[kind] for kind in ("translations", "diagonal", "fibre")]


def in_words(kernels: Mapping[str, int]) -> str:
    """Null directions by what they move: within one map, the most frequent by name, or across several."""
    within: Counter[str] = Counter()
    across = 0
    for text, count in kernels.items():
        layers = {name.rpartition(".")[0] or name for name in text.split(": ", 1)[1].split(" + ")}
        if len(layers) == 1:
            within[layers.pop().rpartition(".")[2]] += count
        else:
            across += count
    named = ", ".join(f"{count} `{name}`" for name, count in within.most_common(3))
    more = sum(within.values()) - sum(count for _, count in within.most_common(3))
    parts = [f"within one map {named}" + (f" and {more} more" if more else "")] if within else []
    return ", ".join([*parts, *([f"across several {across}"] if across else [])])


def _search(answer: dict[str, Any]) -> str:
    if answer["state"] != "found":
        return f"{answer['state']}: {_plain(answer['reason'])}"
    return "unknown: " + ", ".join(answer["unknown"]) if answer["unknown"] else "all operations known"


def _why(answer: dict[str, Any]) -> str:
    beside = answer.get("null space")
    return "" if beside is None else f"{beside['state']}: {_plain(beside['reason'])}"


def _plain(text: str) -> str:
    """Free text within a cell of a table."""
    return text.replace("|", "/").replace("\n", " ").replace("<", "‹").replace(">", "›").replace("`", "'")[:160]


def answers_in(page: str) -> dict[str, dict[str, Any]]:
    """The answers of a page by type, as far as it tells them: a run goes on from it where its lines are gone."""
    versions = re.findall(r"torch ([^,;\s]+), transformers ([^;:\s]+)", page.partition("| types |")[0])
    measured, _, others = page.partition("## Not measured")
    out: dict[str, dict[str, Any]] = {}
    for cells in _cells(measured.partition("## Measured")[2]):
        if len(cells) == 6:
            out[cells[0]] = {"state": "found", "unknown": {}, "seconds": 0.0, "null space": _read(cells)}
    for kind, search, why in (cells for cells in _cells(others) if len(cells) == 3):
        state, _, reason = search.partition(": ")
        unknown = dict.fromkeys(reason.split(", "), 1) if state == "unknown" else {}
        told = {"state": state, "reason": reason} if state in ("not built", "exception") else {"state": "found"}
        out[kind] = {"unknown": unknown, "seconds": 0.0, **told}
        if why:
            out[kind]["null space"] = dict(zip(("state", "reason"), why.split(": ", 1), strict=True))
    named = [{"torch": torch, "transformers": transformers} for torch, transformers in versions]
    # Which row is of which version the page does not say, only that all of them are there.
    told_of = {kind: named[k % len(named)] if named else {} for k, kind in enumerate(out)}
    return {kind: {"kind": kind, **told_of[kind], **answer} for kind, answer in out.items()}


def _cells(text: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:2] == "| "]
    rows = [[*row, ""] if len(row) in (2, 5) else row for row in rows]  # the last cell is empty
    return [row for row in rows if row[0] != "type"]


def _read(cells: Sequence[str]) -> dict[str, Any]:
    """What was measured of a type, from its row."""
    pairs = []
    for cell in cells[2:5]:
        found, _, counted = cell.replace("*", "").partition(" of ")
        pairs.append([int(found), int(counted or found)])
    names = re.findall(r"(\d+) `([^`]+)`", cells[5])
    kernels = {f"straight: a.{name}.weight": int(count) for count, name in names}
    kernels |= {f"straight: b.rest{k}.weight": 1 for k in range(sum(map(int, re.findall(r"and (\d+) more", cells[5]))))}
    across = re.findall(r"across several (\d+)", cells[5])
    kernels |= {"straight: a.x + b.y": int(across[0])} if across else {}
    counts = dict(zip(("translations", "diagonal", "fibre"), pairs, strict=True))
    size, _, mark = cells[1].partition(" ")
    rest = {"parameters": int(size), "clear": not mark, "false": [], "unknown": {}, "kernels": kernels}
    return {"state": "measured", **counts, **rest}
