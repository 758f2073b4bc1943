"""Networks that the engine does not pass yet, each with what is missing; entries leave as they pass (strict)."""

from __future__ import annotations

SOUNDNESS: dict[str, str] = {}  # must stay empty: a false symmetry is never tolerated
TRAPPED: dict[str, str] = {}  # likewise

_MONOMIALS = "products of data coincide (x_i x_j = x_j x_i)"

# Translations and diagonal symmetries of the zoo.
DIMENSIONS: dict[str, str] = {
    "bilinear-pooling": _MONOMIALS,
    "weights-made-from-data": _MONOMIALS,
}

# Completeness at a point: why the fibre of a network is larger than the orbit of all families. Gauges that depend on θ
# are directions of ker J(θ) which no vector field fixed in advance gives: writers in the null space of narrow readers.
_ROUTED = "the linear block of the stream is not followed through products that rows of data choose"

FIBRE: dict[str, str] = {
    "attention-rotary-key-bias": "a shift passes value and output maps before a bias answers it: two maps in a row",
    "cross-attention": "a packed projection of which pieces read different tensors: no linear block for a piece",
    "vit": "the head reads one token, whose query is a constant: the query map moves in its null space, dependent on θ",
    "convnext": "a bias answered through the layer scale by a later one: a chain of a gain and a map",
    "bilinear-pooling": _MONOMIALS,
    "weights-made-from-data": _MONOMIALS,
    "weight-norm": "of g·v/|v| neither column shifts nor rescalings of single inputs are linear in g and v",
    "exponential-temperature": "a shift of a logarithm against a scale: s + a with W exp(-a), a charge of mixed degree",
    "residual-of-linear": "x + Wx: the group acts on 1 + W, so affinely on W, with a charge of mixed degree",
    "experts-grouped-biases": _ROUTED,
    "experts-batched-gate-biases": _ROUTED,
    "rotary-conjugate-keys": "keys turn as the conjugates of queries: rotations that are no common complex factor",
}

# Finite transformations of whole architectures.
ARCHITECTURES: dict[str, str] = {}
