"""All symmetries that were found in a model, with their charges as one float64 vector."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.slices import GramBlocks, ProductPlan, SliceMix
from neuralmechanics.symmetry.families.actions import ChargeShare, ChargeTerms
from neuralmechanics.symmetry.families.coverage import Coverage, UnknownOperation
from neuralmechanics.symmetry.families.displacement import Displacement
from neuralmechanics.symmetry.families.family import KINDS, Family
from neuralmechanics.symmetry.families.spaces import Space

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Coverage", "Symmetries", "UnknownOperation"]

FORMAT = 1
_CHARGELESS = ("affine", "nonlinear")


@dataclass(frozen=True, eq=False)
class Symmetries(Sequence[Family]):
    """The families of a model, in model order; charges are numbered through all families in that order.

    ``spaces``: the spaces of channels, with the group that acts on each, discrete or continuous.
    """

    families: tuple[Family, ...]
    unknown: tuple[UnknownOperation, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    notes: tuple[str, ...] = ()
    capture: Mapping[str, Any] = field(default_factory=dict)
    spaces: tuple[Space, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.families, tuple | list):
            raise TypeError(
                f"a {type(self.families).__name__} is given; Symmetries((family, …)) takes a tuple of families"
            )
        wrong = next((f for f in self.families if not isinstance(f, Family)), None)
        if wrong is not None:
            raise TypeError(f"a family is needed, got {type(wrong).__name__}: Symmetries((family, …)) takes a tuple")

    def __len__(self) -> int:
        return len(self.families)

    def __iter__(self) -> Iterator[Family]:
        return iter(self.families)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            for family in self.families:
                if family.name == index:
                    return family
            raise KeyError(f"no family named {index!r}; names: {', '.join(f.name for f in self.families) or 'none'}")
        return self.families[index]

    def of_kind(self, *kinds: str) -> Symmetries:
        """The symmetries of the given kinds only."""
        for kind in kinds:
            if kind not in KINDS:
                raise ValueError(f"no kind {kind!r} of symmetry; kinds: {', '.join(KINDS)}")
        kept = tuple(f for f in self.families if f.kind in kinds)
        return replace(self, families=kept)

    def joined(self, *families: Family) -> Symmetries:
        """These symmetries and others, such as some of one's own, which come last; ValueError where a name is taken.

        Whether they say something that is not said already is not looked at: the charges then are no longer all
        independent.
        """
        names = [f.name for f in (*self.families, *families)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two families are named {twice!r}; give each a name of its own")
        return replace(self, families=(*self.families, *families))

    def count(self) -> dict[str, int]:  # type: ignore[override]
        """Independent charges by kind; affine and nonlinear families, which have none, count their constraints."""
        counts: Counter[str] = Counter()
        for family in self.families:
            counts[family.kind] += family.size if family.kind in _CHARGELESS else family.charges
        return {kind: counts[kind] for kind in KINDS if kind in counts or kind not in _CHARGELESS}

    @cached_property
    def charged(self) -> tuple[Family, ...]:
        """The families that have charges, in the order of the charge vector."""
        return tuple(f for f in self.families if f.charges)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """First charge of every charged family, and the total at the end."""
        return tuple(np.concatenate([[0], np.cumsum([f.charges for f in self.charged])]).astype(int).tolist())

    @property
    def charges(self) -> int:
        """Number of charges."""
        return self.offsets[-1]

    def span(self, family: Family) -> slice:
        """Where the charges of ``family`` stand in the charge vector."""
        position = next(k for k, f in enumerate(self.charged) if f is family)
        return slice(self.offsets[position], self.offsets[position + 1])

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """One text a charge."""
        return tuple(label for f in self.charged for label in f.labels)

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each charge."""
        return tuple(f.kind for f in self.charged for _ in range(f.charges))

    @cached_property
    def family_names(self) -> tuple[str, ...]:
        """The family of each charge."""
        return tuple(f.name for f in self.charged for _ in range(f.charges))

    @cached_property
    def quadratic(self) -> Bool[Tensor, " charges"]:
        """True for charges quadratic in the parameters, False for translation charges."""
        return torch.tensor([f.quadratic for f in self.charged for _ in range(f.charges)], dtype=torch.bool)

    @cached_property
    def _parts(self) -> tuple[ChargeTerms, ...]:
        """The charges of each charged family, numbered as in the charge vector."""
        return tuple(f.action.charge_terms(offset) for f, offset in zip(self.charged, self.offsets[:-1], strict=True))

    @cached_property
    def _mixes(self) -> tuple[SliceMix, SliceMix]:
        """All slice sums, and all slice energies: each reads a tensor once, whatever the number of families."""
        sums = [term for part in self._parts for term in part.sums]
        products = [term for part in self._parts for term in part.products]
        return SliceMix(self.charges, sums), SliceMix(self.charges, products)

    @cached_property
    def displaced(self) -> Bool[Tensor, " charges"]:
        """Where a charge is of θ + c: weight decay, which pulls θ, is then no function of the charge."""
        parts = [(family.charges, bool(part.offsets)) for family, part in zip(self.charged, self._parts, strict=True)]
        return torch.tensor([moved for charges, moved in parts for _ in range(charges)], dtype=torch.bool)

    @cached_property
    def displacement(self) -> Displacement:
        """What charges of θ + c are beside ⟨θ, Mθ⟩."""
        return Displacement.of(self._parts, self.charges)

    @cached_property
    def _offset_sizes(self) -> Displacement:
        return Displacement.of([part.sizes() for part in self._parts], self.charges)

    @cached_property
    def _grams(self) -> dict[str, list[GramBlocks]]:
        """The blocks of channels of every parameter that enters charges of linear blocks."""
        out: dict[str, list[GramBlocks]] = {}
        for part in self._parts:
            for blocks in part.grams:
                out.setdefault(blocks.parameter, []).append(blocks)
        return out

    @cached_property
    def _shares(self) -> dict[str, list[ChargeShare]]:
        out: dict[str, list[ChargeShare]] = {}
        for part in self._parts:
            for share in part.shares:
                out.setdefault(share.parameter, []).append(share)
        return out

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that enter any charge."""
        linear, quadratic = self._mixes
        return tuple(dict.fromkeys((*linear.parameters, *quadratic.parameters, *self._grams, *self._shares)))

    def accumulate_pair_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor, b: Tensor) -> None:
        """Adds parameter ``name``'s share of ``pair(a, b)`` to ``out`` on its device, without host synchronisation."""
        linear, quadratic = self._mixes
        linear.add_sums_(out, name, a)
        quadratic.add_products_(out, name, a, b)
        for blocks in self._grams.get(name, ()):
            blocks.add_(out, a, b)
        self.accumulate_apart_(out, name, a, b)

    def accumulate_apart_(self, out: Float64[Tensor, " charges"], name: str, a: Tensor, b: Tensor) -> None:
        """The part of ``accumulate_pair_`` that is none of what ``product_plan`` measures."""
        for share in self._shares.get(name, ()):
            share.add_(out, a, b)

    def touched(self, name: str, like: Tensor) -> np.ndarray:
        """Numbers of the charges that a parameter, of the shape of ``like``, enters. Leaves torch's generators alone.

        Raises ValueError where the shape is another than the symmetries were found for.
        """
        terms = [term for mix in self._mixes for term in mix.terms(name)]
        if any(math.prod(term.view.shape) != like.numel() for term in terms):
            raise ValueError(f"parameter {name!r} has {like.numel()} elements, its slices others")
        numbers = [np.asarray(term.charges)[np.asarray(term.coefficients) != 0] for term in terms]
        numbers += [blocks.charges.reshape(-1) for blocks in self._grams.get(name, ())]
        if name in self._shares:
            generator = torch.Generator().manual_seed(0)
            probe = torch.rand(like.shape, generator=generator, dtype=torch.float64) + 0.5
            out = torch.zeros(self.charges, dtype=torch.float64)
            self.accumulate_apart_(out, name, probe, probe)
            numbers.append(np.flatnonzero(out.numpy()))
        return np.unique(np.concatenate(numbers)) if numbers else np.zeros(0, dtype=np.int64)

    def elements(self) -> Float64[Tensor, " charges"]:
        """Σ|c| over the elements of each charge; inf for charges of linear blocks, which are sums over many."""
        out = torch.zeros(self.charges, dtype=torch.float64)
        for mix in self._mixes:
            out += mix.elements()
        for family, part, offset in zip(self.charged, self._parts, self.offsets[:-1], strict=True):
            if part.grams or part.shares:
                out[offset : offset + family.charges] = torch.inf
        return out

    @property
    def apart(self) -> frozenset[str]:
        """Names of the parameters that enter charges which ``product_plan`` does not measure."""
        return frozenset(self._shares)

    def product_plan(self, params: Mapping[str, Tensor], device: torch.device) -> ProductPlan:
        """What measures the rest of ``pair`` for many pairs of tensors in one read of ``params``, all on one device.

        Its slice sums hold those of θ + c, too: of a gradient they complete ⟨g, Mθ⟩ to ⟨g, ξ⟩.
        """
        _, quadratic = self._mixes
        linear = SliceMix(self.charges, [t for part in self._parts for t in (*part.sums, *part.offsets)])
        grams = [blocks for held in self._grams.values() for blocks in held]
        return ProductPlan(self.charges, quadratic, linear, params, device, grams)

    def pair(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """⟨a, M b⟩ of every quadratic charge (symmetrised) and ⟨a, 1_A⟩ of every translation charge."""
        self._require(a)
        device = next((a[name].device for name in self.parameters), torch.device("cpu"))
        out = torch.zeros(self.charges, dtype=torch.float64, device=device)
        for name in self.parameters:
            self.accumulate_pair_(out, name, a[name], b[name])
        return out

    def charge(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """Every charge at ``params``: ⟨θ, M θ⟩ (of θ + c) or ⟨θ, 1_A⟩, in float64, without the factor ½."""
        return self.displacement.completed(self.pair(params, params), self.displacement.sums(params))

    def residual(self, gradients: Mapping[str, Tensor], params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """ρ = ⟨g, ξ⟩ of every charge: 0 to rounding where the symmetry is exact."""
        pair = self.pair(gradients, params)
        return pair + self.displacement.sums(gradients).to(pair.device)

    def charge_scale(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The natural size of each charge: Σ |d_i| (θ_i + c_i)² if quadratic, √(Σ d_i²)·|θ_A| for translations."""
        return self._offset_sizes.completed(self.tangent_scale(params), self._offset_sizes.sums(params))

    def tangent_scale(self, params: Mapping[str, Tensor]) -> Float64[Tensor, " charges"]:
        """The same of a gradient or a step, to which no constants are added: Σ |d_i| g_i²."""
        self._require(params)
        device = next((params[name].device for name in self.parameters), torch.device("cpu"))
        out = torch.zeros(self.charges, dtype=torch.float64, device=device)
        linear, quadratic = (mix.absolute() for mix in self._mixes)
        for name in quadratic.parameters:
            quadratic.add_products_(out, name, params[name], params[name])
        energies = linear.products({n: params[n] for n in linear.parameters}, {n: params[n] for n in linear.parameters})
        out += (energies.to(device) * linear.elements().to(device)).sqrt()
        for family, part, offset in zip(self.charged, self._parts, self.offsets[:-1], strict=True):
            if part.grams or part.shares:
                out[offset : offset + family.charges] = family.action.scale(params, params)
        return out

    def generator(self, params: Mapping[str, Tensor], weights: Tensor | None = None) -> dict[str, Tensor]:
        """Σ_c weights[c] ξ_c over the families with one generator a charge; default weights: ones."""
        given = torch.ones(self.charges, dtype=torch.float64) if weights is None else weights.double()
        if given.shape != (self.charges,):
            raise ValueError(f"weights of shape {tuple(given.shape)} given, ({self.charges},) is needed: one a charge")
        out: dict[str, Tensor] = {}
        for family in self.charged:
            if family.generator_shape == (family.charges,):
                for name, step in family.generator(params, given[self.span(family)]).items():
                    out[name] = out[name] + step if name in out else step
        return out

    def balance(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The point of the group's orbit of least norm, which leaves the function unchanged (see ``balancing``)."""
        from neuralmechanics.diagnostics.balancing.balancing import balance

        return balance(self, params)

    def _require(self, params: Mapping[str, Tensor]) -> None:
        missing = [name for name in self.parameters if name not in params]
        if missing:
            raise KeyError(
                f"parameter {missing[0]!r} is missing ({len(missing)} in all); pass "
                "dict(model.named_parameters()) of the model the symmetries were found in"
            )

    def to_frame(self) -> pd.DataFrame:
        """One row a family: kind, name, layer, charges, generators, whether exact, what breaks it, its parameters."""
        from neuralmechanics.symmetry.families.table import frame

        return frame(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON) from which ``from_dict`` builds the same symmetries."""
        return {
            "format": FORMAT,
            "families": [f.to_dict() for f in self.families],
            "unknown": [asdict(u) for u in self.unknown],
            "coverage": [asdict(c) | {"families": list(c.families)} for c in self.coverage],
            "notes": list(self.notes),
            "capture": dict(self.capture),
            "spaces": [space.to_dict() for space in self.spaces],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Symmetries:
        """The symmetries that ``to_dict`` described; ``ValueError`` for another format."""
        if data.get("format") != FORMAT:
            raise ValueError(f"symmetries of format {data.get('format')!r} given; this version reads format {FORMAT}")
        return cls(
            families=tuple(Family.from_dict(f) for f in data["families"]),
            unknown=tuple(UnknownOperation(**u) for u in data["unknown"]),
            coverage=tuple(Coverage(**(c | {"families": tuple(c["families"])})) for c in data["coverage"]),
            notes=tuple(data["notes"]),
            capture=dict(data["capture"]),
            spaces=tuple(Space.from_dict(space) for space in data.get("spaces", ())),
        )

    def __repr__(self) -> str:
        from neuralmechanics.symmetry.families.table import text_table

        return text_table(self)

    def _repr_html_(self) -> str:
        from neuralmechanics.symmetry.families.table import html_table

        return html_table(self)
