"""Second derivatives that are not there, or not right, break no true family; losses may differentiate inside."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.checking.asserting import assert_symmetric
from neuralmechanics.diagnostics.checking.checking import check_symmetries
from neuralmechanics.diagnostics.checking.report import CheckReport
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import Diagonal, Shift

from .faults import batches, cross_entropy


class Root(torch.autograd.Function):
    """x/√(mean x² + 1e-6) times a gain, intermediates saved: a right first backward pass, a wrong second one."""

    @staticmethod
    def forward(ctx, x, gain):
        inverse = torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-6)
        ctx.save_for_backward(x * inverse, inverse, gain)
        return x * inverse * gain

    @staticmethod
    def backward(ctx, grad):
        normed, inverse, gain = ctx.saved_tensors
        to_normed = grad * gain
        return inverse * (to_normed - normed * (to_normed * normed).mean(-1, keepdim=True)), (grad * normed).sum(0)


class OnceRoot(Root):
    """The same, marked."""

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return Root.backward(ctx, grad)


class WrongRoot(Root):
    """The same with a first backward pass that forgets the variance."""

    @staticmethod
    def backward(ctx, grad):
        normed, inverse, gain = ctx.saved_tensors
        return inverse * grad * gain, (grad * normed).sum(0)


class Rectifier(torch.autograd.Function):
    """ReLU, marked once differentiable."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return grad * (ctx.saved_tensors[0] > 0)


class Normed(nn.Module):
    """Linear, a kernel that normalises, ReLU, linear."""

    def __init__(self, kernel: type[Root]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kernel = kernel
        self.entry, self.gain, self.head = nn.Linear(4, 8, bias=False), nn.Parameter(torch.ones(8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.kernel.apply(self.entry(x), self.gain)))


class Rectified(nn.Module):
    """Linear, a marked ReLU, linear."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.entry, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(Rectifier.apply(self.entry(x)))


def measured(report: CheckReport, name: str) -> list[bool]:
    return [getattr(family, name).known for family in report.families]


def test_a_kernel_whose_second_derivative_is_wrong_passes_with_a_note() -> None:
    report = assert_symmetric(Normed(Root).double(), cross_entropy, batches())
    assert report.count() == {"exact": 3, "approximate": 1, "broken": 0}
    noted = [f for f in report.families if "suspect" in f.reason]
    assert {f.kind for f in noted} >= {"rescale"}
    assert all("the second derivative of Root is suspect, not the symmetry" in f.reason for f in noted)
    assert all(f.hessian.roundings > 1e6 for f in noted)


def test_a_wrong_first_backward_pass_is_still_caught() -> None:
    with pytest.raises(AssertionError, match="families broken"):
        assert_symmetric(Normed(WrongRoot).double(), cross_entropy, batches())


@pytest.mark.parametrize("build", [lambda: Normed(OnceRoot), Rectified], ids=["norm", "rectifier"])
def test_once_differentiable_functions_have_no_second_derivative_here(build: Callable[[], nn.Module]) -> None:
    report = assert_symmetric(build().double(), cross_entropy, batches())
    assert report.notes[0].startswith("no second derivative here: ")
    assert report.notes[0].endswith("is marked once differentiable")
    for name, known in (("hessian", False), ("curvature", False), ("gradient", True), ("noise", True)):
        assert measured(report, name) == [known] * len(report.families)


def claimed(model: nn.Module, kind: str, *names: str, exponents: tuple[float, ...] = ()) -> Family:
    """All rows of the named matrices as one family, whether it is true or not."""
    from neuralmechanics.slices import SliceTerm, SliceView

    params = dict(model.named_parameters())
    terms = []
    for name, exponent in zip(names, exponents or [1.0] * len(names), strict=True):
        dim = 0 if exponent > 0 else 1
        numbers = list(range(params[name].shape[dim]))
        view = SliceView(name, tuple(params[name].shape), (dim,))
        terms.append(SliceTerm(view, torch.tensor(numbers).numpy(), torch.tensor(numbers).numpy(),
                               torch.full((len(numbers),), exponent).double().numpy()))  # fmt: skip
    action = Shift(tuple(terms)) if kind == "translation" else Diagonal(tuple(terms))
    return Family(kind, f"{kind}: claimed", [str(n) for n in numbers], action)


def penalty(model: nn.Module, batch: Any) -> Tensor:
    """(|∇_x f| - 1)², as a critic is trained."""
    z = batch[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(z).sum(), z, create_graph=True)
    return (gradient.norm(dim=1) - 1).square().mean()


def test_a_gradient_penalty_breaks_shifts_and_scales_of_the_last_weights_and_keeps_the_rescale() -> None:
    """L is invariant under W1 → a W1, w2 → w2/a for a leaky ReLU, and under nothing that moves w2 alone."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(4, 8, bias=False), nn.LeakyReLU(0.2), nn.Linear(8, 1)).double()
    claims = [
        claimed(critic, "rescale", "0.weight", "2.weight", exponents=(1.0, -1.0)),
        claimed(critic, "translation", "2.weight"),
        claimed(critic, "scale", "2.weight"),
    ]
    report = check_symmetries(claims, critic, penalty, batches())
    assert [f.verdict for f in report.families] == ["exact", "broken", "broken"]
    assert measured(report, "hessian") == [True] * 3
    assert report.worst > 1e10
    assert not report.notes


def test_a_loss_may_hold_gradients_of_the_parameters() -> None:
    """L + |∇L|²/10 with leaky ReLU keeps translations of the logits' bias and loses the rescale, which moves |∇L|."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.LeakyReLU(0.1), nn.Linear(6, 3)).double()

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        loss = cross_entropy(model, batch)
        return loss + 0.1 * sum(
            g.square().sum() for g in torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        )

    claims = [
        claimed(model, "rescale", "0.weight", "2.weight", exponents=(1.0, -1.0)),
        *find_symmetries(model, batches()[0], cross_entropy).of_kind("translation"),
    ]
    report = check_symmetries(claims, model, loss_fn, batches())
    assert [f.verdict for f in report.families] == ["broken"] + ["exact"] * (len(claims) - 1)
    assert len(claims) > 1


@pytest.mark.parametrize("dim", [0, 1])
def test_weight_norm_is_not_called_broken(dim: int) -> None:
    """torch's own Hessian product is off by more than a tenth of itself here; the families hold."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6), dim=dim), nn.ReLU(), nn.Linear(6, 3))
    report = assert_symmetric(model.double(), cross_entropy, batches())
    assert measured(report, "hessian") == [True] * len(report.families)
    assert not any(f.reason for f in report.families)
    assert report.worst < 20


def test_fused_weight_norm_would_have_been_wrong() -> None:
    torch.manual_seed(0)
    v, g, x = torch.randn(4, 5).double(), torch.rand(4, 1).double(), torch.randn(7, 5).double()
    d = torch.randn(4, 5).double()

    def product(norm: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = v.clone().requires_grad_()
        loss = (x @ norm(leaf).T).tanh().square().sum()
        (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return torch.autograd.grad((slope * d).sum(), leaf)[0]

    plain = product(lambda v: v * (g / v.norm(dim=1, keepdim=True)))
    assert float((product(lambda v: torch._weight_norm(v, g, 0)) - plain).abs().max()) > 0.1 * float(plain.abs().max())


def test_a_compiled_model_is_checked_as_it_runs() -> None:
    torch.compiler.reset()  # torch stops to compile a layer's forward pass that was compiled often in this process
    torch.manual_seed(0)
    # A list would count what is left of the calls: containers that a model refers to are put back as they were.
    calls = itertools.count()
    plain = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6, eps=1e-20), nn.ReLU(), nn.Linear(6, 3)).double()

    def counted(graph: Any, example: Any) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            next(calls)
            return graph.forward(*inputs)

        return run

    report = assert_symmetric(torch.compile(plain, backend=counted), cross_entropy, batches())
    own = assert_symmetric(plain, cross_entropy, batches())
    assert [f.family for f in report.families] == [f.family for f in own.families]
    assert measured(report, "hessian") == [True] * len(report.families)
    assert next(calls) >= 5


def test_a_compiled_backward_pass_that_is_wrong_is_caught() -> None:
    torch.compiler.reset()

    class Tilted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad * (1 + torch.arange(grad.shape[-1]).to(grad))

    def faulty(graph: Any, example: Any) -> Callable[..., Any]:
        return lambda *inputs: tuple(Tilted.apply(out) for out in graph.forward(*inputs))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    with pytest.raises(AssertionError, match="families broken"):
        assert_symmetric(torch.compile(model, backend=faulty), cross_entropy, batches())


def test_an_operation_without_second_derivative_leaves_the_other_checks() -> None:
    """cdist: a common shift of both of its arguments leaves it unchanged."""

    class Distances(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cdist(self.first(x), self.second(x))

    model = Distances().double()
    shift = claimed(model, "translation", "first.bias", "second.bias")
    report = check_symmetries([shift], model, lambda m, b: m(b[0]).square().mean(), batches())
    assert report.ok
    assert "no second derivative here: torch has no derivative of that order" in report.notes[0]
    assert "_cdist_backward" in report.notes[0]
    assert report.families[0].gradient.known


def test_gradients_of_checkpointed_models_are_taken_at_the_parameters_given() -> None:
    """A kernel with a wrong second derivative behind a checkpoint: ⟨g, ξ⟩ elsewhere needs the parameters there."""

    class Checkpointed(Normed):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(super().forward, x, use_reentrant=False)

    plain, again = Normed(Root).double(), Checkpointed(Root).double()
    symmetries = find_symmetries(plain, batches()[0], cross_entropy)
    reports = [check_symmetries(symmetries, model, cross_entropy, batches()) for model in (plain, again)]
    assert [f.verdict for f in reports[0].families] == [f.verdict for f in reports[1].families]
    assert reports[1].ok


def test_where_the_gradient_holds_at_one_point_only_the_family_is_broken() -> None:
    """At W = 0 a scale of W has ⟨g, ξ⟩ = 0 and leaves the loss; the Hessian and other points say it is none."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    with torch.no_grad():
        model[2].weight.zero_()
    report = check_symmetries([claimed(model, "scale", "2.weight")], model, cross_entropy, batches())
    assert report.families[0].gradient.roundings <= 20
    assert report.families[0].verdict == "broken"
    assert "suspect" not in report.families[0].reason
