"""Which optimiser keeps which constraint and commutes with which group, on real networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.diagnostics.counting.networks import Attention, cross_entropy
from torch import Tensor, nn

from neuralmechanics.diagnostics.steps.update_defect import FamilyDefect, UpdateDefect, update_defect
from neuralmechanics.symmetry import Symmetries, find_symmetries

from .reference_optimizers import lion, muon

sgd = partial(torch.optim.SGD, lr=0.01)
momentum = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
decayed = partial(torch.optim.SGD, lr=0.01, weight_decay=0.1)
adam = partial(torch.optim.Adam, lr=0.01)
adamw = partial(torch.optim.AdamW, lr=0.01)
rmsprop = partial(torch.optim.RMSprop, lr=0.01)
ROUNDING = 1e-11
OPTIMIZERS: dict[str, Any] = {
    "sgd": sgd, "momentum": momentum, "adam": adam, "adamw": adamw, "rmsprop": rmsprop, "lion": lion, "muon": muon,
}  # fmt: skip


class Case:
    """A network with its loss, batches and symmetries."""

    def __init__(self, model: nn.Module, loss_fn: Callable[[nn.Module, Any], Tensor], batches: list[Any]) -> None:
        self.model, self.loss_fn, self.batches = model, loss_fn, batches
        self.symmetries: Symmetries = find_symmetries(model, batches[0], loss_fn)

    def defect(self, optimizer: Any, *kinds: str) -> UpdateDefect:
        """The defect on the families of the kinds given, all by default."""
        known = self.symmetries.of_kind(*kinds) if kinds else self.symmetries
        assert len(known)
        return update_defect(optimizer, self.model, self.loss_fn, self.batches, known)


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error of an (inputs, targets) pair."""
    return F.mse_loss(model(batch[0]), batch[1])


@pytest.fixture(scope="module")
def classifier() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
    return Case(model, cross_entropy, [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(4)])


@pytest.fixture(scope="module")
def normed() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5, bias=False), nn.BatchNorm1d(5, eps=1e-14), nn.GELU(), nn.Linear(5, 2))
    return Case(model, squared_error, [(torch.randn(8, 4), torch.randn(8, 2)) for _ in range(4)])


@pytest.fixture(scope="module")
def linear() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 5, bias=False))
    return Case(model, squared_error, [(torch.randn(8, 4), torch.randn(8, 5)) for _ in range(4)])


@pytest.fixture(scope="module")
def attention() -> Case:
    torch.manual_seed(0)
    return Case(Attention(4, 2, 2), squared_error, [(torch.randn(3, 5, 4), torch.randn(3, 5, 4)) for _ in range(3)])


@pytest.fixture(scope="module")
def rotary() -> Case:
    torch.manual_seed(0)
    model = Attention(4, 1, 4, rotary=True)
    return Case(model, squared_error, [(torch.randn(3, 5, 4), torch.randn(3, 5, 4)) for _ in range(3)])


def _row(defect: UpdateDefect, transformation: str) -> FamilyDefect:
    return next(row for row in defect.rows if row.transformation == transformation)


@pytest.mark.parametrize("case", ["classifier", "normed", "linear", "attention", "rotary"])
def test_gradient_descent_keeps_every_constraint(case: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(case).defect(sgd).constraint < ROUNDING


@pytest.mark.parametrize("name", ["sgd", "momentum", "muon"])
def test_updates_linear_in_gradients_or_orthogonalised_keep_translations(name: str, classifier: Case) -> None:
    assert classifier.defect(OPTIMIZERS[name], "translation").constraint < ROUNDING


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "lion"])
@pytest.mark.parametrize("kind", ["translation", "rescale"])
def test_elementwise_preconditioners_keep_none(name: str, kind: str, classifier: Case) -> None:
    assert classifier.defect(OPTIMIZERS[name], kind).constraint > 0.05


def test_momentum_breaks_quadratic_constraints_in_proportion_to_the_learning_rate(normed: Case) -> None:
    rates = (1e-3, 1e-4)
    found = [normed.defect(partial(momentum, lr=rate), "scale").constraint for rate in rates]
    assert found[0] / found[1] == pytest.approx(10, rel=0.1)


def test_coupled_decay_moves_along_the_orbit(normed: Case) -> None:
    row = normed.defect(decayed, "scale").rows[0]
    assert row.constraint > 1e-3


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_every_optimizer_commutes_with_translations(name: str, classifier: Case) -> None:
    defect = classifier.defect(OPTIMIZERS[name], "translation")
    if name == "adamw":  # its decay pulls towards the origin, which the shift moves
        assert defect.equivariance > 1e-4
    else:
        assert max(max(row.first_step, row.path) for row in defect.rows) < 1e-9


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_none_commutes_with_rescaling(name: str, classifier: Case) -> None:
    assert classifier.defect(OPTIMIZERS[name], "rescale").equivariance > 0.05


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_only_isotropic_updates_commute_with_rotations(name: str, linear: Case) -> None:
    row = _row(linear.defect(OPTIMIZERS[name]), "rotation")
    if name in ("sgd", "momentum", "muon"):
        assert max(row.first_step, row.path) < 1e-9
    else:
        assert row.first_step > 0.05


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_turning_a_rotary_pair_by_a_phase(name: str, rotary: Case) -> None:
    """z → e^{iφ} z is a rotation of rows: only updates that know no rows commute with it; a stretch is seen by all."""
    (pairs,) = (f for f in rotary.symmetries if f.action.epithet)
    rows = update_defect(OPTIMIZERS[name], rotary.model, rotary.loss_fn, rotary.batches, [pairs]).rows
    rotation, stretch = (row for row in rows)
    assert (rotation.transformation, stretch.transformation) == ("rotation", "stretch")
    assert (rotation.first_step < 1e-9) == (name in ("sgd", "momentum", "muon"))
    assert stretch.first_step > 0.01


def test_stretches_are_seen_by_gradient_descent(linear: Case) -> None:
    assert _row(linear.defect(sgd), "stretch").first_step > 0.05


def test_sign_steps_under_rescaling_in_closed_form() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    case = Case(model, squared_error, [(torch.rand(8, 1) + 1, torch.full((8, 1), 9.0))])

    def signs(params: Any, gradients: Any, state: Any) -> dict[str, Tensor]:
        return {name: -0.01 * g.sign() for name, g in gradients.items()}

    row = case.defect(signs, "rescale").rows[0]
    # S(ψθ) - ψ(Sθ) = (1 - a)s₁, (1 - 1/a)s₂ with signs s: size relative to (a, 1/a)
    a = torch.exp(0.3 * torch.randn(1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    expected = ((1 - a) ** 2 + (1 - 1 / a) ** 2).sqrt() / (a**2 + a**-2).sqrt()
    assert row.first_step == pytest.approx(float(expected), rel=1e-12)


def test_model_is_left_alone_and_random_layers_agree() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 3))
    case = Case(model, cross_entropy, [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(3)])
    before = [p.clone() for p in model.parameters()]
    assert case.defect(sgd).constraint < ROUNDING
    assert case.defect(sgd, "translation").equivariance < ROUNDING
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_table_and_frame(classifier: Case) -> None:
    defect = classifier.defect(sgd)
    frame = defect.to_frame()
    assert list(frame["family"]) == [row.family for row in defect.rows]
    assert {"constraint", "share", "first_step", "path"} <= set(frame.columns)
    assert repr(defect).splitlines()[0].split()[:3] == ["family", "kind", "transformation"]
    assert defect.of_kind("rescale")[0].transformation == "factor"
    assert repr(UpdateDefect((), 1)) == "UpdateDefect: no symmetry to test"


@pytest.mark.parametrize(
    ("optimizer", "error", "message"),
    [
        (lambda a, b: None, TypeError, "takes 2 required arguments; pass a factory of one"),
        (lambda parameters: "adam", TypeError, "the optimizer factory returned str; a torch.optim.Optimizer"),
    ],
)
def test_bad_optimizers(optimizer: Any, error: type[Exception], message: str, classifier: Case) -> None:
    with pytest.raises(error, match=message):
        classifier.defect(optimizer)


def test_bad_batches_and_losses(classifier: Case) -> None:
    with pytest.raises(ValueError, match="batches is empty"):
        update_defect(sgd, classifier.model, cross_entropy, [], classifier.symmetries)
    with pytest.raises(ValueError, match="one number is needed"):
        update_defect(sgd, classifier.model, lambda m, b: m(b[0]), classifier.batches, classifier.symmetries)


def test_a_cosine_is_of_what_moves_and_a_share_of_the_whole_step() -> None:
    """Signs of three slopes that add up to zero add up to ±1: cos = 1/(√3√3); of all 31 elements 1/(√31√3)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    batch = torch.rand(9, 3, dtype=torch.float64), torch.arange(9) % 3
    step = lambda params, gradients, state: {name: -0.1 * g.sign() for name, g in gradients.items()}  # noqa: E731
    with torch.no_grad():
        model[0].bias += 1.0  # every unit lives
    bias = [f for f in find_symmetries(model, batch, loss).of_kind("translation") if f.parameters == ("2.bias",)]
    (row,) = update_defect(step, model, loss, [batch], bias).rows
    assert row.constraint == pytest.approx(1 / 3, rel=1e-12)
    assert row.constraint_rms == pytest.approx(1 / 3, rel=1e-12)
    assert row.share == pytest.approx(1 / (31 * 3) ** 0.5, rel=1e-12)
