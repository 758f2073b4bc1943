"""Losses: cross-entropy is a log-softmax; some see differences or angles alone; others admit no change."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from neuralmechanics.symmetry.lowering.rules.functions import ABSOLUTE, bound, function_of
from neuralmechanics.symmetry.lowering.rules.rearranging.movement import meta_shape, reshape, take
from neuralmechanics.symmetry.lowering.rules.reducing.angles import cosine
from neuralmechanics.symmetry.lowering.rules.reducing.lengths import length
from neuralmechanics.symmetry.lowering.rules.registry import rule
from neuralmechanics.symmetry.lowering.sizes import shape_of
from neuralmechanics.symmetry.program.builder import Builder
from neuralmechanics.symmetry.program.refusals import NotSoughtError
from neuralmechanics.symmetry.program.value import Value, is_value


@rule("cross_entropy_loss")
def cross_entropy(d: Builder, node: fx.Node, x: Value, target: Value, *rest: Any, **__: object) -> Value:
    """Invariant to what is constant over the classes, whatever the targets, weights and smoothing."""
    d.fix(target, *(r for r in rest if is_value(r)))
    scores = d.softmax(x, 1 if len(x.shape) > 1 else 0, True)
    return d.ended(meta_shape(node), bound(node), scores)  # log-softmax of a log-softmax is itself


@rule("mse_loss", "l1_loss")
def size_of_difference(d: Builder, node: fx.Node, x: Value, y: Value, reduction: int = 1) -> Value:
    """The square or the size of x - y, entry by entry: homogeneous, and what is added to both does not change it."""
    step = d.add(x, y, -1.0)
    return _reduced(d, d.power(step, 2.0) if "mse" in str(node.target) else _size(d, step), reduction)


@rule("smooth_l1_loss", "huber_loss")
def bent_size_of_difference(
    d: Builder, node: fx.Node, x: Value, y: Value, reduction: int = 1, bend: float = 1.0
) -> Value:
    """A square near zero and a size far from it, of x - y entry by entry: an even function of it."""
    step, smooth = d.add(x, y, -1.0), "smooth" in str(node.target)
    if smooth and not bend:
        return _reduced(d, _size(d, step), reduction)

    def of_step(step: Tensor) -> Tensor:
        zeros = torch.zeros_like(step)
        if smooth:
            return functional.smooth_l1_loss(step, zeros, reduction="none", beta=bend)
        return functional.huber_loss(step, zeros, reduction="none", delta=bend)

    function = function_of("smooth_l1_loss" if smooth else "huber_loss", of_step, settings=bend)
    return _reduced(d, d.nonlinear(step, nonnegative=True, function=function, parity=1), reduction)


def _size(d: Builder, step: Value) -> Value:
    return d.homogeneous(step, True, ABSOLUTE, even=True)


def _reduced(d: Builder, each: Value, reduction: int) -> Value:
    return d.reduce(each, range(len(each.shape)), False, reduction == 1) if reduction else each


@rule("margin_ranking_loss")
def of_difference(d: Builder, node: fx.Node, x: Value, y: Value, *rest: Any, **__: object) -> Value:
    """A function of x - y alone, which what is added to both does not change."""
    d.fix(*(r for r in rest if is_value(r)))
    loss = bound(node, 0, 1)
    # The operation itself, with the difference first and zeros second.
    of_step = replace(loss, apply=lambda step, *data: loss.apply(step, torch.zeros_like(step), *data))
    return d.ended(meta_shape(node), of_step, d.add(x, y, -1.0))


@rule("triplet_margin_loss")
def triplet(
    d: Builder,
    node: fx.Node,
    anchor: Any,
    near: Any,
    far: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 1,
) -> Value:
    """Of the distances between three points: max(0, margin + |a - n| - |a - f|), with |n - f| where it is less."""
    sizes = [_distance(d, anchor, near, p, eps), _distance(d, anchor, far, p, eps)]
    sizes += [_distance(d, near, far, p, eps)] if swap else []

    def loss(near: Tensor, *far: Tensor) -> Tensor:
        each = (margin + near - torch.stack(far).amin(0)).clamp_min(0).squeeze(-1)
        return each if reduction == 0 else each.mean() if reduction == 1 else each.sum()

    function = function_of("triplet_margin_loss", loss, settings=(margin, reduction))
    return d.ended(meta_shape(node), function, *sizes)


def _distance(d: Builder, x: Value, y: Value, p: float, eps: float) -> Value:
    """The norm of x - y + eps along the last dimension, which stays with one entry."""
    if p <= 0:
        raise NotSoughtError("a norm that is no length")
    step = d.add_number(d.add(x, y, -1.0), float(eps))
    return length(d, step, (len(step.shape) - 1,), float(p))


@rule("pairwise_distance")
def distance(
    d: Builder, node: fx.Node, x: Value, y: Value, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Value:
    """The norm of x - y + eps along the last dimension."""
    return reshape(d, _distance(d, x, y, float(p), float(eps)), meta_shape(node))


@rule("cdist", "_euclidean_dist", "_cdist_forward")
def distances(d: Builder, node: fx.Node, x: Value, y: Value, p: float = 2.0, *_: object) -> Value:
    """The norms of x_i - y_j for all pairs of rows."""
    x = reshape(d, x, (*x.shape[:-1], 1, x.shape[-1]))
    y = reshape(d, y, (*y.shape[:-2], 1, *y.shape[-2:]))
    return reshape(d, _distance(d, x, y, float(p), 0.0), meta_shape(node))


@rule("pdist", "_pdist_forward")
def distances_of_rows(d: Builder, node: fx.Node, x: Value, p: float = 2.0) -> Value:
    """The norms of x_i - x_j for all i < j."""
    first, second = zip(*combinations(range(x.shape[0]), 2), strict=True)
    return reshape(d, _distance(d, take(d, x, 0, first), take(d, x, 0, second), float(p), 0.0), meta_shape(node))


@rule("cosine_embedding_loss")
def cosine_embedding(d: Builder, node: fx.Node, x: Value, y: Value, target: Value, *_: object, **__: object) -> Value:
    """A function of the angle between x and y; 1e-12 is added to both squared lengths."""
    d.fix(target)
    given: Any = (*node.args[3:], *(0.0, 1)[len(node.args) - 3 :])
    margin, reduction = given

    def loss(angle: Tensor, target: Tensor) -> Tensor:
        each = torch.where(target == 1, 1 - angle, torch.where(target == -1, (angle - margin).clamp_min(0), 0.0))
        return each if reduction == 0 else each.mean() if reduction == 1 else each.sum()

    function = function_of("cosine_embedding_loss", loss, node.args[2], settings=(margin, reduction))
    return d.ended(meta_shape(node), function, cosine(d, node, x, y, len(x.shape) - 1, 1e-12))


@rule("multi_margin_loss", "multilabel_margin_loss")
def margins(d: Builder, node: fx.Node, x: Value, *rest: Any, **__: object) -> Value:
    """Of the differences between the scores of classes: invariant to what is constant over them, as softmax is."""
    d.fix(*(r for r in rest if is_value(r)))
    return d.ended(meta_shape(node), bound(node), d.softmax(x, len(x.shape) - 1, True))


@rule(
    "nll_loss",
    "nll_loss_nd",
    "nll_loss2d",
    "nll_loss_forward",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "poisson_nll_loss",
    "hinge_embedding_loss",
    "soft_margin_loss",
    "ctc_loss",
)
def plain(d: Builder, node: fx.Node, x: Value, *xs: Value, **__: object) -> Any:
    """A strictly changing function of its first input for given targets; what targets depend on is not looked at."""
    others = [v for v in xs if is_value(v)]
    if any(v.depends for v in others):
        raise NotSoughtError("a loss whose targets depend on parameters")
    d.fix(*others)
    value = node.meta["val"]
    if isinstance(value, (tuple, list)):
        return tuple(d.ended(shape_of(v), bound(node, part=k), x) for k, v in enumerate(value))
    return d.ended(shape_of(value), bound(node), x)
