"""Random networks with attention, gates, norms, residuals and tying against the brute-force null space."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from ...network import Network
from ...random_networks import modern_networks
from .test_classical import COMMON, assert_agreement


@settings(max_examples=6, **COMMON)
@given(network=modern_networks())
def test_random_networks(network: Network) -> None:
    assert_agreement(network)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # about three minutes on an idle core
@settings(max_examples=300, **COMMON)
@given(network=modern_networks())
def test_many_random_networks(network: Network) -> None:
    assert_agreement(network)
