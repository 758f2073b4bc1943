"""The map of the model: its layers with their families, what is free of all symmetry, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neuralmechanics.report.page.charts.families import Place


@dataclass(frozen=True)
class Entry:
    """A family on the map: what it is, what it holds for, what breaks it, what it moves."""

    name: str
    kind: str
    amount: str
    exact: bool
    why: str
    parameters: str
    charted: bool


@dataclass(frozen=True)
class Unmoved:
    """A parameter that no symmetry moves, in the words of the search."""

    name: str
    why: str


@dataclass(frozen=True)
class Layer:
    """A layer of the model with its families and what no family moves."""

    name: str
    families: tuple[Entry, ...]
    unmoved: tuple[Unmoved, ...]


def layers_of(symmetries: Any) -> dict[str, str]:
    """The layer of every family: the module of its first parameter, else what it says itself."""
    found = {}
    for family in symmetries:
        names = tuple(getattr(family, "parameters", ()))
        module = names[0].rpartition(".")[0] or names[0] if names else ""
        found[str(family.name)] = module or str(getattr(family, "layer", "")) or "model"
    return found


def model_map(symmetries: Any, places: Mapping[str, Place]) -> list[Layer]:
    """One entry a layer, in model order."""
    of = layers_of(symmetries)
    layers: dict[str, tuple[list[Entry], list[Unmoved]]] = {}
    for family in symmetries:
        layers.setdefault(of[str(family.name)], ([], []))[0].append(_entry(family, str(family.name) in places))
    for known in getattr(symmetries, "coverage", ()):
        if not known.families:
            module = known.parameter.rpartition(".")[0] or known.parameter
            layers.setdefault(module, ([], []))[1].append(Unmoved(known.parameter, str(known)))
    return [Layer(name, tuple(families), tuple(unmoved)) for name, (families, unmoved) in layers.items()]


def _entry(family: Any, charted: bool) -> Entry:
    broken = ", ".join(map(str, family.broken_by))
    needs = ", ".join(map(str, getattr(family, "requires", ())))
    why = "; ".join(filter(None, (f"broken by {broken}" if broken else "exact", f"holds for {needs}" if needs else "")))
    amount = f"{family.charges} charges" if family.charges else f"{family.size} constraints"
    parameters = ", ".join(getattr(family, "parameters", ()))
    return Entry(str(family.name), str(family.kind), amount, family.exact, why, parameters, charted)
