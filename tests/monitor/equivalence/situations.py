"""The columns of the table: what loops do around a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from tests.monitor.equivalence.optimizers import CLOSURES, MATRICES, ONE_GROUP, ROWS, SPARSE, Groups, beside, owned
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

STEPS, SAMPLES, INPUTS, CLASSES = 22, 32, 5, 4
COLUMNS = (
    "plain", "accumulation", "clip by norm", "clip by value", "autocast", "compiled model", "compiled step", "schedule",
    "groups", "uneven rates", "two optimisers", "subclass", "noisy subclass", "hook before", "hook after",
)  # fmt: skip
# Loops in which a charge's gradient no longer obeys its symmetry, and loops in which something else writes.
BREAKING = {"clip by value"}
WRITING = {"hook before", "hook after"}
# Loops in which the exact law needs more measured than the symmetry says, and says so.
MEASURED = {"uneven rates"}


def network() -> nn.Sequential:
    """Translations, rescalings, and scales of a norm whose eps does not count."""
    return nn.Sequential(
        nn.Linear(INPUTS, 7), nn.ReLU(), nn.Linear(7, 6), nn.BatchNorm1d(6, eps=1e-30), nn.ReLU(), nn.Linear(6, CLASSES)
    )


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]).to(torch.promote_types(batch[0].dtype, torch.float32)), batch[1])


def charges(params: dict[str, Tensor]) -> Tensor:
    """Every charge of the network from its definition, in double precision, in the order of `labels`."""
    p = {name: value.detach().double() for name, value in params.items()}
    square = {name: value.square() for name, value in p.items()}
    return torch.cat(
        [
            p["2.bias"],
            p["5.weight"].sum(0),
            p["5.bias"].sum()[None],
            square["0.weight"].sum(1) + square["0.bias"] - square["2.weight"].sum(0),
            square["2.weight"].sum(1) + square["2.bias"],
            square["3.weight"] + square["3.bias"] - square["5.weight"].sum(0),
        ]
    )


LABELS = (
    *(f"2.bias[{k}]" for k in range(6)),
    *(f"5.weight[:, {k}]" for k in range(6)),
    "5.bias",
    *(f"0.weight[{k}]" for k in range(7)),
    *(f"2.weight[{k}]" for k in range(6)),
    *(f"3.weight[{k}]" for k in range(6)),
)


def applies(row: str, column: str) -> bool:
    """Whether people can do that with this optimiser."""
    if row in ONE_GROUP and column in ("groups", "uneven rates", "compiled step"):
        return False
    if row in CLOSURES | SPARSE and column == "compiled step":
        return False
    return not (row in MATRICES and column in ("groups", "uneven rates"))


@dataclass
class Loop:
    """One training of a row under a column, made anew the same each time."""

    row: str
    column: str
    device: str = "cpu"
    model: nn.Sequential = field(init=False)
    optimizers: list[Optimizer] = field(init=False)

    def __post_init__(self) -> None:
        torch.manual_seed(3)
        dtype = torch.float32 if self.column == "autocast" else torch.float64
        self.model = network().to(self.device, dtype)
        with torch.no_grad():
            self.model[5].weight.mul_(2)
        self.inputs = torch.randn(SAMPLES, INPUTS, dtype=dtype).to(self.device)
        self.targets = torch.randint(CLASSES, (SAMPLES,)).to(self.device)
        self.optimizers = self._optimizers()
        self._call: Callable[..., Any] = self.model
        if self.column == "compiled model":
            self._call = torch.compile(self.model, backend="aot_eager")
        if self.column == "hook before":
            self.optimizers[0].register_step_post_hook(self._clamp)

    @property
    def params(self) -> dict[str, Tensor]:
        return dict(self.model.named_parameters())

    def steps(self) -> Iterator[int]:
        """Yields after every iteration, whose number it is."""
        if self.column == "hook after":
            self.optimizers[0].register_step_post_hook(self._clamp)
        schedules = [CosineAnnealingLR(o, STEPS) for o in self.optimizers] if self.column == "schedule" else []
        moves: list[Callable[..., Any]] = [o.step for o in self.optimizers]
        if self.column == "compiled step":
            moves = [torch.compile(lambda o=o: o.step(), backend="eager") for o in self.optimizers]
        for step in range(1, STEPS + 1):
            if self.row in CLOSURES:
                moves[0](self._gradients)
                for move in moves[1:]:
                    move()
            else:
                self._gradients()
                for move in moves:
                    move()
            for schedule in schedules:
                schedule.step()
            yield step

    def state(self) -> list[Tensor]:
        """Everything that a training has."""
        tensors = [*self.model.state_dict().values(), *(p.grad for p in self.model.parameters() if p.grad is not None)]
        for optimizer in self.optimizers:
            for each in optimizer.state.values():
                tensors += [value for value in each.values() if isinstance(value, Tensor)]
        random = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if self.device == "cuda" else [])]
        return [*(t.to_dense() for t in tensors), *random]

    def _gradients(self) -> Tensor:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        chosen = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(len(self.targets)))
        parts = chosen.split(SAMPLES // 2) if self.column == "accumulation" else [chosen]
        total = torch.zeros((), device=self.device)
        for part in parts:
            with torch.autocast(self.device, torch.bfloat16, enabled=self.column == "autocast"):
                loss = loss_fn(self._call, (self.inputs[part], self.targets[part])) / len(parts)
            loss.backward()
            total = total + loss.detach()
        if self.column == "clip by norm":
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.05)
        if self.column == "clip by value":
            nn.utils.clip_grad_value_(self.model.parameters(), 0.02)
        if self.row in SPARSE:
            for p in self.model.parameters():
                p.grad = p.grad.to_sparse()  # type: ignore[union-attr]
        return total

    def _optimizers(self) -> list[Optimizer]:
        named = self.params
        mine = owned(self.row, named)
        if self.column == "two optimisers":
            mine = [name for name in mine if named[name].ndim == 2]
        make = self._made(self.row)
        found = [make(self._groups([named[name] for name in mine]))]
        if others := [p for name, p in named.items() if name not in mine]:
            found.append(beside(self.row)([{"params": others}]))
        return found

    def _groups(self, params: list[Tensor]) -> Groups:
        if self.column not in ("groups", "uneven rates"):
            return [{"params": params}]
        other: dict[str, Any] = {"weight_decay": 0.0} if self.column == "groups" else {}
        if self.column == "uneven rates":
            other = {"lr": torch.tensor(0.01) if "tensor" in self.row else 0.01}
        return [
            {"params": [p for p in params if p.ndim > 1]},
            {"params": [p for p in params if p.ndim <= 1], **other},
        ]

    def _made(self, row: str) -> Callable[[Groups], Optimizer]:
        if "subclass" not in self.column:
            return ROWS[row]
        noisy = self.column == "noisy subclass"

        def make(groups: Groups) -> Optimizer:
            optimizer = ROWS[row](groups)
            optimizer.__class__ = _subclass(type(optimizer), noisy=noisy)
            optimizer._patch_step_function()
            return optimizer

        return make

    @staticmethod
    def _clamp(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            for p in group["params"]:
                p.data.clamp_(-0.3, 0.3)


def _subclass(base: type[Optimizer], *, noisy: bool) -> type[Optimizer]:
    class Own(base):  # type: ignore[misc, valid-type]
        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            out = super().step(closure) if closure is not None else super().step()
            if noisy:
                with torch.no_grad():
                    for group in self.param_groups:
                        for p in group["params"]:
                            p.add_(torch.randn_like(p), alpha=1e-3)
            return out

    return Own
