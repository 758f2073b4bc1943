"""How many independent conservation laws a model's training has: a bound from below, one from above, a certificate.

The number is D - dim Lie(W)(θ), W the span of the gradient fields that training may follow (Marcotte, Gribonval,
Peyré 2023, theorem 3.3). Every bracket that is computed lies in Lie(W)(θ), so their rank bounds the number from above;
every known charge is a law, so the rank of their gradients bounds it from below. Equal bounds are a certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.counting.brackets.deepening import Deepening
from neuralmechanics.diagnostics.counting.folding.folded_count import FoldedCount, folded_count
from neuralmechanics.diagnostics.counting.generic_point import Place, column_scale, generic_place
from neuralmechanics.diagnostics.counting.given.charges import ChargeFunction, GivenCharge, verified_charges
from neuralmechanics.diagnostics.counting.given.parameters import differences
from neuralmechanics.diagnostics.counting.known_laws import KnownSymmetries, known_laws
from neuralmechanics.diagnostics.counting.optimizer_fields import (
    GradientFlow,
    OptimizerFlow,
    SignDescent,
    optimizer_flow,
)
from neuralmechanics.diagnostics.counting.potentials import Objective, Potentials
from neuralmechanics.diagnostics.counting.rank import Span, matrix_rank, span_tolerance
from neuralmechanics.diagnostics.counting.report import LawCount
from neuralmechanics.diagnostics.counting.unexplained import unexplained_directions
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.function_module import PlainFunction, as_module

__all__ = ["count_laws"]

Progress = Callable[[str], None]
# Columns of the greatest matrix that is decomposed: minutes on two cores.
LARGEST = 3000


def count_laws(
    model: nn.Module | PlainFunction,
    batch: Any,
    loss_fn: Objective | None = None,
    optimizer: str | OptimizerFlow = "gradient_flow",
    data: Sequence[Any] | None = None,
    symmetries: KnownSymmetries | Sequence[Any] | None = None,
    *,
    point: Literal["generic", "model", "symmetric"] = "generic",
    patience: int = 50,
    max_level: int = 4,
    tolerance: float = 1e-9,
    norm_eps: float | None = None,
    seed: int = 0,
    max_parameters: int | None = None,
    progress: Progress | None = None,
    params: Mapping[str, Tensor] | None = None,
    charges: Mapping[str, ChargeFunction] | None = None,
) -> LawCount:
    """Number of independent conservation laws of training, between two bounds, near a generic θ.

    Parameters
    ----------
    batch: an example input (a tensor, a tuple of arguments, a dict of keywords; whatever ``loss_fn`` takes, where one
        is given). Only shapes and integer ranges are used; keep it small.
    loss_fn: scalar ``loss_fn(model, batch)``. None counts the laws that hold for every loss of the output: W is
        spanned by the output's entries. With a loss, W is spanned by its values over inputs *and targets*.
    optimizer: "gradient_flow", "weight_decay", "heavy_ball", "sign_descent", or one of the classes with its constants.
    data: restrict W to these batches (laws of this data set); None: all inputs, drawn at random in the batch's shapes.
    symmetries: the known symmetries for the lower bound; None finds them, an empty tuple leaves the bound at 0.
    point: "generic" walks to a point of greatest Jacobian rank (a law on all of parameter space holds there too, while
        at a point with dead units there are more); a walk gives up after ``patience`` draws without a gain. "model"
        takes the parameters as they are. "symmetric" goes to a place that relabelings of channels leave as it is, where
        the matrices fall apart into small parts: gradient flow on all inputs alone, and the way of every model of more
        than 3000 parameters (``counting.folding``).
    max_level: deepest iterated bracket, 1 being [u, v]. Level k costs about 6^k gradients each.
    tolerance: singular values below this fraction of the natural scale are zeros; the gaps show how safe that is.
    params: the named tensors of a plain function ``model(params, batch)``.
    charges: laws that you suspect, by name, as functions of the named parameters (a number or a tensor of them): those
        that gradient flow conserves count for the lower bound, and ``LawCount.charges`` has the values of all.
    norm_eps: value to put for every norm's eps (0: the laws of the ideal norms); None leaves it.
    max_parameters: more trainable parameters are refused. None: more than 3000 where no symmetric place serves.

    Costs one SVD of (about 2D) × D in float64 and a few brackets more than the Lie algebra exceeds the gradients; at a
    symmetric place of a group of |G| relabelings |G| of D/|G| columns. Raises ValueError where the model has too many
    parameters or its output is not finite.

    >>> torch.manual_seed(0); layers = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    <torch._C.Generator object at ...>
    >>> count_laws(layers, torch.zeros(4, 3), symmetries=()).upper  # UᵀU - VVᵀ, a symmetric 2 × 2 matrix
    3
    """
    if point not in ("generic", "model", "symmetric"):
        raise ValueError(f"point={point!r}; use 'generic' or 'model', or 'symmetric' for large models")
    flow = optimizer_flow(optimizer)
    model = as_module(model, params)
    tell = progress or (lambda text: None)
    with left_as_found(model, loss_fn, batch, data):
        potentials = Potentials(model, batch, loss_fn, data, seed, norm_eps)
        if charges and not isinstance(flow, GradientFlow):
            raise ValueError(f"charges are laws of gradient flow, and the optimizer is {flow}; leave one of both out")
        reason = _unfolded(potentials, flow, point, bool(charges))
        _require_countable(potentials.dimension, point, reason, max_parameters)
        if symmetries is None:
            from neuralmechanics.symmetry import find_symmetries

            symmetries = find_symmetries(model, batch, loss_fn)
        if point == "symmetric" or (potentials.dimension > LARGEST and not reason):
            found = folded_count(potentials, symmetries, LARGEST, max_level, tolerance, tell)
            if found is not None:
                return _at_symmetric_place(potentials, found)
            if point == "symmetric" or max_parameters is None:
                raise ValueError(
                    f"the model has {potentials.dimension} trainable parameters, and no relabelings of channels were "
                    f"found that split them into parts of at most {LARGEST}; count a narrower copy"
                )
        place = generic_place(potentials, symmetries, patience if point == "generic" else 0, tolerance, tell)
        given = verified_charges(potentials, charges or {}, place.theta, place.rows, tolerance)
        count = _at_place(potentials, flow, symmetries, place, given, max_level, tolerance, tell)
        remarks: tuple[str, ...] = ()
        if point == "model":
            generic = generic_place(potentials, symmetries, patience, tolerance, tell)
            remarks = differences(potentials, place, generic)
        return replace(count, place=point, remarks=remarks)


def _unfolded(potentials: Potentials, flow: OptimizerFlow, point: str, charges: bool) -> str:
    """Why laws are not counted at a symmetric place; empty where they may be."""
    if not isinstance(flow, GradientFlow):
        return f"{flow} is not counted at a symmetric place"
    if potentials.data is not None:
        return "a data set is not the same with its channels relabelled"
    if charges:
        return "charges are tried at generic places"
    return "point='model' is no symmetric place" if point == "model" else ""


def _require_countable(size: int, point: str, reason: str, limit: int | None) -> None:
    """Raises ValueError where the model is too large, or what is asked for is not the same at a symmetric place."""
    if point == "symmetric" and reason:
        raise ValueError(f"point='symmetric' is for gradient flow on all inputs, and {reason}; use point='generic'")
    most = LARGEST if limit is None and reason else limit
    if most is not None and size > most:
        raise ValueError(
            f"the model has {size} trainable parameters, more than max_parameters={most} (memory 16·D² bytes, time "
            f"D³){reason and ', and ' + reason}; count a narrower copy: laws come one a unit"
        )


def _at_symmetric_place(potentials: Potentials, found: FoldedCount) -> LawCount:
    size = potentials.dimension
    return LawCount(
        lower=found.laws,
        upper=size - found.directions,
        fibre=size - found.gradients,
        generators=found.generators,
        gaps=found.gaps,
        parameters=size,
        phase_dimension=size,
        levels=found.levels,
        optimizer=str(GradientFlow()),
        known=found.known,
        place=f"symmetric ({found.group.order} parts of at most {found.group.orbits} columns)",
    )


def _at_place(
    potentials: Potentials,
    flow: OptimizerFlow,
    symmetries: KnownSymmetries,
    place: Place,
    given: Sequence[GivenCharge],
    max_level: int,
    tolerance: float,
    tell: Progress,
) -> LawCount:
    z = flow.point(place.theta, potentials.generator)
    laws, known = known_laws(flow, potentials, symmetries, z, place.rows, tolerance)
    laws = torch.cat([laws, *(one.gradients for one in given if one.charge.conserved)])
    # By their lengths, or a law of small gradient would fall under the tolerance beside one of large gradient.
    norms = laws.norm(dim=1, keepdim=True)
    lower, _, law_gap = matrix_rank(laws / norms.clamp_min(1e-300), tolerance, "known laws")
    gaps = [*place.gaps, law_gap]
    rows = flow.rows(place.rows, z)
    # Dividing columns changes no rank, and lifts parameters of small gradients clear of the tolerance.
    scale = column_scale(rows)
    _, basis, gap = matrix_rank(rows / scale, tolerance, "fields")
    gaps.append(gap)
    span, levels = Span(basis, span_tolerance(tolerance, gaps)), 0
    # Sign fields are constant between kinks, so their brackets vanish.
    if not isinstance(flow, SignDescent):
        potentials.require_brackets(place.theta)
        deepening = Deepening(potentials, flow, z, lambda vectors: vectors / scale, tell)
        levels = deepening.extend(span, int(z.numel()) - lower, range(1, max_level + 1), gaps)
    return LawCount(
        lower=lower,
        upper=int(z.numel()) - span.rank,
        fibre=potentials.dimension - place.rank,
        generators=place.generators,
        gaps=tuple(gaps),
        parameters=potentials.dimension,
        phase_dimension=int(z.numel()),
        levels=levels,
        optimizer=str(flow),
        unexplained=unexplained_directions(potentials, place, symmetries, tolerance),
        known=tuple(dict.fromkeys([*known, *(one.charge.name for one in given if one.charge.conserved)])),
        charges=tuple(one.charge for one in given),
    )
