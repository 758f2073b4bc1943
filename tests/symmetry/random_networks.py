"""Random small networks for property tests: readable modules, fixed by the integers hypothesis draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import nn

from .blocks import Attention, Concat, Gated, ReluSquared, Residual, RMSNorm, Tokens
from .network import Network, prepared
from .nullspace import elements

LARGEST = 300  # parameters: keeps an oracle call near a tenth of a second

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "identity": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(0.3),
    "prelu": nn.PReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
HEADS = ("output", "cross_entropy", "log_softmax", "mse", "label_smoothing")

Draw = Callable[..., Any]


def _one_of(draw: Draw, *values: Any) -> Any:
    return draw(st.sampled_from(values))


def _flag(draw: Draw) -> bool:
    return bool(draw(st.booleans()))


def _wrapped(layers: list[nn.Module], draw: Draw, activation: str, norm: nn.Module | None) -> list[nn.Module]:
    """The activation and the norm in either order, dropout at rate 0 now and then."""
    tail = [ACTIVATIONS[activation]()]
    if norm is not None:
        tail.insert(0 if draw(st.integers(0, 3)) else 1, norm)
    if draw(st.integers(0, 4)) == 4:
        tail.append(nn.Dropout(0.0))
    return layers + tail


@st.composite
def mlps(draw: Draw) -> Network:
    """Fully connected networks with norms, skips and concatenations."""
    inputs = draw(st.integers(2, 4))
    head = _one_of(draw, *HEADS)
    layers: list[nn.Module] = []
    width = inputs
    for _ in range(draw(st.integers(1, 3))):
        shape = _one_of(draw, "plain", "plain", "plain", "skip", "dense", "branches")
        activation = _one_of(draw, *ACTIVATIONS)
        bias = _flag(draw)
        new = width if shape == "skip" else draw(st.integers(3, 5))
        norm = nn.BatchNorm1d(new, affine=_flag(draw)) if draw(st.integers(0, 2)) == 2 else None
        block = _wrapped([nn.Linear(width, new, bias=bias)], draw, activation, norm)
        if shape == "skip" and _flag(draw):
            block.append(nn.Linear(new, new, bias=_flag(draw)))
        if shape == "plain":
            layers += block
        elif shape == "skip":
            layers.append(Residual(nn.Sequential(*block)))
        elif shape == "dense":
            layers.append(Concat(nn.Sequential(*block), keep=True))
            new += width
        else:
            side = draw(st.integers(2, 3))
            layers.append(Concat(nn.Sequential(*block), nn.Linear(width, side, bias=_flag(draw))))
            new += side
        width = new
    layers.append(nn.Linear(width, draw(st.integers(2, 4)), bias=_flag(draw)))
    module = prepared(nn.Sequential(*layers))
    assume(elements(module) <= LARGEST)
    return Network("mlp", module, lambda g: (torch.randn(96, inputs, generator=g, dtype=torch.float64),), head)


_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLS = {
    "max": {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d},
    "avg": {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d},
}
_ADAPTIVE = {
    "avg": {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d},
    "max": {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d},
}


@st.composite
def cnns(draw: Draw) -> Network:
    """Convolutional networks in one, two and three dimensions, grouped or not, with every pooling."""
    dims = _one_of(draw, 2, 2, 1, 3)
    size = {1: 9, 2: 6, 3: 4}[dims]
    channels = start = _one_of(draw, 2, 4) if dims < 3 else 2
    start_size, head = size, _one_of(draw, *HEADS)
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 2))):
        shape = _one_of(draw, "plain", "plain", "skip", "dense")
        groups = 2 if channels % 2 == 0 and draw(st.integers(0, 2)) == 2 else 1
        kernel = _one_of(draw, 1, 2) if shape == "plain" and size > 2 else 1
        padding = int(kernel == 2 and _flag(draw))
        new = channels if shape == "skip" else (4 if groups == 2 else draw(st.integers(2, 4)))
        convolution = _CONV[dims](channels, new, kernel, padding=padding, groups=groups, bias=_flag(draw))
        norm = _BATCH_NORM[dims](new, affine=_flag(draw)) if draw(st.integers(0, 2)) == 2 else None
        block = _wrapped([convolution], draw, _one_of(draw, *ACTIVATIONS), norm)
        size += 2 * padding - kernel + 1
        if shape == "plain":
            layers += block
        else:
            inner = nn.Sequential(*block)
            layers.append(Residual(inner) if shape == "skip" else Concat(inner, keep=True))
            new += channels if shape == "dense" else 0
        channels = new
        if size >= 4 and (pool := _one_of(draw, "none", *_POOLS)) != "none":
            layers.append(_POOLS[pool][dims](2))
            size //= 2
    if _flag(draw):
        size = _one_of(draw, 1, 2) if size >= 2 else 1
        layers.append(_ADAPTIVE[_one_of(draw, *_ADAPTIVE)][dims](size))
    layers += [nn.Flatten(), nn.Linear(channels * size**dims, draw(st.integers(2, 3)), bias=_flag(draw))]
    module = prepared(nn.Sequential(*layers))
    assume(elements(module) <= LARGEST)
    shape_in = (48, start, *[start_size] * dims)
    return Network("cnn", module, lambda g: (torch.randn(shape_in, generator=g, dtype=torch.float64),), head)


def _norm(draw: Draw, width: int, *kinds: str) -> nn.Module:
    affine = _flag(draw)
    return {
        "none": nn.Identity,
        # Always with a gain: without one, the entries of a row add up to zero and readers gain translations (zoo).
        "layer": lambda: nn.LayerNorm(width),
        "layer_nobias": lambda: nn.LayerNorm(width, bias=False),
        "rms": lambda: nn.RMSNorm(width, elementwise_affine=affine),
        "rms_written": lambda: RMSNorm(width),
    }[_one_of(draw, *kinds)]()


def _mixer(draw: Draw, width: int) -> nn.Module:
    heads = draw(st.integers(1, 2))
    rotary = draw(st.integers(0, 3)) == 3
    return Attention(
        width,
        heads,
        2 if rotary else draw(st.integers(2, 3)),  # one channel through a layer norm is only its sign
        biases="".join(letter for letter in "qkvo" if _flag(draw)),
        key_heads=1 if draw(st.integers(0, 2)) == 2 else None,
        rotary=rotary,
        qk_norm=False,
        causal=_flag(draw),
        fused=_flag(draw),
    )


def _feed_forward(draw: Draw, width: int) -> nn.Module:
    kind = _one_of(draw, "silu", "gelu", "relu", "sigmoid", "identity", "relu2", "plain", "square")
    bias, hidden = _flag(draw), draw(st.integers(3, 4))
    if kind in ("plain", "square"):
        activation = ReluSquared() if kind == "square" else ACTIVATIONS[_one_of(draw, *ACTIVATIONS)]()
        return nn.Sequential(
            nn.Linear(width, hidden, bias=bias), activation, nn.Linear(hidden, width, bias=_flag(draw))
        )
    return Gated(width, hidden, kind, bias)


@st.composite
def token_networks(draw: Draw) -> Network:
    """Attention and gated blocks, residual or not, pre- or post-norm, on vectors or on tied or untied tokens."""
    width, length = 4, draw(st.integers(3, 4))
    norms = ("layer", "rms", "rms_written", "none", "layer_nobias")
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 2))):
        inner = _mixer(draw, width) if _flag(draw) else _feed_forward(draw, width)
        norm, place = _norm(draw, width, *norms), _one_of(draw, "pre", "post", "bare")
        if place == "pre":
            layers.append(Residual(nn.Sequential(norm, inner)))
        elif place == "post":
            layers += [Residual(inner), norm]
        else:
            layers += [inner, norm]
    if isinstance(layers[-1], (Residual, Attention, Gated, nn.Sequential)):
        layers.append(_norm(draw, width, *norms))  # never two norms in a row: the outer one reads the inner one's scale
    if _flag(draw):
        vocabulary = draw(st.integers(5, 6))
        positions = length if _flag(draw) else 0
        module: nn.Module = Tokens(vocabulary, width, nn.Sequential(*layers), positions=positions, tied=_flag(draw))
        head = "cross_entropy" if draw(st.integers(0, 2)) else "output"

        def inputs(g: torch.Generator) -> tuple[Any, ...]:
            return (torch.randint(vocabulary, (32, length), generator=g),)
    else:
        entry = nn.Linear(3, width, bias=_flag(draw))
        module = nn.Sequential(entry, *layers, nn.Linear(width, 3, bias=_flag(draw)))
        head = _one_of(draw, *HEADS)

        def inputs(g: torch.Generator) -> tuple[Any, ...]:
            return (torch.randn(32, length, 3, generator=g, dtype=torch.float64),)

    module = prepared(module, eps=1e-28)  # squares of units that are nearly off come near 1e-20
    assume(elements(module) <= LARGEST)
    return Network("tokens", module, inputs, head)


@st.composite
def normed_cnns(draw: Draw) -> Network:
    """Convolutions under group and instance norms, with gates across channels."""
    size, channels = 5, 4
    layers: list[nn.Module] = [nn.Conv2d(2, channels, 2, bias=_flag(draw))]
    for _ in range(draw(st.integers(1, 2))):
        norm = _one_of(
            draw,
            nn.GroupNorm(_one_of(draw, 1, 2), channels, affine=_flag(draw)),
            nn.InstanceNorm2d(channels, affine=_flag(draw)),
        )
        convolution = nn.Conv2d(channels, channels, 1, groups=_one_of(draw, 1, 2, 4), bias=_flag(draw))
        # Not the identity: positions of a normalised channel add up to zero, which pooling would then read.
        block = [norm, ACTIVATIONS[_one_of(draw, *(name for name in ACTIVATIONS if name != "identity"))](), convolution]
        if draw(st.integers(0, 3)) == 3:
            block.append(nn.GLU(dim=1))
            convolution = nn.Conv2d(channels, 2 * channels, 1, bias=_flag(draw))
            block[2] = convolution
        layers += [Residual(nn.Sequential(*block))] if _flag(draw) else block
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3, bias=_flag(draw))]
    module = prepared(nn.Sequential(*layers))
    assume(elements(module) <= LARGEST)
    shape = (48, 2, size, size)
    return Network(
        "normed cnn",
        module,
        lambda g: (torch.randn(shape, generator=g, dtype=torch.float64),),
        _one_of(draw, *HEADS),
    )


def classical_networks() -> st.SearchStrategy[Network]:
    """Multilayer perceptrons and convolutional networks."""
    return st.one_of(mlps(), cnns())


def modern_networks() -> st.SearchStrategy[Network]:
    """Attention, gates, layer, root-mean-square, group and instance norms, residuals, tying, embeddings."""
    return st.one_of(token_networks(), token_networks(), normed_cnns())
