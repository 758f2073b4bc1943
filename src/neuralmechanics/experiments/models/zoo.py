"""Models by name, those of the reference code among them, for any input size and number of classes.

Plain networks have batch norm where their name ends in `-bn`; residual ones have it unless it ends in `-nobn`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from functools import partial

from torch import nn

from neuralmechanics.experiments.models.attention import gpt, vit
from neuralmechanics.experiments.models.convolutional import conv, convnet, vgg, vgg_small
from neuralmechanics.experiments.models.layers import initialise_as_paper
from neuralmechanics.experiments.models.perceptrons import fc, logistic, mlp
from neuralmechanics.experiments.models.residual import RESNET_DEPTHS, resnet, wide_resnet
from neuralmechanics.experiments.seeds import seeded

Builder = Callable[..., nn.Module]

_BUILDERS: dict[str, Builder] = {
    "logistic": logistic,
    "mlp": mlp,
    "fc": fc,
    "conv": conv,
    "convnet": convnet,
    "vgg-small": vgg_small,
    **{f"vgg{depth}": partial(vgg, depth=depth) for depth in (11, 13, 16, 19)},
    "gpt": gpt,
    "vit": vit,
}
_RESIDUAL: dict[str, Builder] = {
    **{f"resnet{depth}": partial(resnet, depth=depth) for depth in RESNET_DEPTHS},
    **{f"wide-resnet{depth}": partial(resnet, depth=depth, width_factor=2) for depth in RESNET_DEPTHS},
}
# Pre-activation networks have two numbers, but these are the wide ones above by the names of their paper.
_WIDE = re.compile(r"wide-resnet(\d+)-(\d+)")
_WIDE_BY_TWO = {"wide-resnet50-2": "wide-resnet50", "wide-resnet101-2": "wide-resnet101"}
_WITHOUT_BATCH_NORM = ("logistic", "gpt", "vit")


def model_names() -> tuple[str, ...]:
    """Every zoo name; `wide-resnet<depth>-<width>` exists for every depth 6n+4 and is listed by two examples."""
    plain = [
        name + suffix for name in _BUILDERS for suffix in ("", "-bn") if not suffix or name not in _WITHOUT_BATCH_NORM
    ]
    residual = (*_RESIDUAL, "wide-resnet16-4", "wide-resnet28-10")
    return (*plain, *(name + suffix for name in residual for suffix in ("", "-nobn")))


def build_model(
    name: str, *, input_shape: tuple[int, ...], classes: int, seed: int = 0, initialisation: str = "default"
) -> nn.Module:
    """The zoo's network `name`, initialised from `seed` alone (torch's own random state is left as it was).

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
    architecture, batch_norm = _parsed(name)
    builder = _builder(architecture, name)
    # Weights depend on the seed alone, and the caller's random state on nothing here.
    with seeded(seed, "weights"):
        model = builder(tuple(input_shape), classes, batch_norm=batch_norm)
        if initialisation == "paper":
            # There the linear head of a residual network is left as torch draws it.
            initialise_as_paper(model, linear=not _is_residual(architecture))
    return model


def _parsed(name: str) -> tuple[str, bool]:
    """The architecture in a name, and whether it has batch norm.

    >>> _parsed("vgg16"), _parsed("vgg16-bn"), _parsed("resnet18"), _parsed("resnet18-nobn")
    (('vgg16', False), ('vgg16', True), ('resnet18', True), ('resnet18', False))
    """
    if name.endswith("-bn"):
        return name.removesuffix("-bn"), True
    plain = name.removesuffix("-nobn")
    # A plain network without batch norm has no suffix: any other is part of an unknown name.
    return (plain, plain == name) if _is_residual(plain) else (name, False)


def _is_residual(architecture: str) -> bool:
    return architecture in _RESIDUAL or _WIDE.fullmatch(architecture) is not None


def _builder(architecture: str, name: str) -> Builder:
    architecture = _WIDE_BY_TWO.get(architecture, architecture)
    if architecture in _BUILDERS:
        return _BUILDERS[architecture]
    if architecture in _RESIDUAL:
        return _RESIDUAL[architecture]
    wide = _WIDE.fullmatch(architecture)
    if wide:
        return partial(wide_resnet, depth=int(wide[1]), widen=int(wide[2]))
    nearest = difflib.get_close_matches(name, model_names(), n=1, cutoff=0.0)[0]
    raise ValueError(f"unknown model {name!r}; the nearest known name is {nearest!r}")
