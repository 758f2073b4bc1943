"""Symmetries of one's own: recognised by what they do, checked, monitored and predicted as far as their form allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics.symmetry import Family, Symmetries, from_generator, from_transformation
from neuralmechanics.symmetry.families.actions import AffineDiagonal, Bilinear, Diagonal, Own, Shift

Params = dict[str, Tensor]


def params() -> Params:
    draw = torch.Generator().manual_seed(0)
    shapes = {"w": (3, 2), "b": (3,), "v": (4, 3), "s": (), "c": (4,)}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


ROW = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
TURN = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
MIX = torch.tensor([[0.5, 1.0, 0], [1.0, -0.25, 0], [0, 0, 0.125]], dtype=torch.float64)

Case = tuple[Callable[[Params], Mapping[str, Tensor]], type, str, Callable[[Params], Tensor] | None]
FIELDS: dict[str, Case] = {
    "one unit": (lambda p: {"w": ROW * p["w"], "b": ROW[:, 0] * p["b"], "v": -p["v"] * ROW[:, 0]}, Diagonal, "rescale",
                 lambda p: p["w"][0].square().sum() + p["b"][0] ** 2 - p["v"][:, 0].square().sum()),
    "a whole tensor": (lambda p: {"w": 2 * p["w"]}, Diagonal, "scale", lambda p: 2 * p["w"].square().sum()),
    "a number": (lambda p: {"s": p["s"], "b": -p["b"] / 2}, Diagonal, "rescale",
                 lambda p: p["s"] ** 2 - p["b"].square().sum() / 2),
    "two columns apart": (lambda p: {"v": p["v"] * torch.tensor([1.0, 0.0, -3.0])}, Diagonal, "rescale",
                          lambda p: p["v"][:, 0].square().sum() - 3 * p["v"][:, 2].square().sum()),
    "every entry its own": (lambda p: {"v": p["v"] * torch.arange(12).reshape(4, 3)}, Diagonal, "scale",
                            lambda p: (p["v"].square() * torch.arange(12).reshape(4, 3)).sum()),
    "a column": (lambda p: {"v": torch.ones(4, 1) * torch.tensor([0.0, 1, 0])}, Shift, "translation",
                 lambda p: p["v"][:, 1].sum()),
    "biases that cancel": (lambda p: {"b": torch.ones(3), "s": torch.tensor(-2.0)}, Shift, "translation",
                           lambda p: p["b"].sum() - 2 * p["s"]),
    "a gain about one": (lambda p: {"b": 1 + p["b"], "v": -p["v"]}, AffineDiagonal, "rescale",
                         lambda p: (1 + p["b"]).square().sum() - p["v"].square().sum()),
    "about a vector": (lambda p: {"c": p["c"] + torch.arange(4)}, AffineDiagonal, "scale",
                       lambda p: (p["c"] + torch.arange(4)).square().sum()),
    "a symmetric matrix": (lambda p: {"w": MIX @ p["w"], "v": -p["v"] @ MIX}, Bilinear, "linear",
                           lambda p: (p["w"] * (MIX @ p["w"])).sum() - (p["v"] * (p["v"] @ MIX)).sum()),
    "entries exchanged": (lambda p: {"b": p["b"].flip(0)}, Bilinear, "linear",
                          lambda p: (p["b"] * p["b"].flip(0)).sum()),
    "a turn": (lambda p: {"w": p["w"] @ TURN}, Own, "linear", None),
    "a matrix without symmetry": (lambda p: {"b": p["b"].cumsum(0)}, Own, "linear", None),
    "from one to another": (lambda p: {"b": p["v"][0], "v": torch.zeros(4, 3).double()}, Own, "linear", None),
    "between two": (lambda p: {"b": p["w"][:, 0], "w": torch.stack([p["b"], 0 * p["b"]], 1)}, Own, "linear", None),
    "sizes": (lambda p: {"w": p["w"].abs()}, Own, "nonlinear", None),
    "squares": (lambda p: {"w": p["w"] ** 2}, Own, "nonlinear", None),
    "a number and a factor": (lambda p: {"s": torch.tensor(1.0), "b": p["b"]}, Own, "affine", None),
    "affine and mixing": (lambda p: {"b": p["b"].flip(0) + 1}, Own, "affine", None),
    "by a length": (lambda p: {"w": p["w"] / p["b"].norm()}, Own, "nonlinear", None),
}  # fmt: skip


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_what_it_does(name: str) -> None:
    """Its action, its kind, its charge written out, its generator, and the charge of its flow."""
    field, action, kind, charge = FIELDS[name]
    family = from_generator(name, field, params())
    assert (type(family.action), family.kind) == (action, kind)
    wide = {key: p.double() for key, p in params().items()}
    expected = field(wide)
    for key, step in family.generator(wide).items():
        assert torch.allclose(step, expected[key].double(), rtol=1e-12, atol=1e-14)
    assert set(family.parameters) <= set(expected)
    if charge is None:
        assert family.charges == 0
        assert family.action.unfollowed
        return
    assert family.charge(wide).tolist() == pytest.approx([float(charge(wide))], rel=1e-12)
    assert family.action.unfollowed == ""
    again = Family.from_dict(family.to_dict())
    assert again.charge(wide).tolist() == family.charge(wide).tolist()


def test_slices_are_as_wide_as_they_can_be() -> None:
    """A million elements that move alike are one coefficient."""
    family = from_generator(
        "all", lambda p: {"w": p["w"], "v": -p["v"]}, {"w": torch.ones(1000, 1000), "v": torch.ones(9, 9)}
    )
    assert [len(term.coefficients) for term in family.action.terms] == [1, 1]
    row = from_generator("row", lambda p: {"w": p["w"] * torch.eye(1000)[:, :1]}, {"w": torch.ones(1000, 500)})
    assert [(t.view.kept, t.slices.tolist()) for t in row.action.terms] == [((0,), [0])]


TRANSFORMATIONS: dict[str, tuple[Callable[[Params, Tensor], Mapping[str, Tensor]], float, type]] = {
    "factors": (lambda p, a: {"b": a * p["b"], "v": p["v"] / a}, 1.0, Diagonal),
    "factors by their logarithm": (lambda p, a: {"b": p["b"] * a.exp(), "v": p["v"] * (-a).exp()}, 0.0, Diagonal),
    "shift": (lambda p, a: {"v": p["v"] + a}, 0.0, Shift),
    "gain": (lambda p, a: {"b": (1 + p["b"]) * a - 1}, 1.0, AffineDiagonal),
    "stretch": (lambda p, a: {"w": torch.linalg.matrix_exp(a * MIX) @ p["w"]}, 0.0, Bilinear),
    "turn": (lambda p, a: {"w": p["w"] @ torch.linalg.matrix_exp(a * TURN)}, 0.0, Own),
    "power": (lambda p, a: {"b": p["b"].sign() * p["b"].abs() ** a}, 1.0, Own),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_a_transformation_is_the_flow_of_its_generator(name: str) -> None:
    transformation, identity, action = TRANSFORMATIONS[name]
    family = from_transformation(name, transformation, params(), identity=identity)
    assert type(family.action) is action
    wide = {key: p.double() for key, p in params().items()}
    amount = torch.tensor(math.exp(0.4) if identity else 0.4, dtype=torch.float64)
    moved = family.flow(wide, torch.ones(1, dtype=torch.float64), 0.4)
    for key, value in transformation(wide, amount).items():
        assert torch.allclose(moved[key], value.double(), rtol=1e-11, atol=1e-12)


def test_fields_and_transformations_that_are_none_are_refused_in_one_line() -> None:
    fields: dict[str, Callable[[Params], object]] = {
        "no parameter": lambda p: {"x": p["w"]},
        "gives shape": lambda p: {"w": p["w"].sum()},
        "return tensors by the names": lambda p: p["w"],
        "moves nothing": lambda p: {"w": 0 * p["w"]},
        "not finite": lambda p: {"w": p["w"] / 0},
        "not differentiated by torch": lambda p: {"w": p["w"].detach() ** 2},
        "does not run": lambda p: {"w": p["nothing"]},
        "writes into the parameters": lambda p: {"w": p["w"].mul_(2)},
        "in float64": lambda p: {"w": torch.ones(3, 3) @ p["w"]},
    }
    for text, field in fields.items():
        with pytest.raises(ValueError, match=text) as told:
            from_generator("mine", field, params())  # type: ignore[arg-type]
        assert "\n" not in str(told.value)
        assert "'mine'" in str(told.value)
    transformations: dict[str, tuple[Callable[[Params, Tensor], Mapping[str, Tensor]], float]] = {
        "moves θ at the identity": (lambda p, a: {"b": a * p["b"]}, 0.0),
        "no one-parameter group": (lambda p, a: {"b": p["b"] * (1 + a)}, 0.0),
        "cannot differentiate it by a": (lambda p, a: {"b": p["b"] * math.exp(a)}, 0.0),
        "identity=2": (lambda p, a: {"b": a * p["b"]}, 2.0),
    }
    for text, (transformation, identity) in transformations.items():
        with pytest.raises(ValueError, match=text) as told:
            from_transformation("mine", transformation, params(), identity=identity)
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="needs named parameters"):
        from_generator("mine", lambda p: p, {})


class Net(nn.Module):
    """Two layers with a square between them: unit 0 scales with the exponents (1, -2)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x) ** 2)
        return out


def unit(p: Params) -> Params:
    row = torch.zeros(4, dtype=torch.float64).index_fill(0, torch.tensor([0]), 1.0)
    return {"first.weight": row[:, None] * p["first.weight"], "second.weight": -2 * row * p["second.weight"]}


def wrong(p: Params) -> Params:
    return unit(p) | {"second.weight": unit(p)["second.weight"] / 2}


def loss_fn(model: nn.Module, batch: Tensor) -> Tensor:
    return (model(batch) - 1).square().mean()


def test_a_true_symmetry_passes_the_check_and_a_false_one_does_not() -> None:
    torch.manual_seed(0)
    model, batch = Net().double(), torch.randn(16, 3, dtype=torch.float64)
    for field, ok in ((unit, True), (wrong, False)):
        family = from_generator("unit 0", field, model)
        report = nm.check_symmetries(Symmetries((family,)), model, loss_fn, [batch])
        assert report.ok is ok


def test_a_nonlinear_symmetry_is_checked_too() -> None:
    """u e^v: a symmetry of no form that has laws, exact and by a field alone; and a false one."""

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Parameter(torch.randn(3).double()), nn.Parameter(torch.randn(3).double())

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.u * self.v.exp())

    torch.manual_seed(0)
    model, batch = Product(), torch.randn(16, 3, dtype=torch.float64)
    for sign, ok in ((1, True), (2, False)):
        family = from_generator("slide", lambda p, s=sign: {"u": -p["u"], "v": s * torch.ones(3)}, model)
        assert family.charges == 0
        report = nm.check_symmetries(Symmetries((family,)), model, lambda m, b: (m(b) - 1).square().mean(), [batch])
        assert report.ok is ok
    with pytest.raises(ValueError, match="nothing to monitor in this model; slide: it adds constants to some"):
        nm.Monitor(model, torch.optim.SGD(model.parameters(), 0.1), Symmetries((family,)))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_laws_follow_a_symmetry_of_ones_own(momentum: float) -> None:
    """The exact law predicts its charge to rounding beside those that were found; the run is read back."""
    torch.manual_seed(0)
    model, batch = Net(), torch.randn(32, 3)
    mixed = from_generator("mixed", unit, model)
    found = nm.find_symmetries(model, batch, loss_fn)
    own = found.joined(mixed)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=momentum, weight_decay=1e-2)
    with nm.Monitor(model, optimizer, own, every=5) as monitor:
        for _ in range(30):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
    data = monitor.run.data
    mine = data.isel(charge=data["family"].values == "mixed")
    assert mine.sizes["charge"] == 1
    moved = abs(float(mine["charge"][-1, 0] - mine["charge"][0, 0]))
    assert moved > 1e-3
    errors = mine["predicted"].sel(law="exact") - mine["charge"]
    assert float(np.abs(errors).max()) < 1e-5 * float(np.abs(mine["charge"][0, 0]))
    (family,) = found  # has the same charge under another factor
    first = data["charge"].values[:, data["family"].values == family.name][:, 0]
    assert mine["charge"].values[:, 0] == pytest.approx(first * (mine["charge"].values[0, 0] / first[0]), rel=1e-6)


def test_a_symmetric_matrix_of_ones_own_is_predicted() -> None:
    """Half of a linear pair: W → exp(tM) W, V → V exp(-tM)."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 3, bias=False))
    batch = torch.randn(32, 3)
    m = torch.tensor([[0.0, 1.0], [1.0, 0.5]], dtype=torch.float64)
    family = from_generator("mix", lambda p: {"0.weight": m @ p["0.weight"], "1.weight": -p["1.weight"] @ m}, model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.5)
    with nm.Monitor(model, optimizer, Symmetries((family,)), every=5) as monitor:
        for _ in range(30):
            optimizer.zero_grad()
            loss_fn(model, batch).backward()
            optimizer.step()
    data = monitor.run.data
    drift = abs(float(data["charge"][-1, 0] - data["charge"][0, 0]))
    error = float(np.abs(data["predicted"].sel(law="exact") - data["charge"]).max())
    assert drift > 1e-4
    assert error < 1e-3 * drift


def test_counting_knows_symmetries_of_ones_own() -> None:
    """The generators of one's own lower what is unexplained, and give laws where they are gradients."""
    torch.manual_seed(0)
    model, batch = Net().double(), torch.randn(4, 3, dtype=torch.float64)
    families = []
    for k in range(4):
        row = torch.zeros(4, dtype=torch.float64).index_fill(0, torch.tensor([k]), 1.0)

        def field(p: Params, row: Tensor = row) -> Params:
            return {"first.weight": row[:, None] * p["first.weight"], "second.weight": -2 * row * p["second.weight"]}

        families.append(from_generator(f"unit {k}", field, model))
    none = nm.count_laws(model, batch, symmetries=())
    mine = nm.count_laws(model, batch, symmetries=Symmetries(tuple(families)))
    assert len(none.unexplained) == len(mine.unexplained) + 4
    assert (none.lower, mine.lower) == (0, 4)


def test_precisions_and_shapes() -> None:
    """Parameters of a module, in half precision, on the meta device, with dimensions of one entry."""
    for given in (Net(), Net().bfloat16(), Net().to("meta")):
        family = from_generator("unit 0", unit, given)
        assert family.action.weights_shape == (1,)
        assert sorted(float(c) for t in family.action.terms for c in t.coefficients) == [-2.0, 1.0]
    one = {"w": torch.ones(1, 3, 1), "b": torch.ones(1)}
    family = from_generator("ones", lambda p: {"w": p["w"], "b": -p["b"]}, one)
    assert family.charge(one).tolist() == [2.0]
    moved = family.transform(one, 2.0)
    assert moved["w"].tolist() == [[[2.0], [2.0], [2.0]]]
    assert moved["b"].tolist() == [0.5]


def test_names_are_given_once() -> None:
    family = from_generator("all", lambda p: {"w": p["w"]}, params())
    with pytest.raises(ValueError, match="two families are named 'all'"):
        Symmetries((family,)).joined(family)
    assert Symmetries(()).joined(family).labels == ("all",)
