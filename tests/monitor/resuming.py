"""A training that saves checkpoints, in a process that is killed, and goes on from the last of them."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tests.monitor.conftest import make_training

import neuralmechanics as nm

CHECKPOINTS, WAITS = (7, 13), (10, 15)


def go_on(folder: Path, steps: int, pipe: Connection, waits: bool) -> None:
    """Train up to a number of steps; each is told, and after some the process waits for an answer, if it is to."""
    torch.set_num_threads(1)
    training = make_training()
    optimizer = training.sgd(momentum=0.9, weight_decay=1e-3)
    saved = folder / "checkpoint.pt"
    options = {"every": 4, "residuals": True, "resume": saved.exists()}
    with nm.Monitor(training.model, optimizer, training.symmetries, folder / "run", **options) as monitor:
        start = 0
        if saved.exists():
            state = torch.load(saved, weights_only=True)
            training.model.load_state_dict(state["model"])
            optimizer.load_state_dict(state["optimizer"])
            monitor.load_state_dict(state["monitor"])
            start = state["step"]
        for step in range(start + 1, steps + 1):
            training.run(optimizer, range(step - 1, step))
            if step in CHECKPOINTS:
                parts = {"model": training.model, "optimizer": optimizer, "monitor": monitor}
                torch.save({"step": step} | {name: part.state_dict() for name, part in parts.items()}, saved)
            pipe.send(step)
            if waits and step in WAITS:
                pipe.recv()
