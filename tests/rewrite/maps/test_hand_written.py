"""Hand-written maps against the symmetries: what is forgotten, what is added, what is never applied."""

from __future__ import annotations

import pytest

from neuralmechanics.rewrite.maps import check_mappings

from .networks import decoder, symmetries_of_a_decoder, texts

WRITTEN = [
    {"smooth_layer": "re:.*input_layernorm$", "balance_layers": ["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$"]},
    {"smooth_layer": "re:.*v_proj$", "balance_layers": ["re:.*o_proj$"]},
    {"smooth_layer": "re:.*post_attention_layernorm$", "balance_layers": ["re:.*gate_proj$", "re:.*up_proj$"]},
    {"smooth_layer": "re:.*up_proj$", "balance_layers": ["re:.*down_proj$"]},
]


def test_the_usual_map_is_exact_for_the_usual_decoder() -> None:
    found = check_mappings(decoder(), texts(), WRITTEN, symmetries=symmetries_of_a_decoder())
    assert [f.verdict for f in found] == ["exact"] * 8


@pytest.mark.parametrize(
    ("mapping", "verdict", "reason"),
    [
        ([["re:.*q_proj$", "re:.*k_proj$"], "re:.*input_layernorm$"], "changes the model",
         "layers.0.self_attn.v_proj read the channels and are not named"),
        ([["re:.*q_proj$", "re:.*k_proj$", "re:.*v_proj$", "re:.*gate_proj$"], "re:.*input_layernorm$"],
         "changes the model", "layers.0.mlp.gate_proj do not read the channels"),
        ([["re:.*down_proj$"], "re:.*gate_proj$"], "changes the model", "no symmetry scales these layers"),
        ([["re:.*fc2$"], "re:.*fc1$"], "not applied", "no layer of the model is matched"),
        ([["re:.*fc2$"], "re:.*norm$"], "not applied", "nothing is left for 're:.*fc2$'"),
        ([["re:.*proj$"], "re:.*down_proj$"], "not applied", "is matched by 2 targets of one mapping"),
        ([["lm_head"], "re:.*norm$"], "not applied", "more than one smooth layer"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(mapping: list, verdict: str, reason: str) -> None:
    first = check_mappings(decoder(), texts(), [mapping], symmetries=symmetries_of_a_decoder())[0]
    assert first.verdict == verdict
    assert reason in first.reason


@pytest.mark.slow
def test_a_router_that_is_left_out_is_named() -> None:
    """The experts alone are named: the router and the shared expert read the same channels."""
    model = decoder(layers=2, experts=(0, 1))
    names = ["re:.*mlp.experts.*.gate_proj$", "re:.*mlp.experts.*.up_proj$"]
    (first, _) = check_mappings(model, texts(), [[names, "re:.*post_attention_layernorm$"]])
    assert first.verdict == "changes the model"
    assert first.reason.startswith("layers.0.mlp.gate, layers.0.mlp.shared.gate_proj, layers.0.mlp.shared.up_proj read")
