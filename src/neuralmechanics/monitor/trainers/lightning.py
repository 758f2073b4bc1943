"""The monitor as a callback of Lightning's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from neuralmechanics.monitor.monitor import Monitor
from neuralmechanics.monitor.options import MonitorOptions
from neuralmechanics.symmetry import Symmetries


class LightningMonitor(Callback):
    """Follows the charges during `Trainer.fit`, and goes on with the laws where a checkpoint left them.

    `model`: the module that the symmetries were found in, by default the whole LightningModule. The other options
    are those of `Monitor`. Lightning keeps the monitor's state inside its own checkpoints.
    """

    def __init__(
        self,
        symmetries: Symmetries,
        store: str | Path | None = None,
        *,
        model: nn.Module | None = None,
        **options: Unpack[MonitorOptions],
    ) -> None:
        self.monitor: Monitor | None = None
        self._symmetries = symmetries
        self._store = store
        self._model = model
        self._options = options
        self._state: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Weights and optimisers are loaded by now: begin here."""
        options, state = MonitorOptions(**self._options), self._state
        options.setdefault("writer", 0)
        if state is not None:
            failed = "failure" in state
            options.setdefault("resume", trainer.global_step if failed else True)
            state = None if failed else state
        model = pl_module if self._model is None else self._model
        self.monitor = Monitor(model, trainer.optimizers, self._symmetries, self._store, **options)
        if state is not None:
            self.monitor.load_state_dict(state)
            self._state = None
        self.monitor.__enter__()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last record."""
        if self.monitor is not None:
            self.monitor.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The training ended in an error: keep what is known."""
        if self.monitor is not None:
            self.monitor.__exit__(type(exception), exception, exception.__traceback__)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; the step that is saved becomes a record."""
        return {} if self.monitor is None else self.monitor.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint when the training begins."""
        self._state = state_dict or None
