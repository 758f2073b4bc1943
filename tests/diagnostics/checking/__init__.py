"""Checks, assertions and probes of symmetries; the networks of ``tests/symmetry`` are used as they are."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
