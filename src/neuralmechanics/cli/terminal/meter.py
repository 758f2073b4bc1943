"""A progress bar for the terminal; elsewhere (a pipe, a log) a silent one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from neuralmechanics.cli.terminal.text import one_line
from neuralmechanics.progress import Meter, SilentMeter

# Redrawing more often than this only costs time.
_SECONDS = 0.1


def terminal_meter() -> Meter:
    """A `RichMeter` on stderr if that is a terminal, else a `SilentMeter`."""
    from rich.console import Console

    console = Console(stderr=True)
    return RichMeter(console) if console.is_terminal else SilentMeter()


@contextmanager
def terminal_status(title: str) -> Iterator[Callable[[str], None]]:
    """A function that shows a text beside a spinner while the block runs, or nothing where no terminal is."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status(Text(one_line(title))) as status:
        yield lambda text: status.update(Text(one_line(text)))


class RichMeter:
    """Bar, count, rate, time left and the last scalars of one piece of work."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._progress: Any = None
        self._task: Any = None

    def start(self, total: int, title: str) -> None:
        """Show an empty bar of `total` steps."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scalars]}"),
            console=self._console,
            refresh_per_second=1 / _SECONDS,
        )
        self._task = self._progress.add_task(one_line(title), total=total, scalars="")
        self._progress.start()

    def advance(self, steps: int, **scalars: float) -> None:
        """Move the bar on and show the scalars."""
        text = "  ".join(f"{name} {value:.4g}" for name, value in scalars.items())
        self._progress.update(self._task, advance=steps, scalars=text)

    def finish(self) -> None:
        """Leave the bar as it stands."""
        self._progress.stop()
