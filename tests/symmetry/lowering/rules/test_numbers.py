"""Every rule held against torch: the program that it writes, executed, gives the numbers of the operation."""

from __future__ import annotations

import pytest
import torch
from tests.spread import one_in
from torch import Tensor

from neuralmechanics.symmetry.domains.evaluate import Lost, NotExecutableError, evaluated, outputs
from neuralmechanics.symmetry.lowering.lower import lower
from neuralmechanics.symmetry.program import primitives as p
from neuralmechanics.symmetry.program.program import Instruction, Program

from .case import Case, Drawn, plain, turned, written
from .exempt import ENDING, RANDOM
from .tables import by_rule

CALLS = by_rule()
pytestmark = pytest.mark.filterwarnings("ignore")  # of operations that torch itself calls deprecated


def computed(drawn: Drawn) -> list[Tensor]:
    """What the program of a call gives."""
    lowered = lower(drawn.captured)
    assert lowered.unknown == ()
    torch.manual_seed(0)  # as the call itself drew
    return outputs(lowered.program, drawn.parameters, drawn.values)


def assert_equal(found: Tensor, true: Tensor, case: Case) -> None:
    assert found.shape == true.shape, case
    error = 1e-5 if true.dtype is torch.float32 else 1e-11
    assert torch.allclose(found.to(true.dtype), true, rtol=error, atol=error, equal_nan=True), case


@pytest.mark.parametrize("rule", one_in(2, CALLS))
def test_the_program_of_an_operation_computes_it(rule: str) -> None:
    """On every call, its results read by nothing and by an operation each, in turns; the other way round when slow."""
    for number, case in enumerate(CALLS[rule]):
        assert_computed(rule, number, case, read=number % 2 == 0)


@pytest.mark.slow
@pytest.mark.parametrize("rule", CALLS)
def test_the_program_of_an_operation_computes_it_as_well_when_it_is_read_otherwise(rule: str) -> None:
    for number, case in enumerate(CALLS[rule]):
        assert_computed(rule, number, case, read=number % 2 == 1)


def assert_computed(rule: str, number: int, case: Case, *, read: bool) -> None:
    drawn = written(case, number, turned if "grouped_mm" in rule else plain, read)
    try:
        results = computed(drawn)
    except NotExecutableError:
        assert rule in RANDOM, case
        return
    assert len(results) == len(drawn.results)
    for found, true in zip(results, drawn.results, strict=True):
        assert_equal(found, true, case)


# --- which results are computed at all ------------------------------------------------------------------------------


def _makers(program: Program, end: int) -> list[Instruction]:
    """The instructions that make what the last operation fixes."""
    made = {i.result.index: i for i in program.instructions if i.result is not None}
    last = [i for i in program.instructions if isinstance(i.primitive, p.Fix) and i.cause.number == end]
    return [made[value.index] for i in last for value in i.operands]


def is_computed(case: Case) -> bool:
    """Whether some result is made of parameters by primitives, and not read off a run."""
    drawn = written(case, 0, plain, read=False)
    program = lower(drawn.captured).program
    makers = _makers(program, len(drawn.captured.graph.nodes))
    return any(not isinstance(i.primitive, (p.Forget, p.Constant)) for i in makers)


def test_rules_that_only_end_everything_are_those_listed() -> None:
    """Of these, numbers show nothing: their results are read off the run."""
    trained = {rule: [c for c in cases if any(o.trained for o in c.operands())] for rule, cases in CALLS.items()}
    found = {rule for rule, cases in trained.items() if cases and not any(map(is_computed, cases))}
    assert found == set(ENDING)


# --- what domains believe of lossy primitives -----------------------------------------------------------------------


@pytest.mark.parametrize("rule", one_in(2, CALLS))
def test_what_is_believed_of_values_holds(rule: str) -> None:
    """Numbers that fill a value, values that are never negative, and what each lossy primitive is taken for.

    On every second call; on the others when slow.
    """
    for number, case in list(enumerate(CALLS[rule]))[::2]:
        assert_values(case, number)


@pytest.mark.slow
@pytest.mark.parametrize("rule", CALLS)
def test_what_is_believed_of_values_holds_on_the_other_calls(rule: str) -> None:
    for number, case in list(enumerate(CALLS[rule]))[1::2]:
        assert_values(case, number)


def assert_values(case: Case, number: int) -> None:
    drawn = written(case, number, plain)
    program = lower(drawn.captured).program
    evaluate = evaluated(program, drawn.parameters, drawn.values)
    for instruction in program.instructions:
        result = instruction.result
        value = evaluate.values.get(result.index) if result is not None else None
        if result is None or value is None or isinstance(value, Lost) or value.is_complex():
            continue
        if result.number is not None:
            assert torch.all(value == result.number), (case, instruction)
        if result.nonnegative:
            assert not torch.any(value < 0), (case, instruction)
        operands = [evaluate.values[x.index] for x in instruction.operands]
        if not any(isinstance(x, Lost) for x in operands):
            assert_believed(instruction, operands, drawn, case)


def assert_believed(instruction: Instruction, xs: list[Tensor], drawn: Drawn, case: Case) -> None:
    """f(2x) = 2f(x) of what is homogeneous, and so on, by executing the instruction again on other operands."""
    primitive = instruction.primitive
    told = (case, instruction)
    if getattr(primitive, "function", None) is not None and primitive.function.name in ("rnn_relu", "result"):
        return  # what a run gave

    def again(*operands: Tensor) -> Tensor:
        torch.manual_seed(0)
        return evaluated_once(instruction, operands, drawn)

    def same(one: Tensor, other: Tensor) -> None:
        assert torch.allclose(one.double(), other.double(), rtol=1e-10, atol=1e-10, equal_nan=True), told

    if isinstance(primitive, _OF_DEGREE_ONE):
        same(again(*(2 * x for x in xs)), 2 * again(*xs))
    if isinstance(primitive, p.Power):
        same(again(4 * xs[0]), 4**primitive.exponent * again(*xs)) if _exact(primitive) else None
    if isinstance(primitive, (p.Normalise, p.Positions)) and _exact(primitive):
        same(again(3 * xs[0]), again(*xs))
    if isinstance(primitive, p.Softmax) and not _masked(primitive):
        shift = torch.randn(*(1 if d == primitive.dim % max(1, xs[0].ndim) else n for d, n in enumerate(xs[0].shape)))
        before, after = again(*xs), again(xs[0] + shift)
        same(after, before)
        total = before.exp() if primitive.log else before
        same(total.sum(primitive.dim), torch.ones(()).double())
    if isinstance(primitive, p.Pool) and primitive.keeps_constants:
        one = again(torch.full_like(xs[0], 1.5))
        assert torch.all(torch.isclose(one, one.new_tensor(1.5)) | (one == 0)), told
    if isinstance(primitive, p.Pool) and primitive.linear:
        other = torch.randn_like(xs[0])
        same(again(xs[0] + other), again(xs[0]) + again(other))
    if isinstance(primitive, (p.Extremum, p.Order)):
        same(again(xs[0] + 1.5), again(*xs) + 1.5)
    if isinstance(primitive, p.Deviation):
        same(again(2 * xs[0] + 1.5), 2 * again(*xs))
    if isinstance(primitive, (p.Gather, p.Spread, p.Order, p.Resize)):
        taken = again(*xs)
        assert torch.all(torch.isin(taken, xs[0])), told
    if isinstance(primitive, p.Scatter):
        onto = xs[0] if len(xs) == 2 else torch.zeros(())
        assert again(*xs).shape == primitive.shape, told
        same(again(*(2 * x for x in xs)), 2 * again(*xs))
        same(again(*(0 * x for x in xs)), torch.zeros(()).double() * onto.sum())
    if isinstance(primitive, p.Mask):
        out = again(*xs)
        kept = torch.isclose(out, xs[0].expand(out.shape), equal_nan=True)
        filled = out.isnan() if primitive.number != primitive.number else out == primitive.number
        assert torch.all(kept | filled) or primitive.number != primitive.number, told
    if isinstance(primitive, p.Select):
        out = again(*xs)
        assert torch.all((out == xs[0]) | (out == xs[1])), told
    if isinstance(primitive, p.Maximum):
        same(again(xs[0] + 0.5, xs[1] + 0.5), again(*xs) + 0.5)


_OF_DEGREE_ONE = (
    p.Homogeneous,
    p.Maximum,
    p.Extremum,
    p.Order,
    p.Noise,
    p.Select,
    p.Gather,
    p.Spread,
    p.Resize,
    p.Reduce,
    p.Rearrange,
    p.Concatenate,
    p.Deviation,
)


def _exact(primitive: p.Primitive) -> bool:
    """Whether no eps is in it."""
    if isinstance(primitive, p.Power):
        ended = primitive.exponent == 0 and primitive.function is not None
        return primitive.function is None or (ended and primitive.function.name != "identity")
    return not isinstance(primitive, p.Normalise) or (primitive.broken_by is None and primitive.function is None)


def _masked(primitive: p.Softmax) -> bool:
    return primitive.function is not None


def evaluated_once(instruction: Instruction, operands: tuple[Tensor, ...], drawn: Drawn) -> Tensor:
    """The instruction on other operands."""
    from neuralmechanics.symmetry.domains.evaluate import Evaluate

    out = Evaluate(drawn.parameters, drawn.values).step(instruction, *operands)
    assert isinstance(out, Tensor)
    return out
