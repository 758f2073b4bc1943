"""Rotate: residual streams, heads and rotary pairs turned by orthogonal matrices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Piece
from neuralmechanics.rewrite.actions.looking.choosing import named_spaces
from neuralmechanics.rewrite.actions.looking.explaining import why_no_matrix
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.matrices import hadamard, random_orthogonal
from neuralmechanics.rewrite.actions.moving.turning import mixed_space, turned_pairs
from neuralmechanics.rewrite.actions.preparing import prepared, pruned
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.symmetry.families.spaces import Space

__all__ = ["rotate", "rotate_pieces"]

_ALLOWED = 1e-9


def rotate(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    matrix: str | Tensor = "random",
    space: str | None = None,
    params: Mapping[str, Tensor] | None = None,
    prepare: bool = False,
    seed: int = 0,
) -> Rewritten:
    """Channels turned by an orthogonal Q wherever they stand: writers by Q, readers by Q, gains passed through.

    ``matrix``: "random" (Haar's measure, from ``seed``), "hadamard", or Q itself, of either determinant. ``space``:
    "stream" for residual streams, "head" for the values of each head (and the queries and keys of those without rotary
    embedding), "pair" for rotary pairs, or the name of one of ``symmetries.spaces``; by default streams and heads.
    ``prepare``: tied tensors are untied and gains folded first where that opens a rotation.

    >>> norm, head = torch.nn.RMSNorm(4), torch.nn.Linear(4, 2)
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), norm, head).double()
    >>> rotate(model, torch.randn(5, 3, dtype=torch.float64), matrix="hadamard").plan.tensors
    ('0.weight', '0.bias', '2.weight')
    """
    subject = Subject(model, batch, loss_fn, params)
    subject, refused = prepared(subject) if prepare else (subject, [])
    pieces, more = rotate_pieces(subject, matrix, space, seed)
    return pruned(subject, pieces).rewritten(pieces, [*refused, *more])


def rotate_pieces(
    subject: Subject, matrix: str | Tensor = "random", space: str | None = None, seed: int = 0
) -> tuple[list[Piece], list[Refusal]]:
    """One piece for each space or family of pairs that turns."""
    _require_orthogonal(matrix)
    draw = torch.Generator().manual_seed(seed)
    return _pairs(subject, matrix, draw) if space == "pair" else _spaces(subject, matrix, space, draw)


def _require_orthogonal(matrix: str | Tensor) -> None:
    if isinstance(matrix, str):
        if matrix not in ("random", "hadamard"):
            raise ValueError(f'matrix must be "random", "hadamard" or an orthogonal matrix, got {matrix!r}')
        return
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.is_floating_point():
        raise ValueError(f"matrix of shape {tuple(matrix.shape)} and {matrix.dtype} given; a square one is needed")
    q = matrix.double()
    off = float((q.mT @ q - torch.eye(len(q), dtype=torch.float64, device=q.device)).abs().max())
    if not off <= _ALLOWED:
        raise ValueError(
            f"matrix is off by {off:.1e} from QᵀQ = 1, at most {_ALLOWED:g} is allowed; make it in float64"
        )


# --- streams and heads ----------------------------------------------------------------------------------------------


def _spaces(
    subject: Subject, matrix: str | Tensor, asked: str | None, draw: torch.Generator
) -> tuple[list[Piece], list[Refusal]]:
    spaces = subject.symmetries.channel_spaces
    chosen = named_spaces(subject, spaces, asked, ("stream", "head"))
    if isinstance(matrix, Tensor):
        fitting = [s for s in chosen if s.width == len(matrix)]
        if not fitting and chosen:
            widths = ", ".join(f"{s.name}: {s.width}" for s in chosen[:6])
            raise ValueError(f"a matrix of width {len(matrix)} fits no space that can be turned; widths: {widths}")
        chosen = fitting
    pieces, refused = [], []
    for one in chosen:
        turn = _turn(one, matrix, draw)
        zero = _zero_gain(subject, one) if turn is not None and not isinstance(turn, Refusal) else None
        if isinstance(turn, Refusal):
            refused.append(turn)
        elif zero is not None:
            refused.append(
                Refusal(one.name, f"the gain {zero} has a zero entry, through which nothing turns: fold first")
            )
        else:
            pieces.append(mixed_space(one, turn))
    if asked in (None, "stream", "head"):
        refused += why_no_matrix(subject, asked)
    if not pieces and not refused:
        what = "residual stream that norms see by length" if asked == "stream" else "values that linear maps alone see"
        refused.append(Refusal(type(subject.model).__name__, f"there is no {what}"))
    return pieces, refused


def _turn(space: Space, matrix: str | Tensor, draw: torch.Generator) -> Tensor | Refusal:
    keeps_ones = space.group == "ones-preserving orthogonal"
    if matrix == "random":
        shape, n = space.copies_shape, space.width
        turns = [random_orthogonal(n, draw, keeps_ones=keeps_ones) for _ in range(math.prod(shape))]
        return torch.stack(turns) if shape else turns[0]
    if isinstance(matrix, str):
        try:
            found = hadamard(space.width)
        except ValueError as error:
            return Refusal(space.name, str(error))
    else:
        found = matrix.double().cpu()
    if keeps_ones and float((found.sum(1) - 1).abs().max()) > _ALLOWED:
        why = "its layer norms subtract the mean, so that only matrices with Q·1 = 1 leave them as they are"
        return Refusal(space.name, f'{why}: take matrix="random", or make them RMS norms after centre()')
    return found


def _zero_gain(subject: Subject, space: Space) -> str | None:
    """A gain between writers and readers that has a zero."""
    for entry in space.entries:
        for gain, _ in entry.dressing if entry.mixes else ():
            value = subject.current(gain.parameter)
            if not value.is_meta and bool((gain.factor * value.double() + gain.offset == 0).any()):
                return gain.parameter
    return None


# --- rotary pairs -----------------------------------------------------------------------------------------------------


def _pairs(subject: Subject, matrix: str | Tensor, draw: torch.Generator) -> tuple[list[Piece], list[Refusal]]:
    if isinstance(matrix, Tensor) and (len(matrix) != 2 or float(torch.linalg.det(matrix.double())) < 0):
        raise ValueError("a rotary pair is turned by a matrix of shape (2, 2) with determinant 1")
    pieces: list[Piece] = []
    refused: list[Refusal] = []
    for family in subject.symmetries:
        count = family.action.turns
        if not count:
            continue
        if matrix == "hadamard":
            refused.append(
                Refusal(family.name, "Hadamard's matrix of width 2 is a reflection, rotary pairs only rotate")
            )
            continue
        angles: Sequence[float]
        if isinstance(matrix, Tensor):
            angles = [math.atan2(float(matrix[1, 0]), float(matrix[0, 0]))] * count
        else:
            angles = (2 * math.pi * torch.rand(count, generator=draw, dtype=torch.float64)).tolist()
        piece = turned_pairs(family, angles)
        if piece is None:
            refused.append(Refusal(family.name, "its pairs stand in more than two dimensions of a tensor"))
        else:
            pieces.append(piece)
    if not pieces and not refused:
        refused.append(
            Refusal("rotary pairs", "no rotary embedding was found whose pairs of queries and keys may turn")
        )
    return pieces, refused
