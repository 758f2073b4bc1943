"""Arguments to frozen dataclasses by tyro, with its boxed errors folded into one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any

from neuralmechanics.configuration.former_names import in_todays_words

_BOX = re.compile(r"[╭╮╰╯│─]+")
_FOOTER = re.compile(r"\s*For full helptext.*", re.DOTALL)
# How tyro refers to a value that several flags make together; the message itself names the flag.
_INNER = re.compile(r"Error parsing \S*__tyro\S*: ")
# What tyro shows under an error: the definition of the flag concerned.
_DETAIL = re.compile(r"\s*Argument helptext:.*", re.DOTALL)


class UsageError(Exception):
    """Arguments that no command takes; the message is one line."""


def parse(kind: Any, arguments: Sequence[str]) -> Any:
    """The value of type `kind` that `arguments` describe; None if they ask for help, which is then printed.

    Raises `UsageError`.
    """
    import tyro

    arguments = _in_todays_words(arguments)
    errors = io.StringIO()
    try:
        # Tyro prints its errors and exits: they are caught to be said in one line.
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                kind, args=list(arguments), prog="neuralmechanics", config=(tyro.conf.CascadeSubcommandArgs,)
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            return None
        raise UsageError(_one_line(errors.getvalue())) from None


def _in_todays_words(arguments: Sequence[str]) -> list[str]:
    """The arguments with today's word for each flag and value that a configuration once called differently."""
    words = list(arguments)
    for position, word in enumerate(words):
        if not word.startswith("--"):
            continue
        flag, equals, value = word[2:].partition("=")
        # `--flag value` and `--flag=value` mean the same.
        following = position + 1 < len(words) and not equals
        ((key, today),) = in_todays_words({flag: words[position + 1] if following else value}).items()
        words[position] = f"--{key}{equals}{today if equals else ''}"
        if following:
            words[position + 1] = today
    return words


def _one_line(boxed: str) -> str:
    """The sentence inside tyro's box, without its frame, title and advice to read the help."""
    lines = [_BOX.sub(" ", line).strip() for line in boxed.splitlines() if not line.startswith("╭")]
    text = " ".join(line for line in lines if line)
    text = _INNER.sub("", _DETAIL.sub("", _FOOTER.sub("", text))).strip()
    nearest = re.search(r"Perhaps you meant:\s*(--\S+)", text)
    if nearest:
        text = text[: text.index("Perhaps you meant:")].strip() + f"; the nearest known option is {nearest[1]}"
    return re.sub(r"\s+", " ", text) + " (see --help)"
