"""Records shown as curves where a project keeps its others: TensorBoard, Weights & Biases, MLflow."""

from neuralmechanics.monitor.trackers.mlflow_tracker import MlflowTracker
from neuralmechanics.monitor.trackers.protocol import Tracker
from neuralmechanics.monitor.trackers.tensorboard_tracker import TensorBoardTracker
from neuralmechanics.monitor.trackers.wandb_tracker import WandbTracker

__all__ = ["MlflowTracker", "TensorBoardTracker", "Tracker", "WandbTracker"]
