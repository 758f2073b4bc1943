"""What a page shows can be executed: its blocks in order, in one namespace, in a folder of their own.

A ``python`` block runs; a ``pycon`` block is a session, and prints what it shows; a ``{code-block}`` with a caption is
the file of that name; in a ``console`` block every ``$ neuralmechanics`` line is a command that prints what follows it.
"""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuralmechanics.cli import main

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
MADE_BY_THE_BUILD = ("_build", "gallery")
PAGES = (
    ROOT / "README.md",
    *sorted(page for page in DOCS.rglob("*.md") if page.relative_to(DOCS).parts[0] not in MADE_BY_THE_BUILD),
)
_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=fence)$", re.MULTILINE | re.DOTALL)
_CAPTION = re.compile(r":caption: (\S+)\n\n?")
_COMMAND = "$ neuralmechanics "


@dataclass(frozen=True)
class Block:
    """A fenced block: its language or directive, the file that it is (or ""), its text, and its line on the page."""

    language: str
    caption: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    content = page.read_text()
    for found in _FENCE.finditer(content):
        language = found["info"].strip().removeprefix("{code-block}").strip()
        text, caption = found["body"], ""
        if found["info"].startswith("{code-block}") and (option := _CAPTION.match(text)):
            caption, text = option[1], text[option.end() :]
        yield Block(language, caption, text, content.count("\n", 0, found.start()) + 2)


def is_executable(block: Block) -> bool:
    """Whether anything happens when the block is executed."""
    return block.language in ("python", "pycon") or (block.language == "console" and _COMMAND in block.text)


def execute(page: Path, folder: Path, printed: Callable[[], str]) -> None:
    """Executes the page in ``folder``, the current one; ``printed`` gives what has been written to stdout since."""
    namespace: dict[str, Any] = {"__name__": "pasted"}
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}, line {block.line}"
        if block.caption:
            (folder / block.caption).write_text(block.text)
        elif block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), namespace)
        elif block.language == "pycon":
            _hold_session(block, where, namespace)
        elif block.language == "console":
            _hold_commands(block, where, printed)


def _hold_session(block: Block, where: str, namespace: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, namespace, where, where, block.line)
    assert test.examples, f"{where}: a session without a statement"
    differences: list[str] = []
    flags = doctest.REPORT_UDIFF | doctest.ELLIPSIS
    doctest.DocTestRunner(verbose=False, optionflags=flags).run(test, out=differences.append, clear_globs=False)
    namespace.update(test.globs)
    assert not differences, "".join(differences)


def _hold_commands(block: Block, where: str, printed: Callable[[], str]) -> None:
    for piece in re.split(r"^(?=\$ )", block.text, flags=re.MULTILINE):
        command, _, shown = piece.partition("\n")
        if not command.startswith(_COMMAND):
            continue
        printed()
        main(shlex.split(command.removeprefix(_COMMAND), comments=True))
        if shown.strip():
            _hold_output(_stripped(shown), _stripped(printed()), f"{where}: {command}")


def _stripped(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.strip("\n").splitlines())


def _hold_output(shown: str, found: str, where: str) -> None:
    equal = doctest.OutputChecker().check_output(shown, found, doctest.ELLIPSIS)
    assert equal, f"{where} prints\n{found}\nand the page shows\n{shown}"


def forget_modules(folder: Path) -> None:
    """Modules of ``folder`` are imported anew by the next page that has files of these names."""
    for name in [path.stem for path in folder.glob("*.py")]:
        sys.modules.pop(name, None)
