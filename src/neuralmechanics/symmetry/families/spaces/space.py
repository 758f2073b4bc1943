"""A space of channels: which group acts on it, and how each of its elements acts on the parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neuralmechanics.symmetry.families.actions.mixing.rotation_matrices import require_apart
from neuralmechanics.symmetry.families.actions.terms.gain import gain_values, living
from neuralmechanics.symmetry.families.breaking import Breaking
from neuralmechanics.symmetry.families.spaces.element import Element, monomial
from neuralmechanics.symmetry.families.spaces.entry import Entry
from neuralmechanics.symmetry.families.spaces.groups import MATRIX_GROUPS, Copies, Direction, SpaceGroup

__all__ = ["Space"]


_ALLOWED = 1e-9  # departure of a matrix from its group, in float64


@dataclass(frozen=True, eq=False)
class Space:
    """``width`` channels that may be permuted in any way, each copy apart, and on which ``group`` acts.

    "signed permutation", "positive monomial" and "monomial" (both) are permutations with signs or positive factors; the
    others are groups of matrices, of which permutations are a part: "ones-preserving orthogonal" (A·1 = 1),
    "orthogonal", "general linear". ``entries`` are all dimensions of parameters that move. ``directions`` are the
    factors that may be chosen for each channel: those of the group (``own``), unless matrices contain them, and those
    that a gain takes back. ``blocks``: parameters that belong to one channel each, as those of an expert or a head
    that is a module, with the running statistics of its norms; a permutation exchanges them whole.
    """

    name: str
    group: SpaceGroup
    width: int
    entries: tuple[Entry, ...]
    copies: tuple[Copies, ...] = ()
    directions: tuple[Direction, ...] = ()
    requires: tuple[str, ...] = ()
    blocks: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """Names of the parameters that move."""
        exchanged = (name for block in self.blocks for name in block)
        return tuple(dict.fromkeys([*(entry.parameter for entry in self.entries), *exchanged]))

    @property
    def copies_shape(self) -> tuple[int, ...]:
        """How many copies there are."""
        return tuple(copy.size for copy in self.copies)

    @property
    def mixes(self) -> bool:
        """Whether the group is one of matrices."""
        return self.group in MATRIX_GROUPS

    def axes(self) -> dict[str, tuple[int, ...]]:
        """For each parameter the dimensions along which the channels stand."""
        return {
            name: tuple(dict.fromkeys(e.axis for e in self.entries if e.parameter == name))
            for name in dict.fromkeys(e.parameter for e in self.entries)
        }

    def transform(self, params: Mapping[str, Tensor], element: Element | Tensor | Sequence[Any]) -> dict[str, Tensor]:
        """The parameters after an element of the group, as a new mapping; the model computes the same.

        ``element``: a permutation p, integers of shape [width] (or one for each copy), after which channel k is what
        channel p[k] was; a matrix [width, width] of the group (a signed permutation, a rotation, …); or an ``Element``.
        A matrix with one entry a row moves gains along with the channels that they multiply; any other leaves gains
        where they are. Raises ``ValueError`` for what is no element of the group.
        """
        missing = next((e for e in self.entries if e.parameter not in params), None)
        if missing is not None:
            kind, given = ("buffer", "model.state_dict()") if missing.buffer else ("parameter", "every parameter")
            raise KeyError(f"space {self.name!r} moves {kind} {missing.parameter!r}, which is missing; pass {given}")
        chosen = element if isinstance(element, Element) else self._read(element)
        out = dict(params)
        if chosen.permutation is not None:
            self._permute(out, self._spread(chosen.permutation, 1))
        if chosen.factors is not None:
            self._multiply(out, chosen.factors.double())
        if chosen.matrix is not None:
            self._mix(out, self._spread(chosen.matrix.double(), 2))
        return out

    def random_element(self, generator: torch.Generator) -> Element:
        """A permutation, signs and factors of every exact direction, and a matrix of the group where there is one."""
        shape, n = self.copies_shape, self.width
        draws = [torch.randperm(n, generator=generator) for _ in range(math.prod(shape))]
        factors = None
        if self.directions:
            noise = torch.randn(len(self.directions), *shape, n, generator=generator, dtype=torch.float64)
            signs = torch.where(noise < 0, -1.0, 1.0)
            scaled = torch.tensor([d.kind == "scale" for d in self.directions])
            factors = torch.where(scaled.reshape(-1, *(1,) * (noise.ndim - 1)), (noise / 2).exp(), signs)
            # What an eps breaks changes the model's numbers, by little but for certain: it is left out.
            factors[[not d.exact for d in self.directions]] = 1.0
        return Element(
            torch.stack(draws).reshape(*shape, n), factors, self._random_matrix(generator) if self.mixes else None
        )

    def _random_matrix(self, generator: torch.Generator) -> Tensor:
        shape, n = self.copies_shape, self.width

        def rotation(size: int) -> Tensor:
            noise = torch.randn(*shape, size, size, generator=generator, dtype=torch.float64)
            orthogonal: Tensor = torch.linalg.qr(noise)[0]
            return orthogonal

        if self.group == "orthogonal":
            return rotation(n)
        if self.group == "general linear":
            noise = torch.randn(*shape, n, generator=generator, dtype=torch.float64)
            # Singular values near one, so that the element is far from singular.
            return rotation(n) @ torch.diag_embed((noise / 3).exp()) @ rotation(n)
        ones = torch.full((n, 1), n**-0.5, dtype=torch.float64)
        # The first column is ±1/√n: what turns the other columns alone keeps the all-ones vector.
        first = torch.linalg.qr(torch.cat([ones, torch.eye(n, dtype=torch.float64)[:, : n - 1]], 1))[0]
        inside = torch.eye(n, dtype=torch.float64).expand(*shape, n, n).clone()
        inside[..., 1:, 1:] = rotation(n - 1)
        turned: Tensor = first @ inside @ first.mT
        return turned

    def to_dict(self) -> dict[str, Any]:
        """Plain data (JSON) from which ``from_dict`` builds the same space."""
        return {
            "name": self.name,
            "group": self.group,
            "width": self.width,
            "entries": [entry.to_dict() for entry in self.entries],
            "copies": [asdict(copy) for copy in self.copies],
            "directions": [asdict(d) | {"exponents": list(d.exponents)} for d in self.directions],
            "requires": list(self.requires),
            **({"blocks": [list(block) for block in self.blocks]} if self.blocks else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """The space that was written."""
        directions = (
            Direction(d["kind"], tuple(d["exponents"]), d["own"], tuple(Breaking(**b) for b in d["broken_by"]))
            for d in data["directions"]
        )
        return cls(
            data["name"],
            data["group"],
            data["width"],
            tuple(Entry.from_dict(entry) for entry in data["entries"]),
            tuple(Copies(**copy) for copy in data["copies"]),
            tuple(directions),
            tuple(data["requires"]),
            tuple(tuple(block) for block in data.get("blocks", ())),
        )

    def __repr__(self) -> str:
        each = "".join(f" for each of {copy.size} {copy.name}" for copy in self.copies)
        places = ", ".join(f"{name}{list(axes)}" for name, axes in self.axes().items())
        return f"Space({self.name!r}, {self.group} of {self.width} channels{each}: {places})"

    # --- what is given ----------------------------------------------------------------------------------------------

    def _read(self, given: Tensor | Sequence[Any]) -> Element:
        value = torch.as_tensor(given)
        shapes = ((self.width,), (*self.copies_shape, self.width))
        matrices = tuple((*shape, self.width) for shape in shapes)
        if not value.is_floating_point() and tuple(value.shape) in shapes:
            if not bool((value.sort(-1).values == torch.arange(self.width)).all()):
                raise ValueError(f"space {self.name!r}: {value.tolist()} is no permutation of {self.width} channels")
            return Element(value.long())
        if tuple(value.shape) not in matrices:
            raise ValueError(
                f"space {self.name!r}: an element of shape {tuple(value.shape)} given; give a permutation, integers of "
                f"shape {shapes[0]}, or a matrix of shape {matrices[0]}"
            )
        return self._of_matrix(value.double())

    def _of_matrix(self, matrix: Tensor) -> Element:
        """A matrix with one entry a row as a permutation and factors, any other as it is."""
        found = monomial(matrix)
        if found is None:
            self._require(matrix)
            return Element(matrix=matrix)
        permutation, factors = found
        if bool((factors == 1).all()):
            return Element(permutation)
        if self.mixes:
            self._require(matrix)
            return Element(permutation, matrix=torch.diag_embed(factors))
        full = self._spread(factors, 1)
        chosen = torch.ones(len(self.directions), *full.shape, dtype=torch.float64)
        for kind, part in (("sign", full.sign()), ("scale", full.abs())):
            if bool((part == 1).all()):
                continue
            place = next((k for k, d in enumerate(self.directions) if d.kind == kind and d.own), None)
            if place is None:
                raise ValueError(f"space {self.name!r}: the group is that of {self.group}s, which has no {kind}s")
            chosen[place] = part
        return Element(permutation, chosen)

    def _require(self, matrix: Tensor) -> None:
        if not self.mixes:
            raise ValueError(f"space {self.name!r}: the group is that of {self.group}s; give a permutation of channels")
        unit = torch.eye(self.width, dtype=torch.float64)
        if self.group == "general linear":
            if float(torch.linalg.cond(matrix).max()) > 1 / _ALLOWED:
                raise ValueError(f"space {self.name!r}: the matrix given has no inverse; give one that has")
            return
        off = float((matrix.mT @ matrix - unit).abs().max())
        law = "AᵀA = 1"
        if self.group == "ones-preserving orthogonal":
            off = max(off, float((matrix.sum(-1) - 1).abs().max()) / self.width**0.5)
            law = "AᵀA = 1 and A·1 = 1"
        if off > _ALLOWED:
            raise ValueError(
                f"space {self.name!r}: the matrix given is off by {off:.1e} from {law}, at most {_ALLOWED:g} is "
                "allowed; make it in float64"
            )

    def _spread(self, value: Tensor, last: int) -> Tensor:
        """One for each copy."""
        return value.expand(*self.copies_shape, *value.shape[value.ndim - last :])

    # --- how it acts ------------------------------------------------------------------------------------------------

    def _parts(self, entry: Entry, tensor: Tensor) -> Iterator[tuple[tuple[int, ...], tuple[Tensor, ...]]]:
        """Each copy, with the indices of its entries in the parameter, the channels' dimension flattened."""
        if tuple(tensor.shape) != entry.shape:
            raise ValueError(
                f"space {self.name!r}: parameter {entry.parameter!r} has shape {tuple(tensor.shape)}, "
                f"{entry.shape} is needed"
            )
        for copy in itertools.product(*(range(n) for n in self.copies_shape)):
            chosen = [torch.arange(n) for n in entry.shape]
            for place in (entry.place, *entry.beside):
                chosen[place.axis] = torch.as_tensor(place.positions(copy).reshape(-1))
            rank = len(chosen)
            yield (
                copy,
                tuple(
                    index.reshape([-1 if k == d else 1 for k in range(rank)]).to(tensor.device)
                    for d, index in enumerate(chosen)
                ),
            )

    def _apply(self, out: dict[str, Tensor], entry: Entry, change: Any) -> None:
        """Replaces the channels of every copy, as rows of a float64 matrix, by what ``change`` makes of them."""
        before = out[entry.parameter]
        after = before.clone()
        for copy, index in self._parts(entry, before):
            rows = before[index].movedim(entry.axis, 0)
            changed = change(rows.reshape(self.width, -1), copy).reshape(rows.shape)
            after[index] = changed.movedim(0, entry.axis).to(before.dtype)
        out[entry.parameter] = after

    def _permute(self, out: dict[str, Tensor], permutation: Tensor) -> None:
        for entry in self.entries:
            self._apply(out, entry, lambda rows, copy: rows[permutation[copy].to(rows.device)])
        before = dict(out)
        for block, k in zip(self.blocks, permutation.tolist() if self.blocks else (), strict=True):
            out |= {name: before[other] for name, other in zip(block, self.blocks[k], strict=True)}

    def _multiply(self, out: dict[str, Tensor], factors: Tensor) -> None:
        for number, entry in enumerate(self.entries):
            total = torch.ones(factors.shape[1:], dtype=torch.float64)
            for direction, factor in zip(self.directions, factors, strict=True):
                exponent = direction.exponents[number]
                total = total * (factor if exponent == 1 else factor**exponent)
            self._apply(
                out, entry, lambda rows, copy, total=total: rows.double() * total[copy].to(rows.device)[:, None]
            )

    def _mix(self, out: dict[str, Tensor], matrix: Tensor) -> None:
        gains = dict(out)
        for entry in (e for e in self.entries if e.mixes):
            chosen = torch.linalg.inv(matrix).mT if entry.inverse_transposed else matrix
            like = out[entry.parameter].detach()
            gain = gain_values(entry.dressing, gains, like, dead=1.0)
            if gain is not None:
                alive = living(entry.dressing, gains, like)
                apart = alive[..., :, None] == alive[..., None, :]
                require_apart(chosen, apart.to(chosen.device), entry.dressing)
                chosen = gain[..., :, None] * chosen.to(gain.device) / gain[..., None, :]

            def mixed(rows: Tensor, copy: tuple[int, ...], chosen: Tensor = chosen) -> Tensor:
                return chosen[copy].to(rows.device) @ rows.double()

            self._apply(out, entry, mixed)
