"""Verdicts are right in every precision, residuals are rounding where they should be, and nothing is left behind."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from tests.symmetry.precision import DoublePrecision
from tests.symmetry.zoo import FULL
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.checking.checking import check_symmetries
from neuralmechanics.slices import SliceTerm, SliceView
from neuralmechanics.symmetry import Family
from neuralmechanics.symmetry.families.actions import Diagonal, Shift

from .faults import batches, cross_entropy

# VGG-small, with and without batch norm, ResNet, GPT-2, Llama, ViT.
ARCHITECTURES = ("vgg", "vgg-bn", "resnet", "hf-gpt2", "hf-llama", "patch-vit", "hf-vit")


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("torch").setLevel(logging.ERROR)


def prepared(name: str, dtype: torch.dtype, eps: float | None = None) -> tuple[nn.Module, object, object]:
    """The architecture away from its initial zeros, with real norms' eps where asked."""
    module, batch, loss_fn = FULL[name]()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    for part in module.modules() if eps is not None else ():
        for attribute in ("eps", "variance_epsilon", "layer_norm_epsilon"):
            if isinstance(getattr(part, attribute, None), float):
                setattr(part, attribute, eps)

    def cast(leaf: object) -> object:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return module.to(dtype), pytree.tree_map(cast, batch), loss_fn


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_residuals_are_rounding_in_float64(name: str) -> None:
    """At most 100 roundings, in fact at most 20 (``LIMIT``), in every constraint of every family."""
    module, batch, loss_fn = prepared(name, torch.float64)
    symmetries = find_symmetries(module, batch, loss_fn)
    with DoublePrecision():
        report = check_symmetries(symmetries, module, loss_fn, [batch])
    assert report.ok, report
    assert report.dtype == "float64"
    assert len(report.families) == len(symmetries) > 0
    assert report.worst <= 20, report
    assert not report.notes


def false_claims(module: nn.Module) -> list[Family]:
    """Every row and every column of every weight, claimed to be a scale and a translation."""
    claims = []
    for name, p in module.named_parameters():
        for dim in (0, 1) if p.ndim > 1 else ():
            numbers = np.arange(p.shape[dim])
            term = SliceTerm(SliceView(name, tuple(p.shape), (dim,)), numbers, numbers, np.ones(len(numbers)))
            claims += [
                Family("scale", f"scale {name} {dim}", [str(n) for n in numbers], Diagonal((term,))),
                Family("translation", f"translation {name} {dim}", [str(n) for n in numbers], Shift((term,))),
            ]
    return claims


@pytest.mark.parametrize(
    "name", ["vgg-bn", *(pytest.param(n, marks=pytest.mark.slow) for n in ARCHITECTURES if n != "vgg-bn")]
)
def test_verdicts_are_the_same_in_every_precision(name: str) -> None:
    """True families are exact or approximate, false claims broken, in float64, float32 and bfloat16."""
    claimed: dict[str, str] = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module, batch, loss_fn = prepared(name, dtype, eps=1e-5)
        symmetries = find_symmetries(module, batch, loss_fn)
        report = check_symmetries(symmetries, module, loss_fn, [batch])
        for family, check in zip(symmetries, report.families, strict=True):
            assert check.verdict == ("exact" if family.exact else "approximate"), report
        claims = check_symmetries(false_claims(module), module, loss_fn, [batch], hessian=False)
        verdicts = {f.family: f.verdict for f in claims.families}
        claimed = claimed or verdicts
        assert verdicts == claimed
    assert list(claimed.values()).count("broken") > 0.7 * len(claimed)


def conv_net(dtype: torch.dtype = torch.float64, eps: float = 1e-5, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6, eps=eps), nn.ReLU(), nn.Dropout(dropout), nn.Linear(6, 3)
    ).to(dtype)  # fmt: skip


def test_what_breaks_a_family_is_named_and_sized() -> None:
    model = conv_net(eps=1e-3)
    report = check_symmetries(find_symmetries(model, batches()[0], cross_entropy), model, cross_entropy, batches())
    (approximate,) = [f for f in report.families if f.verdict == "approximate"]
    assert approximate.kind == "scale"
    assert "eps=0.001" in approximate.reason
    assert 1e-6 < approximate.gradient.residual < 1e-1
    assert approximate.gradient.roundings > 1e8
    assert approximate.slope == pytest.approx(approximate.predicted, rel=1e-6)


def test_evaluation_mode_breaks_the_scale_symmetry() -> None:
    model = conv_net()
    symmetries = find_symmetries(model, batches()[0], cross_entropy)
    report = check_symmetries(symmetries, model.eval(), cross_entropy, batches())
    assert not report.ok
    assert {f.kind for f in report.broken} >= {"scale"}
    assert any("training mode" in f.reason for f in report.broken)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_left_behind(dtype: torch.dtype, dropout: float) -> None:
    model = conv_net(dtype, dropout=dropout)
    symmetries = find_symmetries(model, batches(dtype)[0], cross_entropy)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    state, training = torch.get_rng_state(), model.training
    report = check_symmetries(symmetries, model, cross_entropy, batches(dtype, 2))
    assert report.ok, report
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(bool((p.grad == 1).all()) for p in model.parameters())


def test_noise_is_measured_per_sample_where_the_loss_separates() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()
    for network, noise in ((model, "per sample"), (conv_net(), "per batch")):
        found = find_symmetries(network, batches()[0], cross_entropy)
        assert check_symmetries(found, network, cross_entropy, batches()).noise == noise


def test_working_precision_is_the_coarsest_on_the_way() -> None:
    """A float64 network with a norm in float32 is judged in roundings of float32."""
    module, batch, loss_fn = prepared("hf-llama", torch.float64)
    symmetries = find_symmetries(module, batch, loss_fn)
    report = check_symmetries(symmetries, module, loss_fn, [batch], samples=0)
    assert report.dtype == "float32"
    assert report.ok, report


def test_the_report_is_data() -> None:
    model = conv_net()
    report = check_symmetries(find_symmetries(model, batches()[0], cross_entropy), model, cross_entropy, batches())
    frame = report.to_frame()
    assert len(frame) == len(report.families)
    assert set(frame["verdict"]) == {"exact", "approximate"}
    data = json.loads(report.to_json())
    assert data["ok"] is True
    assert len(data["families"]) == len(frame)
    assert "<td>exact</td>" in report._repr_html_()
    assert repr(report).splitlines()[0].startswith("verdict")


def test_bad_input_is_refused() -> None:
    model = conv_net()
    symmetries = find_symmetries(model, batches()[0], cross_entropy)
    with pytest.raises(ValueError, match="at least one batch"):
        check_symmetries(symmetries, model, cross_entropy, [])
    with pytest.raises(ValueError, match="no trainable parameter"):
        check_symmetries(symmetries, nn.Linear(4, 3), cross_entropy, batches())
    with pytest.raises(TypeError, match="loss_fn returned"):
        check_symmetries(symmetries, model, lambda m, b: 1.0, batches())
