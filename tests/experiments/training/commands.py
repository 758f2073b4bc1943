"""The command line in a process that is to be killed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import torch

from neuralmechanics.cli import main


def command(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """What the console entry does, with variables of the environment that are set for it alone."""
    torch.set_num_threads(1)
    os.environ |= environment
    sys.exit(main(words))
