"""Networks of which something false is claimed today, by cause; entries leave as they are mended (strict)."""

from __future__ import annotations

FAILING: set[str] = set()

# Captured by tracing after an export that fails and lets torch print the graph it had.
NOISY: set[str] = {
    "outside: a tensor from a number",
}

# Numbers of the generated networks of which something false is claimed, or that are refused without a reason.
FAILING_SEEDS: set[int] = set()

# Symmetries that the null space shows and no rule finds: nothing false, but short. Translations and diagonal
# symmetries that are found all the same.
SHORT: dict[str, tuple[int, int]] = {
    "square: input and map transposed": (0, 0),
    "square: diagonals": (0, 0),
    "write: index fill (branched)": (0, 0),
}

# Branches that a parameter decides: what is claimed says that it holds for the branch of the given parameters, and
# nothing is asked of it elsewhere.
CONDITIONAL: set[str] = {"indices: position from a parameter"}
