"""What the tools do with a map, written out plainly: factors, rotations and permutations on the modules named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuralmechanics.rewrite.maps.expressions import matched
from neuralmechanics.rewrite.maps.pairing import paired

OFFSET_CLASSES = {"GemmaRMSNorm", "Gemma2RMSNorm", "Gemma3RMSNorm"}


def sets_of(model: nn.Module, smooth: str, balance: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The layers that the tool pairs: one smooth layer, and all balance layers."""
    names = [name for name, _ in model.named_modules()]
    found = []
    for (only,), *others in paired((smooth, *balance), names):
        found.append((only, [name for group in others for name in group]))
    return found


def smooth_all(model: nn.Module, sets: Sequence[tuple[str, list[str]]], draw: torch.Generator) -> None:
    """Divides the rows of each smooth layer by random factors and multiplies the columns of its balance layers."""
    with torch.no_grad():
        for smooth, balance in sets:
            writer = model.get_submodule(smooth)
            scales = torch.rand(model.get_submodule(balance[0]).weight.shape[1], generator=draw).double() + 0.5
            offset = 1.0 if type(writer).__name__ in OFFSET_CLASSES else 0.0
            if writer.weight.ndim == 1:
                writer.weight.copy_((writer.weight + offset) / scales - offset)
            else:
                writer.weight[-len(scales) :] /= scales[:, None]
            if getattr(writer, "bias", None) is not None:
                writer.bias /= scales
            for name in balance:
                model.get_submodule(name).weight *= scales


def rotate_all(
    model: nn.Module, mapping: Mapping[str, Any], norms: Sequence[Mapping[str, Any]], draw: torch.Generator
) -> None:
    """Unties, folds the norms' gains, and turns the stream (R1) and every head's values (R2)."""
    names = [name for name, _ in model.named_modules()]

    def layers(*roles: str) -> list[Any]:
        targets = [t for role in roles for t in ([mapping[role]] if isinstance(mapping[role], str) else mapping[role])]
        return [model.get_submodule(name) for target in targets for name in matched(target, names)]

    with torch.no_grad():
        (head,) = layers("lm_head")
        head.weight = nn.Parameter(head.weight.clone())
        for norm in norms:
            for name, linears in sets_of(model, norm["norm"], norm["linears"]):
                writer = model.get_submodule(name)
                for linear in linears:
                    model.get_submodule(linear).weight *= writer.weight
                writer.weight.fill_(1.0)
        width = layers("embedding")[0].weight.shape[1]
        turn = orthogonal(width, draw)
        for layer in layers("embedding"):
            layer.weight.copy_(layer.weight @ turn)
        for layer in layers("attn_o", "mlp_out"):
            layer.weight.copy_(turn.T @ layer.weight)
            if layer.bias is not None:
                layer.bias.copy_(turn.T @ layer.bias)
        for layer in layers("attn_q", "attn_k", "attn_v", "mlp_in", "lm_head"):
            layer.weight.copy_(layer.weight @ turn)
        small = orthogonal(mapping["attn_head_dim"], draw)
        for value, output in zip(layers("attn_v"), layers("attn_o"), strict=True):
            heads = len(small)
            value.weight.copy_((small.T @ value.weight.reshape(-1, heads, width)).reshape(value.weight.shape))
            if value.bias is not None:
                value.bias.copy_((value.bias.reshape(-1, heads) @ small).reshape(-1))
            output.weight.copy_((output.weight.reshape(width, -1, heads) @ small).reshape(output.weight.shape))


def orthogonal(size: int, draw: torch.Generator) -> Tensor:
    """A random orthogonal matrix."""
    return torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))[0]


def permute_all(
    state: Mapping[str, Tensor], axes_to_perm: Mapping[str, Sequence[str | None]], chosen: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Every dimension that has a permutation, taken in that order."""
    out = {}
    for name, tensor in state.items():
        for axis, perm in enumerate(axes_to_perm[name]):
            if perm is not None:
                tensor = tensor.index_select(axis, chosen[perm])
        out[name] = tensor
    return out
