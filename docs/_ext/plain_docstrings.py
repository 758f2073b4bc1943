"""Docstrings are plain text with mathematics in it: bars, stars and underscores are signs there, not markup.

Kept as markup are text between backticks (shown as code), examples after ``>>>``, lists, and indented blocks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_ITEM = re.compile(r"\s*(-|\d+\.) ")


def plain(lines: list[str]) -> list[str]:
    """The docstring as reStructuredText that shows what was written."""
    result: list[str] = []
    for block in _blocks(lines):
        if result:
            result.append("")
        first = block[0].lstrip()
        if first.startswith(">>>"):
            result += block
        elif all(line.startswith("    ") for line in block):
            result += ["::", "", *block]
        elif set(first) <= {"=", " "}:  # a table, whose columns stand as they were typed
            result += ["::", "", *(f"    {line}" for line in block)]
        elif len(block) > 2 and set(block[1]) == {"-"}:
            result += [f"**{block[0]}**", "", *_text(_as_list(block[2:]))]
        else:
            result += _text(block)
    return result


def _blocks(lines: list[str]) -> Iterator[list[str]]:
    block: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            block.append(line)
        elif block:
            yield block
            block = []


def _text(block: list[str]) -> list[str]:
    text = "\n".join(block)
    parts = _CODE.split(text)
    shown = "".join(_as_code(part) if part.startswith("`") else _escaped(part) for part in parts)
    lines: list[str] = []
    for line in shown.split("\n"):
        # A list begins after an empty line, or it is text.
        if _ITEM.match(line) and lines and not _ITEM.match(lines[-1]) and not lines[-1].startswith("  "):
            lines.append("")
        lines.append(line)
    return lines


def _as_list(block: list[str]) -> list[str]:
    """Named things, one at the beginning of a line, with what is said of each indented below: as a list."""
    return [f"  {line.strip()}" if line.startswith(" ") else f"- {line}" for line in block]


def _as_code(part: str) -> str:
    inside = part.strip("`").strip()
    return f"\\ ``{' '.join(inside.split())}``\\ "


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_|])", r"\\\1", text)


def _on_docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # A constant has the docstring of its type, which says nothing of the constant.
    said = [] if what == "data" and obj.__doc__ == type(obj).__doc__ else plain(lines)
    lines[:] = said


def _skip(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    # Numbers of a tuple's fields say nothing; names of a library's base class are its own.
    doc = getattr(obj, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Hears every docstring before it is parsed."""
    app.connect("autodoc-process-docstring", _on_docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
