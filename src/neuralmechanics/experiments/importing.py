"""What `package.module:name` names, imported with the current directory on the path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["named_function", "told"]


def named_function(target: str, what: str) -> Callable[..., Any]:
    """The callable that `package.module:name` names; `what` it is to be (model, data, loss) for the error's line.

    Raises `ValueError` in one line where the module cannot be imported, or has nothing callable of that name.
    """
    module_name, _, name = target.partition(":")
    here = str(Path.cwd())
    # A module beside the configuration is found as `python -m` would find it.
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's own code raises
        raise ValueError(f"cannot import {module_name!r} of {what} {target!r}: {told(error)}") from None
    finally:
        sys.path.remove(here)
    found: Callable[..., Any] | None = getattr(module, name, None)
    if found is None or not callable(found):
        raise ValueError(f"module {module_name!r} of {what} {target!r} has no callable {name!r}")
    return found


def told(error: BaseException) -> str:
    """The first line of an error, with its kind where the line alone says little."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else ""
    if isinstance(error, RuntimeError | ValueError | TypeError | ImportError) and line:
        return line
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
