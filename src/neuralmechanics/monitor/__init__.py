"""Attached to a training loop: charges measured, predicted by every law, and recorded."""

from neuralmechanics.monitor.explaining.checkpoint_budget import budget_from_checkpoints
from neuralmechanics.monitor.monitor import Monitor
from neuralmechanics.monitor.reading.run import Run, open_run
from neuralmechanics.monitor.store.layout import NotARunError
from neuralmechanics.monitor.store.lock import RunBusyError
from neuralmechanics.monitor.store.shards.shard import CorruptShardError
from neuralmechanics.monitor.warning import MonitorWarning

__all__ = [
    "CorruptShardError",
    "Monitor",
    "MonitorWarning",
    "NotARunError",
    "Run",
    "RunBusyError",
    "budget_from_checkpoints",
    "open_run",
]
