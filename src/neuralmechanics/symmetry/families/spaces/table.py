"""The table of spaces that a reader sees, as text."""

from __future__ import annotations

from collections.abc import Sequence

from neuralmechanics.symmetry.families.name_summaries import common_form, summarised, templated
from neuralmechanics.symmetry.families.spaces.space import Space

__all__ = ["spaces_table"]

_COLUMNS = ("group", "channels", "also", "acts on")


def spaces_table(spaces: Sequence[Space], width: int = 120) -> str:
    """One row a space (layers that are alike share one): its group, its channels, further factors, its dimensions.

    "2 × 4 in each of 3": two spaces of four channels, with an element of the group for each of three heads.
    """
    groups: dict[object, list[Space]] = {}
    for space in spaces:
        groups.setdefault(_form(space), []).append(space)
    rows = [_COLUMNS, *(_row(alike) for alike in groups.values())]
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    room = max(30, width - sum(widths) - 6)
    lines = []
    for row in rows:
        head = "  ".join(text.ljust(size) for text, size in zip(row[:3], widths, strict=True))
        for number, text in enumerate(_folded(row[3], room)):
            lines.append(f"{head if number == 0 else ' ' * len(head)}  {text}".rstrip())
    return "\n".join(lines)


def _form(space: Space) -> object:
    entries = tuple(sorted({(templated(e.parameter)[0], e.axis) for e in space.entries}))
    exchanged = frozenset(templated(name)[0] for block in space.blocks for name in block)
    return space.group, space.width, space.copies_shape, _also(space), templated(space.name)[0], entries, exchanged


def _row(alike: Sequence[Space]) -> tuple[str, str, str, str]:
    first = alike[0]
    times = f"{len(alike)} × " if len(alike) > 1 else ""
    inside = f" in each of {' × '.join(map(str, first.copies_shape))}" if first.copies else ""
    places: dict[int, list[str]] = {}
    for space in alike:
        for entry in space.entries:
            places.setdefault(entry.axis, []).append(entry.parameter)
    acts = ", ".join(f"{name}[{axis}]" for axis, names in sorted(places.items()) for name in summarised(names))
    whole = summarised([name for space in alike for block in space.blocks for name in block])
    if whole:
        acts = f"{acts}{', ' if acts else ''}exchanged whole: {', '.join(whole)}"
    return first.group, f"{times}{first.width}{inside}", _also(first), acts or common_form([s.name for s in alike])


def _also(space: Space) -> str:
    """The factors that a gain takes back, in words."""
    kinds = dict.fromkeys(d.kind for d in space.directions if not d.own and d.exact)
    return " and ".join({"sign": "signs", "scale": "factors"}[kind] for kind in kinds)


def _folded(text: str, room: int) -> list[str]:
    """Lines broken after commas."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > room:
            lines.append("  " + word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip() if lines[-1].strip() else word
    return lines
