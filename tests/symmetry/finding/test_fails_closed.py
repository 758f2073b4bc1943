"""A fault inside the engine is an error, or costs symmetries: it never adds one.

Every function of the engine is made to raise, at its first call and at its last, on networks that together use nearly
all of them. Which functions there are is read off the package itself. What the interpreters raise is always an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from zlib import crc32

import pytest
import torch
from torch import Tensor, nn

from neuralmechanics import Family, Symmetries
from neuralmechanics.symmetry.finding.find import analyse
from neuralmechanics.symmetry.lowering.capture.captured import Captured
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.lowering.rules import RULES

from .. import faults
from ..agreement import one_by_one, rank
from ..network import Network, prepared
from ..nullspace import trainable
from ..zoo import SMALL

LOUD = ("domains", "algebra", "finding")  # what raises there ends the search
EITHER = ("program", "passes", "lowering")  # a rule that raises is a refusal
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
    "weight-standardization",
    "embedding-into-rms-norm",
    "maxout",
    "selected-channels",
    "masked-with-number",
    "maxima-and-their-places",
    "scattered-onto",
    "positions-reordered-by-data",
    "padded-tokens",
    "slice-scattered-with-gaps",
    "unknown-on-a-branch",
    "layer-norm-into-linear",
    "vit",
    "dropped-out",
)
FAULTS = (TypeError, KeyError, AttributeError, ValueError, IndexError)


def network(name: str) -> Network:
    """A network of the zoo, or one that drops units, which the idealised zoo does not."""
    if name != "dropped-out":
        return SMALL[name]()
    module = prepared(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)))
    module[2].p = 0.5
    return Network(name, module, lambda g: (torch.randn(96, 4, generator=g, dtype=torch.float64),))


@cache
def captured(name: str) -> tuple[Captured, dict[str, Tensor]]:
    """The captured graph, and a point."""
    torch.manual_seed(0)
    made = network(name)
    params = {name: p.detach().clone() for name, p in trainable(made.module).items()}
    return capture(made.module, made.batch(), made.loss_fn), params


def search(name: str) -> Symmetries:
    return analyse(captured(name)[0])


@cache
def whole(name: str) -> tuple[dict[str, int], Tensor, frozenset[str]]:
    """Without any fault: the counts, the generators as columns, and the parameters that are scaled or shifted."""
    found = search(name)
    scaled_or_shifted = found.of_kind("translation", "scale", "rescale", "linear")
    moved = {parameter for family in scaled_or_shifted for parameter in family.parameters}
    return found.count(), fields(found, name), frozenset(moved)


def fields(families: Symmetries | list[Family], name: str) -> Tensor:
    params = captured(name)[1]
    columns = [column for family in families for column in one_by_one(family, params)]
    return torch.stack(columns, dim=1) if columns else torch.zeros(sum(p.numel() for p in params.values()), 0).double()


def assert_no_more(name: str, found: Symmetries, why: str) -> None:
    """Every vector field is one that is found without the fault, counted once."""
    count, generators, _ = whole(name)
    assert sum(found.count().values()) <= sum(count.values()), why
    assert found.count()["translation"] <= count["translation"], why
    together = rank(torch.cat([generators, fields(found, name)], dim=1))
    assert together == rank(generators), why


def is_loud(name: str, functions: Mapping[str, faults.Copies], function: str, at: int) -> bool:
    """Whether the fault is an error; else there are no more symmetries than without it."""
    fault = FAULTS[(len(function) + at) % len(FAULTS)]
    why = f"{fault.__name__} in call {at} of {function} on {name}"
    try:
        with faults.raising(functions[function], fault("injected"), at):
            found = search(name)
    except (RuntimeError, fault) as error:
        told = str(error)
    else:
        told = ""
    if told:
        assert "injected" in told, (why, told)
        return True
    assert_no_more(name, found, why)
    return False


@cache
def functions_of(*packages: str) -> dict[str, faults.Copies]:
    found: dict[str, faults.Copies] = {}
    for package in packages:
        found |= faults.functions(f"neuralmechanics.symmetry.{package}")
    return found


@cache
def calls_of(name: str) -> dict[str, int]:
    """How often an undisturbed search calls each function."""
    before = whole(name)[0]
    made = faults.calls(lambda: search(name), functions_of(*LOUD, *EITHER))
    assert search(name).count() == before
    return made


@cache
def by_size() -> list[str]:
    """The networks, those with the fewest operations first: a search of the largest takes twenty times as long."""
    return sorted(NETWORKS, key=lambda name: len(captured(name)[0].graph.nodes))


def users_of(function: str) -> list[str]:
    return [name for name in by_size() if function in calls_of(name)]


def sample(functions: Mapping[str, faults.Copies]) -> list[tuple[str, str, int]]:
    """(network, function, call) for every second function: on a small one of its networks, at its first or last call.

    Which of all is decided by the function's name: where it stands depends on the closures that are alive. Every
    function on every network is tried where the slow tests run.
    """
    chosen = []
    for function in functions:
        number = crc32(function.encode())
        users = users_of(function) if number >> 8 & 1 else ()
        if users:
            name = users[number % ((len(users) + 2) // 3)]
            chosen.append((name, function, 1 if number % 3 else calls_of(name)[function]))
    return chosen


def test_the_networks_use_nearly_every_function_of_the_interpreters() -> None:
    """Modules of which the search uses nothing (an interpreter that computes with numbers) are no part of it."""
    functions = functions_of("domains", "algebra")
    used = {function for function in functions if users_of(function)}
    modules = {module_of(functions[function]) for function in used}
    searching = [function for function, copies in functions.items() if module_of(copies) in modules]
    unused = [function for function in searching if function not in used]
    assert len(unused) < 0.12 * len(searching), unused
    assert len(searching) > 100
    assert len(NETWORKS) >= 12


def module_of(copies: faults.Copies) -> str:
    return copies[0].__module__


@pytest.mark.parametrize("package", LOUD)
def test_a_function_that_raises_is_an_error(package: str) -> None:
    functions = functions_of(package)
    silent = [case for case in sample(functions) if not is_loud(case[0], functions, *case[1:])]
    assert not silent


@pytest.mark.parametrize("package", EITHER)
def test_a_function_that_raises_is_an_error_or_costs_symmetries(package: str) -> None:
    functions = functions_of(package)
    loud = [is_loud(name, functions, function, at) for name, function, at in sample(functions)]
    assert loud


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_function_on_every_network(name: str) -> None:
    loud, either = functions_of(*LOUD), functions_of(*EITHER)
    for function, calls in calls_of(name).items():
        for at in {1, (calls + 1) // 2, calls}:
            if function in loud:
                assert is_loud(name, loud, function, at), (function, at)
            else:
                is_loud(name, either, function, at)


@cache
def with_failing_rules(networks: int = 2) -> list[tuple[str, str, Symmetries]]:
    """(network, operation, what is found) where the rule of the operation fails, on so many of its networks."""
    answers = []
    tried = Counter[str]()
    for number, name in enumerate(by_size()):
        graph = captured(name)[0].graph
        used = sorted({str(getattr(n.target, "overloadpacket", "")) for n in graph.nodes} & set(RULES))
        for place, operation in enumerate(used):
            tried[operation] += 1
            if tried[operation] > networks:
                continue
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(RULES, operation, failing(RULES[operation], FAULTS[(number + place) % len(FAULTS)]))
                answers.append((name, operation, search(name)))
    return answers


def failing(rule: Callable[..., object], fault: type[Exception]) -> Callable[..., object]:
    """The rule, with an error after it has written all that it writes."""

    def run(*args: object, **settings: object) -> object:
        rule(*args, **settings)
        raise fault("injected")

    return run


@pytest.mark.parametrize("networks", [2, pytest.param(len(NETWORKS), marks=pytest.mark.slow)])
def test_a_rule_that_fails_never_adds_a_symmetry(networks: int) -> None:
    """What it had written is taken back, its operands are fixed, and the operation is named with what was raised."""
    refused = 0
    for name, operation, found in with_failing_rules(networks):
        assert_no_more(name, found, f"the rule of {operation} fails on {name}")
        refused += any(operation == u.operation and "injected" in u.reason for u in found.unknown)
    assert refused > 20


def test_what_a_failing_rule_ends_is_not_called_free() -> None:
    """Free is a claim too: what is scaled or shifted without the fault is not free of symmetry with it."""
    wrong = [
        (name, operation, c.parameter)
        for name, operation, found in with_failing_rules()
        for c in found.coverage
        if c.status == "free" and c.parameter in whole(name)[2]
    ]
    assert not wrong
