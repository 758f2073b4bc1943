"""A rule, a form or an option of an operation without a call fails here: they are read off torch's own schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from neuralmechanics.symmetry.lowering.rules import RULES

from .case import Case
from .exempt import NOT_CALLED, SAME_FUNCTION, WITHOUT_SHAPE, without_call
from .tables import by_rule

CALLS = by_rule()
OPERATIONS = [rule for rule in CALLS if rule.startswith("aten.")]


def test_every_rule_has_a_call() -> None:
    assert set(RULES) - set(CALLS) == set(NOT_CALLED) & set(RULES)
    assert set(CALLS) <= set(RULES)


@pytest.mark.parametrize("rule", [rule for rule in CALLS if rule not in WITHOUT_SHAPE])
def test_every_rule_is_called_on_three_shapes(rule: str) -> None:
    same = [other for other in CALLS if RULES[other] is RULES[rule]]  # one rule under several names
    assert len({_shapes(case) for other in same for case in CALLS[other]}) >= 3


def _shapes(case: Case) -> tuple[Any, ...]:
    """The shapes of the tensors that enter; of what makes a tensor from nothing, the numbers that do."""
    operands = case.operands()
    if not operands:
        return tuple(map(str, case.args))
    return tuple(o.shape if o.value is None else tuple(torch.as_tensor(o.value).shape) for o in operands)


def forms(rule: str) -> Iterator[tuple[str, Any]]:
    """The forms of an operation that take and give tensors."""
    packet = getattr(torch.ops.aten, rule.removeprefix("aten."))
    for overload in packet.overloads():
        schema = getattr(packet, overload)._schema
        returned = tuple(str(r.type) for r in schema.returns)
        taken = tuple(str(a.type) for a in schema.arguments)
        writes = any(a.is_out for a in schema.arguments)
        if not writes and not without_call(rule, overload, returned, taken):
            yield overload, schema


# Options that torch itself refuses where these tests run, or reads memory that is not there for.
REFUSED_BY_TORCH = {
    "aten._grouped_mm": {"default: bias"},
    "aten._native_batch_norm_legit": {"no_stats: training"},
}


@pytest.mark.parametrize("rule", OPERATIONS)
def test_every_option_of_every_form_is_used(rule: str) -> None:
    """An option is an argument with a default, one that may be left out, or one that is true or false."""
    missing = []
    for overload, schema in forms(rule):
        cases = [case for case in CALLS[rule] if case.overload == overload]
        if not cases:
            missing.append(overload)
        named = {f"{overload}: {name}" for name in options(schema) - used(cases)}
        missing += sorted(named - REFUSED_BY_TORCH.get(rule, set()))
    assert missing == []


def options(schema: Any) -> set[str]:
    return {
        a.name
        for a in schema.arguments
        if (a.has_default_value() or a.type.kind() == "OptionalType" or str(a.type) == "bool")
        and a.name not in SAME_FUNCTION
    }


def used(cases: list[Case]) -> set[str]:
    """Arguments that are given another value than their own in some call; of what is true or false, both values."""
    values: dict[str, list[Any]] = {}
    for case in cases:
        for position, argument in enumerate(case.operation._schema.arguments):
            given = case.args[position : position + 1] if not argument.kwarg_only else ()
            values.setdefault(argument.name, []).extend(given or [case.kwargs.get(argument.name, _LEFT_OUT)])
    found = set()
    for argument in (a for case in cases[:1] for a in case.operation._schema.arguments):
        own = argument.default_value if argument.has_default_value() else None
        others = [v for v in values[argument.name] if v is not _LEFT_OUT and not _same(v, own)]
        if str(argument.type) == "bool" and not argument.has_default_value():
            others = others if {True, False} <= set(values[argument.name]) else []
        if others:
            found.add(argument.name)
    return found


_LEFT_OUT = object()


def _same(value: Any, own: Any) -> bool:
    return type(value) is type(own) and value == own
