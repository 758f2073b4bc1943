"""Smooth: range moved from activations to the weights that read them, channel by channel."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from neuralmechanics.functional.as_found import left_as_found
from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.certificate import Evaluation, Piece
from neuralmechanics.rewrite.actions.looking.input_axes import input_axes, kept_axis
from neuralmechanics.rewrite.actions.looking.subject import Subject
from neuralmechanics.rewrite.actions.moving.scalings import Scaling, scalings_of
from neuralmechanics.rewrite.actions.moving.slice_sizes import slice_sizes
from neuralmechanics.rewrite.actions.rewritten import Refusal, Rewritten
from neuralmechanics.rewrite.plan import Plan
from neuralmechanics.slices import SliceTerm

__all__ = ["input_sizes", "smooth", "smooth_pieces"]

Statistics = Mapping[str, Tensor]


def smooth(
    model: nn.Module,
    batch: Any,
    loss_fn: LossFunction | None = None,
    *,
    statistics: Statistics | None = None,
    alpha: float = 0.5,
    params: Mapping[str, Tensor] | None = None,
) -> Rewritten:
    """Channel j of what weights read is divided by s_j = max|x_j|^α / max|W_j|^(1-α), and their column j multiplied.

    Wherever a family of factors stands between what makes a channel (gain and bias of a norm, rows of a weight, values
    of a head) and the weights that read it. ``statistics``: for weights by name the greatest |x_j| of each input
    channel, as ``input_sizes`` measures them on batches; by default on ``batch``. Source: Xiao et al. 2023
    (SmoothQuant), equation 4.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)).double()
    >>> batch = torch.randn(5, 3, dtype=torch.float64)
    >>> smoothed = smooth(model, batch, alpha=1.0)
    >>> _ = model.load_state_dict(smoothed.params)
    >>> torch.allclose(input_sizes(model, batch)["2.weight"], torch.ones(4, dtype=torch.float64))
    True
    """
    subject = Subject(model, batch, loss_fn, params)
    pieces, refused = smooth_pieces(subject, statistics, alpha)
    return subject.rewritten(pieces, refused)


def input_sizes(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, params: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """For each weight that a module of its own reads the greatest |x_j| of every input channel on a batch.

    Several batches: take the greater of each entry.
    """
    return _measured(Subject(model, batch, loss_fn, params))


def _measured(subject: Subject) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        hooks.enter_context(left_as_found(subject.model, subject.loss_fn, subject.batch, parameters=False))
        for name, module in subject.model.named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.ndim >= 2 and not isinstance(module, nn.Embedding):
                handle = module.register_forward_pre_hook(_watching(found, f"{name}.weight" if name else "weight"))
                hooks.callback(handle.remove)
        Evaluation(subject.model, subject.batch, subject.loss_fn).own(subject.now)
    known = subject.aliases
    return {known.get(name, name): value for name, value in found.items()}


def _watching(found: dict[str, Tensor], name: str) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0] if inputs else None
        if not isinstance(x, Tensor) or not x.is_floating_point() or not x.ndim:
            return
        dim = -1 - len(module.kernel_size) if isinstance(module, _ConvNd) else -1  # of one example, too
        sizes = x.detach().double().abs().movedim(dim, 0).flatten(1).amax(1).cpu() if x.numel() else None
        if sizes is not None:
            found[name] = torch.maximum(found[name], sizes) if name in found else sizes

    return hook


def smooth_pieces(
    subject: Subject, statistics: Statistics | None = None, alpha: float = 0.5
) -> tuple[list[Piece], list[Refusal]]:
    """One piece for each scaling with readers of which it is known what enters them."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the exponent of the activations, between 0 and 1; got {alpha}")
    if subject.weightless:
        raise ValueError("smooth reads the weights, and this model has none (meta device): load them first")
    given = _measured(subject) if statistics is None else statistics
    axes = input_axes(subject.program)
    pieces: list[Piece] = []
    refused: list[Refusal] = []
    weights = dict(subject.now)
    # From the last to the first: the rows of what reads a channel have been scaled when its columns are.
    for scaling in reversed(list(scalings_of(subject))):
        readers = [term for term in scaling.terms if _reads(subject, term, axes)]
        others = [term for term in scaling.terms if all(term is not r for r in readers)]
        if not readers or not others:
            continue
        answer = _factors(weights, scaling, readers, axes, given, alpha)
        if isinstance(answer, Refusal):
            refused.append(answer)
        else:
            changes = tuple(scaling.changes(answer, subject))
            weights = Plan(changes).apply(weights)
            pieces.append(Piece(scaling.family.name, changes, scaling.family.requires))
    if not pieces and not refused:
        reason = "no factors stand between what makes a channel and the weights that read it"
        refused.append(Refusal(type(subject.model).__name__, reason))
    return pieces, refused


def _factors(
    state: Mapping[str, Tensor],
    scaling: Scaling,
    readers: list[SliceTerm],
    axes: Mapping[str, frozenset[int]],
    statistics: Statistics,
    alpha: float,
) -> Float64[Tensor, " count"] | Refusal:
    activations, weights = torch.zeros(2, scaling.count, dtype=torch.float64)
    powers = {float(power) for term in readers for power in term.coefficients}
    if len(powers) != 1 or abs(power := powers.pop()) != 1:
        return Refusal(scaling.family.name, "its readers are scaled in different ways")
    known = False
    for term in readers:
        name = _name(term)
        sizes, shape = statistics.get(name), tuple(state[name].shape)
        _raise_to(weights, term, slice_sizes(state[name], term.view, "max"))
        (axis,) = kept if len(kept := kept_axis(term.view, shape) & axes[name]) == 1 else (None,)
        if sizes is None or axis is None or len(sizes) != shape[axis]:
            continue
        spread = sizes.double().cpu().reshape([-1 if d == axis else 1 for d in range(len(shape))]).expand(shape)
        _raise_to(activations, term, slice_sizes(spread, term.view, "max"))
        known = True
    if not known:
        names = ", ".join(sorted({_name(t) for t in readers}))
        return Refusal(names, "it is not known what enters it: no module reads it alone; pass statistics={name: sizes}")
    if not bool(activations.isfinite().all()):
        return Refusal(scaling.family.name, "the statistics of its channels are not finite")
    size = activations**alpha / weights ** (1 - alpha)
    chosen = torch.where((activations > 0) & (weights > 0), size, 1.0)
    return chosen**power


def _reads(subject: Subject, term: SliceTerm, axes: Mapping[str, frozenset[int]]) -> bool:
    """Whether the term's slices are columns of a weight: what its sums of products run over."""
    kept = kept_axis(term.view, _shape(subject, term))
    return len(_shape(subject, term)) > 1 and bool(kept & axes.get(_name(term), frozenset()))


def _raise_to(total: Tensor, term: SliceTerm, sizes: Tensor) -> None:
    """The greater of what is there and the size of each factor's slices, in place."""
    index = torch.as_tensor(term.charges)
    total.scatter_reduce_(0, index, sizes[torch.as_tensor(term.slices)], "amax")


def _name(term: SliceTerm) -> str:
    return term.view.parameter


def _shape(subject: Subject, term: SliceTerm) -> tuple[int, ...]:
    return subject.shape(term.view.parameter)
