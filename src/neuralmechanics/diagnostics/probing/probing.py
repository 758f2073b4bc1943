"""``probe_symmetries``: symmetries of a black box, from gradients alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from neuralmechanics.diagnostics.probing.gradients import parameters_of, sample_gradients
from neuralmechanics.diagnostics.probing.integer_relations import integer_relations
from neuralmechanics.diagnostics.probing.report import ProbeReport, Relation
from neuralmechanics.diagnostics.probing.slice_sums import Slices, Table, element_sizes, tabulate
from neuralmechanics.functional.as_found import left_as_found, require_built
from neuralmechanics.functional.batches import require_batches
from neuralmechanics.functional.function_module import as_module
from neuralmechanics.functional.precision import unit

__all__ = ["probe_symmetries"]


def probe_symmetries(
    model: Any,
    loss_fn: Callable[[Any, Any], Tensor],
    batches: Sequence[Any],
    *,
    amount: float = 0.5,
    tolerance: float | None = None,
    most_slices: int = 2000,
    seed: int = 0,
    params: Mapping[str, Tensor] | None = None,
) -> ProbeReport:
    """Translations, scales and rescales that every gradient at many random points and all batches obeys.

    Of each gradient only two sums over each slice (row, column, …) are used: Σ g and Σ θ g. Sums that are always
    zero are translations and scales, sums that are always equal rescales, small integer relations weighted ones.
    ``model`` is anything with ``parameters()`` that ``loss_fn(model, batch)`` can work on: compiled, scripted, custom.
    Parameters move by ``amount`` of their size and are restored bit by bit. A plain function ``model(params, batch)``
    comes with its named tensors as ``params``.

    ``tolerance``: relative singular value up to which a relation counts as exact; by default ε^⅔ of the parameters'
    precision. Raise it (1e-3) to see also symmetries that a norm's eps breaks a little. Costs
    1.25 gradients a slice; ValueError beyond ``most_slices``.
    """
    require_batches(batches)
    if params is not None:
        model = as_module(model, params)
    require_built(model)
    moved = parameters_of(model)
    slices = Slices.of(moved)
    if slices.count > most_slices:
        raise ValueError(
            f"{slices.count} slices need as many gradients, most_slices is {most_slices}; raise it, or freeze "
            "parameters (requires_grad_(False)) to probe a part of the model"
        )
    rounding = max(unit(p.dtype) for p in moved.values())
    tolerance = rounding ** (2 / 3) if tolerance is None else tolerance
    # With fewer gradients than slices every table would have null directions by its shape alone.
    count = slices.count + slices.count // 4 + 8
    with left_as_found(model, loss_fn, batches):
        samples = list(sample_gradients(model, loss_fn, batches, count, amount, seed))
    sizes = element_sizes(samples)
    # The greatest entry of every gradient is 1, so that what stays below some hundred roundings is rounding.
    heard = {name: size > 200 * rounding for name, size in sizes.items()}
    silent = {name: int((size == 0).sum()) for name, size in sizes.items()}
    lone = {name: ~heard[name] & (size > 0) for name, size in sizes.items()}
    sums, products = tabulate(slices, samples, heard)
    constant = _null(slices, sums, tolerance)
    diagonal = _null(slices, products, tolerance)
    relations = [*_alone(lone), *_read(slices, constant.relations, True), *_read(slices, diagonal.relations, False)]
    return ProbeReport(
        tuple(relations),
        count,
        slices.count,
        min(constant.kept, diagonal.kept),
        max(constant.dropped, diagonal.dropped),
        {name: number for name, number in silent.items() if number},
        constant.irregular + diagonal.irregular,
    )


def _null(slices: Slices, table: Table, tolerance: float) -> Any:
    return integer_relations(table.values, table.sizes, slices.identities(), tolerance)


def _alone(lone: Mapping[str, Tensor]) -> list[Relation]:
    """A translation for each element whose gradient is rounding everywhere."""
    out = []
    for name, mask in lone.items():
        for place in torch.nonzero(mask).tolist():
            shift = np.zeros(tuple(mask.shape))
            shift[tuple(place)] = 1.0
            out.append(Relation("translation", f"{name}{place if place else ''}", {name: shift}))
    return out


def _read(slices: Slices, relations: np.ndarray, translation: bool) -> list[Relation]:
    out = []
    for row in relations:
        elements = {name: values for name, values in slices.elements(row).items() if values.any()}
        mixed = min(v.min() for v in elements.values()) < 0 < max(v.max() for v in elements.values())
        kind: Literal["translation", "scale", "rescale"] = "rescale" if mixed else "scale"
        out.append(Relation("translation" if translation else kind, _label(slices, row), elements))
    return out


def _label(slices: Slices, row: np.ndarray, most: int = 4) -> str:
    """The slices with their coefficients: ``0.weight[3, :] + 0.bias[3] - 2.weight[:, 3]``."""
    places = np.flatnonzero(row)
    text = ""
    for place in places[:most]:
        value = row[place]
        size = "" if abs(value) == 1 else f"{abs(value):g} "
        sign = (" - " if value < 0 else " + ") if text else ("-" if value < 0 else "")
        text += f"{sign}{size}{slices.label(int(place))}"
    return text + (f" … ({len(places)} slices)" if len(places) > most else "")
