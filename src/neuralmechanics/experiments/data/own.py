"""Examples of one's own as a data set: tensors, a `Dataset`, a `DataLoader`, or a factory that makes any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from neuralmechanics.experiments.data.dataset import DataSet, Split
from neuralmechanics.experiments.importing import named_function, told

if TYPE_CHECKING:
    from torch import Tensor
    from torch.utils.data import DataLoader

__all__ = ["data_set", "own_data"]


def data_set(examples: Any, name: str, *, test: Any = None, classes: int | None = None) -> DataSet:
    """A data set called `name` of what a user has: examples with their labels or targets.

    `examples`: `(inputs, labels)` as tensors; a `torch.utils.data.Dataset` of such pairs; a `DataLoader`, of which the
    examples are taken in their order, through its `collate_fn` (batches and their order are the configuration's); or
    `{"train": …, "test": …}`, or a pair of training and test examples that are no tensors themselves. Without test
    examples the network is tested on what it is trained on.

    Whole labels are classes 0 … `classes` - 1, by default as many as occur; others are targets of a regression, for
    losses of one's own. Bytes are scaled to [0, 1], floating-point inputs and targets are taken as they are.

    >>> import torch
    >>> made = data_set((torch.zeros(8, 3), torch.arange(8) % 4), "mine")
    >>> made.input_shape, made.classes, len(made.test)
    ((3,), 4, 8)
    """
    if isinstance(examples, DataSet):
        return examples
    train, held = _parts(examples, name)
    if test is not None and held is not None:
        raise ValueError(f"data {name!r} brings test examples, and test= gives others; give one of them")
    first = _split(train, name)
    second = _split(held if test is None else test, name) if held is not None or test is not None else first
    if first.inputs.shape[1:] != second.inputs.shape[1:]:
        shapes = f"{tuple(first.inputs.shape[1:])} and {tuple(second.inputs.shape[1:])}"
        raise ValueError(f"data {name!r} has training and test examples of different shapes, {shapes}")
    count = _classes(first, second, classes, name)
    # Bytes in four dimensions are pictures: mean 0 and deviation 1 leave the division by 255 alone.
    scaled = first.inputs.dtype.itemsize == 1 and first.inputs.ndim == 4
    channels = first.inputs.shape[1] if scaled else 0
    return DataSet(name, first, second, count, mean=(0.0,) * channels, std=(1.0,) * channels)


def own_data(target: str) -> DataSet:
    """The data set of `package.module:factory`: the factory is called without arguments, see `data_set`."""
    factory = named_function(target, "data")
    try:
        examples = factory()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's own code raises
        raise ValueError(f"data {target!r} could not be made: {told(error)}") from None
    made = data_set(examples, target)
    return made if made.name == target else DataSet(target, made.train, made.test, made.classes, made.mean, made.std)


def _parts(examples: Any, name: str) -> tuple[Any, Any]:
    """Training and test examples, the latter None where there are none."""
    import torch

    if isinstance(examples, Mapping):
        if not {"train"} <= examples.keys() <= {"train", "test"}:
            raise ValueError(f"data {name!r} has the parts {', '.join(map(str, examples))}; give 'train' and 'test'")
        return examples["train"], examples.get("test")
    if isinstance(examples, tuple | list) and len(examples) == 2 and not isinstance(examples[0], torch.Tensor):
        return examples[0], examples[1]
    return examples, None


def _split(examples: Any, name: str) -> Split:
    import torch

    inputs, labels = _tensors(examples, name)
    if len(inputs) != len(labels) or not len(inputs):
        raise ValueError(f"data {name!r} has {len(inputs)} inputs and {len(labels)} labels; give one label an input")
    if inputs.is_floating_point() and not bool(inputs.isfinite().all()):
        raise ValueError(f"data {name!r} holds inputs that are not finite")
    if not labels.is_floating_point() and labels.dtype is not torch.bool and bool((labels < 0).any()):
        raise ValueError(f"data {name!r} holds the label {int(labels.min())}; classes are numbered from 0")
    labels = labels if labels.is_floating_point() else labels.long()
    if inputs.dtype not in (torch.uint8, torch.int64) and not inputs.is_floating_point():
        inputs = inputs.long()
    if inputs.dtype is torch.uint8 and inputs.ndim != 4:
        inputs = inputs.float() / 255
    return Split(inputs, labels)


def _tensors(examples: Any, name: str) -> tuple[Tensor, Tensor]:
    """Inputs and labels, each stacked along the first dimension."""
    import torch
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    if isinstance(examples, tuple | list) and len(examples) == 2:
        inputs, labels = examples
        if isinstance(inputs, torch.Tensor) and isinstance(labels, torch.Tensor):
            return inputs.detach().cpu(), labels.detach().cpu()
    if isinstance(examples, DataLoader):
        collate, examples = examples.collate_fn, examples.dataset
    elif isinstance(examples, Dataset):
        collate = None
    else:
        kind = type(examples).__name__
        raise ValueError(f"data {name!r} is a {kind}; give (inputs, labels) as tensors, a Dataset or a DataLoader")
    if isinstance(examples, IterableDataset):
        raise ValueError(f"data {name!r} is an IterableDataset, which has no order of its own; give one with a length")
    batches = []
    for batch in _read(DataLoader(examples, batch_size=256, collate_fn=collate), name):
        if not (isinstance(batch, tuple | list) and len(batch) == 2 and all(map(torch.is_tensor, batch))):
            raise ValueError(
                f"data {name!r} gives {type(batch).__name__} where a pair of tensors, (inputs, labels), is needed"
            )
        batches.append(tuple(batch))
    if not batches:
        raise ValueError(f"data {name!r} holds no examples")
    inputs, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return inputs, labels


def _read(loader: DataLoader[Any], name: str) -> Iterator[Any]:
    """The batches of a loader; ValueError in one line where examples cannot be read or do not fit together."""
    try:
        yield from loader
    except Exception as error:
        reason = f"{type(error).__name__}: {told(error)}"
        raise ValueError(
            f"data {name!r} could not be read and stacked ({reason}); all examples need one shape"
        ) from error


def _classes(train: Split, test: Split, given: int | None, name: str) -> int:
    """How many numbers a network puts out: classes, or those of a target."""
    if train.labels.is_floating_point():
        return given or (train.labels.shape[1] if train.labels.ndim > 1 else 1)
    most = 1 + max(int(split.labels.max()) for split in (train, test))
    if given is not None and most > given:
        raise ValueError(f"data {name!r} holds the label {most - 1}, which is none of the classes 0 to {given - 1}")
    return given or most
