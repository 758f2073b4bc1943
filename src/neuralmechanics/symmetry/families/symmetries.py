"""All symmetries that were found in a model, with their charges as one float64 vector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from neuralmechanics.symmetry.families.charge_vector import ChargeVector
from neuralmechanics.symmetry.families.coverage import Coverage, UnknownOperation
from neuralmechanics.symmetry.families.family import KINDS, Family
from neuralmechanics.symmetry.families.spaces import Space

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Coverage", "Symmetries", "UnknownOperation"]

FORMAT = 1
_CHARGELESS = ("affine", "nonlinear")


@dataclass(frozen=True, eq=False)
class Symmetries(ChargeVector, Sequence[Family]):
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
        shapes = self.capture.get("parameters", {})
        object.__setattr__(self, "families", tuple(_with_shapes(family, shapes) for family in self.families))

    @property
    def channel_spaces(self) -> tuple[Space, ...]:
        """The spaces whose channels stand along dimensions alone: no parameters are exchanged whole."""
        return tuple(space for space in self.spaces if not space.blocks)

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

    def balance(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The point of the group's orbit of least norm, which leaves the function unchanged (see ``balancing``)."""
        from neuralmechanics.diagnostics.balancing.balancing import balance

        return balance(self, params)

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
            # What was written before spaces were looked for has none.
            spaces=tuple(Space.from_dict(space) for space in data.get("spaces", ())),
        )

    def __repr__(self) -> str:
        from neuralmechanics.symmetry.families.table import text_table

        return text_table(self)

    def _repr_html_(self) -> str:
        from neuralmechanics.symmetry.families.table import html_table

        return html_table(self)


def _with_shapes(family: Family, shapes: Mapping[str, Sequence[int]]) -> Family:
    """The family, which from now on refuses parameters of other shapes; itself where it does so or none are known."""
    known = {name: shapes[name] for name in family.parameters if name in shapes}
    return family if family.shapes or not known else replace(family, shapes=known)
