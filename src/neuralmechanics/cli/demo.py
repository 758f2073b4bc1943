"""`demo`: the whole path on real data in a minute."""

from __future__ import annotations

from dataclasses import dataclass

from neuralmechanics.cli.runs import print_errors, write_pictures
from neuralmechanics.cli.terminal.meter import terminal_meter


@dataclass(frozen=True)
class Demo:
    """Train two networks on handwritten digits, follow every charge, and compare it with every law."""

    out: str = "runs/demo"
    """folder of the demo; an earlier demo there is replaced if nothing in it was changed"""


def run_demo(command: Demo) -> None:
    """Print what was found, how well every law predicts it, and every file that was written."""
    from neuralmechanics.experiments.demo import run_demo_trainings
    from neuralmechanics.experiments.replacing import seal
    from neuralmechanics.monitor import open_run

    written = []
    for result in run_demo_trainings(command.out, terminal_meter()):
        assert result.out is not None
        run = open_run(result.out)
        scores = result.performance
        print(f"\n{result.out.name}: {result.steps} steps in {result.seconds:.1f} s, test accuracy {scores.top1:.1%}\n")
        print(run.symmetries)
        print("\nLargest error of each law, relative to the initial charge:\n")
        print_errors(run)
        written += [result.out, *write_pictures(run, result.out)]
        # Sealed last: until then an interrupted demo is not replaced by the next.
        seal(result.out)
    print("\nWritten:")
    for path in written:
        print(f"  {path}")
