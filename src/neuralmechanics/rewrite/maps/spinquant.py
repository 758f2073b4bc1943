"""The map for rotations: SpinQuant's roles of layers, from the orthogonal space of the residual stream."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from neuralmechanics.functional.as_found.copying import plain_module
from neuralmechanics.functional.calling import LossFunction
from neuralmechanics.rewrite.actions.looking.seeing import separated
from neuralmechanics.rewrite.maps.expressions import PREFIX, expressions, matched
from neuralmechanics.rewrite.maps.modules import Layers, looked_at
from neuralmechanics.rewrite.maps.notes import notes_on
from neuralmechanics.rewrite.maps.places import smoothing_places
from neuralmechanics.rewrite.maps.roles import Roles, refuse, stream_of
from neuralmechanics.rewrite.maps.smoothing import OFFSET_NORMS, place_targets
from neuralmechanics.symmetry import Space, Symmetries

__all__ = ["SpinQuantMap", "spinquant_mapping"]


_CENTRED = (
    "llm-compressor also centres the embedding: that changes this model, whose norms do not subtract the mean; "
    "the rotations alone do not"
)


@dataclass(frozen=True)
class SpinQuantMap:
    """``mapping`` has the fields of SpinQuant's mapping; ``norm_mappings``: each norm with the layers that read it."""

    mapping: dict[str, Any]
    norm_mappings: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": "spinquant",
            "mapping": self.mapping,
            "norm_mappings": list(self.norm_mappings),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return json.dumps({"mapping": self.mapping, "norm_mappings": list(self.norm_mappings)}, indent=2)


def spinquant_mapping(
    model: nn.Module, batch: Any, loss_fn: LossFunction | None = None, *, symmetries: Symmetries | None = None
) -> SpinQuantMap:
    """SpinQuant's map of a model whose residual stream can be turned: who writes it, who reads it, values and outputs.

    The rotation R1 acts on the embedding, ``attn_o`` and ``mlp_out``, which write the stream, and inversely on
    ``attn_q``, ``attn_k``, ``attn_v``, ``mlp_in`` and ``lm_head``, which read it; R2 on ``attn_v`` and ``attn_o`` head
    by head. An embedding that is tied to the head is looked at untied, as the tool unties it first. Raises
    ``ValueError`` with the reason where the model has no such rotation or the format cannot say it.

    Source: Liu et al. 2025, SpinQuant; llm-compressor's ``SpinQuantMapping``.
    """
    model = plain_module(model)
    untied = _tied_to_embeddings(model)
    with separated(model, untied):
        layers, found = looked_at(model, batch, loss_fn, None if untied else symmetries)
        stream = stream_of(found, layers)
        parts = Roles(found, stream, layers)
        ends = parts.ends()
        norms = tuple(_norms(found, stream, layers))
        roles = parts.named(*ends)
        mapping = _mapping(roles, layers) | {"attn_head_dim": parts.head_width(roles["attn_v"])}
    said = (f"the map is of the untied model: {', '.join(untied)} of its own",) if untied else ()
    return SpinQuantMap(mapping, norms, (*said, _CENTRED, *notes_on(found)))


def _tied_to_embeddings(model: nn.Module) -> tuple[str, ...]:
    """Weights of other layers that are the weight of an embedding, by their names."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        weight = module._parameters.get("weight")
        if weight is not None:
            owners.setdefault(id(weight), []).append((name, module))
    tied = (held for held in owners.values() if any(isinstance(module, nn.Embedding) for _, module in held))
    return tuple(
        f"{name}.weight" if name else "weight"
        for held in tied
        for name, module in held
        if not isinstance(module, nn.Embedding)
    )


def _mapping(roles: dict[str, list[str]], layers: Layers) -> dict[str, Any]:
    """The fields, each an expression that matches its layers and no others."""
    out: dict[str, Any] = {}
    for role, names in roles.items():
        targets = expressions(names, layers.names, layers.class_names)
        out[role] = list(targets) if role in ("mlp_in", "mlp_out") else _one_target(targets)
    blocks = [_ancestor((q, o)) for q, o in zip(roles["attn_q"], roles["attn_o"], strict=True)]
    out["attn"] = _one_target(expressions(blocks, layers.names, layers.class_names))
    everything = [t for value in out.values() for t in (value if isinstance(value, list) else [value])]
    meant = sorted({*blocks, *(name for names in roles.values() for name in names)})
    if sorted({name for target in everything for name in matched(target, layers.names)}) != meant:
        raise refuse("its layers' names cannot be told from others by expressions")
    return out


def _one_target(targets: Sequence[str]) -> str:
    """Several targets as one expression."""
    if len(targets) == 1:
        return targets[0]
    parts = [
        t.removeprefix(PREFIX).removesuffix("$") if t.startswith(PREFIX) else t.replace(".", r"\.") for t in targets
    ]
    return f"{PREFIX}(?:{'|'.join(parts)})$"


def _ancestor(names: Sequence[str]) -> str:
    parts = [name.split(".") for name in names]
    same = 0
    while all(len(p) > same for p in parts) and len({p[same] for p in parts}) == 1:
        same += 1
    return ".".join(parts[0][:same])


def _norms(symmetries: Symmetries, stream: Space, layers: Layers) -> Iterator[dict[str, Any]]:
    """Each norm whose gain is between the stream and its readers, which take it in before the stream is turned."""
    places, _ = smoothing_places(symmetries, layers)
    known = {place.smooth: place for place in places}
    for name in _gains(stream, layers):
        if name not in known:
            raise refuse(f"the gain of {name} cannot be moved into what reads it")
        if known[name].biased:
            raise refuse(f"{name} has a bias, which the tool does not move into what reads it")
        if known[name].offset and layers.class_of(name) not in OFFSET_NORMS:
            raise refuse(f"the gain of {name} is a constant + weight; the tool takes in the weight alone")
    gains = set(_gains(stream, layers))
    for norm, linears in place_targets([place for place in places if place.smooth in gains], layers):
        yield {"norm": norm, "linears": list(linears)}


def _gains(stream: Space, layers: Layers) -> Iterator[str]:
    dressed = dict.fromkeys(gain.parameter for entry in stream.entries for gain, _ in entry.dressing)
    for parameter in dressed:
        name, leaf = layers.owner(parameter)
        if leaf != "weight":
            raise refuse(f"{parameter} multiplies the stream and is no norm's weight")
        yield name
