"""Natural images: crops of the two photographs that scikit-learn ships, told apart by the place that they were cut at.

`photographs` is a factory of examples for `TrainConfig(data="photographs:photographs")` with this folder on the path.
The photographs are 427 by 640 pixels; each is cut in 10 by 10 places, which are the 200 classes. An example is a square
of 48 to 80 pixels whose centre lies within 24 pixels of its place's, turned left to right half of the time, scaled to
64 pixels, in another brightness and contrast. Neighbouring places overlap, so that no network tells all apart; test
examples are other crops of the same photographs: what is measured is how the charges of a real network on real
statistics of images move, not how well it would do on new photographs.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional

ACROSS, CLASSES, SIZE = 10, 200, 64
Examples = tuple[Tensor, Tensor]


def photographs(train: int = 20_000, test: int = 2_000) -> dict[str, Examples]:
    """Training and test examples as bytes [examples, 3, 64, 64] with their labels."""
    return {name: _examples(count, seed) for seed, (name, count) in enumerate((("train", train), ("test", test)))}


def _examples(count: int, seed: int) -> Examples:
    draw = torch.Generator().manual_seed(seed)
    sources = [torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).float() for name in ("china", "flower")]
    sources = [source.permute(2, 0, 1) / 255 for source in sources]
    labels = torch.randperm(count, generator=draw) % CLASSES
    images = torch.stack([_crop(sources, int(label), draw) for label in labels])
    return (255 * images).round().to(torch.uint8), labels


def _crop(sources: list[Tensor], label: int, draw: torch.Generator) -> Tensor:
    source, place = sources[label // ACROSS**2], label % ACROSS**2
    side = int(torch.randint(48, 81, (), generator=draw))
    where = []
    for number, length in ((place // ACROSS, source.shape[1]), (place % ACROSS, source.shape[2])):
        centre = (number + 0.5) / ACROSS * length + 48 * (float(torch.rand((), generator=draw)) - 0.5)
        where.append(int(min(max(centre - side / 2, 0), length - side)))
    crop = source[:, where[0] : where[0] + side, where[1] : where[1] + side][None]
    crop = functional.interpolate(crop, (SIZE, SIZE), mode="bilinear", antialias=True)[0]
    if float(torch.rand((), generator=draw)) < 0.5:
        crop = crop.flip(-1)
    gain, shift = (float(torch.rand((), generator=draw)) - 0.5 for _ in range(2))
    return ((crop - 0.5) * (1 + 0.6 * gain) + 0.5 + 0.3 * shift).clamp(0, 1)
