"""What a configuration called differently before: accepted with a warning that names the new word and the line."""

from __future__ import annotations

import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Origin", "in_todays_words", "todays_word"]

# A key is known by the parts that it ends in: the same setting stands at the top, under `base`, and under `grid`.
_KEYS = {("optimizer", "eps"): "epsilon"}
_VALUES = {("loss",): {"cross_entropy": "cross-entropy"}}
# A line is looked for by parsing what comes before it: so often, in files that a person may have written.
_MOST_TRIALS, _LONGEST_TEXT = 200, 1 << 15


@dataclass(frozen=True)
class Origin:
    """The file that a configuration was read from: its name and its text."""

    name: str
    text: str

    def line(self, path: tuple[str, ...], word: str) -> int | None:
        """The line on which a word stands at a path of keys, counted from 1; None where that cannot be told.

        It is the first line with the word that completes a text in which the path leads to the word.

        >>> Origin("", "# eps\\n[optimizer]\\nname = 'adam'\\neps = 0.1\\n").line(("optimizer", "eps"), "eps")
        4
        """
        lines = self.text.splitlines(keepends=True) if len(self.text) <= _LONGEST_TEXT else []
        content: dict[str, Any] | None = {}
        known = trials = 0
        for number, line in enumerate(lines, 1):
            if word not in line or line.lstrip().startswith("#"):
                continue
            # Of a list over several lines, the text is complete where the list ends.
            while known < number or content is None:
                known, trials = max(known + 1, number), trials + 1
                if known > len(lines) or trials > _MOST_TRIALS:
                    return None
                content = _parsed(lines[:known])
            if _leads_to(content, path, word):
                return number
        return None


def in_todays_words(
    values: Mapping[str, Any], origin: Origin | None = None, path: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The same configuration with today's word for each setting, and a FutureWarning for each former one.

    Raises ValueError where a table has both words for one setting.

    >>> in_todays_words({"optimizer": {"name": "adam", "epsilon": 1e-6}})
    {'optimizer': {'name': 'adam', 'epsilon': 1e-06}}
    """
    found: dict[str, Any] = {}
    for former, value in values.items():
        here = (*path, former)
        key = _todays_key(here)
        if key != former:
            _warn(".".join(here), ".".join((*path, key)), here, former.rpartition(".")[2], origin)
            # Which of the two was meant cannot be told, equal or not.
            if key in values:
                raise ValueError(f"{former!r} and {key!r} are two words for one setting; give {key!r} alone")
        if isinstance(value, Mapping):
            found[key] = in_todays_words(value, origin, here)
        else:
            found[key] = todays_word(value, here, origin)
    return found


def todays_word(value: Any, path: tuple[str, ...], origin: Origin | None = None) -> Any:
    """The value of a setting, or each of a list of values, in today's word.

    >>> todays_word("mse", ("loss",))
    'mse'
    """
    if isinstance(value, list | tuple):
        return [todays_word(item, path, origin) for item in value]
    for last, words in _VALUES.items():
        if isinstance(value, str) and value in words and _parts(path)[-len(last) :] == last:
            setting = ".".join(path)
            _warn(f"{setting} = {value!r}", f"{setting} = {words[value]!r}", path, value, origin)
            return words[value]
    return value


def _todays_key(path: tuple[str, ...]) -> str:
    parts = _parts(path)
    for former, word in _KEYS.items():
        if parts[-len(former) :] == former:
            return path[-1].removesuffix(former[-1]) + word
    return path[-1]


def _parts(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path with quoted keys such as "optimizer.eps" taken apart."""
    return tuple(part for key in path for part in key.split("."))


def _warn(former: str, today: str, path: tuple[str, ...], word: str, origin: Origin | None) -> None:
    line = None if origin is None else origin.line(path, word)
    where = "" if origin is None else f"{origin.name}: " if line is None else f"{origin.name}, line {line}: "
    message = f"{where}{former} is now written {today}; the former word will go"
    warnings.warn(message, FutureWarning, stacklevel=2)


def _parsed(lines: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("".join(lines))
    except tomllib.TOMLDecodeError:
        return None


def _leads_to(content: Any, path: tuple[str, ...], word: str) -> bool:
    for key in path:
        if not isinstance(content, Mapping) or key not in content:
            return False
        content = content[key]
    return path[-1].endswith(word) or content == word or (isinstance(content, list) and word in content)
