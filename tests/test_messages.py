"""The messages that the documentation explains are those that the package writes."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

from tests.pages import DOCS, ROOT

PAGE = DOCS / "about" / "messages.md"
# What stands for names and numbers; what is shorter than this says nothing by itself.
GAP, SHORTEST = "…", 6


@cache
def _texts() -> frozenset[str]:
    """Every string of the package, formatted ones with a gap for each value."""
    return frozenset(text for path in (ROOT / "src").rglob("*.py") for text in _strings(path))


def _strings(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else GAP for part in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            found.append(node.value)
    return found


def _explained() -> list[str]:
    return re.findall(r"^> (.+)$", PAGE.read_text(), re.MULTILINE)


def test_every_explained_message_is_written_somewhere() -> None:
    for message in _explained():
        pieces = [piece.strip() for piece in message.split(GAP)]
        told = [piece for piece in pieces if len(piece) >= SHORTEST]
        assert told, message
        in_one = [text for text in _texts() if all(piece in text for piece in told)]
        assert in_one, f"{PAGE.name} explains what nothing says: {message}"


def test_many_messages_are_explained() -> None:
    assert len(_explained()) == len(set(_explained())) > 30
