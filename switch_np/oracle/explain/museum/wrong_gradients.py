"""Bugs that show in gradients alone: y and the losses are right."""

from switch_np.oracle.explain.museum.exhibit import Exhibit

_SLOPE = "slope = balance_coef * num_experts / count * share"
_D_GATES = "np.put_along_axis(d_probs, expert, d_gates, axis=1)"
_D_X = "d_x[token] = store(d_x[token] + store(d_before @ w_in[e].T))"
_D_X_ALL = 'd_x = store(d_x + store(d_logits @ params["w_router"].T))'
_D_W_IN = "d_w_in[e] = store(rows.T @ d_before)"
_D_W_OUT = "d_w_out[e] = store(hidden.T @ d_out)"
_Z = "d_logits[real] += z_coef * 2 / count * log_z[real, None] * probs[real]"
_END = "    d_probs = np.zeros_like(probs)"

ROUTER = (
    Exhibit("balance_gradient_discarded", "the balance loss's gradient never reaches the router",
            "NVIDIA-NeMo/Automodel#1408: the autograd node's value was dropped",
            ((_SLOPE, "slope = 0 * share"),)),
    Exhibit("balance_gradient_times_tokens", "the balance loss's gradient is multiplied by the "
            "number of tokens", "NVIDIA-NeMo/Automodel#1412",
            ((_SLOPE, "slope = balance_coef * num_experts * share"),)),
    Exhibit("balance_gradient_halved", "the balance loss's gradient is divided by the number of "
            "workers", "Megatron-LM#3769", ((_SLOPE, _SLOPE + " / 2"),)),
    Exhibit("balance_gradient_without_e", "the balance loss's gradient lacks the factor E",
            "laekov/fastmoe PR#50 fixes a gradient of that loss",
            ((_SLOPE, "slope = balance_coef / count * share"),)),
    Exhibit("gate_gradient_killed", "the gates' gradient is lost: replay gathers them from scores "
            "already masked", "ISEEKYAN/Megatron#79", ((_D_GATES, "pass"),)),
    Exhibit("top_k_gradient_by_rank", "the gates' gradient goes to positions 0 .. k-1, not to the "
            "experts chosen", "ml-explore/mlx#1428",
            ((_D_GATES, "d_probs[:, :d_gates.shape[1]] = d_gates"),)),
    Exhibit("second_gate_gradient_lost", "the gradient of every gate but the first is lost",
            "transformers#48205: scores' gradients held elsewhere are never added",
            ((_D_GATES, "np.put_along_axis(d_probs, expert[:, :1], d_gates[:, :1], axis=1)"),)),
    Exhibit("softmax_gradient_diagonal", "the softmax's gradient lacks its second term",
            "no thread known; a common slip by hand",
            (("d_logits = probs * (d_probs - inner)", "d_logits = probs * d_probs"),)),
    Exhibit("z_gradient_lost", "the z-loss's gradient never reaches the router",
            "Megatron-LM PR#5047, in the same injected form as the balance loss",
            ((_Z, "pass"),)),
    Exhibit("z_gradient_without_2", "the z-loss's gradient lacks the factor 2",
            "no thread known; a common slip by hand", ((_Z, _Z.replace("z_coef * 2", "z_coef")),)),
    Exhibit("gate_gradient_without_drops", "dropped choices send a gradient to their gates too",
            "transformers#37017: gate · x for dropped tokens brings one with it",
            ((_END, "    for token, choice in np.argwhere(~out['kept'] & real[:, None]):\n"
              "        d_gates[token, choice] = (d_y[token] * x[token]).sum()\n" + _END),)),
)

EXPERTS = (
    Exhibit("dx_forgotten", "d_x lacks what comes back through the experts",
            "the review of TransformerEngine#3116", ((_D_X, "pass"),)),
    Exhibit("dx_without_router", "d_x lacks what comes back through the router",
            "no thread known; every kernel that starts after the router", ((_D_X_ALL, "pass"),)),
    Exhibit("dx_overwritten", "d_x of a token's experts is stored, not added: the last one stays",
            "linkedin/Liger-Kernel#1413: dx off by 50 to 64 %, all else right",
            ((_D_X, "d_x[token] = store(d_before @ w_in[e].T)"),)),
    Exhibit("weight_gradient_without_gate", "the gradient of w_out lacks the gate",
            "the review of aiter#5310", ((_D_W_OUT, "d_w_out[e] = store(hidden.T @ d_row)"),)),
    Exhibit("relu_gradient_missing", "the backward goes through ReLU as if it were the identity",
            "the usual plant of gradient checkers",
            (("store(d_out @ w_out[e].T) * (before > 0)", "store(d_out @ w_out[e].T)"),)),
    Exhibit("w_in_gradient_transposed", "the gradient of w_in is laid out (F, D)",
            "transformers PR#47671: sizes and transposes swapped",
            ((_D_W_IN, "d_w_in[e] = store(d_before.T @ rows).reshape(d_w_in[e].shape)"),)),
    Exhibit("expert_gradients_doubled", "the experts' gradients are doubled",
            "DeepSpeed#5618, pytorch#160285",
            ((_END, "    d_w_in, d_w_out = 2 * d_w_in, 2 * d_w_out\n" + _END),)),
    Exhibit("expert_gradients_not_averaged", "the experts' gradients are summed over E workers",
            "megablocks PR#20",
            ((_END, "    d_w_in, d_w_out = num_experts * d_w_in, num_experts * d_w_out\n"
              + _END),)),
    Exhibit("half_the_experts", "every other expert gets no gradient", "unslothai/unsloth-zoo#606",
            ((_END, "    d_w_in[1::2] = d_w_out[1::2] = 0\n" + _END),)),
    Exhibit("expert_gradients_by_load", "each expert's gradient is divided by its number of tokens",
            "no thread known; a mean where a sum belongs",
            ((_END, "    load = np.maximum(kept_load(out['kept'], expert, num_experts), 1)\n"
              "    d_w_in = store(d_w_in / load[:, None, None])\n"
              "    d_w_out = store(d_w_out / load[:, None, None])\n" + _END),)),
    Exhibit("empty_expert_nan", "the gradient of an expert without tokens is NaN", "MSLK#158",
            ((_END, "    idle = kept_load(out['kept'], expert, num_experts) == 0\n"
              "    d_w_in[idle] = np.nan\n" + _END),)),
    Exhibit("empty_expert_stale", "the gradient of an expert without tokens is stale memory",
            "pytorch#193633, #174314",
            ((_END, "    idle = kept_load(out['kept'], expert, num_experts) == 0\n"
              "    d_w_out[idle] = 1e-3\n" + _END),)),
    Exhibit("capacity_rows_shifted", "an expert's rows are read one too late in the backward",
            "no thread known; a slot counted from 1",
            ((_D_W_IN, "d_w_in[e] = store(np.roll(rows, -1, axis=0).T @ d_before)"),)),
)
