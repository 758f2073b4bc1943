"""Many trainings: a grid expanded, run on Ray or in processes, gathered in one table."""

from neuralmechanics.experiments.sweep.gather import gather, gather_errors
from neuralmechanics.experiments.sweep.grid import Point, Sweep, expand, load_sweep
from neuralmechanics.experiments.sweep.running import run_sweep

__all__ = ["Point", "Sweep", "expand", "gather", "gather_errors", "load_sweep", "run_sweep"]
