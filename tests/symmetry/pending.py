"""Networks that the engine does not pass yet, each with what is missing; entries leave as they pass (strict)."""

from __future__ import annotations

SOUNDNESS: dict[str, str] = {}  # must stay empty: a false symmetry is never tolerated
TRAPPED: dict[str, str] = {}  # likewise

# Parameters that are said to be free of symmetry and are not: a wrong answer, though no law is claimed.
FREE: dict[str, str] = {}  # likewise

_MONOMIALS = "products of data coincide (x_i x_j = x_j x_i)"

# Networks of which neither the translations and diagonal symmetries nor the fibre are complete.
_BOTH: dict[str, str] = {
    "bilinear-pooling": _MONOMIALS,
    "weights-made-from-data": _MONOMIALS,
    "masked-scores-with-number": "a mask with a number ends shifts, of masked entries and of others",
    "assigned-where-a-mask-holds": "entries that a mask picks keep no channels of their own",
    "tokens-repeated": "numbers of repetitions are not followed",
    "channels-of-a-step": "an index of truth values never names the third channel",
    "channels-listed": "a channel that is read twice: the next map has two columns for it",
}

# Translations and diagonal symmetries of the zoo.
DIMENSIONS: dict[str, str] = {**_BOTH}

# Completeness at a point: why the fibre of a network is larger than the orbit of all families. Gauges that depend on θ
# are directions of ker J(θ) which no vector field fixed in advance gives: writers in the null space of narrow readers.
_ROUTED = "the linear block of the stream is not followed through products that rows of data choose"

FIBRE: dict[str, str] = {
    "vit": "the head reads one token, whose query is a constant: the query map moves in its null space, dependent on θ",
    **_BOTH,
    "packed-biases-of-two-streams-chunks": "two runs of rows of one matrix that read one stream form no linear block",
    "masked-tokens-with-number": "a linear block is not followed through a mask of whole tokens",
    "selected-tokens": "a linear block is not followed through a choice between two tensors",
    "weight-norm": "of g·v/|v| neither column shifts nor rescalings of single inputs are linear in g and v",
    "exponential-temperature": "a shift of a logarithm against a scale: s + a with W exp(-a), a charge of mixed degree",
    "residual-of-linear": "x + Wx: the group acts on 1 + W, so affinely on W, with a charge of mixed degree",
    "experts-grouped-biases": _ROUTED,
    "experts-batched-gate-biases": _ROUTED,
    "norm-bias-beside-a-sum-twice": "what a norm's bias gains along the all-ones vector the next norm forgets",
    "triangular-factors": "triangular matrices mix channels: there is no action of their group",
    "slices-every-other-channel": "channels of slices that alternate are one space: both slices turn alike",
}

# Finite transformations of whole architectures.
ARCHITECTURES: dict[str, str] = {}
