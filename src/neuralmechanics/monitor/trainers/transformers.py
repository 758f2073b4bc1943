"""The monitor as a callback of the Trainer of Transformers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from neuralmechanics.files import read_regular
from neuralmechanics.monitor.monitor import Monitor
from neuralmechanics.monitor.options import MonitorOptions
from neuralmechanics.monitor.store.atomic import publish
from neuralmechanics.symmetry import Symmetries

STATE_FILE = "neuralmechanics.pt"
_MOST_BYTES = 1 << 32


class TransformersMonitor(TrainerCallback):
    """Follows the charges during `Trainer.train`, and goes on with the laws where a checkpoint left them.

    `model`: the module that the symmetries were found in, by default the trainer's model. The other options are those
    of `Monitor`. The monitor's state lies beside the weights in each checkpoint; `resume_from` names the checkpoint
    where it is not `checkpoint-<step>` in the trainer's output folder. Without a state the laws go on from the record
    of that step, else they begin anew there. What the trainer logs is kept with the records.
    """

    def __init__(
        self,
        symmetries: Symmetries,
        store: str | Path | None = None,
        *,
        model: nn.Module | None = None,
        resume_from: str | Path | None = None,
        **options: Unpack[MonitorOptions],
    ) -> None:
        self.monitor: Monitor | None = None
        self._symmetries = symmetries
        self._store = store
        self._model = model
        self._resume_from = resume_from
        self._options = options

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Weights and optimisers are loaded by now: begin here."""
        self.close()
        options, saved = MonitorOptions(**self._options), None
        options.setdefault("writer", 0)
        if state.global_step > 0:
            saved = self._saved(args, state)
            saved = None if saved is None or "failure" in saved else saved
            options.setdefault("resume", state.global_step if saved is None else True)
        model = given["model"] if self._model is None else self._model
        self.monitor = Monitor(model, given["optimizer"], self._symmetries, self._store, **options)
        if saved is not None:
            self.monitor.load_state_dict(saved)
        self.monitor.__enter__()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Put the monitor's state beside the weights; the step that is saved becomes a record."""
        if self.monitor is None:
            return
        content, buffer = self.monitor.state_dict(), io.BytesIO()
        folder = _checkpoint(args, state)
        if state.is_world_process_zero and folder.is_dir():
            torch.save(content, buffer)
            publish(folder / STATE_FILE, buffer.getvalue())

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **given: Any,
    ) -> None:
        """Keep the trainer's own numbers with the next record."""
        if self.monitor is not None:
            self.monitor.log(**{name: value for name, value in (logs or {}).items() if isinstance(value, (int, float))})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any) -> None:
        """Write the last record."""
        self.close()

    def close(self) -> None:
        """Write the last record. To be called after a training that ended in an error: the trainer does not tell."""
        if self.monitor is not None:
            self.monitor.close()

    def _saved(self, args: TrainingArguments, state: TrainerState) -> dict[str, Any] | None:
        """The state in the checkpoint that is resumed from; None where it holds none."""
        folder = _checkpoint(args, state) if self._resume_from is None else Path(self._resume_from)
        if not (folder / STATE_FILE).exists():
            return None
        content = read_regular(folder / STATE_FILE, _MOST_BYTES)
        saved: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        return saved


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
