"""Where the process begins and ends: exit status 0 (1: what was looked at has faults), one line and 2, or 130."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from neuralmechanics.cli.terminal.interrupts import Interrupts, no_interrupt_lost
from neuralmechanics.cli.terminal.text import one_line, plain_output

_INTERRUPTED = 130
_LONGEST_MESSAGE = 1500


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments` (default: the process's own) and return its exit status.

    Whatever is wrong with the input is one line on stderr and status 2. `NEURALMECHANICS_DEBUG=1` shows the traceback
    instead.
    """
    debug = bool(os.environ.get("NEURALMECHANICS_DEBUG"))
    try:
        with no_interrupt_lost() as interrupts, plain_output(sys.stdout):
            return _run(list(sys.argv[1:] if arguments is None else arguments), interrupts, debug=debug)
    except KeyboardInterrupt:
        return _fail("interrupted", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; the interpreter must not complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(str(error))


def _run(words: list[str], interrupts: Interrupts, *, debug: bool) -> int:
    try:
        # Loaded here, so that Ctrl-C while they load ends as it does later.
        from neuralmechanics.cli.commands import commands, run
        from neuralmechanics.cli.terminal.parsing import UsageError, parse

        if interrupts.came:
            raise KeyboardInterrupt  # what was loading took it for a failure of its own, and went on
        try:
            command = parse(commands(words), words)
            return 0 if command is None else run(command)
        except UsageError as error:
            return _fail(str(error))
    except BrokenPipeError:
        raise
    except Exception as error:
        if interrupts.came:
            raise KeyboardInterrupt from error  # a C extension that is interrupted while it loads says ImportError
        if debug:
            raise
        return _fail(_told(error))


def _told(error: Exception) -> str:
    """An error in words; one that nothing here raises on purpose is said to be unexpected."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{error.strerror}: make room, or write elsewhere, and give the command again: finished runs are kept"
    if isinstance(error, (ValueError, TypeError, OSError, ArithmeticError, ImportError, NotImplementedError)):
        return str(error) or type(error).__name__
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
        return f"not enough memory for this; make it smaller ({one_line(str(error))[:200]})"
    where = "NEURALMECHANICS_DEBUG=1 shows where"
    return f"{type(error).__name__}: {str(error) or 'no more is known'} (unexpected; {where})"


def _fail(message: str, status: int = 2) -> int:
    line = one_line(message)
    if len(line) > _LONGEST_MESSAGE:
        line = f"{line[: _LONGEST_MESSAGE // 2]} … {line[-_LONGEST_MESSAGE // 2 :]}"
    print(f"neuralmechanics: error: {line}", file=sys.stderr)
    return status
