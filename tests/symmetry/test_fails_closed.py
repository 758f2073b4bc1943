"""A fault inside an interpreter is an error, or costs symmetries: it never adds one, and is never silent.

Every method of every interpreter is made to raise, at its first call and at its last, on networks that together use
them all. The same is done to every rule, in one kind of walk at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import pytest
import torch

from neuralmechanics.symmetry.algebra.linear_system import ConstraintSystem
from neuralmechanics.symmetry.domains.lenient import Lenient
from neuralmechanics.symmetry.domains.mixing import Mixings
from neuralmechanics.symmetry.domains.representation.domain import Transport
from neuralmechanics.symmetry.domains.representation.spaces import Spaces
from neuralmechanics.symmetry.domains.scaling.constraints import LabelConstraints
from neuralmechanics.symmetry.domains.scaling.domain import Scales
from neuralmechanics.symmetry.domains.scaling.redundancy import LabelGauges
from neuralmechanics.symmetry.domains.shift.domain import Shifts
from neuralmechanics.symmetry.finding.find import analyse
from neuralmechanics.symmetry.lowering.capture.capture import capture
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.rules import RULES

from .zoo import SMALL

INTERPRETERS = (Scales, Shifts, Mixings, Transport, Lenient)
BEHIND = (LabelConstraints, LabelGauges, ConstraintSystem, Spaces)
NETWORKS = (
    "gated-silu",
    "linear-attention",
    "exponential-temperature",
    "squeeze-excite",
    "u-net",
    "depthwise-separable",
    "upsample-and-pad",
    "rnn-cell-tanh",
    "lstm-module",
    "rms-norm-written-out",
    "two-batch-norms",
    "quotient-of-branches",
    "experts-batched-gate-biases",
    "rotary-conjugate-keys",
    "weights-made-from-data",
)


@cache
def captured(name: str) -> Captured:
    network = SMALL[name]()
    with torch.random.fork_rng():
        return capture(network.module, network.batch(), network.loss_fn)


@cache
def count(name: str) -> dict[str, int]:
    return analyse(captured(name)).count()


@contextmanager
def watched(owner: type, method: str, raising: Exception | None = None, at: int = 0) -> Iterator[list[int]]:
    """Counts the calls of a method; the call number ``at`` raises."""
    original = owner.__dict__[method]
    calls = [0]

    def replacement(*args: Any, **settings: Any) -> Any:
        calls[0] += 1
        if raising is not None and calls[0] == at:
            raise raising
        return original(*args, **settings)

    setattr(owner, method, replacement)
    try:
        yield calls
    finally:
        setattr(owner, method, original)


def methods(owner: type) -> list[str]:
    return [
        name for name, value in vars(owner).items() if inspect.isfunction(value) and not name.startswith("__")
    ]  # fmt: skip


def assert_no_more(name: str, run: Callable[[], dict[str, int]], fault: type[Exception]) -> bool:
    """Whether it was an error; else no kind has more symmetries than without the fault."""
    try:
        found = run()
    except (RuntimeError, fault) as error:
        told = str(error)
        assert "injected" in told or "read the graph differently" in told, told
        return True
    whole = count(name)
    assert found["translation"] <= whole["translation"], (name, found, whole)
    diagonal = found["scale"] + found["rescale"]  # the diagonal of a linear block that is not seen counts as rescales
    assert diagonal <= whole["scale"] + whole["rescale"] + whole["linear"], (name, found, whole)
    assert sum(found.values()) <= sum(whole.values()), (name, found, whole)
    return False


FAULTS = (TypeError, KeyError, AttributeError, ValueError, IndexError)


@cache
def calls_of(name: str) -> dict[tuple[type, str], int]:
    """How often an undisturbed search calls each method."""
    count(name)
    with ExitStack() as stack:
        counts = {
            (owner, method): stack.enter_context(watched(owner, method))
            for owner in (*INTERPRETERS, *BEHIND)
            for method in methods(owner)
        }
        assert analyse(captured(name)).count() == count(name)
    return {key: number[0] for key, number in counts.items() if number[0]}


def assert_loud(name: str, owner: type, method: str, at: int, fault: type[Exception]) -> None:
    with watched(owner, method, fault("injected"), at):
        loud = assert_no_more(name, lambda: analyse(captured(name)).count(), fault)
    assert loud, (name, owner, method, at)


@pytest.mark.parametrize("owner", [*INTERPRETERS, *BEHIND], ids=lambda owner: owner.__name__)
def test_a_method_that_raises_is_an_error(owner: type) -> None:
    """Every method that any of the networks uses, on one of them, at its first call or at its last."""
    tried = 0
    for number, method in enumerate(methods(owner)):
        users = [name for name in NETWORKS if (owner, method) in calls_of(name)]
        if users:
            name = users[number % len(users)]
            at = 1 if number % 3 else calls_of(name)[owner, method]
            assert_loud(name, owner, method, at, FAULTS[number % len(FAULTS)])
            tried += 1
    assert tried >= min(16, 0.7 * len(methods(owner))), tried


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_method_that_raises_is_an_error_on_every_network(name: str) -> None:
    for number, ((owner, method), calls) in enumerate(calls_of(name).items()):
        for at in {1, calls}:
            assert_loud(name, owner, method, at, FAULTS[(number + at) % len(FAULTS)])


def test_a_rule_that_fails_never_adds_a_symmetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had written is taken back, its operands are fixed, and the operation is named with what was raised."""
    refused = 0
    for number, name in enumerate(NETWORKS):
        count(name)
        used = sorted({str(getattr(n.target, "overloadpacket", "")) for n in captured(name).graph.nodes} & set(RULES))
        for place, operation in enumerate(used):
            rule, fault = RULES[operation], FAULTS[(number + place) % len(FAULTS)]

            def failing(d: Any, *args: Any, rule: Any = rule, fault: Any = fault, **settings: Any) -> Any:
                rule(d, *args, **settings)
                raise fault("injected")

            with monkeypatch.context() as patch:
                patch.setitem(RULES, operation, failing)
                assert not assert_no_more(name, lambda: analyse(captured(name)).count(), fault)  # noqa: B023
                unknown = analyse(captured(name)).unknown
                refused += any(operation == u.operation and "injected" in u.reason for u in unknown)
    assert refused > 20
