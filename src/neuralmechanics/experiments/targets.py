"""What a user may call a model: a zoo name, `package.module:factory`, or `hf:<transformers config>`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from neuralmechanics.experiments.importing import named_function, told
from neuralmechanics.experiments.models import build_model, restore_weights
from neuralmechanics.experiments.seeds import seeded
from neuralmechanics.files import read_regular
from neuralmechanics.functional.as_found import left_as_found

if TYPE_CHECKING:
    from torch import Tensor

_CONFIG_BYTES = 1 << 20


def resolve_model(
    target: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    seed: int = 0,
    initialisation: str = "default",
    restore: str | None = None,
) -> nn.Module:
    """The model that `target` names, in training mode, initialised from `seed`, with the weights at `restore` if given.

    `package.module:factory` is imported with the current directory on the path; the factory is called with
    `input_shape` and `classes` as far as it has parameters of those names. `hf:` takes a transformers config class
    (`hf:GPT2Config`) or a folder with a `config.json`; nothing is downloaded and no weights are loaded. Raises
    `ValueError` in one line.
    """
    if target.startswith("hf:"):
        with _offline():
            model = _seeded(lambda: _transformers_model(target.removeprefix("hf:"), classes), seed)
    elif ":" in target:
        factory = named_function(target, "model")
        model = _seeded(lambda: _call(factory, target, input_shape, classes), seed)
    else:
        model = build_model(target, input_shape=input_shape, classes=classes, seed=seed, initialisation=initialisation)
    if restore is not None:
        restore_weights(model, restore)
    return model.train()


def require_fit(model: nn.Module, target: str, inputs: Tensor) -> Any:
    """The model's output, run once without gradients; `ValueError` in one line when it does not take such a batch.

    The module and the random states are left as they were.
    """
    try:
        with left_as_found(model, inputs), torch.no_grad():
            return model(inputs)
    except Exception as error:  # noqa: BLE001 - whatever the model's own code raises
        raise ValueError(f"{target} does not take a batch of shape {tuple(inputs.shape)}: {told(error)}") from None


@contextmanager
def _offline() -> Iterator[None]:
    """Inside the block nothing is asked of Hugging Face's hub, whatever a configuration names."""
    try:
        constants: Any = importlib.import_module("huggingface_hub.constants")
    except ImportError:
        yield
        return
    # The environment's variable was read when the hub's client was imported; this is what it asks from then on.
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    with seeded(seed, "weights"):
        return build()


def _call(factory: Callable[..., Any], target: str, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    offered = {"input_shape": input_shape, "classes": classes}
    try:
        known = inspect.signature(factory).parameters
        # By name, and only what the factory has: one may build a single network.
        model = factory(**{name: value for name, value in offered.items() if name in known})
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's own code raises
        raise ValueError(f"model {target!r} could not be made: {told(error)}") from None
    if not isinstance(model, nn.Module):
        raise ValueError(f"model {target!r} made a {type(model).__name__}, not a torch.nn.Module")
    return model


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):  # longer than any name, or with a zero byte: no folder is called that
        return False


def _transformers_model(name: str, classes: int) -> nn.Module:
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise ValueError(f"{'hf:' + name!r} needs transformers: pip install 'neuralmechanics[trainers]'") from None
    if _is_folder(name):
        try:
            read_regular(Path(name) / "config.json", _CONFIG_BYTES)
            config = transformers.AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # noqa: BLE001 - what a configuration of somebody else's makes of itself
            raise ValueError(f"no transformers config in {name!r}: {told(error)}") from None
    else:
        kind = getattr(transformers, name, None)
        if not (inspect.isclass(kind) and issubclass(kind, transformers.PretrainedConfig)):
            raise ValueError(
                f"{'hf:' + name!r} is neither a transformers config class (as hf:GPT2Config) nor a local config folder"
            )
        config = kind()
    if type(config) in transformers.AutoModelForCausalLM._model_mapping:
        # Keys and values of past tokens would be state from call to call.
        config.use_cache = False
        kind = transformers.AutoModelForCausalLM
    elif type(config) in transformers.AutoModelForImageClassification._model_mapping:
        config.num_labels = classes
        kind = transformers.AutoModelForImageClassification
    else:
        raise ValueError(
            f"{'hf:' + name!r} is no causal language model and no image classifier; use package.module:factory"
        )
    try:
        model: nn.Module = kind.from_config(config, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - what a configuration of somebody else's makes of itself
        raise ValueError(f"{'hf:' + name!r} could not be built: {told(error)}") from None
    return model
