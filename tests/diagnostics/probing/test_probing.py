"""The probe, which sees gradients only, agrees with the symmetries of the graph and claims nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.diagnostics.checking.faults import batches, cross_entropy
from tests.spread import one_in
from tests.symmetry.zoo import SMALL
from torch import Tensor, nn

from neuralmechanics import find_symmetries
from neuralmechanics.diagnostics.probing.comparison import compare
from neuralmechanics.diagnostics.probing.integer_relations import integer_relations
from neuralmechanics.diagnostics.probing.probing import probe_symmetries

# Networks of the zoo whose symmetries all show on whole slices along one dimension.
AGREEING = (
    "attention-all-biases", "attention-key-bias", "attention-rotary", "attention-grouped-queries", "attention-qk-norm",
    "multihead-attention-module", "llama-block-on-vectors", "lstm-cell", "rnn-cell-relu", "linear-recurrence", "vgg",
    "vgg-bn", "squeeze-excite", "conv1d-stack", "relu-squared", "relu-cubed", "maxout", "gated-silu", "gated-relu",
    "gated-relu2", "layer-norm", "rms-norm-module", "batch-norm-after-relu", "two-batch-norms", "normalize-features",
    "weight-norm", "used-twice", "tied-autoencoder", "frozen-entry", "raw-tensors", "exponential-temperature",
    "low-rank-adapter", "residual-of-linear", "two-biases-that-add", "quotient-of-branches", "one-norm-used-twice",
    "llama", "embedding-into-linear",
)  # fmt: skip


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", one_in(2, AGREEING))
def test_the_probe_equals_the_graph(name: str) -> None:
    # The start is fixed: one that leaves a unit dark on the batches has more relations than the graph, truly so.
    torch.manual_seed(0)
    network = SMALL[name]()
    found = find_symmetries(network.module, network.batch(), network.loss_fn)

    def observed(_: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return network.observed(batch)

    probed = probe_symmetries(network.module, observed, [network.batch(k) for k in range(3)])
    frame = compare(found, probed, shapes_of(network.module))
    assert (frame["difference"] == 0).all(), frame.to_string()
    assert probed.gap > 1e6


def test_enough_networks_agree() -> None:
    assert len(AGREEING) >= 30


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))


def normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)
    )


@pytest.mark.parametrize(
    ("build", "tolerance"), [(plain, None), pytest.param(normed, None, marks=pytest.mark.slow), (normed, 1e-3)]
)
def test_no_false_positive_over_300_steps(build: type[nn.Module], tolerance: float | None) -> None:
    """At every 30th of 300 steps: no relation beyond those of the graph, and every exact one of them."""
    torch.manual_seed(0)
    model = build().double()
    data = batches(count=3)
    found = find_symmetries(model, data[0], cross_entropy)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for step in range(300):
        optimizer.zero_grad()
        cross_entropy(model, data[step % 3]).backward()
        optimizer.step()
        if step % 30 == 29:
            probed = probe_symmetries(model, cross_entropy, data, seed=step, tolerance=tolerance)
            frame = compare(found, probed, shapes_of(model))
            assert (frame["difference"] <= 0).all(), frame.to_string()
            assert (frame[frame["exact"]]["difference"] == 0).all(), frame.to_string()


def test_the_model_stays_as_it_is() -> None:
    torch.manual_seed(0)
    model = normed().double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    probe_symmetries(model, cross_entropy, batches())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_a_mapping_and_a_plain_function_are_enough() -> None:
    """x → max(x W, 0)² V, in no module at all: a weighted rescaling a unit, and nothing else."""
    torch.manual_seed(0)
    weights = {"w": torch.randn(4, 5).double().requires_grad_(), "v": torch.randn(5, 3).double().requires_grad_()}

    def loss(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return (torch.relu(x @ p["w"]).square() @ p["v"]).tanh().sum()

    probed = probe_symmetries(weights, loss, [torch.randn(16, 4).double()])
    assert probed.count() == {"translation": 0, "scale": 0, "rescale": 5}
    for relation in probed.relations:
        assert {abs(v) for values in relation.elements.values() for v in np.unique(values)} == {0.0, 1.0, 2.0}
    assert "w[:, 0] - 2 v[0, :]" in probed.to_frame()["relation"].tolist()


def test_float32_gives_the_same_relations() -> None:
    torch.manual_seed(0)
    model = plain()
    probed = probe_symmetries(model, cross_entropy, batches(torch.float32))
    assert probed.count() == {"translation": 5, "scale": 0, "rescale": 9}


def test_what_the_batches_do_not_use_is_silent() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(6, 3)).double()
    batch = (torch.randint(5, (16, 2)), torch.randint(3, (16,)))
    probed = probe_symmetries(model, cross_entropy, [batch])
    assert probed.silent == {"0.weight": 6}
    assert all("0.weight[5" not in relation.label for relation in probed.relations)


def test_relations_of_numbers() -> None:
    """c = 2a - b and d = 0 come out; nothing else does."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    values = np.stack([a, b, 2 * a - b, 0 * a, rng.normal(size=50)], axis=1)
    null = integer_relations(values, np.abs(values) + 0.1, np.zeros((0, 5)), 1e-10)
    assert sorted(map(tuple, null.relations.tolist())) == [(0, 0, 0, 1, 0), (2, -1, -1, 0, 0)]


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match="parameters"):
        probe_symmetries(object(), cross_entropy, batches())
    with pytest.raises(ValueError, match="most_slices"):
        probe_symmetries(plain(), cross_entropy, batches(), most_slices=3)


def test_a_compiled_model_is_probed_as_it_is() -> None:
    torch.manual_seed(0)
    model = torch.compile(plain().double(), backend="eager")
    assert probe_symmetries(model, cross_entropy, batches()).count() == {"translation": 5, "scale": 0, "rescale": 9}
