"""An error inside a pass, a domain or the translation names the operation that it was at, and where that stands."""

from __future__ import annotations

import re

import pytest

from neuralmechanics.symmetry.finding.find import analyse
from neuralmechanics.symmetry.lowering import lower
from neuralmechanics.symmetry.lowering.capture.captured import Captured, operation_name, place
from neuralmechanics.symmetry.lowering.capturing import capture
from neuralmechanics.symmetry.program.refusals import DomainError, PassError

from .. import faults
from ..zoo import SMALL


def captured() -> Captured:
    network = SMALL["positions-reordered-by-data"]()
    return capture(network.module, network.batch(), network.loss_fn)


def operations(graph: Captured) -> set[str]:
    return {f"{operation_name(node)} at {place(node)}" for node in graph.graph.nodes}


def named(error: BaseException) -> str:
    found = re.match(r"the search for symmetries failed at (.*?): .*please report it with this line$", str(error))
    assert found is not None, error
    return found.group(1)


def test_a_fault_of_a_pass_names_the_operation() -> None:
    """Where a pass has one at hand: it has none when it starts, and inside it has."""
    graph = captured()
    functions = faults.functions("neuralmechanics.symmetry.passes")
    made = faults.calls(lambda: analyse(graph), functions)
    made.pop("neuralmechanics.symmetry.passes.rewriting.rewritten.rewritten")  # the list of the passes
    places = []
    for function, calls in made.items():
        with faults.raising(functions[function], TypeError("injected"), calls), pytest.raises(PassError) as caught:
            analyse(graph)
        places.append(named(caught.value))
    assert set(places) <= operations(graph) | {"no operation in particular"}
    assert sum(place in operations(graph) for place in places) > 0.5 * len(places)


@pytest.mark.parametrize("method", ["scaling.contractions.Contractions.contract", "shift.domain.Shifts.contract"])
def test_a_fault_of_a_domain_names_the_operation(method: str) -> None:
    graph = captured()
    functions = faults.functions("neuralmechanics.symmetry.domains")
    copies = functions[f"neuralmechanics.symmetry.domains.{method}"]
    with faults.raising(copies, TypeError("injected"), 1), pytest.raises(DomainError, match="injected") as caught:
        analyse(graph)
    assert named(caught.value) == "aten.matmul at matmul"


def test_a_fault_of_the_translation_names_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = captured()

    def failing(*_: object) -> None:
        raise KeyError("injected")

    monkeypatch.setattr(lower, "functional_name", failing)
    with pytest.raises(PassError, match="injected") as caught:
        analyse(graph)
    assert named(caught.value) in operations(graph)
