"""Symmetries as plain data: dictionaries, lists, numbers and texts, nothing that runs code when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry.families.actions.affine_shift import AffineTerm
from neuralmechanics.symmetry.families.actions.linear_blocks import BlockLabels, GramTerm
from neuralmechanics.symmetry.families.actions.rotation import gauge_from_dict, gauge_to_dict
from neuralmechanics.symmetry.families.family import Breaking, Family
from neuralmechanics.symmetry.families.symmetries import Coverage, Symmetries, UnknownOperation

__all__ = ["symmetries_from_dict", "symmetries_to_dict"]

FORMAT = 1


def symmetries_to_dict(symmetries: Symmetries) -> dict[str, Any]:
    """The plain form; ``symmetries_from_dict`` is its inverse."""
    return {
        "format": FORMAT,
        "families": [_family_to(f) for f in symmetries.families],
        "unknown": [asdict(u) for u in symmetries.unknown],
        "coverage": [asdict(c) | {"families": list(c.families)} for c in symmetries.coverage],
        "notes": list(symmetries.notes),
        "capture": dict(symmetries.capture),
    }


def symmetries_from_dict(data: Mapping[str, Any]) -> Symmetries:
    """The symmetries that were written; a ``ValueError`` names what does not fit."""
    if data.get("format") != FORMAT:
        raise ValueError(f"symmetries of format {data.get('format')!r} given; this version reads format {FORMAT}")
    return Symmetries(
        families=tuple(_family_from(f) for f in data["families"]),
        unknown=tuple(UnknownOperation(**u) for u in data["unknown"]),
        coverage=tuple(Coverage(**(c | {"families": tuple(c["families"])})) for c in data["coverage"]),
        notes=tuple(data["notes"]),
        capture=dict(data["capture"]),
    )


def _family_to(family: Family) -> dict[str, Any]:
    return {
        "kind": family.kind,
        "name": family.name,
        "labels": _labels_to(family.labels),
        "terms": [_arrays(t, "charges", "slices", "coefficients") for t in family.terms],
        "grams": [_arrays(t, "slices", "blocks", "signs") for t in family.grams],
        "blocks": family.blocks,
        "affine": [_affine_to(t) for t in family.affine],
        "complex": family.complex,
        "gauge": None if family.gauge is None else gauge_to_dict(family.gauge),
        "broken_by": [asdict(b) for b in family.broken_by],
        "requires": list(family.requires),
        "layer": family.layer,
    }


def _family_from(data: Mapping[str, Any]) -> Family:
    return Family(
        kind=data["kind"],
        name=data["name"],
        labels=_labels_from(data["labels"]),
        terms=tuple(
            SliceTerm(
                _view(t["view"]),
                _int(t["charges"]),
                _int(t["slices"]),
                np.asarray(t["coefficients"], dtype=float),
            )
            for t in data["terms"]
        ),
        grams=tuple(
            GramTerm(_view(t["view"]), _int(t["slices"]), _int(t["blocks"]), _int(t["signs"])) for t in data["grams"]
        ),
        blocks=data["blocks"],
        affine=tuple(_affine_from(t) for t in data["affine"]),
        complex=data["complex"],
        gauge=gauge_from_dict(data["gauge"]) if data.get("gauge") else None,
        broken_by=tuple(Breaking(**b) for b in data["broken_by"]),
        requires=tuple(data["requires"]),
        layer=data["layer"],
    )


def _labels_to(labels: Any) -> Any:
    return {"names": list(labels.names), "width": labels.width} if isinstance(labels, BlockLabels) else list(labels)


def _labels_from(data: Any) -> Any:
    return BlockLabels(data["names"], data["width"]) if isinstance(data, Mapping) else tuple(data)


def _arrays(term: SliceTerm | GramTerm, *fields: str) -> dict[str, Any]:
    return {"view": asdict(term.view)} | {name: getattr(term, name).tolist() for name in fields}


def _affine_to(term: AffineTerm) -> dict[str, Any]:
    arrays = {name: getattr(term, name).tolist() for name in ("inputs", "generators", "coefficients")}
    return {"absorber": term.absorber, "weight": asdict(term.weight), "output_first": term.output_first} | arrays


def _affine_from(data: Mapping[str, Any]) -> AffineTerm:
    return AffineTerm(
        data["absorber"],
        _view(data["weight"]),
        data["output_first"],
        _int(data["inputs"]),
        _int(data["generators"]),
        np.asarray(data["coefficients"], dtype=float),
    )


def _view(data: Mapping[str, Any]) -> SliceView:
    return SliceView(data["parameter"], tuple(data["shape"]), tuple(data["kept"]))


def _int(values: Any) -> np.ndarray:
    return np.asarray(values, dtype=np.int64)
