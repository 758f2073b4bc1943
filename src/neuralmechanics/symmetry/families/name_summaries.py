"""Many names of layers in few words: ``h.{0…11}.attn.c_attn.{weight, bias}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

__all__ = ["common_form", "summarised", "templated"]

# What follows an equals sign is a value, such as eps=0.001, whose digits are the number of no layer.
_NUMBER = re.compile(r"(=[^, ]*)|(?:(?<=^)|(?<=[. ]))(\d+)(?=[., ]|$)")
_SLOT = "\0"


def templated(name: str) -> tuple[str, tuple[int, ...]]:
    """The name with a slot for each number that stands between dots, and those numbers.

    >>> templated("layers.3.norm.weight eps=0.001")[1]
    (3,)
    """
    numbers = tuple(int(number) for _, number in _NUMBER.findall(name) if number)
    return _NUMBER.sub(lambda found: found[1] or _SLOT, name), numbers


def summarised(names: Iterable[str]) -> list[str]:
    """Every name, once: layers of a run as one, then parameters of one layer as one.

    >>> summarised(["h.0.attn.weight", "h.0.attn.bias", "h.1.attn.weight", "h.1.attn.bias", "h.2.attn.weight",
    ...             "h.2.attn.bias", "ln.weight"])
    ['h.{0…2}.attn.{weight, bias}', 'ln.weight']
    """
    forms: dict[str, list[tuple[int, ...]]] = {}
    for name in dict.fromkeys(names):
        form, numbers = templated(name)
        forms.setdefault(form, []).append(numbers)
    texts = [text for form, numbers in forms.items() for text in _filled(form, numbers)]
    layers: dict[str, list[str]] = {}
    for text in texts:
        layer, _, last = text.rpartition(".")
        layers.setdefault(layer, []).append(last)
    return [
        (f"{layer}." if layer else "") + (last[0] if len(last) == 1 else "{" + ", ".join(last) + "}")
        for layer, last in layers.items()
        for last in ([last] if layer else [[one] for one in last])
    ]


def _filled(form: str, rows: Sequence[tuple[int, ...]]) -> list[str]:
    """The form with its numbers put back; one text where they are all combinations of the numbers of each slot."""
    slots = [sorted(set(column)) for column in zip(*rows, strict=True)]
    size = 1
    for slot in slots:
        size *= len(slot)
    if size == len(set(rows)):
        return [_put(form, [runs(slot) for slot in slots])]
    # The slot with most numbers becomes the run, and the fewest texts are left.
    widest = max(range(len(slots)), key=lambda k: len(slots[k]))
    groups: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for row in rows:
        groups.setdefault((*row[:widest], *row[widest + 1 :]), []).append(row)
    if len(groups) == 1 or all(len(group) == 1 for group in groups.values()):
        return [_put(form, [str(n) for n in row]) for row in rows]
    return [text for group in groups.values() for text in _filled(form, group)]


def common_form(names: Sequence[str]) -> str:
    """Names of one form as one, slot by slot: ``rescale: {0…3} → {1…4}``."""
    form, _ = templated(names[0])
    columns = zip(*(templated(name)[1] for name in names), strict=True)
    return _put(form, [runs(sorted(set(column))) for column in columns])


def _put(form: str, texts: Sequence[str]) -> str:
    parts = form.split(_SLOT)
    return parts[0] + "".join(text + part for text, part in zip(texts, parts[1:], strict=True))


def runs(numbers: Sequence[int]) -> str:
    """Sorted numbers, runs of three or more by their ends; braces where there are several.

    >>> runs([4]), runs([0, 1, 2, 3, 7])
    ('4', '{0…3, 7}')
    """
    if len(numbers) == 1:
        return str(numbers[0])
    cuts = [0, *(k for k, (a, b) in enumerate(pairwise(numbers), 1) if b != a + 1), len(numbers)]
    pieces = [numbers[a:b] for a, b in pairwise(cuts)]
    texts = [f"{p[0]}…{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in pieces]
    return "{" + ", ".join(texts) + "}"
