"""The model that is rewritten: its tensors, its symmetries, its program; and how pieces become a rewrite of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.files.weights import misfit
from neuralmechanics.functional.as_found import plain_module
from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Certificate, Evaluation, Piece, certified
from neuralmechanics.rewrite.actions.looking.seeing import constant, separated, trainable
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.plan import Copy, Fill, Plan
from neuralmechanics.symmetry import Symmetries
from neuralmechanics.symmetry.finding.find import analyse, collector_paused
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.lowering.graph.liveness import live
from neuralmechanics.symmetry.lowering.lower import lower
from neuralmechanics.symmetry.passes.rewriting.rewritten import rewritten
from neuralmechanics.symmetry.program.program import Program

__all__ = ["Subject"]


@dataclass(eq=False)
class Subject:
    """A module, a batch and a loss as every action takes them; ``params``: a state dict in place of the model's own.

    Frozen parameters are looked at like all others: what quantises a model moves them all. ``prior``: pieces of a
    rewrite that has been decided already; the symmetries are those of the model after it.
    """

    model: nn.Module
    batch: Any
    loss_fn: LossFunction | None = None
    params: Mapping[str, Tensor] | None = None
    prior: tuple[Piece, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(f"a torch.nn.Module is rewritten, {type(self.model).__name__} was given")
        self.model = plain_module(self.model)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, tied ones by each of their names."""
        own = self.model.state_dict()
        if self.params is None:
            return dict(own)
        missing = next((name for name in own if name not in self.params), None)
        if missing is not None:
            raise KeyError(f"params has no {missing!r}, which the model has; pass its whole state dict")
        for name, value in own.items():
            if wrong := misfit(self.params[name], value):
                raise ValueError(f"params[{name!r}] {wrong}; pass a state dict of this model")
        return dict(self.params)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Further names of tied parameters, each with the first."""
        first: dict[int, str] = {}
        named = self.model.named_parameters(remove_duplicate=False)
        tied = {name: known for name, p in named if (known := first.setdefault(id(p), name)) != name}
        return {name: known for name, known in tied.items() if name not in self.apart}

    @cached_property
    def apart(self) -> tuple[str, ...]:
        """Names of tied parameters that are tied no longer: by what was decided, or by ``params``, which differ."""
        if self.params is None:
            return self.plan.untied
        tied = Subject(self.model, self.batch).aliases.items()
        own = (name for name, known in tied if not torch.equal(self.state[name], self.state[known]))
        return tuple(dict.fromkeys((*self.plan.untied, *own)))

    @cached_property
    def plan(self) -> Plan:
        """What has been decided already."""
        return Plan(tuple(change for piece in self.prior for change in piece.changes))

    def after(self, pieces: Sequence[Piece]) -> Subject:
        """The same model once more pieces have been decided."""
        return Subject(self.model, self.batch, self.loss_fn, self.params, (*self.prior, *pieces))

    @cached_property
    def now(self) -> dict[str, Tensor]:
        """All tensors after what has been decided."""
        return self.plan.apply(self.state) if self.prior else self.state

    def current(self, name: str) -> Tensor:
        """The value of a tensor after what has been decided; on the meta device as it is."""
        value = self.state[name]
        return value if value.is_meta else self.plan.value(name, self.state.__getitem__)

    @property
    def weightless(self) -> bool:
        """Whether there are no numbers to rewrite: tensors on the meta device."""
        return any(x.is_meta for x in self.state.values())

    @cached_property
    def symmetries(self) -> Symmetries:
        """All families and spaces."""
        with self._seen():
            return analyse(self._captured)

    @cached_property
    def program(self) -> Program:
        """The model as typed primitives."""
        with self._seen():
            return rewritten(lower(live(self._captured)).program)

    @cached_property
    def captured(self) -> Captured:
        """The live part of the model's graph."""
        with self._seen():
            return live(self._captured)

    @cached_property
    def _captured(self) -> Captured:
        return capture(self.model, self.batch, self.loss_fn)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self.state[name].shape)

    def why_free(self, name: str) -> str:
        """What ends the symmetries of a parameter, as the search for them says it."""
        found = next((c for c in self.symmetries.coverage if c.parameter == name), None)
        return "nothing is known of it" if found is None else str(found)

    def why_no_space(self) -> str:
        """The first operation that is not followed, where a model has no space of channels at all."""
        unknown = next(iter(self.symmetries.unknown), None)
        return "no channels were found that may change places" if unknown is None else unknown.explained()

    def rewritten(self, pieces: Sequence[Piece], refused: Sequence[Refusal]) -> Rewritten:
        """What was decided before and all pieces, applied and certified."""
        every, branch = (*self.prior, *pieces), self._captured.requirements()
        if branch and not all(isinstance(c, Copy) for piece in every for c in piece.changes):
            # What another branch computes with the same tensors, such as experts that no token chose, was not seen.
            every = tuple(p for p in every if all(isinstance(c, Copy) for c in p.changes))
            reason = f"its program holds for {branch[0]}: other data may take another branch"
            refused = [Refusal(type(self.model).__name__, reason)]
        tied = Subject(self.model, self.batch, params=self.params).aliases
        plan = Plan(tuple(change for piece in every for change in piece.changes), tied)
        if self.weightless:
            names = tuple(dict.fromkeys(piece.family for piece in every))
            note = "the model has no weights (meta device): nothing was compared"
            return Rewritten({}, plan, Certificate(names, (), _requires(every), (note,)), tuple(refused))
        certificate = certified(every, plan, self.state, Evaluation(self.model, self.batch, self.loss_fn))
        return Rewritten(plan.apply(self.state), plan, certificate, tuple(refused))

    @contextmanager
    def _seen(self) -> Iterator[None]:
        """The model as it is after what has been decided, while its graph is looked at: all parameters trainable."""
        fills = {c.tensor: c.value - c.origin for c in self.plan if isinstance(c, Fill) and not c.signs}
        seen = trainable(self.model), separated(self.model, self.apart), constant(self.model, fills)
        with collector_paused(), seen[0], seen[1], seen[2]:
            yield


def _requires(pieces: Sequence[Piece]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for piece in pieces for text in piece.requires))
