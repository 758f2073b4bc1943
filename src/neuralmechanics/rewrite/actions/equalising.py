"""Equalise: the slices of each weight made alike in size, over all connected channels in one solve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.scalings import Scaling, scalings_of
from neuralmechanics.rewrite.actions.moving.slice_sizes import MEASURES, Measure, slice_sizes
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.plan import Plan

__all__ = ["equalise", "equalise_pieces"]

_ROUNDS = 60  # solves, each at the sizes that the last one has left
_CLOSE = 1e-8  # log-factor below which a solve moves nothing
_FARTHEST = 10.0  # log-factor beyond which a channel is not moved: e^10


def equalise(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    by: Measure = "range",
    params: Mapping[str, Tensor] | None = None,
) -> Rewritten:
    """Factors after which the slices of each weight differ in size as little as factors can make them.

    The deviations of log sizes from the mean over their weight are fitted by least squares, over all slices of all
    weights at once, until they are orthogonal to every factor. For two layers this is cross-layer equalisation (Nagel
    et al. 2019, equation 11); channels that residual connections, gates or depthwise kernels join are solved together.
    ``by``: "range" (greatest less least entry), "max" (greatest absolute one) or "l2".

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    >>> equalised = equalise(model, torch.randn(5, 3, dtype=torch.float64), by="l2")
    >>> first, second = (equalised.params[name] for name in ("0.weight", "2.weight"))
    >>> ratio = first.norm(dim=1) / second.norm(dim=0)
    >>> torch.allclose(ratio, ratio[0].expand(4))
    True
    """
    subject = Subject(model, batch, loss_fn, params)
    pieces, refused = equalise_pieces(subject, by)
    return subject.rewritten(pieces, refused)


@dataclass(frozen=True, eq=False)
class _Row:
    """The slices of one weight along one view, and which factors multiply each, to which power."""

    name: str
    powers: Any  # scipy's sparse matrix [slices, factors]
    view: Any


def equalise_pieces(subject: Subject, by: Measure = "range") -> tuple[list[Piece], list[Refusal]]:
    """One piece for each scaling, their factors solved for together."""
    if by not in MEASURES:
        raise ValueError(f"by must be one of {', '.join(MEASURES)}; got {by!r}")
    if subject.weightless:
        raise ValueError("equalise reads the weights, and this model has none (meta device): load them first")
    scalings = [s for s in scalings_of(subject) if sum(_is_weight(subject, t.view.parameter) for t in s.terms)]
    if not scalings:
        reason = "no weights share channels that factors could be moved between"
        return [], [Refusal(type(subject.model).__name__, reason)]
    offsets = np.cumsum([0, *(s.count for s in scalings)])
    rows = _rows(subject, scalings, offsets)
    weights = {name: subject.now[name].detach().double() for name in {row.name for row in rows}}
    total = _balanced(subject, scalings, offsets, rows, weights, by)
    pieces = []
    for scaling, start in zip(scalings, offsets, strict=False):
        factors = torch.as_tensor(total[start : start + scaling.count]).exp()
        if bool((factors != 1).any()):
            changes = tuple(scaling.changes(factors, subject))
            pieces.append(Piece(scaling.family.name, changes, scaling.family.requires))
    return pieces, []


def _balanced(
    subject: Subject,
    scalings: Sequence[Scaling],
    offsets: np.ndarray,
    rows: Sequence[_Row],
    weights: Mapping[str, Tensor],
    by: Measure,
) -> np.ndarray:
    """The logarithms of the factors at which a further solve moves nothing; zeros where the sizes end less alike.

    Slices of one weight along two dimensions share entries, so that each solve is made at the sizes of the last one.
    """
    total = np.zeros(offsets[-1])
    moved, last, damping = weights, np.inf, 1.0
    for _ in range(_ROUNDS):
        step = _solved(rows, moved, by, offsets[-1])
        farthest = float(np.abs(step).max(initial=0.0))
        damping = damping / 2 if farthest > 0.9 * last else damping
        total, last = np.clip(total + damping * step, -_FARTHEST, _FARTHEST), farthest
        moved = _moved(subject, scalings, offsets, total, weights)
        if farthest < _CLOSE:
            break
    return total if _spread(rows, moved, by) < _spread(rows, weights, by) else np.zeros_like(total)


def _is_weight(subject: Subject, name: str) -> bool:
    shape = subject.shape(name)
    return sum(n > 1 for n in shape) > 1 and not subject.now[name].is_complex()


def _rows(subject: Subject, scalings: Sequence[Scaling], offsets: np.ndarray) -> list[_Row]:
    """For each weight and each way in which it is sliced, all factors of its slices."""
    from scipy import sparse

    found: dict[tuple[str, tuple[int, ...], tuple[int, ...]], list[Any]] = {}
    views = {}
    for scaling, start in zip(scalings, offsets, strict=False):
        for term in scaling.terms:
            view = term.view
            if not _is_weight(subject, view.parameter) or not view.kept:
                continue
            key = (view.parameter, tuple(view.shape), view.kept)
            views[key] = view
            entries = (term.coefficients, (term.slices, start + term.charges))
            found.setdefault(key, []).append(sparse.csr_matrix(entries, shape=(view.size, int(offsets[-1]))))
    return [_Row(key[0], sum(parts[1:], parts[0]), views[key]) for key, parts in found.items()]


def _logarithms(row: _Row, weights: Mapping[str, Tensor], by: Measure) -> tuple[np.ndarray, np.ndarray]:
    """The slices that some factor moves and that are not zero, and the logarithms of their sizes."""
    sizes = slice_sizes(weights[row.name], row.view, by).numpy()
    moving = np.asarray(abs(row.powers).sum(1)).reshape(-1) > 0
    chosen = np.flatnonzero(moving & (sizes > 0))
    return chosen, np.log(sizes[chosen])


def _spread(rows: Sequence[_Row], weights: Mapping[str, Tensor], by: Measure) -> float:
    """What is minimised."""
    parts = (_logarithms(row, weights, by)[1] for row in rows)
    return float(sum(((x - x.mean()) ** 2).sum() for x in parts if len(x)))


def _solved(rows: Sequence[_Row], weights: Mapping[str, Tensor], by: Measure, count: int) -> np.ndarray:
    """The least-squares factors, of least norm, with a free mean for each row."""
    from scipy import sparse
    from scipy.sparse.linalg import lsmr

    blocks, right = [], []
    for number, row in enumerate(rows):
        chosen, logarithms = _logarithms(row, weights, by)
        if len(chosen):
            places = (np.arange(len(chosen)), np.full(len(chosen), number))
            mean = sparse.csr_matrix((-np.ones(len(chosen)), places), shape=(len(chosen), len(rows)))
            blocks.append(sparse.hstack([row.powers[chosen], mean]))
            right.append(logarithms.mean() - logarithms)
    if not blocks:
        return np.zeros(count)
    answer: np.ndarray = lsmr(sparse.vstack(blocks).tocsr(), np.concatenate(right), atol=1e-13, btol=1e-13)[0]
    return answer[:count]


def _moved(
    subject: Subject, scalings: Sequence[Scaling], offsets: np.ndarray, total: np.ndarray, weights: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights under all factors."""
    changes = []
    for scaling, start in zip(scalings, offsets, strict=False):
        factors = torch.as_tensor(total[start : start + scaling.count]).exp()
        changes += [c for c in scaling.changes(factors, subject) if c.tensor in weights]
    return Plan(tuple(changes)).apply(weights)
