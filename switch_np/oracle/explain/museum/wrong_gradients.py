"""Bugs that show in gradients alone: y and the losses are right."""

from switch_np.oracle.explain.museum.exhibit import D_CHOSEN, D_Z, SLOPE, bug

_BACK = "d_rows, mine = network_back(d_out, rows, one_expert(params, e), hidden, config, store)"
_D_X = "d_x[token] = store(d_x[token] + d_rows)"
_END = "    d_chosen = config"
_LOAD = "    load = np.bincount(expert[out['kept']], minlength=num_experts)\n"
_EACH = "    for name in one_expert(params, 0):\n        "
_D_GATE = "d_gates[token, choice] = store((d_row * out).sum(axis=1))"
_D_GATES = "    return d_x, d_gates, grads"
_INTO = "    grads = {f\"w_{name}\""

ROUTER = (
    bug("balance_gradient_discarded", "the balance loss's gradient never reaches the router",
        "NVIDIA-NeMo/Automodel#1408: the autograd node's value was dropped",
        (SLOPE, "slope = 0 * share")),
    bug("balance_gradient_times_tokens", "the balance loss's gradient is multiplied by the number "
        "of tokens", "NVIDIA-NeMo/Automodel#1412",
        (SLOPE, "slope = balance_coef * num_experts * share")),
    bug("balance_gradient_halved", "the balance loss's gradient is divided by the number of "
        "workers", "Megatron-LM#3769", (SLOPE, f"{SLOPE} / 2")),
    bug("balance_gradient_without_e", "the balance loss's gradient lacks the factor E",
        "laekov/fastmoe PR#50 fixes a gradient of that loss",
        (SLOPE, "slope = balance_coef / count * share")),
    bug("gate_gradient_killed", "the gates' gradient is lost: replay gathers them from scores "
        "already masked", "ISEEKYAN/Megatron#79", (D_CHOSEN, "pass")),
    bug("top_k_gradient_by_rank", "the gates' gradient goes to positions 0 .. k-1, not to the "
        "experts chosen", "ml-explore/mlx#1428",
        (D_CHOSEN, "d_probs[:, :d_chosen.shape[1]] = d_chosen")),
    bug("second_gate_gradient_lost", "the gradient of every gate but the first is lost",
        "transformers#48205: scores' gradients held elsewhere are never added",
        (D_CHOSEN, "np.put_along_axis(d_probs, expert[:, :1], d_chosen[:, :1], axis=1)")),
    bug("gate_gradient_averaged", "the gates' gradient averages over D where it should sum",
        "no thread known; a mean in a fused reduction", (_D_GATE, _D_GATE.replace("sum", "mean"))),
    bug("gate_gradient_of_gated_output", "the gates' gradient is taken with outputs that are "
        "weighted already", "no thread known; a fused forward that saves only the weighted rows",
        (_D_GATE, _D_GATE.replace("d_row *", "d_row * gate *"))),
    bug("gate_gradient_in_expert_order", "the gates' gradient is left in the order of the "
        "experts' rows", "no thread known; a permutation that is not undone",
        (_D_GATES, "    mine = [d_gates[each[0], each[1]] for each in saved[:len(grads['w_in'])]]\n"
         "    d_gates *= 0\n    d_gates.ravel()[:sum(map(len, mine))] = np.concatenate(mine)\n"
         + _D_GATES)),
    bug("softmax_gradient_diagonal", "the softmax's gradient lacks its second term",
        "no thread known; a common slip by hand",
        ("d_logits = probs * (d_probs - inner)", "d_logits = probs * d_probs")),
    bug("z_gradient_lost", "the z-loss's gradient never reaches the router",
        "Megatron-LM PR#5047, in the same injected form as the balance loss", (D_Z, "pass")),
    bug("z_gradient_without_2", "the z-loss's gradient lacks the factor 2",
        "no thread known; a common slip by hand", (D_Z, D_Z.replace("z_coef * 2", "z_coef"))),
    bug("gate_gradient_without_drops", "dropped choices send a gradient to their gates too",
        "transformers#37017: gate · x for dropped tokens brings one with it",
        (_END, "    for token, choice in np.argwhere(~out['kept'] & real[:, None]):\n"
         f"        d_gates[token, choice] = (d_y[token] * x[token]).sum()\n{_END}")),
)

EXPERTS = (
    bug("dx_forgotten", "d_x lacks what comes back through the experts",
        "the review of TransformerEngine#3116", (_D_X, "pass")),
    bug("dx_without_router", "d_x lacks what comes back through the router",
        "no thread known; as in every kernel that starts after the router",
        ('d_x = store(d_x + store(d_logits @ params["w_router"].T))', "pass")),
    bug("dx_overwritten", "d_x of a token's experts is stored, not added: only the last remains",
        "linkedin/Liger-Kernel#1413: dx off by 50 to 64 %, all else right",
        (_D_X, "d_x[token] = d_rows")),
    bug("weight_gradient_without_gate", "the gradient of w_out lacks the gate",
        "the review of aiter#5310",
        (_D_X, f"{_D_X}\n        grads['w_out'][e] = store(hidden[-1].T @ d_row)")),
    bug("backward_without_gate", "d_y reaches the experts' backward without the gate",
        "no thread known; a forward that applies the gate only in its epilogue",
        ("d_out = store(gate * d_row)", "d_out = d_row")),
    bug("activation_gradient_missing", "the backward goes through the activation as if it were "
        "the identity", "the tests of gradient checkers",
        ("d_before = store(d_hidden * slope)", "d_before = d_hidden")),
    bug("w_in_gradient_transposed", "the gradient of w_in is laid out (F, D)",
        "transformers PR#47671: sizes and transposes swapped",
        (_END, "    grads['w_in'] = grads['w_in'].swapaxes(1, 2).reshape(params['w_in'].shape)\n"
         + _END)),
    bug("expert_gradients_doubled", "the experts' gradients are doubled",
        "DeepSpeed#5618, pytorch#160285", (_END, f"{_EACH}grads[name] *= 2\n{_END}")),
    bug("expert_gradients_not_averaged", "the experts' gradients are summed over E workers",
        "megablocks PR#20", (_END, f"{_EACH}grads[name] *= num_experts\n{_END}")),
    bug("half_the_experts", "every other expert gets no gradient", "unslothai/unsloth-zoo#606",
        (_END, f"{_EACH}grads[name][1::2] = 0\n{_END}")),
    bug("expert_gradients_by_load", "each expert's gradient is divided by its number of tokens",
        "no thread known; a mean where a sum belongs",
        (_END, f"{_LOAD}{_EACH}shape = (-1, *[1] * (grads[name].ndim - 1))\n        grads[name] = "
         f"store(grads[name] / np.maximum(load, 1).reshape(shape))\n{_END}")),
    bug("empty_expert_nan", "the gradient of an expert without tokens is NaN", "MSLK#158",
        (_END, f"{_LOAD}    grads['w_in'][load == 0] = np.nan\n{_END}")),
    bug("empty_expert_stale", "the gradient of an expert without tokens is stale memory",
        "pytorch#193633, #174314", (_END, f"{_LOAD}    grads['w_out'][load == 0] = 1e-3\n{_END}")),
    bug("capacity_rows_shifted", "an expert's rows are read one row too late in the backward",
        "no thread known; a slot counted from 1",
        (_BACK, _BACK.replace("rows, one", "np.roll(rows, -1, axis=0), one"))),
    bug("offset_rounded_to_tile", "the weights' gradients read their rows from an offset that is "
        "rounded down to the tile", "marin-community/marin#8339",
        (_BACK, "every = np.concatenate([each[2] for each in saved[:len(params['w_in'])]])\n"
         "        start = sum(len(each[2]) for each in saved[:e]) // 8 * 8\n        "
         + _BACK.replace("rows, one", "every[start:start + len(rows)], one"))),
    bug("first_half_of_tokens", "the weights' gradients come from the first half of the tokens",
        "AMD-AGI/Primus#1046: accumulated for the first micro-batch only",
        (_BACK, f"{_BACK}\n        half = (token < len(d_y) // 2)[:, None]\n        mine = network_"
         "back(d_out * half, rows, one_expert(params, e), hidden, config, store)[1]")),
    bug("hidden_gradients_in_row_0", "the gradient of every row's hidden units is stored in row 0",
        "ByteDance-Seed/Triton-distributed#180",
        (_INTO, "    for name in set(into) - {'out'}:\n        d_z = np.zeros_like(into[name][1])\n"
         f"        d_z[:1] = into[name][1][-1:]\n        into[name] = (rows, d_z)\n{_INTO}")),
    bug("dx_of_own_experts", "d_x of a token lacks the experts of the other rank",
        "NVIDIA-NeMo/Automodel PR#1260: the all-gather's backward is a slice",
        (_D_X, "own = token * 2 // len(d_y) == e * 2 // len(params['w_in'])\n"
         "        d_x[token] = store(d_x[token] + d_rows * own[:, None])")),
)
