"""A copy of a published data set is whole: as many images as published, in every class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from neuralmechanics.experiments.data.sources import Count, Source

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

    from neuralmechanics.experiments.data.dataset import Split

_COMPARED = 100
_PIXELS = 48
_AT_ONCE = 256
_FEW = 10


def require_total(name: str, source: Source, where: object, part: str, images: int, count: Count) -> None:
    """`ValueError` unless a part of the data set has as many images as published."""
    if images != count.images:
        raise ValueError(_message(name, source, where, f"{images} {part} images where {count.images} are published"))


def require_counts(
    name: str,
    source: Source,
    where: object,
    part: str,
    labels: Int64[Tensor, " images"],
    count: Count,
    names: Sequence[str] | None = None,
) -> None:
    """`ValueError` unless a part has every class, as many images as published, and as many in each class.

    `names` are the classes as the copy itself has them, in the order of their numbers.
    """
    if names is not None and len(names) != source.classes:
        few = ", ".join(map(repr, names[:3])) + (" …" if len(names) > 3 else "")
        found = f"{len(names)} class{'es' if len(names) != 1 else ''} ({few}) where {source.classes} are published"
        raise ValueError(_message(name, source, where, found))
    each = torch.bincount(labels, minlength=source.classes)
    empty = torch.nonzero(each == 0).flatten().tolist()
    if empty:
        first = repr(names[empty[0]]) if names is not None else str(empty[0])
        raise ValueError(_message(name, source, where, f"no {part} image of class {first} ({len(empty)} classes lack)"))
    require_total(name, source, where, part, len(labels), count)
    if count.each is None:
        return
    published = torch.tensor(count.each).expand_as(each)
    if not torch.equal(each, published):
        odd = int(torch.nonzero(each != published)[0])
        label = repr(names[odd]) if names is not None else str(odd)
        found = f"{int(each[odd])} {part} images of class {label} where {int(published[odd])} are published"
        raise ValueError(_message(name, source, where, found))


def require_own_classes(
    name: str, source: Source, where: object, files: Sequence[str], labels: Sequence[int], classes: Sequence[str]
) -> None:
    """`ValueError` for a training image that lies with another class than the one that its own name begins with.

    ImageNet's images are called after their class, n01440764_10026.JPEG: two that changed places are not seen by
    counting.
    """
    known = set(classes)
    for file, label in zip(files, labels, strict=True):
        own = file.partition("_")[0]
        if own != classes[label] and own in known:
            raise ValueError(_message(name, source, where, f"the image {file!r} lies in class {classes[label]!r}"))


def require_listed(
    name: str, source: Source, where: object, table: str, listed: Sequence[str], classes: Sequence[str]
) -> None:
    """`ValueError` where a table of the classes lists others than those that have training images."""
    if set(listed) != set(classes):
        odd = min(set(listed) ^ set(classes))
        found = f"{table} lists the class {odd!r}, which" if odd in listed else f"the class {odd!r}, which {table}"
        found += " no folder of training images has" if odd in listed else " does not list"
        raise ValueError(_message(name, source, where, found))


def require_apart(name: str, source: Source, where: object, train: Split, test: Split) -> None:
    """`ValueError` where test images are training images, or training images are copies of one another."""
    repeated, looked = repeated_tests(train, test)
    if repeated > looked // 5:
        found = f"{repeated} of {looked} test images that were looked at are among its training images"
        raise ValueError(_message(name, source, where, found))
    copies = torch.bincount(train.labels[_copies(train.inputs)], minlength=source.classes)
    # A few images were published twice, of no class a tenth.
    odd = torch.nonzero(copies > torch.bincount(train.labels, minlength=source.classes) // _FEW).flatten()
    if len(odd):
        found = f"{int(copies[odd[0]])} training images of class {int(odd[0])} are copies of others"
        raise ValueError(_message(name, source, where, found))


def repeated_tests(train: Split, test: Split) -> tuple[int, int]:
    """How many of a hundred test images, blank ones apart, are among all training images in any order.

    A few are there as published (CIFAR-100 has such pairs); a fifth is in no published data set.
    """
    picked = test.inputs[torch.linspace(0, len(test) - 1, min(_COMPARED, len(test))).long()]
    picked = picked[_marked(picked)]
    return sum(_among(picked, train.inputs)), len(picked)


def _marked(images: Tensor) -> Tensor:
    """Whether there is anything on each image: blank ones are as good in one place as in another."""
    flat = images.flatten(2)
    return (flat.amin(2) < flat.amax(2)).any(1)


def _sums(images: Tensor) -> Tensor:
    """A number of each image, from a few of its pixels: images of unlike numbers differ."""
    places = torch.linspace(0, images[0].numel() - 1, min(_PIXELS, images[0].numel())).long()
    weights = torch.arange(1, len(places) + 1) ** 3
    return (images.flatten(1)[:, places] * weights).sum(1)


def _copies(images: Tensor) -> Tensor:
    """The numbers of the images that are copies of another, in the order of their sums."""
    sums, order = torch.sort(_sums(images), stable=True)
    alike = torch.nonzero(sums[1:] == sums[:-1]).flatten()
    found = []
    for part in torch.split(alike, _AT_ONCE):
        one, other = order[part], order[part + 1]
        same = (images[one] == images[other]).flatten(1).all(1) & _marked(images[one])
        found.append(other[same])
    return torch.cat(found) if found else order[:0]


def _among(wanted: Tensor, images: Tensor) -> list[bool]:
    """Whether each of a few images is one of many: by a sum over a few pixels of all, then by all pixels of those."""
    of_all, of_wanted = _sums(images), _sums(wanted) if len(wanted) else wanted.new_zeros(0)
    candidates = torch.nonzero(torch.isin(of_all, of_wanted)).flatten()
    alike = [candidates[of_all[candidates] == key] for key in of_wanted]
    return [bool((images[found] == one).flatten(1).all(1).any()) for one, found in zip(wanted, alike, strict=True)]


def _message(name: str, source: Source, where: object, found: str) -> str:
    return (
        f"{str(where)!r} is no whole copy of {name}: {found}; unpack it afresh, or give the archive as published, as "
        f"images.root ({source.files}); a collection of your own is data 'folder'"
    )
