"""Every test begins with the same random state, and the default run tries the same examples whatever ran before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

# No bound on time: a machine that is busy with other things is no fault of what is tested.
_ANY = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("the same examples", _ANY, derandomize=True)
settings.register_profile("other examples", _ANY)
# Numbers of whatever modules are loaded would enter the draws, which would differ from one order of tests to another.
providers._get_local_constants = lambda: providers.Constants()  # type: ignore[attr-defined]


def pytest_configure(config: pytest.Config) -> None:
    """New examples are tried where the slow tests run too; every other run tries the ones that were tried before."""
    settings.load_profile("the same examples" if config.option.markexpr == "not slow" else "other examples")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    torch.manual_seed(0)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """The collector of garbage looks through what the tests make, not each time through all that they are made of."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _this_folder_is_described_once() -> Iterator[None]:
    """Every monitored run asks git for the revision of its folder; that of the tests does not change meanwhile."""
    from neuralmechanics.monitor.following import provenance

    ask, here = provenance._git, Path(__file__).parent
    kept = cache(ask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "_git", lambda folder, *words: (kept if folder == here else ask)(folder, *words))
        yield
