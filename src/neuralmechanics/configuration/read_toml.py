"""TOML files that people write: bounded, and every fault said in one line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from neuralmechanics.configuration.former_names import Origin, in_todays_words
from neuralmechanics.files import read_regular

__all__ = ["read_toml"]

# A configuration is written by hand; a file beyond this is something else.
_MOST_BYTES = 1 << 20
# The parser's time grows with the square of a key's parts; no key here has more than three.
_DEEPEST = 32
_WORDS = re.compile(r"[^\s=,\[\]{}#]+")


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file, former spellings replaced; `ValueError` in one line if there is none."""
    try:
        text = read_regular(Path(path), _MOST_BYTES).decode("utf-8")
        if any(word.count(".") > _DEEPEST for word in _WORDS.findall(text.replace(" ", "").replace("\t", ""))):
            raise ValueError(f"{str(path)!r} is not a configuration: it has a key of more than {_DEEPEST} parts")
        return in_todays_words(tomllib.loads(text), Origin(str(path), text))
    except FileNotFoundError:
        raise ValueError(f"no configuration file {str(path)!r}") from None
    except OSError as error:
        raise ValueError(f"cannot read configuration file {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{str(path)!r} is not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError(f"{str(path)!r} is not a configuration: its TOML is nested too deeply") from None
