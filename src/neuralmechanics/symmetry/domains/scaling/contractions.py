"""Scales under sums of products: along a summed index the factors of what meets are the same everywhere."""

from __future__ import annotations

from dataclasses import replace

from neuralmechanics.symmetry.domains.scaling.indexed_rows import choices_of, lifted, lowered, relettered
from neuralmechanics.symmetry.domains.scaling.label import Label, lettered
from neuralmechanics.symmetry.domains.scaling.parameter_labels import ParameterLabels
from neuralmechanics.symmetry.program.attributes.contraction import Contraction

__all__ = ["Contractions"]


class Contractions(ParameterLabels):
    """The primitive ``contract`` of the scale interpreter."""

    def contract(self, x: Label, y: Label, how: Contraction) -> Label:
        """Along a summed index, the labels of the two factors must add up to the same value everywhere."""
        x, y = self._answering(y, how.y, x, how), self._answering(x, how.x, y, how)
        inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
        x = self._choosing_apart(x, (d for d, k in enumerate(how.x) if k not in how.out or k in inner))
        y = self._choosing_apart(y, (d for d, k in enumerate(how.y) if k not in how.out or k in inner))
        places = [relettered(c, mine, how.out) for z, mine in ((x, how.x), (y, how.y)) for c in choices_of(z)]
        # Rows of two indices may meet in any pair, so that all must scale alike.
        if len(set(places)) > 1:
            x, y, places = self._common_row(x), self._common_row(y), []
        if not places:
            return self._contracted(x, y, how)
        x, y = (lifted(z, next(iter(choices_of(z)), places[0])) for z in (x, y))
        # A letter that no contraction has: rows that the data choose go through as a batch dimension does.
        rows = "|"
        whole = replace(how, x=how.x + rows, y=how.y + rows, out=how.out + rows)
        return lowered(self._contracted(x, y, whole), places[0])

    def _contracted(self, x: Label, y: Label, how: Contraction) -> Label:
        letters = list(dict.fromkeys(how.out + how.x + how.y))
        inner = {w.x for w in how.windows} | {w.kernel for w in how.windows}
        summed = frozenset(k for k, letter in enumerate(letters) if letter not in how.out or letter in inner)
        terms = [lettered(t, how.x, letters) for t in x.terms]
        terms += [lettered(t, how.y, letters) for t in y.terms]
        settled = self._settle(terms, summed)
        shape = how.output_shape(x.shape, y.shape)
        out = [replace(t, ids=t.ids.reshape(t.ids.shape[: len(how.out)])) for t in settled]
        return Label(shape, tuple(out))

    def _answering(self, data: Label, letters: str, weight: Label, how: Contraction) -> Label:
        """A parameter that is read here and nowhere else: its summed labels are minus those it meets, by definition."""
        name = next((t.origin[0] for t in weight.terms if t.origin), "")
        if name not in self.single or weight is not self.parameters.get(name):
            return weight
        mine = how.y if letters == how.x else how.x
        terms = list(weight.terms)
        met = self._compact(data.terms)
        for position, term in enumerate(terms):
            place = next(iter(term.dims()), None)
            if len(term.dims()) != 1 or place is None:
                continue
            letter = mine[place]
            if letter in how.out or letter not in letters:
                continue
            partners = [t for t in met if letters.index(letter) in t.dims() and t.choice is None]
            if len(partners) != 1 or len(partners[0].dims()) != 1:
                continue
            if self.gauges.fixes([term, partners[0]], frozenset(), [*met, *terms]):
                # The label is minus the other's by definition: no variables of its own and no equations.
                self.system.retire(term.ids)
                ids = partners[0].ids.reshape(term.ids.shape)
                terms[position] = replace(partners[0], coefficient=-partners[0].coefficient, ids=ids)
        self.parameters[name] = Label(weight.shape, tuple(terms))
        return self.parameters[name]
