"""One process that forks jobs, for all files of this folder that a test process runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.durability.process import Forge


@pytest.fixture(scope="session")
def forge() -> Iterator[Forge]:
    made = Forge()
    yield made
    made.close()
