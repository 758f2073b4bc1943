"""No public function leaves a trace in a model, its caches or the random states."""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.functional.as_found import awkward
from tests.functional.as_found.awkward import MODELS
from tests.functional.as_found.record import random_states, record
from torch import Tensor, nn

import neuralmechanics as nm
from neuralmechanics import experiments, flows, rewrite
from neuralmechanics.symmetry import EmptiedCacheWarning, Symmetries, measure_breaking

Batch = tuple[Tensor, Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return (model(batch[0]) - batch[1]).square().mean()


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def of_last_layer() -> Symmetries:
    """Translations of a layer named b before a norm: names that every network here has."""
    with torch.device("meta"):  # draws no random numbers
        plain = nn.ModuleDict({"b": nn.Linear(3, 2), "norm": nn.LayerNorm(2, elementwise_affine=False)})
        batch = torch.zeros(4, 3)
    return nm.find_symmetries(plain, batch, lambda m, x: m["norm"](m["b"](x)).square().mean())


def monitored(model: nn.Module) -> None:
    optimizer = sgd(model.parameters())
    with nm.Monitor(model, optimizer, of_last_layer(), strict=True):
        pass
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def asserted(model: nn.Module, batch: Batch) -> None:
    """A claim that does not hold is an answer, too."""
    with contextlib.suppress(AssertionError):
        nm.assert_symmetric(model, loss_fn, [batch], expect={})


def flown(loss: flows.ModuleLoss) -> None:
    """A Hessian product, as flows take them."""
    start = {name: p.requires_grad_() for name, p in loss.theta0.items()}
    gradients = torch.autograd.grad(loss(start), list(start.values()), create_graph=True, materialize_grads=True)
    total = torch.stack([g.sum() for g in gradients]).sum()
    torch.autograd.grad(total, list(start.values()), allow_unused=True)


def own_field(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(parameters)


def own_transformation(parameters: dict[str, Tensor], amount: Tensor) -> dict[str, Tensor]:
    return {name: value * amount.exp() for name, value in parameters.items()}


def answered(call: Callable[[], Any]) -> None:
    """A rewrite that is refused is an answer, too."""
    with contextlib.suppress(rewrite.RewriteError, ValueError):
        call()


def twice(m: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two checkpoints of a model."""
    return dict(m.state_dict()), {name: value.clone() for name, value in m.state_dict().items()}


REWRITING = ("centre", "equalise", "fold", "permute", "rotate", "smooth", "untie", "in_turn", "why_not")
MAPPING = ("awq_mappings", "permutation_spec", "smoothquant_mappings", "spinquant_mapping", "symmetry_map")
COMPARING = (
    "align",
    "aligned_checkpoint",
    "assert_equivalent",
    "distance",
    "equivalent",
    "interpolate",
    "canonical",
    "fingerprint",
)


CALLS: dict[str, Callable[[nn.Module, Batch], Any]] = {
    "find_symmetries": lambda m, b: nm.find_symmetries(m, b, loss_fn),
    "symmetry.lowered_program": lambda m, b: nm.symmetry.lowered_program(m, b, loss_fn),
    "symmetry.from_generator": lambda m, b: nm.symmetry.from_generator("own", own_field, m),
    "symmetry.from_transformation": lambda m, b: nm.symmetry.from_transformation("own", own_transformation, m),
    "check_symmetries": lambda m, b: nm.check_symmetries([], m, loss_fn, [b, b]),
    "assert_symmetric": asserted,
    "probe_symmetries": lambda m, b: nm.probe_symmetries(m, loss_fn, [b]),
    "count_laws": lambda m, b: nm.count_laws(m, b, loss_fn, "sign_descent", [b], point="model"),
    "lint": lambda m, b: nm.lint(m, b, loss_fn, sgd(m.parameters())),
    "update_defect": lambda m, b: nm.update_defect(sgd, m, loss_fn, [b, b], nm.find_symmetries(m, b, loss_fn)),
    "Monitor": lambda m, b: monitored(m),
    "symmetry.measure_breaking": lambda m, b: measure_breaking(nm.find_symmetries(m, b, loss_fn), m, loss_fn, b),
    "flows.module_loss": lambda m, b: flown(flows.module_loss(m, loss_fn, b)),
    "flows.ModuleLoss": lambda m, b: flown(flows.ModuleLoss(m, loss_fn, b)),
    "flows.module_losses": lambda m, b: flows.module_losses(m, loss_fn, [b, b]),
    "experiments.evaluate": lambda m, b: experiments.evaluate(m, [(b[0], torch.zeros(len(b[0]), dtype=torch.long))]),
    "experiments.top_eigenvalues": lambda m, b: experiments.top_eigenvalues(
        lambda: loss_fn(m, b), [p for p in m.parameters() if p.requires_grad], 1
    ),
    **{
        f"rewrite.{name}": lambda m, b, name=name: answered(lambda: getattr(rewrite, name)(m, b, loss_fn))
        for name in ("centre", "equalise", "fold", "input_sizes", "permute", "rotate", "smooth", "untie")
    },
    **{
        f"rewrite.{name}": lambda m, b, name=name: answered(lambda: getattr(rewrite, name)(m, b, loss_fn=loss_fn))
        for name in (
            "awq_mappings",
            "permutation_spec",
            "smoothquant_mappings",
            "spinquant_mapping",
            "symmetry_map",
        )
    },
    "rewrite.why_not": lambda m, b: answered(lambda: rewrite.why_not(m, b, "rotate", loss_fn)),
    "rewrite.in_turn": lambda m, b: answered(lambda: rewrite.in_turn(m, b, [("fold", {}), ("permute", {})], loss_fn)),
    **{
        f"rewrite.{name}": lambda m, b, name=name: answered(lambda: getattr(rewrite, name)(m, b, *twice(m), loss_fn))
        for name in ("align", "aligned_checkpoint", "assert_equivalent", "distance", "equivalent")
    },
    "rewrite.interpolate": lambda m, b: answered(lambda: rewrite.interpolate(m, b, *twice(m), 0.5, loss_fn)),
    **{
        f"rewrite.{name}": lambda m, b, name=name: answered(lambda: getattr(rewrite, name)(m, b, twice(m)[0], loss_fn))
        for name in ("canonical", "fingerprint")
    },
}


# Each takes a model and has its own reason to be absent above.
ABSENT = {
    "flows.FlowConfig": "names a model",
    "experiments.TrainConfig": "names a model",
    "experiments.TrainResult": "is what a training returns",
    "experiments.cross_entropy": "is one run of the model, as a training makes it",
    "experiments.mean_squared_error": "is one run of the model, as a training makes it",
    "experiments.restore_weights": "is there to write into the model",
    "experiments.set_norm_eps": "is there to write into the model",
    "rewrite.check_mappings": "is symmetry_map with a map to compare",
    "rewrite.rewrite_checkpoint": "takes a model on the meta device, and files",
}
# What torch or the function itself refuses, with the reason given.
REFUSED = {
    ("update_defect", "key cache"): (RuntimeError, "second time"),
    ("flows.module_loss", "noise"): (ValueError, "is random"),
    ("flows.ModuleLoss", "noise"): (ValueError, "is random"),
    ("flows.module_losses", "noise"): (ValueError, "is random"),
    **dict.fromkeys(
        [
            (call, "forced weights")
            for call in (
                "find_symmetries",
                "symmetry.lowered_program",
                "count_laws",
                "lint",
                "update_defect",
                "symmetry.measure_breaking",
            )
        ],
        (ValueError, r"writes into b\.weight when it runs"),
    ),
}
CAPTURING = (
    "find_symmetries",
    "symmetry.lowered_program",
    "assert_symmetric",
    "count_laws",
    "lint",
    "update_defect",
    "symmetry.measure_breaking",
    *(
        f"rewrite.{name}" for name in (*REWRITING, *MAPPING, *COMPARING) if name != "smooth"
    ),  # which runs the model first,
)


def expected(call: str, name: str) -> contextlib.AbstractContextManager[Any]:
    """The refusal, or the one cache that may be emptied, with a warning that names it."""
    if (call, name) in REFUSED:
        kind, text = REFUSED[call, name]
        return pytest.raises(kind, match=text)
    if name == "lru_cache" and call in CAPTURING:
        return pytest.warns(EmptiedCacheWarning, match="remembered_mask")
    return contextlib.nullcontext()


def prepared(name: str) -> tuple[nn.Module, Batch]:
    """A model that has a gradient in its last parameter and none elsewhere, and a batch."""
    awkward.remembered_mask.cache_clear()
    awkward.GLOBAL_MASKS.clear()
    model = MODELS[name]()
    last = list(model.parameters())[-1]
    last.grad = torch.ones_like(last)
    return model, (torch.randn(4, 2), torch.randn(4, 2))


def public() -> Iterator[tuple[str, Any]]:
    """Every public name of the package and of its parts, shortest path first."""
    seen = set[int]()
    for part in (
        "",
        "symmetry",
        "flows",
        "experiments",
        "monitor",
        "optimizers",
        "laws",
        "slices",
        "report",
        "rewrite",
    ):
        module = importlib.import_module(f"neuralmechanics.{part}".removesuffix("."))
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and id(value) not in seen:
                seen.add(id(value))
                yield f"{part}.{name}".removeprefix("."), value


def test_every_function_that_takes_a_model_has_a_case() -> None:
    taking = set()
    for name, value in public():
        with contextlib.suppress(ValueError, TypeError):  # what has no signature takes no model
            given = inspect.signature(value).parameters
            if "model" in given or any("Module" in str(p.annotation) for p in given.values()):
                taking.add(name)
    assert taking <= CALLS.keys() | ABSENT.keys()
    assert ABSENT.keys() <= taking
    assert CALLS.keys() <= dict(public()).keys()


def pairs() -> Iterator[Any]:
    """Every model with the search, every call on a twelfth of the models, on each another twelfth of the calls."""
    for place, call in enumerate(CALLS):
        for number, name in enumerate(MODELS):
            every = 26 if call.startswith("rewrite.") else 12
            few = call == "find_symmetries" or (call, name) in REFUSED or (place + number) % every == 0
            yield pytest.param(call, name, id=f"{call}-{name}", marks=() if few else pytest.mark.slow)


@pytest.mark.parametrize(("call", "name"), list(pairs()))
def test_left_as_found(call: str, name: str) -> None:
    model, batch = prepared(name)
    before, states, given = record(model), random_states(), record(batch)
    with expected(call, name):
        CALLS[call](model, batch)
    assert record(model) == before
    assert random_states() == states
    assert record(batch) == given
    assert type(awkward.remembered_mask(4)) is Tensor
    assert all(type(mask) is Tensor for mask in awkward.GLOBAL_MASKS.values())


@pytest.mark.parametrize("name", MODELS)
def test_every_model_does_leave_a_trace(name: str) -> None:
    model, batch = prepared(name)
    before, states, caches = record(model), random_states(), awkward.remembered_mask.cache_info()
    loss_fn(model, batch)
    changed = record(model) != before or random_states() != states
    assert changed or awkward.remembered_mask.cache_info() != caches or awkward.GLOBAL_MASKS
