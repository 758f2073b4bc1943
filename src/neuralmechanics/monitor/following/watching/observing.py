"""What is looked at in the loop at records, beside the charges: gradients that are missing, their length, modes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from neuralmechanics.monitor.processes.portion import Portion
from neuralmechanics.monitor.store.shards.shard import Arrays
from neuralmechanics.optimizers import dense
from neuralmechanics.optimizers.marks import slope_marks

MISSING, ZERO, THERE = 0, 1, 2
_FEW = 4096


class Observer:
    """Looks at a model when the step of a record has been made; one pass over the gradients, and nothing is kept."""

    def __init__(self, model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad and p.numel()}
        self._norms = {name: m for name, m in model.named_modules() if getattr(m, "running_mean", None) is not None}
        self._optimizers = list(optimizers)
        self._noted: dict[str, Tensor] = {}
        self._seen: dict[str, Tensor] = {}
        self._modes: list[bool] = []
        self._skips = _Skips()

    def stepped(self, calls: int) -> None:
        """An iteration has ended, after so many calls of the model in all that belong to a gradient scaler."""
        self._skips.stepped(calls)

    def describe(self) -> dict[str, Any]:
        """Names in the order of the arrays, and the dimensions, type and decay of each parameter."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        decay = {id(p): group.get("weight_decay", 0.0) for group in groups for p in group["params"]}
        parameters = [
            {
                "name": name,
                "dimensions": p.dim(),
                "type": str(p.dtype).removeprefix("torch."),
                "weight_decay": float(decay[id(p)]) if id(p) in decay else None,
            }
            for name, p in self._parameters.items()
        ]
        return {"parameters": parameters, "norms": list(self._norms)}

    def note(self, number: int) -> None:
        """Note the gradients of one of several optimisers that has stepped; they may be gone when the others have."""
        moved = {id(p) for group in self._optimizers[number].param_groups for p in group["params"]}
        self._noted |= _lengths({n: p for n, p in self._parameters.items() if id(p) in moved})

    def see(self) -> None:
        """The iteration has ended: note what is there, gradients where they were not noted before. Nothing waits."""
        rest = {n: p for n, p in self._parameters.items() if n not in self._noted}
        self._seen, self._noted = self._noted | _lengths(rest), {}
        self._modes = [module.training for module in self._norms.values()]

    def taken(self) -> Arrays:
        """One row each, of what was noted; empty where nothing was. Waits for the devices."""
        if not self._modes and not self._seen and not self._parameters:
            return {}
        lengths = {name: float(length) for name, length in self._seen.items()}
        states = [MISSING if n not in lengths else THERE if lengths[n] else ZERO for n in self._parameters]
        total = float(np.sqrt(sum(length**2 for length in lengths.values()))) if lengths else np.nan
        return {
            "gradient": np.array([states], dtype=np.int8),
            "training": np.array([self._modes], dtype=np.int8),
            "gradient_norm": np.array([total]),
            "held": np.array([self._held()], dtype=np.int8),
            "skipped": np.array([self._skips.taken()]),
        }

    def _held(self) -> list[bool]:
        """Whether an optimiser holds each parameter now."""
        held = {id(p) for optimizer in self._optimizers for group in optimizer.param_groups for p in group["params"]}
        return [id(p) in held for p in self._parameters.values()]


class Slopes:
    """Whether the gradients that a step left are those that it began with, and whether there are any.

    A step that is not torch's own may take new ones at other parameters (LBFGS, and SAM with a closure), or write into
    them: what lies there then is no gradient of the loss at θ_k.
    """

    def __init__(self, params: Mapping[str, Tensor], portion: Portion) -> None:
        self._params, self._portion = params, portion
        self._marks: list[object] = []
        self._rewritten = False

    def begin(self, *, told: bool) -> None:
        """A step begins; `told`: it is known to leave gradients as they are."""
        self._marks = [] if told else slope_marks(self._params.values())

    def end(self, *, first: bool) -> None:
        """The step has ended, the `first` of its iteration or another."""
        changed = bool(self._marks) and self._marks != slope_marks(self._params.values())
        self._rewritten = changed or (self._rewritten and not first)

    def there(self) -> bool:
        """Whether any that was not rewritten is not zero; later they may have been zeroed unseen, through .data."""
        here = not self._rewritten and any(
            p.grad is not None and any_element(dense(p.grad.detach())) for p in self._params.values()
        )
        return bool(self._portion.largest(torch.tensor(float(here))))


class _Skips:
    """Iterations that a gradient scaler skipped: its optimiser is not called there, so that nothing else tells of them.

    Between two steps lie as many calls of the model as one iteration takes, most often; where twice as many lie there,
    one was skipped. Fewer are an accumulation that ended early.
    """

    def __init__(self) -> None:
        self._last = 0
        self._known: Counter[int] = Counter()
        self._new: Counter[int] = Counter()

    def stepped(self, calls: int) -> None:
        if calls != self._last:  # none of them where there is no scaler
            self._new[calls - self._last] += 1
            self._last = calls

    def taken(self) -> float:
        """How many were skipped since this was asked."""
        self._known += self._new
        usual = max(self._known, key=lambda calls: (self._known[calls], -calls), default=1)
        skipped = sum(count * (calls // usual - 1) for calls, count in self._new.items() if calls > usual)
        self._new = Counter()
        return float(skipped)


def any_element(gradient: Tensor) -> bool:
    """Whether any element is not zero: the first few nearly always tell."""
    few = gradient.view(-1)[:_FEW] if gradient.is_contiguous() else gradient[:0]
    return bool(few.any()) or bool(gradient.any())


def _lengths(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of the gradients that there are, on their devices."""
    gradients = {n: _real(dense(p.grad.detach())) for n, p in parameters.items() if p.grad is not None}
    return {n: torch.linalg.vector_norm(g, dtype=_wide(g)) for n, g in gradients.items() if g.numel()}


def _real(gradient: Tensor) -> Tensor:
    """It, or its real and imaginary parts, which have the same length."""
    return torch.view_as_real(gradient.resolve_conj()) if gradient.is_complex() else gradient


def _wide(gradient: Tensor) -> torch.dtype:
    return torch.float64 if gradient.dtype == torch.float64 else torch.float32
