"""Weights that write what gains multiply before anything else sees it: λ⊙(W a + b) is W'a + b' with W' = diag(λ) W."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from neuralmechanics.symmetry.domains.representation.spaces import dressed
from neuralmechanics.symmetry.domains.representation.tensor_type import places_of
from neuralmechanics.symmetry.families.actions.terms.gain import Dressing, Gain
from neuralmechanics.symmetry.passes.facts.faults import naming_the_operation
from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Expand
from neuralmechanics.symmetry.program.program import Instruction, Program
from neuralmechanics.symmetry.program.value import Value

__all__ = ["GainedWriter", "without_gains"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class GainedWriter:
    """A parameter that stands for itself times gains along its dimension ``dim``."""

    dim: int
    dressing: Dressing


@naming_the_operation
def without_gains(program: Program, single: Collection[str]) -> tuple[Program, dict[str, GainedWriter]]:
    """The program in which such weights and biases stand for their products with the gains, and what these are.

    It computes the same where each of them is multiplied by its gains. ``single``: parameters that are read once.
    """
    search = _Search(program, frozenset(single))
    # The last product first: gains further in belong to it where it takes them up.
    for place in range(len(program.instructions) - 1, -1, -1):
        search.look_at(place)
    if not search.found.writers:
        return program, {}
    out: list[Instruction] = []
    for place, instruction in enumerate(program.instructions):
        out += search.instead.get(place, [instruction])
    return without_dead_values(replace(program, instructions=tuple(out))), search.found.writers


@dataclass(frozen=True)
class _Written:
    """What weights write: which these are, and products with gains on the way, each with its other factor."""

    writers: dict[str, GainedWriter] = field(default_factory=dict)
    products: dict[int, Value] = field(default_factory=dict)

    def __or__(self, other: _Written) -> _Written:
        return _Written(self.writers | other.writers, self.products | other.products)


@dataclass(eq=False)
class _Search:
    """What has been found in a program so far; ``instead``: what stands in the place of some instructions."""

    program: Program
    single: frozenset[str]

    def __post_init__(self) -> None:
        self.found = _Written()
        self.instead: dict[int, list[Instruction]] = {}
        self._makers, self._readers = self.program.makers(), self.program.readers()
        self._values = self.program.size()

    def look_at(self, place: int) -> None:
        """For a product with gains of what weights write: sums without the gains in its place."""
        product = self.program.instructions[place]
        result = product.result
        if not isinstance(product.primitive, p.Multiply) or product.primitive.function or result is None:
            return
        if result.index in self.found.products:
            self.instead[place] = [self._as_it_is(product, self.found.products[result.index], result)]
            return
        for x, y in (product.operands, product.operands[::-1]):
            gains = self._gains(x)
            if gains is None or x is y:
                continue
            wide = next(d for d, n in enumerate(x.shape) if n > 1) - len(x.shape)
            made: list[Instruction] = []
            if _meets(y, wide, x) and (written := self._spread(product, x, y, wide, gains, made)):
                self.found |= written
                *before, last = made
                self.instead[place] = [*before, replace(last, result=result)]
                return

    def _spread(
        self, product: Instruction, x: Value, y: Value, wide: int, gains: Dressing, out: list[Instruction]
    ) -> _Written | None:
        """Writes x·y, x being gains, with the gains taken into all summands of y that weights write."""
        shape = tuple(p.Multiply().output_shape(x.shape, y.shape) or ())
        written = self._written(y, wide % len(y.shape), gains)
        if written is not None:
            out.append(self._as_it_is(product, y, self._new(shape)))
            return written
        maker = self._makers[y.index]
        found: _Written | None = None
        if isinstance(maker.primitive, p.Add) and self._alone(y) and maker.operands[0] is not maker.operands[1]:
            made = []
            for z in maker.operands:
                part = self._spread(product, x, z, wide, gains, out) if _meets(z, wide, x) else None
                if part is None:
                    sizes = tuple(p.Multiply().output_shape(x.shape, z.shape) or ())
                    out.append(replace(product, operands=(x, z), result=self._new(sizes)))
                else:
                    found = part if found is None else found | part
                result = out[-1].result
                made += [] if result is None else [result]
            out.append(replace(product, primitive=maker.primitive, operands=tuple(made), result=self._new(shape)))
        return found

    def _new(self, shape: Shape) -> Value:
        self._values += 1
        return Value(self._values - 1, shape, True)

    @staticmethod
    def _as_it_is(product: Instruction, y: Value, result: Value) -> Instruction:
        """y in the place of a product, of the product's shape."""
        step = p.Scale(1.0) if y.shape == result.shape else p.Rearrange(Expand(result.shape))
        return replace(product, primitive=step, operands=(y,), result=result)

    # --- what weights write ---------------------------------------------------------------------------------------

    def _written(self, y: Value, dim: int, gains: Dressing) -> _Written | None:
        """The weights and biases that make all of y, each with its dimension that lies along ``dim``; None if not."""
        maker = self._makers[y.index]
        primitive, operands = maker.primitive, maker.operands
        if not self._alone(y):
            return None
        if isinstance(primitive, p.Parameter):
            return _Written({primitive.name: GainedWriter(dim, gains)}) if primitive.name in self.single else None
        if isinstance(primitive, p.Contract) and primitive.function is None:
            return self._of_sum(maker, dim, gains)
        if isinstance(primitive, p.Add):
            return self._of_all(y, operands, dim, gains)
        if isinstance(primitive, p.Scale):
            return self._written(operands[0], dim, gains) if primitive.factor else None
        if isinstance(primitive, p.Rearrange):
            before = _before(maker, dim)
            return None if before is None else self._written(operands[0], before, gains)
        if isinstance(primitive, p.Multiply) and primitive.function is None:
            return self._of_multiple(y, operands, dim, gains)
        return None

    def _of_sum(self, maker: Instruction, dim: int, gains: Dressing) -> _Written | None:
        """The weight of a sum of products that alone has the outputs along ``dim``."""
        assert isinstance(maker.primitive, p.Contract)
        how = maker.primitive.how
        letter = how.out[dim]
        if letter in {name for w in how.windows for name in (w.x, w.kernel, w.out)}:
            return None
        for mine, theirs, weight in ((how.x, how.y, maker.operands[0]), (how.y, how.x, maker.operands[1])):
            if letter in mine and letter not in theirs:
                x, place = weight, mine.index(letter)
                while isinstance(self._makers[x.index].primitive, p.Rearrange) and self._alone(x):
                    before = _before(self._makers[x.index], place)
                    if before is None:
                        return None
                    x, place = self._makers[x.index].operands[0], before
                leaf = isinstance(self._makers[x.index].primitive, p.Parameter)
                return self._written(x, place, gains) if leaf else None
        return None

    def _of_all(self, y: Value, operands: tuple[Value, ...], dim: int, gains: Dressing) -> _Written | None:
        """Those of all summands; None where one of them is something else."""
        found = _Written()
        for x in operands:
            place = dim - len(y.shape)
            if -place > len(x.shape) or x.shape[place] != y.shape[dim]:
                return None
            written = self._written(x, place % len(x.shape), gains)
            if written is None or written.writers.keys() & found.writers.keys():
                return None
            found |= written
        return found

    def _of_multiple(self, y: Value, operands: tuple[Value, ...], dim: int, gains: Dressing) -> _Written | None:
        """Those of one factor, where the other is the same for all channels, or further gains."""
        place = dim - len(y.shape)
        for x, other in (operands, operands[::-1]):
            if x is other or -place > len(x.shape) or x.shape[place] != y.shape[dim]:
                continue
            if -place > len(other.shape) or other.shape[place] == 1:
                written = self._written(x, place % len(x.shape), gains)
            else:
                more = self._gains(other)
                every = None if more is None else dressed(gains, more)
                written = None if every is None else self._written(x, place % len(x.shape), every)
                written = None if written is None else written | _Written({}, {y.index: x})
            if written is not None:
                return written
        return None

    def _alone(self, y: Value) -> bool:
        """Whether one instruction reads the value, once."""
        readers = self._readers.get(y.index, [])
        return len(readers) == 1 and sum(x.index == y.index for x in readers[0].operands) == 1

    def _gains(self, x: Value) -> Dressing | None:
        """The gains factor·γ + offset of which x is the product, along its one wide dimension."""
        maker = self._makers[x.index]
        if not isinstance(maker.primitive, p.Multiply) or maker.primitive.function:
            gain = self._gain(x)
            return None if gain is None else ((gain, 1.0),)
        one, other = (self._gains(y) if y.shape == x.shape else None for y in maker.operands)
        return None if one is None or other is None else dressed(one, other)

    def _gain(self, x: Value) -> Gain | None:
        """factor·γ + offset along the one wide dimension of x, where x is that."""
        maker = self._makers[x.index]
        if sum(n > 1 for n in x.shape) != 1:
            return None
        if isinstance(maker.primitive, p.Parameter):
            return Gain(maker.primitive.name)
        if not isinstance(maker.primitive, (p.Rearrange, p.Scale, p.AddNumber)):
            return None
        (inner,) = maker.operands
        wide = next(d for d, n in enumerate(x.shape) if n > 1)
        if isinstance(maker.primitive, p.Rearrange) and _before(maker, wide) is None:
            return None
        gain = self._gain(inner)
        if gain is not None and isinstance(maker.primitive, p.Scale):
            factor = maker.primitive.factor
            return replace(gain, factor=gain.factor * factor, offset=gain.offset * factor) if factor else None
        if gain is not None and isinstance(maker.primitive, p.AddNumber):
            return replace(gain, offset=gain.offset + maker.primitive.number)
        return gain


def _meets(y: Value, wide: int, x: Value) -> bool:
    """Whether y has an entry for each gain of x."""
    return -wide <= len(y.shape) and y.shape[wide] == x.shape[wide]


def _before(rearranged: Instruction, dim: int) -> int | None:
    """The dimension that a rearrangement leaves whole as ``dim``."""
    (before,), result = rearranged.operands, rearranged.result
    assert isinstance(rearranged.primitive, p.Rearrange)
    assert result is not None
    places = places_of(rearranged.primitive.view, before.shape, result.shape)
    found = [d for d, k in places.items() if k == dim and before.shape[d] == result.shape[dim]]
    return found[0] if len(found) == 1 else None
