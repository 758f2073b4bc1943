"""The same answers for a module and for a plain function, what is unexplained by name, and refusals of one line."""

from __future__ import annotations

import importlib
import pkgutil
import traceback
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry import Family, Symmetries
from neuralmechanics.symmetry.families.actions import Diagonal, Shift

X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.a = nn.Parameter(torch.randn(3, 4, generator=draw))
        self.b = nn.Parameter(torch.randn(4, 2, generator=draw))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x @ self.a) @ self.b


def plain(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.relu(x @ p["a"]) @ p["b"]


def loss_fn(model: Any, batch: Tensor) -> Tensor:
    return (model(batch) - 1).square().mean()


def tensors() -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in Hidden().named_parameters()}


def test_plain_functions_are_models() -> None:
    """Counts, remarks, checks, probes and defects of a function with its tensors are those of the module."""
    model, params = Hidden(), tensors()
    found = nm.find_symmetries(model, X)
    assert nm.count_laws(model, X).to_dict() == nm.count_laws(plain, X, params=params).to_dict()
    optimizer = {"lr": 0.1, "weight_decay": 1e-2}
    given, own = nm.lint(model, X, loss_fn, optimizer), nm.lint(plain, X, loss_fn, optimizer, params=params)
    assert own.to_dict() == given.to_dict()
    made = [nm.check_symmetries(found, m, loss_fn, [X], params=p) for m, p in ((model, None), (plain, params))]
    assert made[0].to_frame().equals(made[1].to_frame())
    probed = [nm.probe_symmetries(m, loss_fn, [X], params=p) for m, p in ((model, None), (plain, params))]
    assert probed[0].count() == probed[1].count() == {"translation": 0, "scale": 0, "rescale": 4}
    defects = [
        nm.update_defect(lambda q: torch.optim.Adam(q), m, loss_fn, [X], found, params=p)
        for m, p in ((model, None), (plain, params))
    ]
    assert defects[0] == defects[1]
    assert nm.assert_symmetric(plain, loss_fn, [X], params=params, expect={"rescale": 4}).ok
    assert all(torch.equal(params[name], value) for name, value in tensors().items())


def test_functions_without_tensors_and_modules_with_them_are_refused() -> None:
    for call in (
        lambda **k: nm.count_laws(plain, X, **k),
        lambda **k: nm.lint(plain, X, **k),
        lambda **k: nm.assert_symmetric(plain, loss_fn, [X], **k),
        lambda **k: nm.update_defect(torch.optim.SGD, plain, loss_fn, [X], (), **k),
    ):
        with pytest.raises(TypeError, match="plain is a plain function of \\(params, batch\\): pass its named tensors"):
            call()
    with pytest.raises(TypeError, match="brings its own parameters: leave it out"):
        nm.count_laws(Hidden(), X, params=tensors())


# --- what is unexplained --------------------------------------------------------------------------------------------


def _output(model: nn.Module, point: dict[str, Tensor], step: dict[str, Tensor], amount: float) -> Tensor:
    inputs = torch.randn(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    moved = {name: value + amount * step[name] for name, value in point.items()}
    out: Tensor = torch.func.functional_call(model, moved, (inputs,))
    return out


def test_the_unexplained_is_named() -> None:
    """Of a net with two independent hidden layers, the one whose symmetries are withheld; each direction is flat."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = Hidden(), Hidden()

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.one(x), self.two(x)], 1)

    model = Two()
    found = nm.find_symmetries(model, X)
    half = Symmetries(tuple(f for f in found if "one.a" in f.parameters))
    count = nm.count_laws(model, X, symmetries=half)
    assert len(count.unexplained) == count.fibre - count.generators == 4
    assert count.known == tuple(f.name for f in half)
    assert {name for d in count.unexplained for name in d.parameters} == {"two.a", "two.b"}
    for direction in count.unexplained:
        assert sum(direction.shares.values()) == pytest.approx(1.0, rel=1e-12)
        point = {n: v.double() for n, v in direction.point.items()}
        step = {n: direction.step.get(n, torch.zeros_like(v)) for n, v in point.items()}
        ahead, behind = (_output(Two().double(), point, step, h) for h in (1e-6, -1e-6))
        moved = (ahead - behind) / 2e-6
        assert float(moved.abs().max()) < 1e-9
        rows = step["two.a"].abs().sum(0)
        assert int((rows > 1e-9).sum()) == 1  # one hidden unit each
    whole = nm.count_laws(model, X)
    assert whole.unexplained == ()
    assert whole.known == tuple(f.name for f in found)
    assert "moves" in repr(count)
    assert "moves" not in repr(whole)


# --- assert_symmetric -----------------------------------------------------------------------------------------------


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.sigmoid(5 * x)


class Once(torch.autograd.Function):
    """A right backward pass that cannot be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (x > 0)


class Kernel(Hidden):
    def __init__(self, function: type[torch.autograd.Function]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.function.apply(x @ self.a) @ self.b
        return out


def test_a_wrong_backward_is_called_that() -> None:
    symmetries = nm.find_symmetries(Hidden(), X)
    with pytest.raises(AssertionError, match=r"^wrong backward pass: 1 of 1 families broken, first 'rescale: a → b'"):
        nm.assert_symmetric(Kernel(WrongBackward), loss_fn, [X], symmetries=symmetries)


def test_a_wrong_forward_is_not() -> None:
    symmetries = nm.find_symmetries(Hidden(), X)
    with pytest.raises(AssertionError, match=r"^1 of 1 families broken"):
        nm.assert_symmetric(lambda p, x: torch.tanh(x @ p["a"]) @ p["b"], loss_fn, [X], symmetries=symmetries,
                            params=tensors())  # fmt: skip


def test_second_derivatives_may_be_left_out() -> None:
    symmetries = nm.find_symmetries(Hidden(), X)
    report = nm.assert_symmetric(Kernel(Once), loss_fn, [X], symmetries=symmetries, hessian=False)
    assert not any(f.hessian.known or f.curvature.known for f in report.families)
    assert all(f.gradient.known for f in report.families)


def test_its_own_frames_are_hidden_and_kinds_are_known() -> None:
    with pytest.raises(ValueError, match="expect names the kind 'rescales', which there is not; kinds: translation,"):
        nm.assert_symmetric(Hidden(), loss_fn, [X], expect={"rescales": 4})
    try:
        nm.assert_symmetric(Hidden(), loss_fn, [X], expect={"rescale": 5})
    except AssertionError as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    hidden = [f.f_locals.get("__tracebackhide__", False) for f in frames]
    assert hidden == [False, *[True] * (len(frames) - 1)]


# --- families that users build --------------------------------------------------------------------------------------


def term(slices: Any, coefficients: Any = (1.0,), charges: Any = (0,), name: str = "w") -> SliceTerm:
    view = SliceView(name, (3, 4), (0,))
    return SliceTerm(view, np.asarray(charges), np.asarray(slices), np.asarray(coefficients, dtype=float))


def test_families_that_users_build_are_validated() -> None:
    good = Family("scale", "mine", ("row 1",), Diagonal((term([1]),)))
    assert good.charge({"w": torch.ones(3, 4)}).tolist() == [4.0]
    for build, text in (
        (
            lambda: Family("scales", "mine", ("x",), Diagonal((term([1]),))),
            "'mine' is of kind 'scales', which there is",
        ),  # type: ignore[arg-type]
        (lambda: Family("translation", "mine", ("x",), Diagonal((term([1]),))), "translations are the shifts"),
        (lambda: Family("scale", "mine", ("x",), Shift((term([1]),))), "translations are the shifts"),
        (lambda: Family("scale", "mine", ("x", "y"), Diagonal((term([1]),))), "2 labels given for 1 charges"),
        (lambda: Family("scale", "mine", (), Diagonal(())), "moves no parameter"),
        (lambda: term([3]), "slices 3 to 3 of a view that has 3"),
        (lambda: term([-1]), "number them from 0"),
        (lambda: term([0, 1]), "1 charges, 2 slices and 1 coefficients"),
        (lambda: term([0], charges=[-1]), "charges are numbered from 0"),
    ):
        with pytest.raises(ValueError, match=text) as told:
            build()
        assert "\n" not in str(told.value)
    with pytest.raises(TypeError, match="a family is needed, got str"):
        Symmetries(("scale",))  # type: ignore[arg-type]
    model = nn.Linear(4, 5)
    other = Family("scale", "mine", ("row 1",), Diagonal((term([1], name="weight"),)))
    with pytest.raises(ValueError, match=r"parameter 'weight' has shape .5, 4., which is not the one"):
        nm.Monitor(model, torch.optim.SGD(model.parameters(), 0.1), Symmetries((other,)))


# --- names ----------------------------------------------------------------------------------------------------------

PACKAGES = ["neuralmechanics"] + [
    f"neuralmechanics.{info.name}" for info in pkgutil.iter_modules(nm.__path__) if info.ispkg and info.name != "cli"
]


@pytest.mark.parametrize("name", PACKAGES)
def test_dir_tells_what_is_public(name: str) -> None:
    """Whatever a package exports is in its dir(), and can be had."""
    package = importlib.import_module(name)
    public = getattr(package, "__all__", [])
    assert set(public) <= set(dir(package))
    assert all(getattr(package, one) is not None for one in public)
    assert len(set(public)) == len(public)
