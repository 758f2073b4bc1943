"""Which layers of a residual stream play which part: what writes it, what reads it, and the heads in between."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import nn

from neuralmechanics.rewrite.maps.modules import Layers
from neuralmechanics.symmetry import Space, Symmetries
from neuralmechanics.symmetry.families.spaces import Entry

__all__ = ["Roles", "refuse", "stream_of"]


def refuse(reason: str) -> ValueError:
    return ValueError(f"no map for SpinQuant: {reason}")


def stream_of(symmetries: Symmetries, layers: Layers) -> Space:
    """The space that an embedding writes and any orthogonal matrix turns."""
    written = [space for space in symmetries.channel_spaces if any(_is_embedding(e, layers) for e in space.entries)]
    if not written:
        raise refuse("no embedding writes a space of channels")
    turned = [space for space in written if space.group == "orthogonal"]
    if len(turned) == 1:
        return turned[0]
    if turned:
        raise refuse(f"{len(turned)} streams can be turned ({', '.join(s.name for s in turned)}); the format has one")
    (first, *_) = written
    if first.group == "ones-preserving orthogonal":
        raise refuse(
            f"layer norms read {first.name}, so that only rotations that keep the mean are symmetries; "
            "centre what writes it and make the norms RMS norms first"
        )
    raise refuse(
        f"the group of {first.name} is that of {first.group}s, not the orthogonal one; "
        'rewrite.why_not(model, batch, "rotate") says what stops it'
    )


def _is_embedding(entry: Entry, layers: Layers) -> bool:
    owner, leaf = layers.owner(entry.parameter)
    return leaf == "weight" and entry.axis == 1 and isinstance(layers.module(owner), nn.Embedding)


@dataclass(frozen=True, eq=False)
class Roles:
    """Which layers of the stream are what."""

    symmetries: Symmetries
    stream: Space
    layers: Layers

    def named(self, embedding: Sequence[str], writers: Sequence[str], readers: Sequence[str]) -> dict[str, list[str]]:
        """The layers of every role, in the model's order."""
        values, outputs, attention = self._attention(readers, writers)
        queries, keys = self._queries_and_keys(attention, values)
        head = self._head(readers, embedding)
        inner = [name for name in readers if name not in {*queries, *keys, *values, head}]
        roles = {
            "embedding": list(embedding), "attn_q": queries, "attn_k": keys, "attn_v": values, "attn_o": outputs,
            "mlp_in": inner, "mlp_out": [name for name in writers if name not in outputs], "lm_head": [head],
        }  # fmt: skip
        for role, names in roles.items():
            if not names:
                raise refuse(f"the model has no layer for {role}")
        return roles

    def ends(self) -> tuple[list[str], list[str], list[str]]:
        """Embeddings, linear layers that write the stream, and those that read it."""
        embedding: dict[str, None] = {}
        writers: dict[str, None] = {}
        readers: dict[str, None] = {}
        for entry in (e for e in self.stream.entries if e.mixes):
            name, leaf = self.layers.owner(entry.parameter)
            kind = type(self.layers.module(name)) if leaf in ("weight", "bias") else None
            if _is_embedding(entry, self.layers) and kind is nn.Embedding:
                embedding[name] = None
            elif kind is nn.Linear:
                (writers if entry.axis == 0 else readers)[name] = None
            else:
                held = kind.__name__ if kind else "no layer's own weight"
                raise refuse(
                    f"{entry.parameter} turns with the stream ({held}); the tool turns Linear and Embedding alone"
                )
        both = writers.keys() & readers.keys()
        if both:
            raise refuse(f"{', '.join(sorted(both))} read and write the stream")
        return self._ordered(embedding), self._ordered(writers), self._ordered(readers)

    def _attention(
        self, readers: Collection[str], writers: Collection[str]
    ) -> tuple[list[str], list[str], list[tuple[str, ...]]]:
        """Values, outputs, and for each pair the readers of the stream that their heads are permuted with."""
        values: list[str] = []
        outputs: list[str] = []
        beside: list[tuple[str, ...]] = []
        for space in self.symmetries.channel_spaces:
            rows, columns = self._sides(space, readers, writers)
            turned = {self.layers.owner(name)[0] for name in space.parameters}
            if (
                space.group in ("orthogonal", "general linear")
                and turned == {*rows, *columns}
                and len(rows) == len(columns) == 1
            ):
                values += rows
                outputs += columns
        for output in outputs:
            around = [self._sides(space, readers, writers) for space in self.symmetries.channel_spaces]
            beside.append(tuple(dict.fromkeys(r for rows, columns in around if output in columns for r in rows)))
        if not values:
            raise refuse("no layer's heads can be turned against those of the layer that reads them (R2)")
        return values, outputs, beside

    def head_width(self, values: Collection[str]) -> int:
        """The channels of a head."""
        found = {
            space.width
            for space in self.symmetries.channel_spaces
            if space is not self.stream
            and space.mixes
            and {f"{name}.weight" for name in values} & set(space.parameters)
        }
        if len(found) != 1:
            raise refuse(f"heads have {' and '.join(map(str, sorted(found)))} channels; the format has one number")
        return found.pop()

    def _sides(self, space: Space, readers: Collection[str], writers: Collection[str]) -> tuple[list[str], list[str]]:
        """Readers of the stream whose rows are the space's, and writers whose columns are."""
        rows: dict[str, None] = {}
        columns: dict[str, None] = {}
        for entry in space.entries:
            name, leaf = self.layers.owner(entry.parameter)
            if leaf == "weight" and entry.axis == 0 and name in readers:
                rows[name] = None
            elif leaf == "weight" and entry.axis == 1 and name in writers:
                columns[name] = None
        return list(rows), list(columns)

    def _queries_and_keys(
        self, attention: Sequence[tuple[str, ...]], values: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """The two others of each block. Which is which makes no difference to R1; queries are no fewer than keys."""
        queries: list[str] = []
        keys: list[str] = []
        for rows, value in zip(attention, values, strict=True):
            others = [name for name in rows if name != value]
            if len(others) != 2:
                raise refuse(
                    f"beside the values of {value} there are {len(others)} layers for queries and keys "
                    f"({', '.join(others) or 'packed into one tensor, or behind a narrower one'}); the format takes two"
                )
            one, other = self._ordered(others)
            fewer = self.layers.shapes[f"{one}.weight"][0] < self.layers.shapes[f"{other}.weight"][0]
            alike = self.layers.shapes[f"{one}.weight"] == self.layers.shapes[f"{other}.weight"]
            if fewer or (alike and one.rpartition(".")[2].startswith("k")):
                one, other = other, one
            queries.append(one)
            keys.append(other)
        return queries, keys

    def _head(self, readers: Sequence[str], embedding: Sequence[str]) -> str:
        """The reader that has a row for each token."""
        tokens = {self.layers.shapes[f"{name}.weight"][0] for name in embedding}
        found = [name for name in readers if self.layers.shapes[f"{name}.weight"][0] in tokens]
        used = {
            e.parameter for space in self.symmetries.channel_spaces if space is not self.stream for e in space.entries
        }
        found = [name for name in found if f"{name}.weight" not in used]
        if len(found) != 1:
            raise refuse(
                f"{len(found)} layers have a row for each token ({', '.join(found)}); the format has one lm_head"
            )
        return found[0]

    def _ordered(self, names: Collection[str]) -> list[str]:
        return [name for name in self.layers.names if name in names]
