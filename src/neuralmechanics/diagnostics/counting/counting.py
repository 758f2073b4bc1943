"""How many independent conservation laws a model's training has: a bound from below, one from above, a certificate.

The number is D - dim Lie(W)(θ), W the span of the gradient fields that training may follow (Marcotte, Gribonval,
Peyré 2023, theorem 3.3). Every bracket that is computed lies in Lie(W)(θ), so their rank bounds the number from above;
every known charge is a law, so the rank of their gradients bounds it from below. Equal bounds are a certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neuralmechanics.diagnostics.counting.generic_point import Place, column_scale, generic_place
from neuralmechanics.diagnostics.counting.known_laws import KnownSymmetries, known_laws
from neuralmechanics.diagnostics.counting.lie_brackets import bracket_with_scale
from neuralmechanics.diagnostics.counting.optimizer_fields import OptimizerFlow, SignDescent, optimizer_flow
from neuralmechanics.diagnostics.counting.potentials import Objective, Potentials
from neuralmechanics.diagnostics.counting.rank import Gap, Span, matrix_rank
from neuralmechanics.diagnostics.counting.report import LawCount
from neuralmechanics.diagnostics.counting.unexplained import unexplained_directions
from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.function_module import PlainFunction, as_module

__all__ = ["count_laws"]

Progress = Callable[[str], None]


def count_laws(
    model: nn.Module | PlainFunction,
    batch: Any,
    loss_fn: Objective | None = None,
    optimizer: str | OptimizerFlow = "gradient_flow",
    data: Sequence[Any] | None = None,
    symmetries: KnownSymmetries | Sequence[Any] | None = None,
    *,
    point: Literal["generic", "model"] = "generic",
    patience: int = 50,
    max_level: int = 4,
    tolerance: float = 1e-9,
    norm_eps: float | None = None,
    seed: int = 0,
    max_parameters: int = 3000,
    progress: Progress | None = None,
    params: Mapping[str, Tensor] | None = None,
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
        takes the parameters as they are.
    max_level: deepest iterated bracket, 1 being [u, v]. Level k costs about 6^k gradients each.
    tolerance: singular values below this fraction of the natural scale are zeros; the gaps show how safe that is.
    params: the named tensors of a plain function ``model(params, batch)``.
    norm_eps: value to put for every norm's eps (0: the laws of the ideal norms); None leaves it.

    Costs one SVD of (about 2D) × D in float64 and a few brackets more than the Lie algebra exceeds the gradients.
    Raises ValueError where the model has more than ``max_parameters`` trainable parameters or its output is not finite.

    >>> torch.manual_seed(0); layers = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 2, bias=False))
    <torch._C.Generator object at ...>
    >>> count_laws(layers, torch.zeros(4, 3), symmetries=()).upper  # UᵀU - VVᵀ, a symmetric 2 × 2 matrix
    3
    """
    if point not in ("generic", "model"):
        raise ValueError(f"point={point!r}; use 'generic' or 'model'")
    flow = optimizer_flow(optimizer)
    model = as_module(model, params)
    with left_as_found(model, loss_fn, batch, data):
        potentials = Potentials(model, batch, loss_fn, data, seed, norm_eps)
        if potentials.dimension > max_parameters:
            raise ValueError(
                f"the model has {potentials.dimension} trainable parameters, more than max_parameters={max_parameters} "
                "(memory 16·D² bytes, time D³); count a narrower copy: laws come one a unit"
            )
        if symmetries is None:
            from neuralmechanics.symmetry import find_symmetries

            symmetries = find_symmetries(model, batch, loss_fn)
        tell = progress or (lambda text: None)
        place = generic_place(potentials, symmetries, patience if point == "generic" else 0, tolerance, tell)
        z = flow.point(place.theta, potentials.generator)
        laws, known = known_laws(flow, potentials, symmetries, z, place.rows, tolerance)
        norms = laws.norm(dim=1, keepdim=True)
        lower, _, law_gap = matrix_rank(laws / norms.clamp_min(1e-300), tolerance, "known laws")
        gaps = [*place.gaps, law_gap]
        rank, levels = _orbit_dimension(potentials, flow, z, place, lower, max_level, tolerance, gaps, tell)
        fibre = potentials.dimension - place.rank
        generators = place.generators
        return LawCount(
            lower=lower,
            upper=int(z.numel()) - rank,
            fibre=fibre,
            generators=generators,
            gaps=tuple(gaps),
            parameters=potentials.dimension,
            phase_dimension=int(z.numel()),
            levels=levels,
            optimizer=str(flow),
            unexplained=unexplained_directions(potentials, place, symmetries, tolerance),
            known=tuple(dict.fromkeys(known)),
        )


def _orbit_dimension(
    potentials: Potentials,
    flow: OptimizerFlow,
    z: Tensor,
    place: Place,
    lower: int,
    max_level: int,
    tolerance: float,
    gaps: list[Gap],
    tell: Progress,
) -> tuple[int, int]:
    """Dimension of the Lie algebra at z, and the deepest level used; gaps of the rounds are appended.

    A level is drawn until a round adds nothing; the search ends with the first level that adds nothing in two rounds of
    fresh inputs. Then [W, Δ] ⊆ Δ near a generic point, so no deeper bracket leaves Δ.
    """
    rows = flow.rows(place.rows, z)
    scale = column_scale(rows)
    _, basis, gap = matrix_rank(rows / scale, tolerance, "fields")
    gaps.append(gap)
    # A direction that was seen with the relative size s is known to 1e-16/s: residuals below that are no growth.
    span = Span(basis, max(tolerance, 1e-13 / min(gap.kept for gap in gaps)))
    if isinstance(flow, SignDescent):
        return span.rank, 0
    potentials.require_brackets(place.theta)
    z = z.detach().requires_grad_()
    target = int(z.numel()) - lower
    for level in range(1, max_level + 1):
        grown = quiet = 0
        while span.rank < target and quiet < (1 if grown else 2):
            fields = [[flow.draw(potentials, z) for _ in range(level + 1)] for _ in range(4)]
            vectors = [v / s if s > 0 else v for v, s in (bracket_with_scale(draw, z) for draw in fields)]
            more, gap = span.extend(torch.stack(vectors) / scale, f"brackets of level {level}")
            gaps.append(gap)
            grown, quiet = grown + more, quiet + (more == 0)
            tell(f"level {level}: {span.rank} of {int(z.numel())} directions")
        if span.rank >= target or not grown:
            return span.rank, level
    return span.rank, max_level
