"""The zoo: published parameter counts, any input size, the paper's initialisation, weights that come back."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import nn

from neuralmechanics.experiments import build_model, model_names, restore_weights
from neuralmechanics.files.weights import read_weights

PUBLISHED = {
    ("vgg16", 64, 200): 18_067_464,
    ("vgg16-bn", 64, 200): 18_075_912,
    ("vgg11", 224, 1000): 132_863_336,
    ("vgg13-bn", 224, 1000): 133_053_736,
    ("vgg16", 224, 1000): 138_357_544,
    ("vgg16-bn", 224, 1000): 138_365_992,
    ("vgg19", 224, 1000): 143_667_240,
    ("resnet18", 224, 1000): 11_689_512,
    ("resnet18-bn", 224, 1000): 11_689_512,
    ("resnet34", 224, 1000): 21_797_672,
    ("resnet50", 224, 1000): 25_557_032,
    ("resnet101", 224, 1000): 44_549_160,
    ("resnet152", 224, 1000): 60_192_808,
    ("wide-resnet50", 224, 1000): 68_883_240,
    ("wide-resnet50-2", 224, 1000): 68_883_240,
    ("wide-resnet101", 224, 1000): 126_886_696,
    ("wide-resnet101-2-bn", 224, 1000): 126_886_696,
    ("wide-resnet28-10", 32, 10): 36_479_194,
    # The reference's networks at 64 pixels: a 3×3 stem, and without norms nothing in their place.
    ("resnet18", 64, 200): 11_271_432,
    ("resnet18-nobn", 64, 200): 11_271_432 - 2 * 4800,
    ("wide-resnet18", 64, 200): 11_271_432,
    ("wide-resnet18-nobn", 64, 200): 11_271_432 - 2 * 4800,
    ("wide-resnet50", 64, 200): 68_883_240 - 7 * 7 * 3 * 64 + 3 * 3 * 3 * 64 - 800 * 2049,
}
# Every name of a network in the reference code, at any size of input.
REFERENCE = [
    *("logistic", "fc", "fc-bn", "conv"),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "-bn")),
    *(
        f"{wide}resnet{depth}{norm}"
        for wide in ("", "wide-")
        for depth in (18, 34, 50, 101, 152)
        for norm in ("", "-nobn")
    ),
]


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_parameter_counts():
    with torch.device("meta"):
        counts = {
            key: parameters(build_model(key[0], input_shape=(3, key[1], key[1]), classes=key[2])) for key in PUBLISHED
        }
    assert counts == PUBLISHED


def test_every_name_of_the_reference_is_here():
    assert set(REFERENCE) <= set(model_names())


@pytest.mark.parametrize("name", model_names())
def test_every_model_maps_a_batch_to_logits(name):
    shape = (12,) if name == "gpt" else (3, 16, 16)
    with torch.device("meta"):  # the shapes alone: cheap for the widest of them
        model = build_model(name, input_shape=shape, classes=7).train()
        batch = torch.zeros((4, *shape), dtype=torch.int64 if name == "gpt" else torch.float32)
        logits = model(batch)
        logits.sum().backward()
    assert logits.shape == ((4, 12, 7) if name == "gpt" else (4, 7))
    assert all(parameter.grad is not None for parameter in model.parameters())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert bool(norms) == (not name.endswith("-nobn") if "resnet" in name else name.endswith("-bn"))


def test_seed_alone_decides_the_weights_and_nothing_else_moves():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (build_model("mlp", input_shape=(1, 8, 8), classes=10, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_paper_initialisation_has_the_stated_moments():
    model = build_model("vgg16-bn", input_shape=(3, 64, 64), classes=200, initialisation="paper")
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 1e5:
            deviation = sqrt(2 / (module.out_channels * 9))
            assert float(module.weight.detach().std()) == pytest.approx(deviation, rel=0.02)
        if isinstance(module, nn.Linear):
            assert float(module.weight.detach().std()) == pytest.approx(0.01, rel=0.02)
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            assert not module.bias.any()


def test_the_head_of_a_residual_network_keeps_its_first_weights():
    """The reference draws its convolutions and leaves its linear head to torch: uniform, of deviation 1/√(3·512)."""
    model = build_model("resnet18", input_shape=(3, 8, 8), classes=200, initialisation="paper")
    assert float(model.head.weight.detach().std()) == pytest.approx(1 / sqrt(3 * 512), rel=0.02)
    assert all(module.bias is None for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("vgg16-nobn", (3, 8, 8), "unknown model 'vgg16-nobn'"),
        ("resnet18-bn-nobn", (3, 8, 8), "unknown model 'resnet18-bn-nobn'"),
        ("vgg61", (3, 8, 8), "unknown model 'vgg61'; the nearest known name is 'vgg1"),
        ("wide-resnet17-2", (3, 8, 8), "depth of a WideResNet is 6n"),
        ("vgg11", (64,), "input_shape must be \\(channels, height, width\\)"),
        ("gpt", (3, 8, 8), "input_shape must be \\(length,\\)"),
        ("gpt-bn", (8,), "there is no 'gpt-bn'"),
    ],
)
def test_what_cannot_be_built_is_named(name, shape, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, input_shape=shape, classes=10)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".wrapped.pt"])
def test_weights_come_back(tmp_path, suffix):
    from safetensors.torch import save_file

    source, target = (build_model("mlp-bn", input_shape=(1, 8, 8), classes=10, seed=s) for s in (0, 1))
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(source.state_dict(), path)
    else:
        torch.save({"state_dict": source.state_dict()} if "wrapped" in suffix else source.state_dict(), path)
    restore_weights(target, path)
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name])
    with pytest.raises(ValueError, match="does not fit the model"):
        restore_weights(build_model("fc", input_shape=(1, 8, 8), classes=10), path)


def test_nothing_that_runs_code_is_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 64)
    for name in ("evil.pt", "noise.safetensors", "absent.pt"):
        with pytest.raises(ValueError, match=name.split(".")[0]) as error:
            read_weights(tmp_path / name)
        assert "\n" not in str(error.value)
