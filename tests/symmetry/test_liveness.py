"""What nothing reads is left out of a program, and with it the statements about it."""

from __future__ import annotations

from neuralmechanics.symmetry.passes.facts.liveness import without_dead_values
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.attributes.views import Reshape
from neuralmechanics.symmetry.program.builder import Builder


def test_a_rotation_that_nothing_reads_leaves_with_its_statement() -> None:
    builder = Builder()
    table = builder.parameter("table", (4,))
    read, unread = (builder.view(table, Reshape((2, 2))) for _ in range(2))
    for value in (read, unread):
        builder.paired(value, (0,), (1,))
    builder.fix(read)
    kept = without_dead_values(builder.program()).instructions
    assert [type(i.primitive) for i in kept] == [p.Parameter, p.Rearrange, p.Pair, p.Fix]
    made = {i.result.index for i in kept if i.result is not None}
    assert all(x.index in made for i in kept for x in i.operands)
