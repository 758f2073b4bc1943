"""From bytes to what a network sees: crop and flip, then normalise, a whole batch at a time on its device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from jaxtyping import Float, UInt8
    from torch import Tensor

PADDING = 4


def crop_and_flip(
    images: UInt8[Tensor, "batch channels height width"], draw: torch.Generator, padding: int = PADDING
) -> UInt8[Tensor, "batch channels height width"]:
    """Each image shifted by up to `padding` pixels over black, and mirrored with probability one half.

    `draw` is a CPU generator, so that a batch is the same on every device. Source: theory 4.
    """
    count, channels, height, width = images.shape
    shift = torch.randint(0, 2 * padding + 1, (2, count, 1), generator=draw)
    flip = torch.rand(count, 1, generator=draw) < 0.5
    rows = shift[0] + torch.arange(height)
    columns = torch.where(flip, torch.arange(width).flip(0), torch.arange(width)) + shift[1]
    padded = functional.pad(images, (padding,) * 4)
    device = images.device
    example = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    # Crop and mirror are one reading of rows and columns, each picture's own, and no loop over pictures.
    return padded[example, channel, rows.to(device)[:, None, :, None], columns.to(device)[:, None, None, :]]


def normalise(
    images: UInt8[Tensor, "batch channels height width"],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> Float[Tensor, "batch channels height width"]:
    """(pixel/255 - mean)/std per channel."""
    shape = (1, -1, 1, 1)
    centre = torch.tensor(mean, dtype=dtype, device=images.device).reshape(shape)
    spread = torch.tensor(std, dtype=dtype, device=images.device).reshape(shape)
    return (images.to(dtype) / 255 - centre) / spread
