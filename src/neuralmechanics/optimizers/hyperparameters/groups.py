"""The group of every parameter and what it holds, as they stand now."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from neuralmechanics.optimizers.hyperparameters.setting import HYPERPARAMETERS, Setting, read_setting

__all__ = ["Groups"]


class Groups:
    """Reads an optimiser's `param_groups`, and makes new settings of them only where their numbers have changed."""

    def __init__(self, optimizer: Optimizer, params: Mapping[str, Tensor]) -> None:
        self._optimizer = optimizer
        self._params = params
        self._index: dict[int, int] = {}
        self._settings: list[Setting] = []
        self._numbers: tuple[bool, list[tuple[Any, ...]]] | None = None
        self._held: list[list[Tensor]] = []
        self._named: tuple[list[Setting], dict[str, Setting]] | None = None

    def find(self) -> None:
        """Look anew where every parameter is: groups may be regrouped without a change of their number."""
        held = [group["params"] for group in self._optimizer.param_groups]
        if len(held) == len(self._held) and all(map(_same, held, self._held)):
            return
        self._held, self._named = [list(params) for params in held], None
        self._index = {
            id(parameter): index
            for index, group in enumerate(self._optimizer.param_groups)
            for parameter in group["params"]
        }

    def shared(self) -> set[str]:
        """The parameters that a step moves more than once: held twice, or in the same memory as another."""
        self.find()
        held = [parameter for params in self._held for parameter in params]
        times = Counter(map(id, held))
        places = Counter(_place(parameter) for parameter in {id(p): p for p in held}.values())
        return {
            name
            for name, p in self._params.items()
            if times[id(p)] > 1 or (id(p) in times and (place := _place(p)) is not None and places[place] > 1)
        }

    def of(self, parameter: Tensor) -> int | None:
        """The number of a parameter's group as it was found last; None where the optimiser does not hold it."""
        return self._index.get(id(parameter))

    def group(self, parameter: Tensor) -> Mapping[str, Any]:
        """The group of a parameter that the optimiser holds."""
        group: Mapping[str, Any] = self._optimizer.param_groups[self._index[id(parameter)]]
        return group

    def settings(self, *, sgd: bool) -> list[Setting]:
        """One a group: the object of the last call as long as its numbers, all on the host, are the same.

        `sgd`: whether the optimiser is read as SGD.
        """
        groups = self._optimizer.param_groups
        now = sgd, [tuple(map(group.get, HYPERPARAMETERS)) for group in groups]
        # A tensor that a schedule writes into is the same object with another number, which is not read here.
        plain = not any(isinstance(value, Tensor) for numbers in now[1] for value in numbers)
        if not plain or now != self._numbers:
            self._numbers = now if plain else None
            self._settings = [read_setting(self._optimizer, group, sgd=sgd) for group in groups]
        return self._settings

    def by_name(self, *, sgd: bool) -> Mapping[str, Setting]:
        """The setting of every parameter that the optimiser holds now; the very same object as long as they are."""
        self.find()
        settings, known = self.settings(sgd=sgd), self._named
        if known is None or known[0] is not settings:
            each = {name: settings[index] for name, p in self._params.items() if (index := self.of(p)) is not None}
            self._named = known = settings, each
        return known[1]


def _place(parameter: Tensor) -> tuple[torch.device, int] | None:
    """Where a parameter's numbers begin; None where it holds none itself."""
    if type(parameter) not in (Tensor, Parameter) or parameter.layout != torch.strided or not parameter.numel():
        return None
    place = parameter.data_ptr()
    return (parameter.device, place) if place else None


def _same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether two lists are of the very same tensors."""
    return len(some) == len(others) and all(map(operator.is_, some, others))
