"""The command line: it reads what is asked, calls the floor that does it, and prints what comes back."""

from neuralmechanics.cli.entry import main

__all__ = ["main"]
