"""The model and batch that `find`, `check`, `count` and `lint` look at."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tyro

from neuralmechanics.experiments.config import ImageConfig

if TYPE_CHECKING:
    import torch

    from neuralmechanics.experiments.losses import LossFunction

    Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Target:
    """A model, the shape of its input, and the loss on its output."""

    model: tyro.conf.Positional[str]
    """zoo name, package.module:factory, or hf:<transformers config>"""
    data: str = "digits"
    """data set whose examples the model takes, or package.module:factory of your own"""
    input_shape: tuple[int, ...] = ()
    """take random inputs of this shape instead of data (channels height width, or length)"""
    classes: int | None = None
    """number of classes, or of tokens, of random inputs"""
    tokens: bool | None = None
    """whether random inputs are tokens; default: for hf: and gpt with one dimension"""
    batch_size: int = 8
    """examples to look at"""
    loss: str = "cross-entropy"
    """cross-entropy, mse, or package.module:function of (model, batch)"""
    seed: int = 0
    """of weights and random inputs"""
    images: ImageConfig = field(default_factory=ImageConfig)


@dataclass(frozen=True)
class Resolved:
    """What a target names: a model in training mode, one batch that fits it, and a loss over both."""

    model: torch.nn.Module
    batch: Batch
    loss: LossFunction


def resolve(target: Target, *, allocate: bool = True) -> Resolved:
    """The model and batch of `target`; without `allocate` a `hf:` model lives on the meta device, weightless."""
    import torch

    from neuralmechanics.experiments.losses import loss_function
    from neuralmechanics.experiments.targets import require_fit, resolve_model

    hollow = target.model.startswith("hf:") and not allocate
    inputs, shape, classes = _inputs(target)
    with torch.device("meta") if hollow else nullcontext():
        model = resolve_model(target.model, input_shape=shape, classes=classes, seed=target.seed)
    # Tokens beyond the vocabulary of a model would not fit its embedding.
    vocabulary = getattr(getattr(model, "config", None), "vocab_size", None)
    if inputs is None:
        inputs = _random(target, shape, vocabulary or classes)
    if hollow:
        batch = (inputs[0].to("meta"), inputs[1].to("meta"))
    else:
        batch = inputs
        output = require_fit(model, f"model {target.model!r}", batch[0])
        batch = batch[0], _known_labels(target, output, batch[1])
    return Resolved(model, batch, loss_function(target.loss))


def _known_labels(target: Target, output: Any, labels: torch.Tensor) -> torch.Tensor:
    """Labels among the classes that the model tells apart: random ones, where nobody said how many there are."""
    import torch

    from neuralmechanics.experiments.losses import logits_of

    logits = logits_of(output)
    if ":" in target.loss or not isinstance(logits, torch.Tensor) or logits.dim() < 2 or not target.input_shape:
        return labels
    return labels if target.classes else labels % max(1, logits.shape[-1])


def _inputs(target: Target) -> tuple[Batch | None, tuple[int, ...], int]:
    import torch

    from neuralmechanics.experiments.data import Batches, load_data

    if target.batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {target.batch_size}")
    if target.classes is not None and target.classes < 1:
        raise ValueError(f"classes must be at least 1, got {target.classes}")
    if not 0 <= target.seed < 2**63:
        raise ValueError(f"seed must be zero or positive, below 2^63, got {target.seed}")
    shape = target.input_shape
    random = bool(shape) or target.model.startswith("hf:")
    for name in ("classes", "tokens"):
        if getattr(target, name) is not None and not random:
            raise ValueError(f"{name} has an effect on random inputs alone; give input_shape with it")
    if not shape and target.model.startswith("hf:") and target.data == "digits":
        # A few tokens are enough to see a graph that does not depend on their number.
        shape = (16,)
    if shape:
        if min(shape) < 1:
            raise ValueError(f"input_shape must be positive, got {shape}")
        return None, shape, target.classes or 10
    data = load_data(target.data, target.images)
    batches = Batches(data, seed=target.seed, augment=False, device=torch.device("cpu"), dtype=torch.float32)
    return batches.probe(target.batch_size), data.input_shape, data.classes


def _random(target: Target, shape: tuple[int, ...], classes: int) -> Batch:
    import torch

    from neuralmechanics.experiments.seeds import generator

    draw = generator(target.seed, "inputs")
    size = (target.batch_size, *shape)
    tokens = target.tokens
    if tokens is None:
        tokens = len(shape) == 1 and target.model.startswith(("hf:", "gpt"))
    if tokens:
        return torch.randint(classes, size, generator=draw), torch.randint(classes, size, generator=draw)
    labels = torch.randint(target.classes or 10, size[:1], generator=draw)
    return torch.randn(size, generator=draw), labels
