"""Models by name: one grammar, `<architecture>[-bn]`, for any input size and number of classes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from neuralmechanics.experiments.models.attention import gpt, vit
from neuralmechanics.experiments.models.convolutional import conv, convnet, vgg, vgg_small
from neuralmechanics.experiments.models.layers import initialise_as_paper
from neuralmechanics.experiments.models.perceptrons import fc, logistic, mlp
from neuralmechanics.experiments.models.residual import RESNET_DEPTHS, resnet, wide_resnet
from neuralmechanics.experiments.seeds import stream_seed

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {
    "logistic": logistic,
    "mlp": mlp,
    "fc": fc,
    "conv": conv,
    "convnet": convnet,
    "vgg-small": vgg_small,
    **{f"vgg{depth}": partial(vgg, depth=depth) for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in RESNET_DEPTHS},
    "wide-resnet50-2": partial(resnet, depth=50, width_factor=2),
    "wide-resnet101-2": partial(resnet, depth=101, width_factor=2),
    "gpt": gpt,
    "vit": vit,
}
_WIDE = re.compile(r"wide-resnet(\d+)-(\d+)")
_WITHOUT_BATCH_NORM = ("logistic", "gpt", "vit")


def model_names() -> tuple[str, ...]:
    """Every zoo name; `wide-resnet<depth>-<width>` exists for every depth 6n+4 and is listed by two examples."""
    wide = ("wide-resnet16-4", "wide-resnet28-10")
    plain = (*_BUILDERS, *wide)
    return tuple(
        name + suffix for name in plain for suffix in ("", "-bn") if not suffix or name not in _WITHOUT_BATCH_NORM
    )


def build_model(
    name: str, *, input_shape: tuple[int, ...], classes: int, seed: int = 0, initialisation: str = "default"
) -> nn.Module:
    """The zoo's network `name`, initialised from `seed` alone (torch's own random state is left as it was).

    `-bn` at the end of a name means batch norm; without it there is none (residual networks too).
    `initialisation="paper"` draws weights as the reference code of arXiv:2012.04728 does. Raises `ValueError` for
    a name that is not in the zoo, with the nearest one that is.

    >>> model = build_model("vgg16-bn", input_shape=(3, 64, 64), classes=200)
    >>> sum(parameter.numel() for parameter in model.parameters())
    18075912
    """
    if initialisation not in ("default", "paper"):
        raise ValueError(f"initialisation must be 'default' or 'paper', got {initialisation!r}")
    if classes < 1:
        raise ValueError(f"classes must be at least 1, got {classes}")
    builder = _builder(name.removesuffix("-bn"), name)
    # Weights depend on the seed alone, and the caller's random state on nothing here.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, "weights"))
        model = builder(tuple(input_shape), classes, batch_norm=name.endswith("-bn"))
        if initialisation == "paper":
            initialise_as_paper(model)
    return model


def _builder(architecture: str, name: str) -> Builder:
    if architecture in _BUILDERS:
        return _BUILDERS[architecture]
    wide = _WIDE.fullmatch(architecture)
    if wide:
        return partial(wide_resnet, depth=int(wide[1]), widen=int(wide[2]))
    nearest = difflib.get_close_matches(name, model_names(), n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown model {name!r}; the nearest known name is {nearest!r}")
