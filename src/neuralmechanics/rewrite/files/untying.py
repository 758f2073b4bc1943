"""Tensors that a plan unties: files and configurations that would tie them again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuralmechanics.files import parse_json, read_regular
from neuralmechanics.rewrite.files.checkpoint import Checkpoint
from neuralmechanics.rewrite.plan import Copy, Plan

__all__ = ["CONFIG", "sources_of_copies", "untied_config"]

CONFIG = Path("config.json")
_TIE = "tie_word_embeddings"
_CONFIG_BYTES = 1 << 24


def sources_of_copies(plan: Plan) -> dict[str, str]:
    """For each tensor that is a copy from now on, of which tensor."""
    return {change.tensor: change.source for change in plan if isinstance(change, Copy)}


def untied_config(checkpoint: Checkpoint, plan: Plan, edit: bool) -> bytes | None:
    """The configuration that ties no embeddings, where a plan unties them and the folder's own would tie them again.

    None where nothing is to be changed. ``ValueError`` where it is to be and ``edit`` is not set.
    """
    if not plan.untied or CONFIG not in checkpoint.others:
        return None
    path = checkpoint.root / CONFIG
    try:
        content = parse_json(read_regular(path, _CONFIG_BYTES))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be read: {error}; fetch it again") from None
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} is no JSON object; fetch it again")
    parts = [content, *(part for part in content.values() if isinstance(part, dict) and _TIE in part)]
    if all(part.get(_TIE) is False for part in parts):
        return None
    if not edit:
        raise ValueError(
            f"{', '.join(plan.untied)} would be tied again by who loads the folder: {str(path)!r} has {_TIE} "
            f"{_said(content)}; allow the rewrite to set it to false (untie_config=True), or rewrite without untying"
        )
    for part in parts:
        part[_TIE] = False
    return json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"


def _said(content: Mapping[str, Any]) -> str:
    return json.dumps(content[_TIE]) if _TIE in content else "unset"
