"""The table of families: it fits a terminal, and its short names stand for every parameter."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neuralmechanics import find_symmetries
from neuralmechanics.symmetry.families.name_summaries import summarised

from ..finding.test_large import found


def written_out(text: str) -> list[str]:
    """Every name that a summary stands for."""
    pieces: list[list[str]] = []
    for part in text.replace("{", "\0{").replace("}", "}\0").split("\0"):
        if not part.startswith("{"):
            pieces.append([part])
            continue
        options: list[str] = []
        for option in part[1:-1].split(", "):
            first, _, last = option.partition("…")
            options += [str(n) for n in range(int(first), int(last) + 1)] if last else [option]
        pieces.append(options)
    return ["".join(choice) for choice in product(*pieces)]


NAMES = st.lists(
    st.tuples(st.sampled_from(["h", "blocks"]), st.integers(0, 5), st.sampled_from(["a.w", "a.b", "e.0.w", "e.1.w"])),
    max_size=25,
)


@settings(deadline=None, max_examples=60)
@given(NAMES)
def test_a_summary_stands_for_the_same_names(parts: list[tuple[str, int, str]]) -> None:
    names = [f"{stack}.{layer}.{rest}" for stack, layer, rest in parts]
    assert sorted(name for text in summarised(names) for name in written_out(text)) == sorted(set(names))


def test_the_table_of_gpt2_fits_120_columns_and_one_row_holds_alike_layers() -> None:
    from transformers import GPT2Config

    symmetries = found(GPT2Config(n_layer=12, n_embd=48, n_head=3, vocab_size=60), "GPT2LMHeadModel")
    lines = str(symmetries).splitlines()
    assert max(map(len, lines)) <= 120
    assert len(lines) < 60 < len(symmetries)
    assert any("transformer.h.{0…11}" in line for line in lines)
    assert any("12 × 48" in line for line in lines)


def test_families_of_one_name_are_told_apart_by_what_they_hold() -> None:
    class Placed(nn.Module):
        """Words and places added: the first channel's shift is free to differ (a norm swallows the mean)."""

        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(5, 3), nn.Embedding(4, 3)
            self.norm, self.head = nn.LayerNorm(3), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.words(x) + self.places(torch.arange(4))))

    names = [family.name for family in find_symmetries(Placed(), torch.zeros(2, 4, dtype=torch.long))]
    assert len(set(names)) == len(names)
    assert not any("#" in name for name in names)
    assert any(" of " in name for name in names)
