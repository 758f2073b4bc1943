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

# Completeness at a point. `_LINEAR`: linear blocks and affine gauges that are not found yet. `_OTHER`: directions that
# exist at a point but belong to no one-parameter group that is linear in the parameters, or only on the sampled inputs.
_LINEAR = "linear blocks or affine gauges"
_OTHER = "outside the five kinds"

FIBRE: dict[str, str] = {
    "attention-no-bias": _LINEAR,
    "attention-all-biases": _LINEAR,
    "attention-key-bias": _LINEAR,
    "attention-fused-causal": _LINEAR,
    "attention-rotary": _LINEAR,
    "attention-rotary-key-bias": _LINEAR,
    "attention-grouped-queries": _LINEAR,
    "attention-qk-norm": _LINEAR,
    "attention-qk-norm-rotary": _LINEAR,
    "attention-pre-layer-norm": _LINEAR,
    "attention-post-layer-norm": _LINEAR,
    "multihead-attention-module": _LINEAR,
    "cross-attention": _LINEAR,
    "linear-attention": _LINEAR,
    "learned-attention-bias": _LINEAR,
    "encoder-layer-module": _LINEAR,
    "encoder-layer-norm-first": _LINEAR,
    "llama-block-on-vectors": _LINEAR,
    "vit": _OTHER,
    "mamba-scan": _OTHER,
    "vgg": _OTHER,
    "resnet-identity": _OTHER,
    "mobilenet": _OTHER,
    "squeeze-excite": _OTHER,
    "convnext": _LINEAR,
    "conv3d-stack": _OTHER,
    "split-branches": _OTHER,
    "bilinear-pooling": _OTHER,
    "maxout": _OTHER,
    "gated-identity": _LINEAR,
    "layer-norm-without-gain": _LINEAR,
    "layer-norm-into-linear": _LINEAR,
    "normalize-features": _OTHER,
    "weight-norm": _OTHER,
    "exponential-temperature": _OTHER,
    "residual-of-linear": _LINEAR,
    "quotient-of-branches": _LINEAR,
    "weights-made-from-data": _OTHER,
    "products-of-parameters": _LINEAR,
    "gpt2-tied": _LINEAR,
    "bert": _LINEAR,
    "llama": _LINEAR,
    "qwen3": _LINEAR,
    "dense-experts": _LINEAR,
    "routed-experts": _LINEAR,
    "masked-mean-pool": _LINEAR,
    "rotary-conjugate-keys": _LINEAR,
    "experts-grouped-biases": _LINEAR,
    "experts-batched-gate-biases": _LINEAR,
    "embedding-into-rms-norm": _OTHER,
    "embedding-into-layer-norm": _OTHER,
    "embedding-gated-into-norm": _OTHER,
    "embedding-tied-under-norm": _OTHER,
    "two-tables-of-one-index": _OTHER,
    "rows-read-past-the-norm": _OTHER,
    "first-token-of-tokens-apart": _OTHER,
}

# Finite transformations of whole architectures.
ARCHITECTURES: dict[str, str] = {}
