"""The charges of all families as one float64 vector: how they are numbered, and how they are measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from neuralmechanics.slices import GramBlocks, ProductPlan, SliceMix
from neuralmechanics.symmetry.algebra.sets import distinct
from neuralmechanics.symmetry.families.actions import ChargeShare, ChargeTerms
from neuralmechanics.symmetry.families.displacement import Displacement
from neuralmechanics.symmetry.families.family import Family

__all__ = ["ChargeVector"]


class ChargeVector:
    """Charges numbered through the families that have any, in the order of ``families``.

    A charge is ⟨θ, Mθ⟩ or ⟨θ, 1_A⟩. All of them are measured together, since families share tensors: each parameter
    is read once, whatever the number of families that it enters.
    """

    families: tuple[Family, ...]
    capture: Mapping[str, Any]

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
            # Away from zero, so that every entry that enters a charge shows in it.
            probe = torch.rand(like.shape, generator=generator, dtype=torch.float64) + 0.5
            out = torch.zeros(self.charges, dtype=torch.float64)
            self.accumulate_apart_(out, name, probe, probe)
            numbers.append(np.flatnonzero(out.numpy()))
        return distinct(np.concatenate(numbers)) if numbers else np.zeros(0, dtype=np.int64)

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
        self._require(b)
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

    def _require(self, params: Mapping[str, Tensor]) -> None:
        missing = [name for name in self.parameters if name not in params]
        if missing:
            raise KeyError(
                f"parameter {missing[0]!r} is missing ({len(missing)} in all); pass "
                "dict(model.named_parameters()) of the model the symmetries were found in"
            )
        # A transposed tensor has as many elements, and its slices would be others than those that were found.
        known = self.capture.get("parameters", {})
        for name in self.parameters:
            if name in known and list(params[name].shape) != list(known[name]):
                raise ValueError(
                    f"parameter {name!r} has the shape {tuple(params[name].shape)}, and had {tuple(known[name])} when "
                    "the symmetries were found; pass the parameters of that model, or find its symmetries anew"
                )
