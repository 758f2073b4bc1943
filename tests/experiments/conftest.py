"""Shared by the experiments' tests: a cache of their own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache of decoded data; within a session they share one."""
    monkeypatch.setenv("NEURALMECHANICS_CACHE", str(tmp_path_factory.getbasetemp() / "data-cache"))
