"""Losses: cross-entropy is a log-softmax; the others admit no change of their inputs."""

from __future__ import annotations

from typing import Any

from torch import fx

from neuralmechanics.symmetry.rules.registry import rule
from neuralmechanics.symmetry.rules.sizes import shape_of
from neuralmechanics.symmetry.rules.views import meta_shape


@rule("cross_entropy_loss", "cross_entropy")
def cross_entropy(d: Any, node: fx.Node, x: Any, target: Any, *rest: Any, **__: Any) -> Any:
    """Blind to what is constant over the classes, whatever the targets, weights and smoothing."""
    d.fix(target, *(r for r in rest if hasattr(r, "shape")))
    d.fix(d.softmax(x, 1 if len(x.shape) > 1 else 0))
    return d.constant(meta_shape(node))


@rule(
    "nll_loss",
    "nll_loss_nd",
    "nll_loss2d",
    "nll_loss_forward",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "kl_div",
    "poisson_nll_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "soft_margin_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "cosine_embedding_loss",
    "triplet_margin_loss",
    "gaussian_nll_loss",
    "ctc_loss",
)
def plain(d: Any, node: fx.Node, *xs: Any, **__: Any) -> Any:
    d.fix(*(x for x in xs if hasattr(x, "shape")))
    value = node.meta["val"]
    if isinstance(value, (tuple, list)):
        return tuple(d.constant(shape_of(v)) for v in value)
    return d.constant(shape_of(value))
