"""A procedural colour image set: 200 classes of textures, 64×64, made from a seed alone.

A class is three plane waves, each with its own frequency, direction and colour. An example shows them with random
phases, a random rotation (±12°) and zoom (±15 %), random amplitudes, over a random smooth background, with noise.
Classes share frequencies and differ in how waves and colours are combined, and random phases make the mean image of
every class the same grey: no linear map on pixels can tell them apart.
"""

from __future__ import annotations

from math import pi, radians

import torch
from torch import Tensor
from torch.nn import functional

from neuralmechanics.experiments.data.cache import cached
from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.seeds import generator

CLASSES = 200
_WAVES = 3
_BLOCK = 500
_CLASS_SEED = 2021  # the classes are part of the data set's definition; a run's seed does not move them


def textures(train: int = 20_000, test: int = 2_000, size: int = 64) -> DataSet:
    """`train` and `test` textures of `size` pixels; a longer set begins with the shorter one."""
    splits = {}
    for name, count in (("train", train), ("test", test)):
        key = f"textures-{name}-{size}-{count}-v1"
        splits[name] = cached(key, lambda count=count, name=name: _examples(name, count, size))  # type: ignore[misc]
    return DataSet(
        name="textures",
        train=splits["train"],
        test=splits["test"],
        classes=CLASSES,
        mean=(0.5, 0.5, 0.5),
        std=(0.2, 0.2, 0.2),
    )


def _examples(split: str, count: int, size: int) -> Split:
    blocks = [_block(split, index, size) for index in range(-(-count // _BLOCK))]
    images = torch.cat([images for images, _ in blocks])[:count]
    return Split(images, torch.cat([labels for _, labels in blocks])[:count])


def _block(split: str, index: int, size: int) -> tuple[Tensor, Tensor]:
    """`_BLOCK` examples, drawn from their own stream so that any number of blocks agrees."""
    draw = generator(_CLASS_SEED, "textures", split, index)
    labels = torch.randperm(_BLOCK, generator=draw) % CLASSES
    frequency, direction, colour = (tensor[labels] for tensor in _classes())
    turn = radians(12) * (2 * torch.rand(_BLOCK, 1, generator=draw) - 1)
    zoom = 1 + 0.15 * (2 * torch.rand(_BLOCK, 1, generator=draw) - 1)
    phase = 2 * pi * torch.rand(_BLOCK, _WAVES, generator=draw)
    amplitude = 0.5 + torch.rand(_BLOCK, _WAVES, generator=draw)
    angle, rate = direction + turn, 2 * pi * frequency * zoom
    along = torch.linspace(0, 1, size)
    across = (rate * angle.cos())[..., None] * along  # [block, wave, x]
    down = (rate * angle.sin())[..., None] * along + phase[..., None]
    waves = torch.sin(down[..., :, None] + across[..., None, :]) * amplitude[..., None, None]
    images = torch.einsum("bwc,bwyx->bcyx", colour, waves)
    background = functional.interpolate(
        torch.randn(_BLOCK, 3, 4, 4, generator=draw), size=(size, size), mode="bilinear", align_corners=False
    )
    noise = torch.randn(images.shape, generator=draw)
    pixels = 127.5 + 255 * (0.12 * images + 0.08 * background + 0.06 * noise)
    return pixels.round().clamp(0, 255).to(torch.uint8), labels


def _classes() -> tuple[Tensor, Tensor, Tensor]:
    """Cycles across the image, direction and colour (unit vector) of every wave of every class."""
    draw = generator(_CLASS_SEED, "textures", "classes")
    frequency = 3 + 3 * torch.randint(0, 4, (CLASSES, _WAVES), generator=draw).float()
    direction = pi / 6 * torch.randint(0, 6, (CLASSES, _WAVES), generator=draw).float()
    colour = functional.normalize(torch.randn(CLASSES, _WAVES, 3, generator=draw), dim=-1)
    return frequency, direction, colour
