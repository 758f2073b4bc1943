"""The table of Transformers' architectures in Markdown: what was found beside what a null space counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

__all__ = ["page"]

_HEAD = """# Transformers, type by type

Made by `python benchmarks/coverage_of_transformers.py --null-space --lines FILE --page docs/about/transformers.md`.
Every model type of Transformers that has a head for words or images is built tiny, with random weights, and searched.
Where a still smaller one has at most 3,600 parameters, what was found is held against the null space of its Jacobian in
float64: *translations* and *diagonal* symmetries common to random points, and the *fibre* at one (found of
counted). What no family explains is listed by the parameters that move: along *straight* ones a finite step leaves the
logits unchanged (a map moves within the null space of what reads it, or of what it reads), along *curved* ones only an
infinitesimal one does. Elements that nothing reads stand apart.
"""


def page(answers: Sequence[dict[str, Any]]) -> str:
    """The page for these answers, one row a model type, and what could not be had below."""
    ordered = sorted(answers, key=lambda answer: str(answer["kind"]))
    measured = [a for a in ordered if a.get("null space", {}).get("state") == "measured"]
    lines = [_HEAD, _summary(ordered, measured), ""]
    lines += ["| type | parameters | translations | diagonal | fibre | not explained |", "|---|---|---|---|---|---|"]
    lines += [_row(a) for a in measured]
    others = [a for a in ordered if a not in measured]
    if others:
        lines += ["", "Not measured:", "", "| type | search | null space |", "|---|---|---|"]
        lines += [f"| {a['kind']} | {_search(a)} | {_why(a)} |" for a in others]
    return "\n".join(lines) + "\n"


def _summary(answers: Sequence[dict[str, Any]], measured: Sequence[dict[str, Any]]) -> str:
    versions = sorted({f"torch {a['torch']}, transformers {a['transformers']}" for a in answers if "torch" in a})
    found = [a for a in answers if a["state"] == "found"]
    blind = sum(bool(a["unknown"]) for a in found)
    beside = [a["null space"] for a in measured]
    equal = sum(_equal(b, "translations") and _equal(b, "diagonal") for b in beside)
    whole = sum(_equal(b, "fibre") for b in beside)
    false = sum(bool(b["false"]) for b in beside)
    unclear = sum(not b["clear"] for b in beside)
    return (
        f"With {'; '.join(versions)}: {len(answers)} types, {len(found)} searched, {len(found) - blind} without "
        f"an unknown operation. {len(measured)} were measured: on {equal} all translations and diagonal symmetries are "
        f"found, on {whole} the whole fibre; on {false} a family is false. On {unclear} the singular values leave no "
        "clear gap (marked ~)."
    )


def _equal(beside: dict[str, Any], kind: str) -> bool:
    found, counted = beside[kind]
    return bool(found == counted)


def _row(answer: dict[str, Any]) -> str:
    beside = answer["null space"]
    numbers = [f"{found}" if found == counted else f"**{found}** of {counted}" for found, counted in _pairs(beside)]
    kernels = Counter(beside["kernels"])
    rest = "<br>".join(f"{n} {_code(text)}" for text, n in kernels.most_common(6))
    if len(kernels) > 6:
        rest += f"<br>and {sum(kernels.values()) - sum(n for _, n in kernels.most_common(6))} more"
    if beside["false"]:
        rest += "<br>**false**: " + ", ".join(beside["false"])
    if beside["unknown"]:
        rest += "<br>unknown: " + ", ".join(beside["unknown"])
    size = f"{beside['parameters']}" + ("" if beside["clear"] else " ~")
    return f"| {answer['kind']} | {size} | {' | '.join(numbers)} | {rest.removeprefix('<br>')} |"


def _pairs(beside: dict[str, Any]) -> list[list[int]]:
    return [beside[kind] for kind in ("translations", "diagonal", "fibre")]


def _code(text: str) -> str:
    """``straight: a.weight + b.weight`` with the names as code."""
    word, names = text.split(": ", 1)
    return f"{word} " + " + ".join(f"`{name}`" for name in names.split(" + "))


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
