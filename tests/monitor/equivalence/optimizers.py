"""The rows of the table: every optimiser, made of the parameters as the situation groups them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from tests.monitor.equivalence.others import Lion, PaperSgd, Sam, ScheduleFree
from torch import Tensor
from torch.optim import Optimizer

Groups = list[dict[str, Any]]
Make = Callable[[Groups], Optimizer]
optim = torch.optim
_BALL: dict[str, Any] = {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}
_ADAM: dict[str, Any] = {"lr": 2e-3, "weight_decay": 1e-2}


def _sgd(**options: Any) -> Make:
    return partial(optim.SGD, **{"lr": 0.05, **options})


ROWS: Mapping[str, Make] = {
    "SGD": _sgd(weight_decay=1e-2),
    "SGD foreach": _sgd(weight_decay=1e-2, foreach=True),
    "SGD maximize": _sgd(lr=1e-3, maximize=True),
    "SGD tensor rate": lambda groups: optim.SGD(groups, lr=torch.tensor(0.05), momentum=0.5),
    "heavy ball": _sgd(**_BALL),
    "heavy ball dampened": _sgd(**_BALL, dampening=0.3),
    "heavy ball fused": _sgd(**_BALL, fused=True),
    "heavy ball strong": _sgd(lr=0.5, momentum=0.2, weight_decay=2.6),
    "Nesterov": _sgd(**_BALL, nesterov=True),
    "Nesterov foreach": _sgd(lr=0.05, momentum=0.9, nesterov=True, foreach=True),
    "the paper's": lambda groups: PaperSgd(groups, **_BALL),
    "the paper's plain": lambda groups: PaperSgd(groups, lr=0.05, weight_decay=1e-2),
    "Adam": partial(optim.Adam, **_ADAM),
    "Adam foreach": partial(optim.Adam, **_ADAM, foreach=True),
    "Adam fused": partial(optim.Adam, **_ADAM, fused=True),
    "Adam amsgrad": partial(optim.Adam, **_ADAM, amsgrad=True),
    "Adam tensor rate": lambda groups: optim.Adam(groups, lr=torch.tensor(2e-3), foreach=False),
    "AdamW": partial(optim.AdamW, **_ADAM),
    "AdamW maximize": partial(optim.AdamW, lr=1e-3, weight_decay=1e-2, maximize=True),
    "AdamW amsgrad": partial(optim.AdamW, **_ADAM, amsgrad=True),
    "AdamW large eps": partial(optim.AdamW, **_ADAM, eps=1e-2),
    "Adamax": partial(optim.Adamax, **_ADAM),
    "NAdam": partial(optim.NAdam, **_ADAM),
    "NAdam decoupled": partial(optim.NAdam, **_ADAM, decoupled_weight_decay=True),
    "RAdam": partial(optim.RAdam, **_ADAM),
    "RAdam decoupled": partial(optim.RAdam, **_ADAM, decoupled_weight_decay=True),
    "RMSprop": partial(optim.RMSprop, **_ADAM),
    "RMSprop momentum": partial(optim.RMSprop, **_ADAM, momentum=0.9),
    "RMSprop centered": partial(optim.RMSprop, **_ADAM, centered=True),
    "Adagrad": partial(optim.Adagrad, lr=1e-2, weight_decay=1e-2),
    "Adagrad decaying": partial(optim.Adagrad, lr=1e-2, lr_decay=0.1),
    "Adadelta": partial(optim.Adadelta, lr=0.5, weight_decay=1e-2),
    "Adafactor": partial(optim.Adafactor, lr=1e-2),
    "ASGD": partial(optim.ASGD, lr=0.05, t0=10),
    "Rprop": partial(optim.Rprop, lr=1e-3),
    "LBFGS": partial(optim.LBFGS, lr=0.1, max_iter=3),
    "SparseAdam": partial(optim.SparseAdam, lr=2e-3),
    "Muon": partial(optim.Muon, lr=1e-3),
    "Lion": partial(Lion, lr=1e-3, decay=1e-2),
    "SAM": lambda groups: Sam(groups, partial(optim.SGD, **_BALL)),
    "schedule-free": ScheduleFree,
}

# Steps that call the loss themselves; an optimiser of one group; of matrices alone; of sparse gradients.
CLOSURES = {"LBFGS", "SAM"}
ONE_GROUP = {"LBFGS"}
MATRICES = {"Muon"}
SPARSE = {"SparseAdam"}
# SGD by its behaviour: the closed laws are followed for it.
SGD = {name for name in ROWS if name.startswith(("SGD", "heavy ball", "Nesterov", "the paper's"))}


def beside(row: str) -> Make:
    """Another optimiser for the parameters that a row does not take."""
    return _sgd(lr=0.02, momentum=0.5) if row != "heavy ball" else _sgd(**_BALL)


def owned(row: str, named: Mapping[str, Tensor]) -> list[str]:
    """The parameters that a row can take."""
    return [name for name, p in named.items() if row not in MATRICES or p.ndim == 2]
