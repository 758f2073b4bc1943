"""Curves in Weights & Biases, online or offline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import wandb


class WandbTracker:
    """Metrics under `neuralmechanics/`, over an axis of their own: the loop may count its steps as it likes.

    `run`: by default the one that `wandb.init` began. ValueError where there is none.
    """

    def __init__(self, run: wandb.Run | None = None) -> None:
        if run is None:
            import wandb

            run = wandb.run
        if run is None:
            raise ValueError("no run of wandb has begun: call wandb.init(…) first, or give its run")
        self._run = run
        run.define_metric("neuralmechanics/step", hidden=True)
        run.define_metric("neuralmechanics/*", step_metric="neuralmechanics/step")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One row."""
        row = {f"neuralmechanics/{name}": value for name, value in values.items()}
        self._run.log({"neuralmechanics/step": step} | row)

    def close(self) -> None:
        """The run is its owner's to finish."""
