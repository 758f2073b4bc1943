"""Everything that is known of a model's symmetries and names, as plain data."""

from __future__ import annotations

from typing import Any

from torch import nn

from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.maps.modules import Layers, looked_at
from neuralmechanics.rewrite.maps.places import smoothing_places
from neuralmechanics.symmetry import Symmetries

__all__ = ["symmetry_map"]

FORMAT = 1


def symmetry_map(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, symmetries: Symmetries | None = None
) -> dict[str, Any]:
    """Tensors, families, spaces with the places of their channels, and smoothing places; JSON can hold it.

    ``Symmetries.from_dict(map["symmetries"])`` reads families and spaces back.
    """
    layers, found = looked_at(model, batch, loss_fn, symmetries)
    places, refused = smoothing_places(found, layers)
    return {
        "format": FORMAT,
        "model": type(model).__name__,
        "modules": {name: layers.class_of(name) for name in layers.names if name},
        "tensors": _tensors(layers),
        "smoothing": [place.to_dict() for place in places],
        "no_smoothing": [{"tensors": list(r.tensors), "reason": r.reason} for r in refused],
        "symmetries": found.to_dict(),
    }


def _tensors(layers: Layers) -> dict[str, dict[str, Any]]:
    """Every tensor of the state dict: its shape and type, whether it is trained, the name that it shares."""
    first = {other: name for name, others in layers.aliases.items() for other in others}
    return {
        name: {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "kind": "parameter" if isinstance(layers.tensors.get(name), nn.Parameter) else "buffer",
            "trained": bool(getattr(layers.tensors.get(name), "requires_grad", False)),
            "same_as": first.get(name),
        }
        for name, tensor in layers.model.state_dict().items()
    }
