"""A family that a constant breaks is broken as a whole; of an exact one each charge is judged by itself."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from neuralmechanics.monitor.following.watching.cancellation import Cancellation


def test_charges_of_a_broken_family_break_together() -> None:
    families = [SimpleNamespace(exact=exact) for exact in (True, False, False, True)]
    judge = SimpleNamespace(_symmetries=SimpleNamespace(charged=families, offsets=[0, 3, 5, 7, 8]))
    beyond = torch.tensor([True, False, False, False, True, False, False, False])
    found = Cancellation.whole_families(judge, beyond)  # type: ignore[arg-type]
    assert found.tolist() == [True, False, False, True, True, False, False, False]
    assert beyond.sum() == 2  # what was given stays
