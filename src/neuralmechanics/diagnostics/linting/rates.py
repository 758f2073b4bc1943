"""What an optimiser, or the description of one, does to each parameter: learning rate, decay, momentum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.optimizers.hyperparameters.setting import follows_sgd, read_setting
from neuralmechanics.optimizers.hyperparameters.sgd import Sgd

__all__ = ["Rates", "rates_of"]

_NUMBERS = ("lr", "learning_rate", "weight_decay", "momentum", "dampening", "betas", "eps", "epsilon", "smoothing")
_SWITCHES = ("nesterov", "maximize", "amsgrad", "decoupled", "decoupled_weight_decay")
_KEYS = frozenset(("params", "name", *_NUMBERS, *_SWITCHES))
_DECOUPLED = ("adamw", "lamb")


@dataclass(frozen=True)
class Rates(Sgd[float]):
    """The hyperparameters of one parameter; ``adaptive`` where each element has a step size of its own."""

    adaptive: bool = False

    @property
    def rotation(self) -> float | None:
        """The angle by which a scale-free weight turns at each step in equilibrium; None where there is no such state.

        √(2hλ/(1+β)) for SGD, √(2ηλ(1-β₁)/(1+β₁)) for decoupled adaptive steps. Source: theory, section 3.5.
        """
        # Coupled decay goes through the preconditioner, and what comes out is no multiple of θ.
        if self.weight_decay <= 0 or (self.adaptive and not self.decoupled):
            return None
        step = self.learning_rate * (1 - self.momentum) if self.adaptive else self.time_step
        return math.sqrt(2 * step * self.weight_decay / (1 + self.momentum))


def rates_of(model: nn.Module, optimizer: Any) -> dict[str, Rates]:
    """Rates by parameter name, parameters that no group holds left out.

    ``optimizer`` is a torch optimiser over the model's parameters, a dataclass with its hyperparameters, or a mapping:
    either hyperparameters alone (``{"name": "sgd", "lr": 0.1, "weight_decay": 1e-4}``), or with ``param_groups``, each
    with ``params`` as name patterns (``["*.weight"]``; the first group that matches holds the parameter). Raises
    ``TypeError`` or ``ValueError`` for anything else.
    """
    names = [name for name, _ in model.named_parameters()]
    if isinstance(optimizer, Optimizer):
        return _from_optimizer(model, optimizer)
    if is_dataclass(optimizer) and not isinstance(optimizer, type):
        optimizer = asdict(optimizer)
    if not isinstance(optimizer, Mapping):
        raise TypeError(
            f"optimizer is a {type(optimizer).__name__}; give a torch optimizer, or a mapping such as "
            "{'name': 'sgd', 'lr': 0.1, 'weight_decay': 1e-4}"
        )
    common = {key: value for key, value in optimizer.items() if key != "param_groups"}
    groups = optimizer.get("param_groups", [{"params": ["*"]}])
    return _from_groups(names, [common | dict(group) for group in groups])


def _from_optimizer(model: nn.Module, optimizer: Optimizer) -> dict[str, Rates]:
    known = {id(p): name for name, p in model.named_parameters()}
    out: dict[str, Rates] = {}
    for group in optimizer.param_groups:
        setting = read_setting(optimizer, group)
        sgd = follows_sgd(optimizer)
        first = _first_average(group)
        rates = Rates(
            learning_rate=_number(setting.learning_rate),
            weight_decay=_number(setting.weight_decay),
            momentum=_number(setting.momentum) if sgd else first,
            dampening=_number(setting.dampening) if sgd else 0.0,
            decoupled=bool(setting.decoupled),
            adaptive=not sgd,
        )
        out |= {known[id(p)]: rates for p in group["params"] if id(p) in known}
    if not out:
        raise ValueError("the optimizer holds none of the model's parameters; build it over model.parameters()")
    return out


def _from_groups(names: Iterable[str], groups: Iterable[Mapping[str, Any]]) -> dict[str, Rates]:
    out: dict[str, Rates] = {}
    for group in groups:
        unknown = sorted(set(group) - _KEYS)
        if unknown:
            raise ValueError(f"optimizer has no entry {unknown[0]!r}; entries are {', '.join(sorted(_KEYS))}")
        kind = str(group.get("name", "sgd")).lower()
        rates = Rates(
            learning_rate=_number(group.get("lr", group.get("learning_rate", math.nan))),
            weight_decay=_number(group.get("weight_decay", 0.0)),
            momentum=_number(group.get("momentum", 0.0)) if kind == "sgd" else _first_average(group),
            dampening=_number(group.get("dampening", 0.0)) if kind == "sgd" else 0.0,
            decoupled=bool(group.get("decoupled_weight_decay", group.get("decoupled", kind in _DECOUPLED))),
            adaptive=kind != "sgd",
        )
        patterns = group.get("params", ["*"])
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        for name in names:
            if name not in out and any(fnmatchcase(name, pattern) for pattern in patterns):
                out[name] = rates
    return out


def _first_average(group: Mapping[str, Any]) -> float:
    betas = group.get("betas")
    return _number(betas[0]) if betas else 0.0


def _number(value: Any) -> float:
    return float(value.detach().cpu()) if isinstance(value, Tensor) else float(value)
