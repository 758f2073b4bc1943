"""Weights that read what a centring norm leaves empty, noted on the way with the biases behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from neuralmechanics.symmetry.domains.representation.tensor_type import Carried, Hollow
from neuralmechanics.symmetry.families.actions.terms.gain import Gain
from neuralmechanics.symmetry.program.attributes.contraction import Contraction

__all__ = ["Sheared", "Shears"]


@dataclass(frozen=True)
class Sheared:
    """A weight that reads what a centring norm and a gain left, along its dimension ``inputs``, wherever it is read.

    ``positions``: the instructions that read it. ``absorber``: a bias that is added to all that it makes.
    """

    weight: str
    inputs: int
    hollow: Hollow
    positions: tuple[int, ...]
    absorber: str | None = None

    @property
    def made_of(self) -> frozenset[str]:
        """The weight, and the gains and shifts by which it reads."""
        names = {self.weight, *(gain.parameter for gain, _ in self.hollow.dressing)}
        for name, since in self.hollow.shifts:
            names |= {name, *(gain.parameter for gain, _ in since)}
        return frozenset(names)


@dataclass(eq=False)
class Shears:
    """Where each weight reads a centring norm. ``single``: parameters that one instruction reads, once."""

    single: frozenset[str]
    noted: dict[str, list[Sheared]] = field(default_factory=dict)
    _waiting: dict[int, tuple[str, Carried, int]] = field(default_factory=dict)  # products, with outputs from behind

    def note(
        self, data: Carried, mine: str, weight: Carried, theirs: str, how: Contraction, result: Carried, position: int
    ) -> None:
        """A weight whose columns read what a centring norm and a gain left."""
        if data.hollow is None or weight.source is None or not (data.hollow.dressing or data.hollow.shifts):
            return
        (name, places), letter = weight.source, mine[data.hollow.dim]
        kernels = {w.kernel for w in how.windows}
        outputs = [k for k in theirs if k in how.out and k not in mine]
        inner = [k for k in theirs if k in kernels]
        if letter not in theirs or letter in how.out or letter in {w.x for w in how.windows}:
            return
        column = places[theirs.index(letter)]
        if column is None or len(outputs) + len(inner) + 1 != len(theirs):
            return
        if data.hollow.shifts and not all(w.keeps_constants for w in how.windows):
            return  # zeros around the channels do not add up to what these do
        self.noted.setdefault(name, []).append(Sheared(name, column, replace(data.hollow, dim=0), (position,)))
        if len(theirs) == 2 and len(outputs) == 1 and None not in places and name in self.single:
            self._waiting[id(result)] = (name, result, how.out.index(outputs[0]) - len(how.out))

    def answer(self, product: Carried, bias: Carried) -> None:
        """Notes the bias that is added to a product, to take back what a shear of the weight leaves."""
        name, held, place = self._waiting.get(id(product), ("", None, 0))
        if product is not held or bias.gain is None:
            return
        whole = bias.gain == (Gain(bias.gain[0].parameter), 1.0)
        along = [d - len(bias.shape) for d in bias.wide()]
        if not whole or along != [place] or bias.shape[place] != product.shape[place]:
            return
        if bias.gain[0].parameter in self.single:
            self.noted[name] = [replace(w, absorber=bias.gain[0].parameter) for w in self.noted[name]]

    def settled(self, reads: Mapping[str, int]) -> dict[str, Sheared]:
        """The weights that read nothing but one centring norm, or norms with one gain and one bias.

        ``reads``: how many instructions read each parameter.
        """
        return {name: w for name, w in self._alike().items() if len(w.positions) == reads.get(name)}

    def shared(self, reads: Mapping[str, int]) -> dict[str, Sheared]:
        """The weights that read one centring norm, or norms with one gain and one bias, and are read elsewhere, too."""
        found = {name: w for name, w in self._alike().items() if len(w.positions) < reads.get(name, 0)}
        return {name: replace(w, absorber=None) for name, w in found.items()}

    def _alike(self) -> dict[str, Sheared]:
        """The weights of which all reads that were noted find the same."""
        found = {}
        for name, noted in self.noted.items():
            first, positions = noted[0], tuple(dict.fromkeys(w.positions[0] for w in noted))
            if all((w.inputs, w.hollow) == (first.inputs, first.hollow) for w in noted):
                found[name] = replace(first, positions=positions)
        return found
