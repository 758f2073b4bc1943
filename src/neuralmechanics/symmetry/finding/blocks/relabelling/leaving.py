"""Relabelings of a program: what becomes of every value where parameters are exchanged, or put in another order.

The program is read once more with the parameters relabeled. Each value is told in terms of values that there are: the
same term with its entries in another order, integers by other names, a sum with other parts. What cannot be told so is
unknown, and then nothing is claimed. Where every output is its own term again, the relabeling is a symmetry.

Example: the scores s = Wx of experts, W's rows in the order π, are s[π]. The places of the largest are then called by
π⁻¹, and what gathers from stacked matrices in the order π by these names gathers what it did before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from neuralmechanics.symmetry.finding.blocks.relabelling.along import ALONG
from neuralmechanics.symmetry.finding.blocks.relabelling.by_data import BY_DATA
from neuralmechanics.symmetry.finding.blocks.relabelling.moved import Moved
from neuralmechanics.symmetry.finding.blocks.relabelling.sums import SUMS
from neuralmechanics.symmetry.finding.blocks.relabelling.terms import Terms, UnfollowedError
from neuralmechanics.symmetry.finding.blocks.relabelling.together import Reading, together
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction

__all__ = ["leaves_the_output"]

_RULES = {**ALONG, **BY_DATA, **SUMS}


def leaves_the_output(terms: Terms, seeds: Mapping[int, Moved], cone: Collection[int]) -> bool:
    """Whether the model computes the same with the values ``seeds`` (of parameters and buffers) as they say.

    ``cone``: the operations of the graph that anything relabeled reaches.
    """
    reading = Reading(terms, dict(seeds))
    nodes = list(terms.captured.graph.nodes)
    changed = _Changed(reading, {nodes[k] for k in cone})
    for i in terms.program.instructions:
        if i.result is not None and i.cause.number not in cone:
            continue  # nearly all of a deep model: nothing relabeled reaches it
        operation = nodes[i.cause.number] if i.cause.number in cone else None
        if not _step(reading, i, operation is not None and any(map(changed.is_so, operation.all_input_nodes))):
            return False
    return True


@dataclass(eq=False)
class _Changed:
    """Which results of the graph are not what they were; of those that are no values of the program, what they read."""

    reading: Reading
    cone: set[fx.Node]
    known: dict[fx.Node, bool] = field(default_factory=dict)

    def is_so(self, node: fx.Node) -> bool:
        """Whether it is, as far as is known."""
        if node not in self.known:
            value = self.reading.terms.named.get(node.name)
            if node not in self.cone:
                self.known[node] = False
            elif value is not None:
                self.known[node] = value in self.reading.moved or value in self.reading.lost
            else:
                written = self.reading.terms.writes_into(node)
                self.known[node] = written or any(map(self.is_so, node.all_input_nodes))
        return self.known[node]


def _step(reading: Reading, instruction: Instruction, reached: bool) -> bool:
    """Reads one instruction; false where a statement does not hold."""
    primitive, result = instruction.primitive, instruction.result
    if result is None:
        return _stated(reading, instruction)
    filled = isinstance(primitive, p.Constant) and primitive.number is not None
    if result.index in reading.moved or not reached or filled:
        return True
    try:
        found = _made(reading, instruction)
    except UnfollowedError:
        # It may be that nothing reads it.
        reading.lost.add(result.index)
        return True
    if found.term != reading.terms.of[result.index] or not found.plain:
        reading.moved[result.index] = replace(found, number=result.constant_number() is not None)
    return True


def _made(reading: Reading, instruction: Instruction) -> Moved:
    primitive, result = instruction.primitive, instruction.result
    assert result is not None
    leaf = isinstance(primitive, p.Constant) and not instruction.operands
    if result.index in reading.terms.opaque or leaf or isinstance(primitive, p.Noise):
        raise UnfollowedError("made of what is relabeled in a way that is not followed")
    rule: Callable[[Reading, Instruction], Moved] = _RULES.get(type(primitive), together)
    return rule(reading, instruction)


def _stated(reading: Reading, instruction: Instruction) -> bool:
    """An output, or a number that decides something, is what it was; what picks entries is looked at where it does."""
    if not isinstance(instruction.primitive, p.Fix):
        return True
    output = instruction.cause.number >= len(reading.terms.captured.graph.nodes)
    changed = any(x.index in reading.moved or x.index in reading.lost for x in instruction.operands)
    return not changed or not (output or instruction.primitive.reason is not None)
