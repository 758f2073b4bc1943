"""A rule held against its operation by numbers: what its program computes, and every symmetry that follows from it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.functional.function_module import FunctionModule
from neuralmechanics.symmetry.domains.evaluate import Evaluate, Lost, evaluated
from neuralmechanics.symmetry.families.symmetries import Symmetries
from neuralmechanics.symmetry.finding.find import analyse
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.lowering.graph.liveness import live
from neuralmechanics.symmetry.lowering.lower import lower
from neuralmechanics.symmetry.program.program import Program

__all__ = ["RuleCheck", "check_rule"]

_AMOUNT = 0.7  # of the finite transformations: far from infinitesimal
_TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True)
class RuleCheck:
    """What came of holding a rule against its operation.

    ``faults``: what is wrong, one line each. ``values``: whether the program says what the operation computes, so that
    numbers could be compared at all. ``claims``: how many symmetries were tried, of the operation alone and with its
    result read by a matrix along each dimension. ``error``: the largest relative difference that was met.
    """

    faults: tuple[str, ...]
    values: bool
    claims: int
    error: float

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def __repr__(self) -> str:
        if self.faults:
            return "RuleCheck: " + "; ".join(self.faults)
        held = f"values equal to {self.error:.1e}" if self.values else "no values (the program does not say them)"
        return f"RuleCheck: {held}, {self.claims} claimed symmetries hold"


def check_rule(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> RuleCheck:
    """Holds the rule (or decomposition) of an operation against the operation, on the given arguments.

    ``operation`` is called as the model calls it. Every floating-point tensor among the arguments is a parameter. Three
    things are asked: that the rule takes this form; that its program, executed, gives the operation's numbers, at these
    arguments and at random ones, with its signs; and that every symmetry that is found in networks of the operation,
    alone and with its result read by a matrix along each dimension, leaves them unchanged under finite transformations.
    Give arguments of several shapes, negative dimensions, broadcasting, one entry: one call of ``check_rule`` each.

    >>> from torch.nn import functional
    >>> check_rule(functional.softmax, torch.randn(3, 4), dim=-1).ok
    True
    """
    places = [k for k, value in enumerate(args) if isinstance(value, Tensor) and value.is_floating_point()]
    if not places:
        raise ValueError("check_rule needs a floating-point tensor among the arguments: a parameter to be moved")
    params = {f"argument_{k}": args[k].detach().clone() for k in places}

    def call(p: Mapping[str, Tensor]) -> list[Tensor]:
        given = [p[f"argument_{k}"] if k in places else value for k, value in enumerate(args)]
        result = operation(*given, **kwargs)
        return [r for r in (result if isinstance(result, (tuple, list)) else [result]) if r.is_floating_point()]

    check = _Check(_TOLERANCES.get(args[places[0]].dtype, 1e-3))
    with torch.no_grad():
        shapes = [tuple(r.shape) for r in call(params)]
    for name, network, more in _networks(call, shapes, args[places[0]].dtype):
        check.hold(name, network, params | more)
    return RuleCheck(tuple(dict.fromkeys(check.faults)), check.values, check.claims, check.error)


Network = Callable[[Mapping[str, Tensor]], list[Tensor]]


def _networks(
    call: Network, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype
) -> Iterator[tuple[str, Network, dict[str, Tensor]]]:
    """The operation alone, and each of its results read by a matrix along each of its dimensions."""
    yield "alone", call, {}
    draw = torch.Generator().manual_seed(0)
    for number, shape in enumerate(shapes):
        for dim, size in enumerate(shape):
            reader = torch.randn(size, 2, generator=draw).to(dtype)

            def read(p: Mapping[str, Tensor], number: int = number, dim: int = dim) -> list[Tensor]:
                return [call(p)[number].movedim(dim, -1) @ p["reader"]]

            yield f"result {number} read along dimension {dim}", read, {"reader": reader}


@dataclass
class _Check:
    tolerance: float
    values: bool = True
    claims: int = 0
    error: float = 0.0

    def __post_init__(self) -> None:
        self.faults: list[str] = []

    def hold(self, name: str, network: Network, params: Mapping[str, Tensor]) -> None:
        """Holds one network against its program and against its symmetries."""
        module = FunctionModule(lambda p, _: tuple(network(p)), params)
        captured = live(capture(module, torch.zeros(()), gradients=False))
        lowered = lower(captured)
        if lowered.unknown:
            self.faults += [f"{name}: {each.operation}: {each.reason or 'no rule'}" for each in lowered.unknown]
            return
        # At the given arguments alone a rule may be right by chance: at ones, at zeros, at equal entries.
        for point in (params, _moved(params)):
            self._compare(name, lowered.program, network, point)
        self._try(name, analyse(captured), network, params)

    def _compare(self, name: str, program: Program, network: Network, params: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            true = network(params)
            run = evaluated(program, params, {})
        self._compare_signs(name, program, run)
        end = max((where.number for where, _ in run.fixed), default=-1)
        found = [x for where, xs in run.fixed if where.number == end for x in xs]
        if len(found) != len(true) or any(isinstance(x, Lost) for x in found):
            self.values = False
            return
        for mine, theirs in zip(found, true, strict=True):
            assert isinstance(mine, Tensor)
            if mine.shape != theirs.shape:
                self.faults.append(
                    f"{name}: the rule gives shape {tuple(mine.shape)}, the operation {tuple(theirs.shape)}"
                )
                continue
            error = _difference(mine, theirs)
            self.error = max(self.error, error)
            if error > self.tolerance:
                self.faults.append(
                    f"{name}: the rule computes something else than the operation (differs by {error:.1e})"
                )

    def _compare_signs(self, name: str, program: Program, run: Evaluate) -> None:
        """What the program takes for a number, or for nonnegative, is so."""
        for value in (i.result for i in program.instructions if i.result is not None):
            tensor = run.values.get(value.index)
            if not isinstance(tensor, Tensor) or tensor.is_complex():
                continue
            if value.nonnegative and bool((tensor < 0).any()):
                self.faults.append(f"{name}: the rule takes a value for nonnegative that has negative entries")
            if value.number is not None and not bool((tensor == value.number).all()):
                self.faults.append(f"{name}: the rule takes a value for the number {value.number:g} that is not")

    def _try(self, name: str, symmetries: Symmetries, network: Network, params: Mapping[str, Tensor]) -> None:
        """Finite transformations of every family leave the network as it is."""
        draw = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for point in (params, _moved(params)):
                before = network(point)
                for family in symmetries:
                    if family.broken_by:
                        continue  # by an amount that is known to be there
                    self.claims += 1
                    for _, element in itertools.islice(family.action.random_elements(_AMOUNT, draw), 2):
                        after = network(family.transform(point, element))
                        error = max(_difference(a, b) for a, b in zip(after, before, strict=True))
                        if error > 100 * self.tolerance:
                            self.faults.append(
                                f"{name}: {family.name} is claimed and changes the result by {error:.1e}"
                            )
                            break


def _moved(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another point: every entry larger by up to a third, so that its sign is kept, for roots and logarithms."""
    draw = torch.Generator().manual_seed(1)
    return {name: p * (1 + 0.3 * torch.rand(p.shape, generator=draw).to(p)) for name, p in params.items()}


def _difference(a: Tensor, b: Tensor) -> float:
    """The largest difference in units of the largest entry; infinite where one is finite and the other is not."""
    if not a.numel():
        return 0.0
    one, other = a.double(), b.double()
    if not torch.equal(one.isfinite(), other.isfinite()):
        return float("inf")
    kept = one.isfinite()
    size = max(float(other[kept].abs().max()) if bool(kept.any()) else 0.0, 1e-300)
    return float((one - other)[kept].abs().max()) / size if bool(kept.any()) else 0.0
