"""Data sets, their batches and their augmentation."""

from neuralmechanics.experiments.data.batches import Batches, Position, advance
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.data.library import data_names, load_data

__all__ = ["Batches", "DataSet", "Position", "Split", "advance", "data_names", "load_data"]
