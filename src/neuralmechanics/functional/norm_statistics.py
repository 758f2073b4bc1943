"""How much of the variance that a normalisation divides by is its eps, at given inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor, nn

__all__ = ["NormRecord", "recorded_norms"]

_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass
class NormRecord:
    """What the formula needs of a norm, for each of its statistics (channels, groups, or all together), over its calls.

    ``share`` is the greatest eps / (σ² + eps); ``pull``, after a backward pass, Σ eps / (σ² + eps) · ∂L/∂y · y over
    everything that shares a channel or group, y the output before the affine part: what ⟨g, θ_A⟩ of the scale family
    must be. Source: theory, section 1, exactness limits.
    """

    share: list[Float64[Tensor, " statistics"]] = field(default_factory=list)
    pull: Float64[Tensor, " statistics"] | None = None


@contextmanager
def recorded_norms(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, NormRecord]]:
    """Watches the norms of the given names during a forward and a backward pass; other modules are left out."""
    modules = dict(model.named_modules())
    records: dict[str, NormRecord] = {}
    handles = []
    for name in dict.fromkeys(names):
        module = modules.get(name)
        if module is not None and _epsilon(module) is not None:
            records[name] = NormRecord()
            handles.append(module.register_forward_hook(_watch(records[name])))
    try:
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _watch(record: NormRecord) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].detach().double()
        grouped, center = _grouped(module, x)
        eps = float(_epsilon(module) or 0.0)
        mean = grouped.mean(-1, keepdim=True) if center else torch.zeros_like(grouped[..., :1])
        variance = (grouped - mean).square().mean(-1, keepdim=True)
        share = eps / (variance + eps)
        record.share.append(_collected(module, share.squeeze(-1), torch.amax))
        if not output.requires_grad:
            return
        normal = (grouped - mean) / (variance + eps).sqrt()

        def receive(gradient: Tensor) -> None:
            weight = getattr(module, "weight", None)
            inner = gradient.detach().double()
            if weight is not None:
                channels = isinstance(module, (*_BATCH, *_INSTANCE, nn.GroupNorm))
                shape = (-1, *((1,) * (x.ndim - 2))) if channels else weight.shape
                # ∂L/∂y of the normalised y: the gradient behind the gain, times the gain.
                inner = inner * weight.detach().double().reshape(shape)
            product = (_grouped(module, inner)[0] * normal * share).sum(-1)
            pull = _collected(module, product, torch.sum)
            record.pull = pull if record.pull is None else record.pull + pull

        # On the tensor: backward hooks of modules refuse outputs that are changed in place (an inplace ReLU).
        output.register_hook(receive)  # type: ignore[no-untyped-call]

    return hook


def _epsilon(module: nn.Module) -> float | None:
    """The eps of a norm that this module knows how to read."""
    if isinstance(module, (*_BATCH, *_INSTANCE, nn.GroupNorm, nn.LayerNorm)):
        return float(module.eps)
    if type(module).__name__.endswith("RMSNorm"):
        eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
        return float(eps) if eps is not None else None
    return None


def _grouped(module: nn.Module, x: Tensor) -> tuple[Tensor, bool]:
    """x with the elements that share a statistic along the last dimension; and whether their mean is subtracted."""
    if isinstance(module, _BATCH):
        # Channels first: a batch norm shares one statistic among all examples and places.
        return x.movedim(1, 0).flatten(1), True
    if isinstance(module, _INSTANCE):
        return x.flatten(2), True
    if isinstance(module, nn.GroupNorm):
        return x.reshape(len(x), module.num_groups, -1), True
    dims = len(module.normalized_shape) if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) else 1
    return x.flatten(-dims) if dims else x, isinstance(module, nn.LayerNorm)


def _collected(module: nn.Module, values: Tensor, reduction: Callable[..., Tensor]) -> Tensor:
    """One number a channel (batch and instance norm) or group; layer norms have one for all their positions."""
    if isinstance(module, _BATCH):
        return values
    if isinstance(module, (*_INSTANCE, nn.GroupNorm)):
        return reduction(values, dim=0)
    return reduction(values).reshape(1)
