"""Calls of losses, with every option."""

from __future__ import annotations

import torch

from .case import D, G, I, P
from .table import Table

table = Table()
c = table.call

for shape in [(3, 2), (2, 4), (4, 3)]:
    for p in (1.0, 2.0, 3.0, float("inf")):
        c("cdist", "default", P(*shape), P(5, shape[1]), p)
        c("cdist", "default", P(2, *shape), D(shape[1] + 1, shape[1]), p, 1)
        c("_cdist_forward", "default", P(*shape), P(5, shape[1]), p, None)
        c("_cdist_forward", "default", P(*shape), D(2, 2, shape[1]), p, 2)
        c("pdist", "default", P(*shape), p)
        c("_pdist_forward", "default", P(*shape), p)
    c("_euclidean_dist", "default", P(*shape), P(5, shape[1]))

for reduction in (0, 1, 2):
    for shape in [(3, 2), (2, 4), (4, 3)]:
        n, classes = shape
        x, weight = P(*shape), D(classes, kind="positive")
        c("cross_entropy_loss", "default", x, I(classes, n), None, reduction)
        c("cross_entropy_loss", "default", x, I(classes, n), weight, reduction, 1, 0.2)
        c("cross_entropy_loss", "default", x, D(*shape, kind="positive"), None, reduction)
        c("cross_entropy_loss", "default", P(n, classes, 2), I(classes, n, 2), weight, reduction)
        c("cross_entropy_loss", "default", P(classes), I(classes), None, reduction)
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss", "hinge_embedding_loss"):
            c(name, "default", x, D(*shape), *([1.0] if name == "hinge_embedding_loss" else []), reduction)
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            c(name, "default", x, P(*shape), reduction)
        c("smooth_l1_loss", "default", x, P(*shape), reduction, 0.3)
        c("smooth_l1_loss", "default", x, P(*shape), reduction, 0.0)
        c("huber_loss", "default", x, P(*shape), reduction, 0.3)
        c("hinge_embedding_loss", "default", x, D(*shape), 2.0, reduction)
        signs = G((torch.arange(n) % 2) * 2 - 1)
        c("margin_ranking_loss", "default", P(n), P(n), signs, 0.0, reduction)
        c("margin_ranking_loss", "default", P(n), P(n), signs, 0.5, reduction)
        c("triplet_margin_loss", "default", x, P(*shape), P(*shape), 1.0, 2.0, 1e-6, False, reduction)
        c("triplet_margin_loss", "default", x, P(*shape), P(*shape), 0.5, 1.0, 1e-2, True, reduction)
        c("triplet_margin_loss", "default", x, P(*shape), D(*shape), 0.5, 3.0, 1e-2, True, reduction)
        c("cosine_embedding_loss", "default", x, P(*shape), signs, 0.0, reduction)
        c("cosine_embedding_loss", "default", x, P(*shape), signs, 0.3, reduction)
        c("multi_margin_loss", "default", x, I(classes, n), 1, 1, None, reduction)
        c("multi_margin_loss", "default", x, I(classes, n), 2, 0.5, weight, reduction)
        c("multilabel_margin_loss", "default", x, G(torch.tensor([[0, -1, *[0] * (classes - 2)]] * n)), reduction)
        for name in ("nll_loss", "nll_loss_nd"):
            c(name, "default", x, I(classes, n), None, reduction)
            c(name, "default", x, I(classes, n), weight, reduction, 1)
        c("nll_loss2d", "default", P(n, classes, 2, 1), I(classes, n, 2, 1), None, reduction)
        c("nll_loss2d", "default", P(n, classes, 2, 1), I(classes, n, 2, 1), weight, reduction, 1)
        c("nll_loss_forward", "default", x, I(classes, n), weight, reduction, 1)
        c("nll_loss_forward", "default", x, I(classes, n), None, reduction, -100)
        even = D(*shape, kind="positive")
        c("binary_cross_entropy", "default", P(*shape, kind="fraction"), G(torch.rand(shape).double()), None, reduction)
        c(
            "binary_cross_entropy",
            "default",
            P(*shape, kind="fraction"),
            G(torch.rand(shape).double()),
            D(*shape),
            reduction,
        )
        c("binary_cross_entropy_with_logits", "default", x, G(torch.rand(shape).double()), None, None, reduction)
        c("binary_cross_entropy_with_logits", "default", x, G(torch.rand(shape).double()), even, even, reduction)
        c("kl_div", "default", x, even, reduction)
        c("kl_div", "default", x, D(*shape), reduction, log_target=True)
        c("poisson_nll_loss", "default", x, even, True, False, 1e-8, reduction)
        c("poisson_nll_loss", "default", P(*shape, kind="positive"), even, False, True, 1e-3, reduction)
        c("ctc_loss", "IntList", P(n + 2, 1, classes + 1), I(classes, 1, 1), [n + 2], [1], 0, reduction, False)
        c("ctc_loss", "IntList", P(n + 2, 2, classes + 1), I(classes, 2, 1), [n + 2, n + 1], [1, 1], 1, reduction, True)
        c(
            "ctc_loss",
            "Tensor",
            P(n + 2, 1, classes + 1),
            I(classes, 1, 1),
            G(torch.tensor([n + 2])),
            G(torch.tensor([1])),
            classes,
            reduction,
            True,
        )
for x, y in [((2, 3), (2, 3)), ((3,), (2, 3)), ((2, 1, 3), (2, 3))]:
    for p in (2.0, 1.0, 3.0, float("inf"), 0.0):
        c("pairwise_distance", "default", P(*x), P(*y), p)
        c("pairwise_distance", "default", P(*x), P(*y), p, 1e-2, True)
