"""Rotary embeddings: one complex factor a frequency pair, however the rotation is written."""

from __future__ import annotations

import pytest

from neuralmechanics import Symmetries, find_symmetries
from neuralmechanics.symmetry.families.actions import ComplexPairs

from ..zoo import FULL, SMALL


def pairs(symmetries: Symmetries) -> int:
    return sum(family.action.charges for family in symmetries if isinstance(family.action, ComplexPairs))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rotary-interleaved", 2),
        ("rotary-complex", 2),
        ("rotary-halves", 2),
        ("rotary-partial", 1),
        ("rotary-reflected", 2),
        ("rotary-tables-plain", 2),
        ("rotary-tables-signed", 2),
        ("rotary-tables-frozen", 2),
        ("rotary-tables-picked", 2),
        ("rotary-doubled", 2),
    ],
)
def test_one_complex_factor_a_pair(name: str, expected: int) -> None:
    """Width four: two frequencies, or one with the other two channels free (a whole linear block of width two)."""
    network = SMALL[name]()
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    assert pairs(symmetries) == expected
    assert symmetries.count()["rescale"] == 0
    assert symmetries.count()["linear"] == expected + (3 if name == "rotary-partial" else 0)


@pytest.mark.parametrize(
    ("name", "expected"), [("hf-gptj", 2 * 2), ("hf-gpt-neox", 2 * 2), ("hf-cohere", 2), ("hf-deepseek-v2", 2)]
)
def test_pairs_of_published_architectures(name: str, expected: int) -> None:
    """Heads times rotated pairs, of the key heads; DeepSeek's rotated key serves all query heads."""
    assert pairs(find_symmetries(*FULL[name]())) == expected


@pytest.mark.parametrize(("name", "needed"), [("rotary-tables-plain", True), ("rotary-halves", False)])
def test_pairs_that_tables_show_need_their_entries(name: str, needed: bool) -> None:
    network = SMALL[name]()
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    (family,) = [f for f in symmetries if isinstance(f.action, ComplexPairs)]
    tables = tuple(f"{name} keeps the values that it had" for name in ("cos", "sin")) if needed else ()
    assert family.requires == tables


def test_other_tables_are_no_rotation() -> None:
    network = SMALL["rotary-tables-plain"]()
    network.module.sin[1, :2] += 0.1  # of one channel of each pair
    symmetries = find_symmetries(network.module, network.batch(), network.loss_fn)
    assert pairs(symmetries) == 0
