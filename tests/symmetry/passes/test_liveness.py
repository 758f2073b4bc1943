"""What nothing reads is left out of a program, and with it the statements about it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neuralmechanics.symmetry import find_symmetries
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


class Cut(nn.Module):
    """x ↦ B relu(relu(Ax) M) with the last two columns of M left unread."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.behind = nn.Linear(4, 5, bias=False), nn.Linear(4, 2, bias=False)
        self.middle = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.behind(torch.relu(torch.relu(self.before(x)) @ self.middle[:, :4]))
        return hidden


def test_entries_that_nothing_reads_are_free_and_nothing_else() -> None:
    """Any change of the 10 unread entries is a translation; that they scale as well is said of them no second time."""
    charges = {family.name: family.charges for family in find_symmetries(Cut().double(), torch.randn(3, 4).double())}
    assert charges == {"translation: middle": 10, "rescale: middle → before": 5, "rescale: middle → behind": 4}
