"""Operations of one's own: rules and decompositions are used, held against the operation, and refused where wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import neuralmechanics as nm
from neuralmechanics.symmetry import Builder, Contraction, Function, NotSoughtError, UnsupportedFormError, Value
from neuralmechanics.symmetry.lowering import own_operations
from neuralmechanics.symmetry.lowering.rules.registry import DECOMPOSITIONS, RULES, Rule


@torch.library.custom_op("nmtest::rectify", mutates_args=())
def rectify(x: Tensor) -> Tensor:
    return x.clamp(min=0)


rectify.register_fake(lambda x: torch.empty_like(x))
rectify.register_autograd(
    lambda ctx, grad: grad * ctx.saved_tensors[0],
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output > 0),
)


@torch.library.custom_op("nmtest::swiglu", mutates_args=())
def swiglu(x: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    return functional.silu(x @ gate) * (x @ up)


swiglu.register_fake(lambda x, gate, up: x.new_empty(x.shape[0], gate.shape[1]))


def _swiglu_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
    leaves = [t.detach().requires_grad_() for t in ctx.saved_tensors]
    with torch.enable_grad():
        x, gate, up = leaves
        return torch.autograd.grad(functional.silu(x @ gate) * (x @ up), leaves, grad)


swiglu.register_autograd(_swiglu_backward, setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs))


@torch.library.custom_op("nmtest::halves", mutates_args=())
def halves(x: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
    return tuple(part.clone() for part in x.chunk(2, dim))  # type: ignore[return-value]


halves.register_fake(lambda x, dim=-1: tuple(torch.empty_like(part) for part in x.chunk(2, dim)))


@torch.library.custom_op("nmtest::rms", mutates_args=())
def rms(x: Tensor, dim: int) -> Tensor:
    return x / x.square().mean(dim, keepdim=True).sqrt()


rms.register_fake(lambda x, dim: torch.empty_like(x))


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """What a test registers is gone after it."""
    rules, written, own = dict(RULES), dict(DECOMPOSITIONS), set(own_operations._OWN)
    yield
    for table, before in ((RULES, rules), (DECOMPOSITIONS, written)):
        table.clear()
        table.update(before)  # type: ignore[arg-type]
    own_operations._OWN.clear()
    own_operations._OWN.update(own)


class Layer(nn.Module):
    def __init__(self, operation: Any, *shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.operation = operation
        self.weights = nn.ParameterList(torch.randn(shape, dtype=torch.float64) for shape in shapes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.operation(x, *self.weights)
        return out


X = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)


def count(operation: Any, *shapes: tuple[int, ...]) -> nm.Symmetries:
    torch.manual_seed(0)
    return nm.find_symmetries(Layer(operation, *shapes), X)


def one_hidden(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return rectify(x @ a) @ b


# --- rules ----------------------------------------------------------------------------------------------------------


def test_without_a_rule_it_is_named_and_nothing_is_claimed() -> None:
    found = count(one_hidden, (3, 4), (4, 2))
    assert [each.operation for each in found.unknown] == ["nmtest.rectify"]
    assert found.charges == 0


NAMES = {
    "colons": "nmtest::rectify",
    "dot": "nmtest.rectify",
    "overload": "nmtest::rectify.default",
    "custom_op": rectify,
    "packet": torch.ops.nmtest.rectify,
    "op": torch.ops.nmtest.rectify.default,
}


@pytest.mark.parametrize(
    "named", [pytest.param(n, id=i, marks=[pytest.mark.slow] * (i != "colons")) for i, n in NAMES.items()]
)
def test_a_rule_is_found_however_the_operation_is_named(named: Any) -> None:
    nm.symmetry.rule(named)(lambda d, node, x: d.homogeneous(x, nonnegative=True))
    found = count(one_hidden, (3, 4), (4, 2))
    assert found.unknown == ()
    assert found.count()["rescale"] == 4


def test_a_rule_may_be_replaced_and_those_of_torch_may_not() -> None:
    nm.symmetry.rule("nmtest::rectify")(lambda d, node, x: d.nonlinear(x))
    assert count(one_hidden, (3, 4), (4, 2)).charges == 0
    nm.symmetry.rule("nmtest::rectify")(lambda d, node, x: d.homogeneous(x))
    assert count(one_hidden, (3, 4), (4, 2)).charges == 4
    for register in (nm.symmetry.rule, nm.symmetry.decomposition):
        with pytest.raises(ValueError, match=r"aten\.relu has a rule of neuralmechanics already: .*; it stays"):
            register("aten::relu")(lambda x: x)


@pytest.mark.parametrize("wrong", ["rectify", "a b::c", "nmtest::", 3, torch.relu])
def test_what_names_no_operation_is_refused_in_one_line(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^.*(no library in front|no operation of torch).*$") as told:
        nm.symmetry.rule(wrong)
    assert "\n" not in str(told.value)


def test_what_a_rule_raises_fixes_everything_and_is_told() -> None:
    def unknown_form(d: Builder, node: fx.Node, x: Value) -> Value:
        raise UnsupportedFormError("no such thing")

    def broken(d: Builder, node: fx.Node, x: Value) -> Value:
        return x.nonsense  # type: ignore[attr-defined]

    def given_up(d: Builder, node: fx.Node, x: Value) -> Value:
        raise NotSoughtError("nobody looks")

    def too_small(d: Builder, node: fx.Node, x: Value) -> Value:
        return d.reduce(x, [0], False, False)

    def nothing(d: Builder, node: fx.Node, x: Value) -> None:
        return None

    told = {
        unknown_form: "no such thing",
        broken: "AttributeError",
        too_small: "shape",
        nothing: "NoneType for a tensor",
    }
    for function, text in told.items():
        nm.symmetry.rule("nmtest::rectify")(function)
        found = count(one_hidden, (3, 4), (4, 2))
        assert found.charges == 0
        assert text in found.unknown[0].reason
    nm.symmetry.rule("nmtest::rectify")(given_up)
    found = count(one_hidden, (3, 4), (4, 2))
    assert (found.charges, found.unknown) == (0, ())
    assert {c.status for c in found.coverage} == {"not sought"}


@pytest.mark.parametrize("error", [NotSoughtError, UnsupportedFormError])
def test_what_a_rule_had_written_before_it_gave_up_is_not_in_the_program(error: type[Exception]) -> None:
    """It would demand of what enters what only a rule that goes through may demand."""

    def rule(d: Builder, node: fx.Node, x: Value) -> Value:
        raise error("nobody looks")

    def late(d: Builder, node: fx.Node, x: Value) -> Value:
        d.fix(d.softmax(x, 1, False))
        raise error("nobody looks")

    programs = []
    for function in (rule, late):
        nm.symmetry.rule("nmtest::rectify")(function)
        torch.manual_seed(0)
        programs.append(str(nm.symmetry.lowered_program(Layer(one_hidden, (3, 4), (4, 2)), X)))
    assert programs[0] == programs[1]
    assert "nobody looks" in programs[0]


def swiglu_rule(d: Builder, node: fx.Node, x: Value, gate: Value, up: Value) -> Value:
    product = Contraction("az", "zy", "ay")
    passed = d.nonlinear(d.contract(x, gate, product), function=Function("silu", functional.silu))
    return d.mul(passed, d.contract(x, up, product))


def test_a_rule_of_several_operands_in_primitives() -> None:
    nm.symmetry.rule("nmtest::swiglu")(swiglu_rule)
    found = count(lambda x, a, b, c: swiglu(x, a, b) @ c, (3, 4), (3, 4), (4, 2))
    assert found.unknown == ()
    assert found.count() == {"translation": 0, "scale": 0, "rescale": 4, "linear": 0}
    assert nm.symmetry.check_rule(swiglu, torch.randn(5, 3), torch.randn(3, 4), torch.randn(3, 4)).ok


# --- the checker ----------------------------------------------------------------------------------------------------


def positive(x: Tensor) -> Tensor:
    return x.clamp(min=0)


RECTIFY, ABS = Function("rectify", positive), Function("abs", torch.abs)
NEGATED = Function("negated", lambda x: -positive(-x))
RIGHT: dict[str, Rule] = {
    "rectify": lambda d, node, x: d.homogeneous(x, nonnegative=True, function=RECTIFY),
    "rectify without its function": lambda d, node, x: d.homogeneous(x, nonnegative=True),
    "cautious": lambda d, node, x: d.nonlinear(x, function=RECTIFY),
    "larger": lambda d, node, x: d.larger(x, d.constant(x.shape, 0.0)),
}
ELSE = "computes something else"
WRONG: dict[str, tuple[Rule, str]] = {
    "another function": (lambda d, node, x: d.homogeneous(x, function=ABS), ELSE),
    "a factor": (lambda d, node, x: d.scaled(d.homogeneous(x, function=RECTIFY), 2.0), ELSE),
    "linear": (lambda d, node, x: d.scaled(x, 1.0), ELSE),
    "another shape": (lambda d, node, x: d.reduce(x, [1], True, False), "shape"),
    "nothing": (lambda d, node, x: None, "NoneType for a tensor"),
    "several": (lambda d, node, x: (x, x), ""),
    "a claim": (lambda d, node, x: d.normalise(x, [1], False, None, function=RECTIFY), "is claimed and changes"),
    "a sign": (lambda d, node, x: d.homogeneous(d.scaled(x, -1.0), True, NEGATED), "nonnegative"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_right_rules_pass(name: str) -> None:
    nm.symmetry.rule("nmtest::rectify")(RIGHT[name])
    for x in (torch.randn(4, 3), torch.randn(4), torch.randn(2, 1, 3, dtype=torch.float64)):
        check = nm.symmetry.check_rule(rectify, x)
        assert check.ok, check
        assert check.values == (name != "rectify without its function")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_caught(name: str) -> None:
    function, text = WRONG[name]
    nm.symmetry.rule("nmtest::rectify")(function)
    check = nm.symmetry.check_rule(rectify, torch.randn(4, 3))
    assert not check.ok
    assert text in repr(check)


def test_a_wrong_dimension_is_caught() -> None:
    for wrong, ok in ((0, False), (1, True)):
        nm.symmetry.rule("nmtest::rms")(lambda d, node, x, dim, wrong=wrong: d.normalise(x, [wrong], False, None))
        assert nm.symmetry.check_rule(rms, torch.randn(4, 3), 1).ok is ok


def test_a_claim_that_shows_in_a_reader_alone_is_caught() -> None:
    """A rule that says no numbers and passes the scale of an operation which has none."""
    nm.symmetry.rule("nmtest::rms")(lambda d, node, x, dim: d.homogeneous(x))
    check = nm.symmetry.check_rule(rms, torch.randn(4, 3), 1)
    assert not check.values
    assert "is claimed and changes the result" in repr(check)


def test_the_checker_needs_something_that_moves() -> None:
    with pytest.raises(ValueError, match="floating-point tensor"):
        nm.symmetry.check_rule(rectify, torch.arange(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "args"),
    [
        (functional.layer_norm, (torch.randn(4, 3), (3,))),
        (functional.softmax, (torch.randn(4, 3), 0)),
        (torch.logsumexp, (torch.randn(2, 3), (0, 1))),
        (functional.glu, (torch.randn(2, 6),)),
        (torch.cumsum, (torch.randn(2, 6), -1)),
        (functional.linear, (torch.randn(2, 3), torch.randn(4, 3), torch.randn(4))),
        (torch.sort, (torch.randn(5),)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rules_of_this_package_pass(operation: Any, args: tuple[Any, ...]) -> None:
    check = nm.symmetry.check_rule(operation, *args)
    assert check.ok, check


# --- decompositions -------------------------------------------------------------------------------------------------


def test_a_decomposition_gives_what_the_function_has() -> None:
    nm.symmetry.decomposition(swiglu)(lambda x, gate, up: functional.silu(x @ gate) * (x @ up))
    found = count(lambda x, a, b, c: swiglu(x, a, b) @ c, (3, 4), (3, 4), (4, 2))
    assert found.unknown == ()
    assert found.count() == {"translation": 0, "scale": 0, "rescale": 4, "linear": 0}
    assert nm.symmetry.check_rule(swiglu, torch.randn(5, 3), torch.randn(3, 4), torch.randn(3, 4)).ok


def test_a_wrong_decomposition_is_refused_by_every_capture() -> None:
    nm.symmetry.decomposition(swiglu)(lambda x, gate, up: functional.relu(x @ gate) * (x @ up))
    with pytest.raises(ValueError, match="no captured graph does the same"):
        count(lambda x, a, b, c: swiglu(x, a, b) @ c, (3, 4), (3, 4), (4, 2))


def test_a_decomposition_with_another_gradient_is_refused() -> None:
    nm.symmetry.decomposition(rectify)(lambda x: x.detach().clamp(min=0))
    with pytest.raises(ValueError, match="no captured graph does the same"):
        count(one_hidden, (3, 4), (4, 2))


def test_several_results_settings_and_constants() -> None:
    @nm.symmetry.decomposition("nmtest::halves")
    def written(x: Tensor, dim: int = -1) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, dim)
        return first + torch.tensor(0.0), second * torch.ones(())

    def gated(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        first, second = halves(x @ a, dim=1)
        return (first * second) @ b

    torch.manual_seed(0)
    layer = Layer(gated, (3, 8), (4, 2))
    with torch.no_grad():
        found = nm.symmetry.finding.find.find_forward_symmetries(layer, X)  # type: ignore[attr-defined]
    assert found.unknown == ()
    assert found.charges > 0
    for family in found:
        before = layer(X)
        params = {n: p.detach() for n, p in layer.named_parameters()}
        moved = family.transform(params, torch.full(family.generator_shape, 1.5, dtype=torch.float64))
        after = torch.func.functional_call(layer, moved, (X,))
        assert torch.allclose(before, after, rtol=1e-12, atol=1e-12)


def test_decompositions_that_do_not_fit_say_so() -> None:
    for function, text in (
        (lambda x: x.nonsense, "does not run on its arguments"),
        (lambda x: x.sum(), "gives shapes"),
        (lambda x: rectify(x), "calls the operation itself"),
    ):
        nm.symmetry.decomposition("nmtest::rectify")(function)
        with pytest.raises(ValueError, match=text) as told:
            count(one_hidden, (3, 4), (4, 2))
        assert "\n" not in str(told.value)


def test_decompositions_inside_decompositions() -> None:
    nm.symmetry.decomposition("nmtest::rectify")(lambda x: torch.relu(x))
    nm.symmetry.decomposition("nmtest::rms")(lambda x, dim: rectify(x) / x.square().mean(dim, keepdim=True))
    torch.manual_seed(0)
    layer = Layer(lambda x, a, b: (rms(x @ a + 1, 1) * 0 + rectify(x @ a)) @ b, (3, 4), (4, 2))
    program = str(nm.symmetry.lowered_program(layer, X))
    assert "nmtest" not in program
    assert "aten.relu" in program


def test_the_last_that_is_registered_counts() -> None:
    nm.symmetry.decomposition("nmtest::rectify")(lambda x: torch.relu(x))
    nm.symmetry.rule("nmtest::rectify")(lambda d, node, x: d.nonlinear(x))
    assert count(one_hidden, (3, 4), (4, 2)).charges == 0
    nm.symmetry.decomposition("nmtest::rectify")(lambda x: torch.relu(x))
    assert count(one_hidden, (3, 4), (4, 2)).charges == 4
