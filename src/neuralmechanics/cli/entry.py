"""Where the process begins and ends: exit status 0, or one line on stderr and 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from neuralmechanics.cli.commands import commands, run
from neuralmechanics.cli.parsing import UsageError, parse

_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: the process's own) and return its exit status.

    Whatever is wrong with the input is one line on stderr and status 2. `NEURALMECHANICS_DEBUG=1` shows the traceback
    instead.
    """
    debug = bool(os.environ.get("NEURALMECHANICS_DEBUG"))
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        command = parse(commands(words), words)
        if command is not None:
            run(command)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter must not complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except UsageError as error:
        return _fail(str(error))
    except (ValueError, TypeError, OSError, ArithmeticError, ImportError, NotImplementedError) as error:
        if debug:
            raise
        return _fail(str(error) or type(error).__name__)
    return 0


def _fail(message: str, status: int = 2) -> int:
    print(f"neuralmechanics: error: {' '.join(message.split())}", file=sys.stderr)
    return status
