"""An optimiser's state carried along with the parameters: momentum as a gradient, second moments where they can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.rewrite.comparing.elements.element import Element
from neuralmechanics.rewrite.comparing.elements.steps import FamilyStep, SpaceStep, Step
from neuralmechanics.symmetry import Element as SpaceElement
from neuralmechanics.symmetry.families.actions import (
    AffineDiagonal,
    ComplexPairs,
    Diagonal,
    LinearBlocks,
    Rotation,
    Shift,
)

__all__ = ["transport"]

GRADIENTS = ("momentum_buffer", "exp_avg", "grad_avg")
SQUARES = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
Named = dict[str, dict[str, Any]]


def transport(
    optimizer_state: Mapping[str, Any],
    element: Element,
    *,
    params: Mapping[str, Tensor] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The state with which training goes on from g·θ as it would have from θ.

    ``optimizer_state``: a torch optimiser's state dict (``names`` are the parameters' in its order, unless it holds
    them itself), or {parameter: {entry: value}}. Momentum and first moments go with J⁻ᵀ as gradients do, J the
    derivative of g. Second moments are exact under permutations, signs and scales: their factors come squared. Under
    anything that mixes entries they are unknown: a ``ValueError`` names the parameter and what mixes it. ``params``, θ
    before g, are needed where J depends on them (gains that a rotation passes, shifts that later biases answer).

    Adam and SGD take the same steps after a permutation or signs, and Muon after rotations, too; under scales Adam
    does not, whatever its state: its steps are not those of a gradient.
    """
    if "param_groups" not in optimizer_state:
        return dict(_transported({k: dict(v) for k, v in optimizer_state.items()}, element, params))
    order = _order(optimizer_state["param_groups"], names)
    state = {order[k]: dict(v) for k, v in optimizer_state["state"].items()}
    moved = _transported(state, element, params)
    numbers = {name: k for k, name in order.items()}
    return {**optimizer_state, "state": {numbers[name]: entry for name, entry in moved.items()}}


def _order(groups: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> dict[int, str]:
    numbers = [k for group in groups for k in group["params"]]
    own = [name for group in groups for name in group.get("param_names", ())]
    found = list(names) if names is not None else own
    if len(found) != len(numbers):
        raise ValueError(
            f"{len(found)} names for {len(numbers)} parameters of the optimiser; give names=[name for name, _ in "
            "model.named_parameters()] in the order in which it was given them"
        )
    return dict(zip(numbers, found, strict=True))


def _transported(state: Named, element: Element, params: Mapping[str, Tensor] | None) -> Named:
    out = {name: dict(entries) for name, entries in state.items()}
    kinds = {key for entries in state.values() for key, value in entries.items() if _is_like_parameter(value)}
    unknown = sorted(kinds - {*GRADIENTS, *SQUARES})
    if unknown:
        raise ValueError(
            f"the optimiser's entry {unknown[0]!r} is of an unknown kind; it can carry along "
            f"{', '.join((*GRADIENTS, *SQUARES))}: start this optimiser anew"
        )
    for kind in sorted(kinds):
        held = {n: e[kind] for n, e in state.items() if isinstance(e.get(kind), Tensor)}
        moved = _moved(held, element, params, squares=kind in SQUARES)
        for name, value in moved.items():
            if name in held:
                out[name][kind] = value.to(held[name].dtype)
    return out


def _is_like_parameter(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _moved(
    held: Mapping[str, Tensor], element: Element, params: Mapping[str, Tensor] | None, *, squares: bool
) -> dict[str, Tensor]:
    """One kind of entry through all steps; parameters without such an entry count as zero."""
    point = None if params is None else {n: v.detach().double() for n, v in params.items()}
    values = {name: value.double() for name, value in held.items()}
    for step in element.steps:
        missing = [name for name in step.parameters if name not in values]
        known = {} if point is None else point
        values |= {name: torch.zeros_like(known[name]) for name in missing if name in known}
        absent = [name for name in step.parameters if name not in values]
        if absent and len(absent) < len(step.parameters):
            raise ValueError(f"{step.where} moves {absent[0]!r}, of which the optimiser holds nothing; give params=")
        if absent:
            continue
        values = _squared(step, values) if squares else _cotangent(step, values, point)
        point = None if point is None else step.transform(point)
    return values


def _cotangent(step: Step, values: dict[str, Tensor], point: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """J⁻ᵀ m at ``point``."""
    if isinstance(step, SpaceStep):
        return _space_cotangent(step, values, point)
    if not isinstance(step, FamilyStep):
        raise AssertionError("a step is of a space or of a family")
    action, amount = step.family.action, step.amount
    if isinstance(action, Shift):
        return values
    if isinstance(action, (Diagonal, AffineDiagonal)):
        centred = action.centred if isinstance(action, AffineDiagonal) else action
        return centred.transform(values, 1 / action.read_element(amount, amount.device))
    if isinstance(action, ComplexPairs):
        factors = torch.view_as_complex(action.read_weights(amount, amount.device).contiguous())
        return action.transform(values, torch.view_as_real(1 / factors.conj()))
    if isinstance(action, LinearBlocks):
        return action.transform(values, torch.linalg.inv(action.read_element(amount, amount.device)).mT)
    if isinstance(action, Rotation) and not action.inputs:
        given = action.read_element(amount, amount.device)
        matrix = given if given.ndim >= 2 else torch.linalg.matrix_exp(action.matrix(given))
        return action.transform(values, torch.linalg.inv(matrix).mT)
    if point is None or isinstance(action, Rotation):
        remedy = "fold the gains first" if isinstance(action, Rotation) else "give params="
        raise ValueError(f"{step.where} depends on the parameters as it acts: {remedy}, to carry gradients along")
    back = action.adjoint(values, action.read_element(amount, amount.device), point)
    return values | {name: values[name] - change for name, change in back.items() if name in values}


def _space_cotangent(step: SpaceStep, values: dict[str, Tensor], point: dict[str, Tensor] | None) -> dict[str, Tensor]:
    element, space = step.element, step.space
    if element.permutation is not None:
        return step.transform(values)
    if element.factors is not None:
        return space.transform(values, SpaceElement(factors=1 / element.factors))
    if element.matrix is None:
        return values
    if not any(entry.dressing for entry in space.entries if entry.mixes):
        return space.transform(values, SpaceElement(matrix=torch.linalg.inv(element.matrix).mT))
    if point is None:
        raise ValueError(f"{step.where}: its matrix passes gains, on which gradients depend; give params=")
    # (∂(g⁻¹ θ')/∂θ')ᵀ m, where θ' holds the gains that the matrix passes.
    moved = step.transform(point)
    names = [name for name in space.parameters if name in values]
    leaves = {name: moved[name].detach().requires_grad_() for name in names}
    with torch.enable_grad():
        back = space.transform(moved | leaves, SpaceElement(matrix=torch.linalg.inv(element.matrix)))
        total = torch.stack([(back[name] * values[name]).sum() for name in names]).sum()
    found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True, allow_unused=True)
    return values | dict(zip(leaves, found, strict=True))


def _squared(step: Step, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Second moments: exact where every entry is multiplied by itself or goes elsewhere."""
    if isinstance(step, SpaceStep):
        element = step.element
        if element.permutation is not None:
            return step.transform(values)
        if element.factors is not None:
            return step.space.transform(values, SpaceElement(factors=1 / element.factors.square()))
    elif isinstance(step, FamilyStep):
        action = step.family.action
        if isinstance(action, Shift):
            return values
        if isinstance(action, (Diagonal, AffineDiagonal)):
            centred = action.centred if isinstance(action, AffineDiagonal) else action
            return centred.transform(values, 1 / action.read_element(step.amount, step.amount.device).square())
    if not step.described():
        return values
    raise ValueError(
        f"the second moments of {step.parameters[0]!r} cannot be carried along: {step.where} mixes its entries, and of "
        "their squares alone the mixed ones do not follow; drop exp_avg_sq and let the optimiser gather it anew"
    )
