"""Which rules, forms and options have no call, or are not executed, and why."""

from __future__ import annotations

__all__ = [
    "ENDING",
    "NOT_CALLED",
    "NOT_DERIVED",
    "PARTIAL",
    "RANDOM",
    "SAME_FUNCTION",
    "WITHOUT_SHAPE",
    "without_call",
]

# Rules without a call.
NOT_CALLED = {
    "aten._assert_tensor_metadata": "a statement without a result",
    "aten._assert_scalar": "a statement without a result",
    "aten._assert_async": "a statement without a result",
    "aten.sym_constrain_range": "a statement without a result",
    "aten.sym_constrain_range_for_size": "a statement without a result",
    "aten.empty": "its numbers are whatever stood in memory",
    "aten.empty_like": "its numbers are whatever stood in memory",
    "aten.new_empty": "its numbers are whatever stood in memory",
    "aten.new_empty_strided": "its numbers are whatever stood in memory",
    "aten.empty_strided": "its numbers are whatever stood in memory",
    "aten.cudnn_batch_norm": "runs on one kind of device alone",
}

# Settings that do not change which function an operation computes, or only how it is rounded and stored.
SAME_FUNCTION = frozenset(
    [
        "dtype",
        "out_dtype",
        "non_blocking",
        "half_to_float",
        "layout",
        "device",
        "pin_memory",
        "memory_format",
        "generator",
    ]
)

_FORMS = {
    ("aten.index", "list_Tensor"): "a list of Python's",
    ("aten.view", "dtype"): "the bits of numbers as another type",
    ("aten.einsum", "sublist"): "written in letters before it is captured",
    ("aten.mm", "dtype"): "in reduced precision on one kind of device",
    ("aten.bmm", "dtype"): "in reduced precision on one kind of device",
    ("aten.addmm", "dtype"): "in reduced precision on one kind of device",
    ("aten.baddbmm", "dtype"): "in reduced precision on one kind of device",
    ("aten.rand_like", "generator"): "where random numbers come from",
    ("aten.randn_like", "generator"): "where random numbers come from",
}


def without_call(rule: str, overload: str, returned: tuple[str, ...], taken: tuple[str, ...]) -> bool:
    """Whether a form of an operation needs none: it has no tensor for a result, or names dimensions, or is listed."""
    tensors = any(kind.startswith(("Tensor", "List[Tensor]", "SymInt", "int", "number")) for kind in returned)
    scripted = any(
        kind in ("str", "List[t]", "Dict(str, t)") or kind.startswith(("Dict", "List[t")) for kind in taken[:2]
    )
    of_tensors = taken[:1] in (("Tensor",), ("List[Tensor]",)) or rule.startswith("aten.where") or "Tensor" in taken
    named = any("str" in kind for kind in taken if "List" in kind)
    return not tensors or scripted or not of_tensors or named or (rule, overload) in _FORMS


# Calls that draw random numbers in an order that the program does not keep.
RANDOM = frozenset(["aten.rnn_relu"])

# Numbers of Python and of sizes.
WITHOUT_SHAPE = frozenset(
    [
        "ge",
        "gt",
        "le",
        "lt",
        "eq",
        "ne",
        "add",
        "sub",
        "mul",
        "floordiv",
        "truediv",
        "mod",
        "pow",
        "neg",
        "and_",
        "or_",
        "not_",
        "sym_max",
        "sym_min",
        "sym_not",
        "sym_ite",
        "sym_float",
        "sym_int",
        "sym_sum",
    ]
)

# Rules that only end everything: what they give is read off a run, and nothing that enters may change.
_NOT_FOLLOWED = """detach logaddexp logaddexp2 xlogy special_xlogy special_xlog1py floor_divide nextafter sin cos expm1
round floor ceil trunc fix nan_to_num erfinv log1p logit special_logit glu_jvp histc bincount
logcumsumexp cumprod _unique2 unique_dim
unique_consecutive masked_scatter linalg_matrix_exp matrix_exp"""
_FRESH = """fill zeros_like ones_like full_like rand_like randn_like new_zeros new_ones new_full cauchy exponential
log_normal uniform random geometric normal bernoulli"""
_COUNTED = """all any argsort argwhere bucketize count_nonzero isfinite isinf isnan logical_and logical_not logical_or
logical_xor nonzero nonzero_numpy nonzero_static searchsorted"""
ENDING = frozenset(f"aten.{name}" for name in f"{_NOT_FOLLOWED} {_FRESH} {_COUNTED}".split()) | frozenset(
    f"prims.{name}"
    for name in [
        "ceil",
        "cos",
        "eq",
        "expm1",
        "floor",
        "ge",
        "gt",
        "isfinite",
        "le",
        "log1p",
        "lt",
        "ne",
        "pow",
        "round",
        "sin",
        "trunc",
    ]
)

NOT_DERIVED: dict[str, str] = {
    "aten.native_channel_shuffle": "torch has no derivative of it",
    "aten.copy": "torch has no derivative of it",
    "aten.logdet": "of a negative determinant it is no number",
    "aten.floor_divide": "torch has no derivative of it",
    "aten.glu_jvp": "torch has no derivative of it",
    "aten.heaviside": "torch has no derivative of it",
    "aten.remainder": "torch has no derivative of one form of it",
    "aten._grouped_mm": "in half the precision",
    "aten.silu_backward": "torch has no derivative of it",
    "aten.mish_backward": "torch has no derivative of it",
    "aten.hardsigmoid_backward": "torch has no derivative of it",
    "aten.logit_backward": "torch has no derivative of it",
    "aten._unique2": "torch has no derivative of it",
    "aten.unique_dim": "torch has no derivative of it",
    "aten.unique_consecutive": "torch has no derivative of it",
    "aten._embedding_bag_forward_only": "torch has no derivative of it",
    "aten._pack_padded_sequence": "lengths that are drawn at random give no numbers",
    "aten.native_batch_norm_backward": "its saved statistics are those of its input only behind a forward pass",
}
# Calls, by the operation and a part of their arguments, that the null spaces cannot judge.
_NOT_HELD = {
    ("native_dropout", ", None)"): "torch's derivative leaves out the division by what is kept",
    ("embedding.", ", True, False)"): "gradients divided by counts are no gradients",
    ("embedding_dense_backward", ", True)"): "torch's derivative leaves the counts out",
    ("nll_loss_backward", "(P[], "): "torch's derivative counts the weights anew",
    ("where", "-inf"): "a gradient at minus infinity",
    ("cosine_embedding_loss", "0.3"): "its eps of 1e-12 shows where two vectors are parallel",
}


def not_held(call: str) -> bool:
    return any(call.startswith(operation) and part in call for operation, part in _NOT_HELD)


# Rules around which not all symmetries of bare parameters are looked for: what is read at places that the shapes alone
# decide (windows, strides, masks), single entries, sizes of one, and what rules give up.
_NOT_ALL = """_adaptive_avg_pool2d _adaptive_avg_pool2d_backward
_adaptive_avg_pool3d _batch_norm_with_update _batch_norm_with_update_functional
_conj _conj_physical _embedding_bag _fused_rms_norm _index_put_impl _native_batch_norm_legit
_native_batch_norm_legit_functional _pack_padded_sequence _pad_packed_sequence _prelu_kernel
_prelu_kernel_backward _unsafe_index_put _upsample_nearest_exact2d _weight_norm
_weight_norm_interface adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d addbmm addmm addmv adjoint aminmax
avg_pool1d avg_pool2d avg_pool3d baddbmm bilinear binary_cross_entropy
binary_cross_entropy_with_logits clamp clamp_max clamp_min clip col2im conj conv1d convolution
copysign cosine_embedding_loss cosine_similarity cross_entropy_loss ctc_loss cumprod cumsum dot
einsum elu_backward embedding_bag fft_fft fft_fft2 fft_fftn fft_hfft fft_ifft fft_ifft2 fft_ifftn
fft_ihfft fft_irfft fft_irfft2 fft_irfftn fft_rfft fft_rfft2 fft_rfftn fill fix fmax fmod frac
fractional_max_pool2d frobenius_norm gather group_norm gru_cell hardshrink hardshrink_backward
hardsigmoid hardtanh hardtanh_backward im2col imag index index_add index_copy index_put
linalg_matmul linalg_vector_norm linear logaddexp logaddexp2 logcumsumexp lstm_cell mH
margin_ranking_loss masked_fill masked_scatter masked_select matmul matrix_H max_pool1d
max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices
maximum mean median multi_margin_loss multilabel_margin_loss mv nan_to_num nanmedian
native_batch_norm native_batch_norm_backward native_dropout_backward native_group_norm
native_layer_norm new_zeros nextafter nll_loss nll_loss2d nll_loss_backward nll_loss_forward
nll_loss_nd norm norm_except_dim pairwise_distance prelu prod real relu relu6 remainder
repeat_interleave rms_norm rnn_relu_cell scatter scatter_add softshrink softshrink_backward
special_xlog1py special_xlogy std std_mean sum sym_storage_offset threshold threshold_backward tril
triplet_margin_loss triu trunc upsample_bicubic2d upsample_bilinear2d upsample_linear1d
upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d var var_mean vdot
view_as_complex view_as_real where xlogy zeros_like inner linalg_multi_dot chain_matmul
linalg_vecdot matrix_exp linalg_matrix_exp diag diag_embed quantile nanquantile
complex polar _upsample_nearest_exact1d _upsample_nearest_exact3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
_upsample_lanczos2d_aa scatter_reduce index_reduce det linalg_det slogdet linalg_slogdet logdet linalg_solve
linalg_solve_triangular linalg_matrix_norm linalg_norm cov corrcoef"""
PARTIAL = frozenset(f"aten.{name}" for name in _NOT_ALL.split())
