"""Bugs that show in what the layer gives: who is routed where, y, and the losses' values."""

from switch_np.oracle.explain.museum.exhibit import D_CHOSEN, D_Z, SLOPE, bug

_CHOSEN = "chosen = np.take_along_axis(probs, expert, axis=1)"
_GATES = "gates = store(config.conventions.gate_scale * chosen / weight)"
_ROWS = "rows = x[token]"
_EXPERT = "out, hidden = network(rows, one_expert(params, e), config, store)"
_SHARED = "out, hidden = network(x, shared_expert(params, config), config, store)"
_ACTIVE = "active, up, _, _ = factors(linear, before, weights, config, store)"
_USED = "if real[token] and used[e] < capacity:"
_ORDER = "order = [(token, choice) for choice in range(top_k) for token in range(tokens)]"
_KEPT = "kept = slot >= 0"
_SHARE = "np.bincount(expert[real, :counted].ravel(), minlength=num_experts) / count"
_Y = "y[token] = store(y[token] + store(gate * out))"
_LOSS = "balance_loss = num_experts * (share * mean_probs).sum()"
_MEAN = "mean_probs = probs[real].sum(axis=0) / count"
_Z = "z_loss = (log_z[real] ** 2).sum() / count"
_COUNTS = "    counts = config"
_AGAIN = "again = np.exp(probs) / np.exp(probs).sum(axis=1, keepdims=True)"
_MASK = "mask = np.zeros_like(probs)\n    np.put_along_axis(mask, expert, 1, axis=1)"
_ALL_MEAN = ((_MEAN, "mean_probs = probs.sum(axis=0) / tokens"),
             ("d_probs[real] += slope", "d_probs += slope * count / len(x)"))

ROUTING = (
    bug("capacity_not_enforced", "the capacity is computed but not enforced", "transformers#48293",
        (_USED, "if real[token]:")),
    bug("capacity_minus_one", "an expert takes one token less than its capacity",
        "the Keras example, after the paper's printed pseudo-code",
        (_USED, "if real[token] and used[e] < capacity - 1:")),
    bug("capacity_not_divided", "the capacity is not divided by the number of experts",
        "laekov/fastmoe#199",
        ("if capacity is None else capacity", "if capacity is None else capacity * num_experts")),
    bug("drops_the_earliest", "an expert over capacity keeps its last tokens, not its first",
        "DeepSpeed#1658: top-k of a 0/1 mask has no order",
        (_ORDER, _ORDER.replace("in range(tokens)", "in reversed(range(tokens))"))),
    bug("drops_by_gate", "an expert over capacity keeps its largest gates, not its first tokens",
        "Megatron-LM#812, #815: the two drop policies mixed up",
        (_ORDER, f"{_ORDER}\n    order.sort(key=lambda at: -probs[at[0], expert[at]])")),
    bug("drops_by_raw_logit", "tokens compete for slots by raw logits against zeros, so those with "
        "negative logits lose", "DeepSpeed PR#7986",
        (_USED, "if real[token] and used[e] < capacity and logits[token, e] > 0:")),
    bug("token_major_priority", "slots are given token by token: second choices before later "
        "tokens' first ones", "megablocks, DeepSpeed's position policy: intended there",
        (_ORDER, f"{_ORDER}\n    order.sort()")),
    bug("second_choices_from_slot_0", "second choices are numbered from slot 0 again",
        "lucidrains/st-moe-pytorch#13",
        ("in order:\n", "in order:\n        used *= (token, choice) != (0, 1)\n")),
    bug("padding_takes_slots", "padding takes slots, so real tokens are dropped",
        "Megatron-LM#1984, #5542; flaxformer's scatter router",
        (_ORDER, f"{_ORDER}\n    order.sort(key=lambda at: (at[1], real[at[0]]))"),
        (_USED, "if used[e] < capacity:"), (_KEPT, "kept = (slot >= 0) & real[:, None]")),
    bug("router_in_bfloat16", "the router's softmax is rounded to bfloat16 before the choice",
        "AstrAI#57", ("sigmoid else softmax)", "sigmoid else round_to(softmax, 'bfloat16'))")),
)

OUTPUT = (
    bug("experts_by_mask_value", "the router's 0/1 mask is read as expert ids: only experts 1 and "
        "0 run, and each token gets g1 · E1 + g2 · E0", "transformers 5.23 and 5.24, NLLB-MoE",
        ("through_experts(x, params, config, expert, kept", "through_experts(x, params, config, "
         "np.minimum(np.arange(top_k)[::-1], 1) + 0 * expert, kept")),
    bug("gates_not_applied", "the experts' outputs are added without their gates",
        "the review of aiter#5310, there in a weight gradient", (_GATES, f"{_GATES} * 0 + 1"),
        ("d_gates[token, choice] = store((d_row * out).sum(axis=1))", "pass")),
    bug("gate_on_input_too", "the gate is applied to the experts' input as well as the output",
        "the Keras example: dispatch with the weights, not with their mask",
        (_ROWS, f"{_ROWS} * gates[token, choice][:, None]"),
        ("store(d_x[token] + d_rows)", "store(d_x[token] + gate * d_rows)")),
    bug("gates_renormalised", "the gates are divided by their sum over the chosen experts",
        "pytorch/torchtitan#1448, the other way round; Mixtral always does",
        (_GATES, f"{_GATES}\n    gates = gates / gates.sum(axis=1, keepdims=True)")),
    bug("gates_normalised_over_tokens", "the gates are normalised over the tokens",
        "megablocks PR#87",
        (_GATES, f"{_GATES}\n    gates = gates / gates.sum(axis=0, keepdims=True)")),
    bug("softmax_after_top_k", "the softmax is taken over the chosen logits only; with one choice "
        "the router gets no gradient", "Megatron-LM#894, davidmrau/mixture-of-experts#27",
        (_GATES, "gates = np.exp(np.take_along_axis(logits, expert, axis=1) - log_z[:, None])\n"
         "    gates = gates / gates.sum(axis=1, keepdims=True)"),
        (D_CHOSEN, D_CHOSEN.replace("d_chosen", "0 * d_chosen")),
        (D_Z, f"{D_Z}\n    np.put_along_axis(d_logits, expert, np.take_along_axis(d_logits, expert,"
         " axis=1) + gates * (d_gates - (d_gates * gates).sum(axis=1, keepdims=True)), axis=1)")),
    bug("dropped_gated_identity", "dropped tokens come out as gate · x", "transformers#37017",
        (_COUNTS, "    gone = real & ~kept.any(axis=1)\n    y[gone] = gates[gone, :1] * x[gone]\n"
         + _COUNTS)),
    bug("dropped_identity", "dropped tokens come out as x: the residual connection is inside",
        "labml, Switch",
        (_COUNTS, f"    gone = real & ~kept.any(axis=1)\n    y[gone] = x[gone]\n{_COUNTS}")),
    bug("rows_zeroed", "every fifth row of y is zero", "aiter#5032: 18 % zero rows passed",
        (_COUNTS, f"    y[::5] = 0\n{_COUNTS}")),
    bug("hidden_in_bfloat16", "the experts' outputs are rounded to bfloat16 before they are added",
        "mlxcel#1045", (_Y, "y[token] = y[token] + round_to(gate * out, 'bfloat16')")),
    bug("gates_from_biased_scores", "the gates are gathered from scores + selection bias",
        "transformers#41647, vllm#12002", (_CHOSEN, _CHOSEN.replace("probs", "ranked"))),
    bug("gates_not_renormalised", "the gates are not divided by the sum of those chosen",
        "torchtitan#2258",
        ('divided = config.conventions.renorm == "pre" and top_k > 1', "divided = False"),
        ('if config.conventions.renorm == "pre" and config.top_k > 1:', "if False:")),
    bug("gate_scale_missing", "the gates are not multiplied by gate_scale",
        "sglang#8333, #31449",
        (_GATES, "gates = store(chosen / weight)"),
        ("d_chosen = config.conventions.gate_scale * d_gates", "d_chosen = d_gates")),
    bug("first_gate_for_all", "every choice of a token gets the gate of its first",
        "no thread known; a weight read per token, not per choice",
        (_GATES, f"{_GATES}\n    gates = 0 * gates + gates[:, :1]")),
    bug("last_choice_lost", "each token's last choice is never computed", "sglang#36515",
        (_KEPT, "kept = (slot >= 0) & (np.arange(top_k) < max(top_k - 1, 1))")),
    bug("shared_expert_missing", "the shared expert is not added",
        "no thread known; a fused kernel that returns only the routed experts",
        ("y = store(y + real[:, None] * gate * out)", "pass")),
    bug("shared_expert_reads_y", "the shared expert reads the routed experts' output, not x",
        "vllm#28939: they write in place", (_SHARED, _SHARED.replace("(x, ", "(y, "))),
    bug("output_bias_without_gate", "the experts' output bias is added without the gate",
        "NVIDIA-NeMo/Automodel#2591",
        (_Y, "y[token] = store(y[token] + store(gate * out + (1 - gate) * params.get('b_out', "
         "0 * params['w_out'][:, 0])[e]))")),
    bug("first_experts_weights", "every expert computes with the first one's weights",
        "no thread known; an expert's offset left out", (_EXPERT, _EXPERT.replace(", e)", ", 0)"))),
    bug("w_in_untransposed", "w_in is read as if it were stored as (F, D)", "unsloth-zoo#849",
        ('linear = store(rows @ weights["w_in"]',
         'linear = store(rows @ weights["w_in"].T.reshape(weights["w_in"].shape)')),
    bug("gate_and_up_swapped", "w_gate and w_in are swapped", "no thread known; the halves of a "
        "fused weight in the other order",
        (_ACTIVE, f"linear, before = before, linear\n    {_ACTIVE}")),
    bug("gate_and_up_interleaved", "the fused w_gate and w_in are stored as halves and read as "
        "interleaved", "gpt-oss stores them interleaved, most others as halves",
        (_ACTIVE, "if 'w_gate' in weights:\n        both = np.concatenate([before, linear], axis=1)"
         f"\n        before, linear = both[:, ::2], both[:, 1::2]\n    {_ACTIVE}")),
    bug("rows_behind_dropped_choices", "the experts' rows are shifted by the dropped choices, "
        "which are sorted to the front", "TransformerEngine#2908",
        (_ROWS, "rows = x[np.argsort(np.where(kept, expert, -1), axis=None, kind='stable')["
         "sum(len(s[0]) for s in saved):][:len(token)] // expert.shape[1]]")),
    bug("rows_at_wrong_stride", "row r of an expert's input starts at element r, not r · D",
        "ml-explore/mlx#4253",
        (_Y, "strided = rows.ravel()[np.arange(len(rows))[:, None] + np.arange(x.shape[1])]\n"
         "        y[token] = store(y[token] + store(gate * network(strided, one_expert(params, e),"
         " config, store)[0]))")),
)

LOSSES = (
    bug("balance_loss_reported_twice", "the balance loss is reported twice; its gradient is right",
        "Megatron-LM#1330, #1478: once more under activation checkpointing",
        (_LOSS, _LOSS.replace("= ", "= 2 * "))),
    bug("balance_loss_zero", "the balance loss is zero where every layer is sparse",
        "transformers#29503", (_LOSS, "balance_loss = 0.0"), (SLOPE, "slope = 0 * share")),
    bug("balance_loss_constant", "the balance loss is 1 whatever the router does",
        "Megatron-LM#1617, hyper-parallel#752", (_LOSS, "balance_loss = 1.0"),
        (SLOPE, "slope = 0 * share")),
    bug("balance_counts_all_choices",
        "f counts all k choices and is not divided by k (balance_counts='all')",
        "transformers#28255", (_SHARE, _SHARE.replace(":counted", ":"))),
    bug("balance_averages_all_choices", "f averages over all k choices, not over the first",
        "DeepSpeed#2551", (_SHARE, _SHARE.replace(":counted", ":") + " / top_k")),
    bug("balance_divided_by_k", "the balance loss is divided by k", "allenai/OLMoE#45",
        (_SHARE, f"{_SHARE} / top_k")),
    bug("balance_sum_not_mean", "the balance loss sums over experts where it should average: the "
        "factor E is missing", "DeepSpeed#2559, the review of the Switch paper",
        (_LOSS, _LOSS.replace("num_experts * ", "")),
        (SLOPE, SLOPE.replace("num_experts / ", "1 / "))),
    bug("balance_counts_after_drop", "f counts what is left after drops", "st-moe-pytorch",
        (_SHARE, _SHARE.replace("[real, :counted].ravel()", "[:, :counted][kept[:, :counted]]"))),
    bug("dropped_counted_as_expert_0", "f counts dropped tokens as tokens of expert 0",
        "transformers 4, Switch", (_SHARE, _SHARE.replace("expert[", "(expert * kept)["))),
    bug("balance_counts_padding", "the balance loss counts padding",
        "transformers#28505, Megatron-LM#1984",
        (_SHARE, _SHARE.replace("real, ", ":, ").replace("/ count", "/ tokens")), *_ALL_MEAN),
    bug("padding_masked_in_f_only", "padding is left out of f and counted in P",
        "fairseq, DeepSpeed's used_token", *_ALL_MEAN),
    bug("balance_times_real_fraction", "the balance loss is multiplied by the fraction of real "
        "tokens", "tensorflow/mesh: a mask that broadcasts to a new dimension",
        (_LOSS, f"{_LOSS} * (count / tokens)"), (SLOPE, f"{SLOPE} * (count / len(x))")),
    bug("balance_double_softmax", "the balance loss takes the softmax twice", "transformers#45120",
        (_MEAN, f"{_AGAIN}\n    mean_probs = again[real].sum(axis=0) / count"),
        (SLOPE, f"{_AGAIN}\n    {SLOPE}\n    "
         "slope = (again * (slope - (again * slope).sum(axis=1, keepdims=True)))[real]")),
    bug("balance_of_chosen_probs", "P averages the probabilities of the chosen experts only",
        "nanoMoE", (_MEAN, f"{_MASK}\n    mean_probs = (probs * mask)[real].sum(axis=0) / count"),
        (SLOPE, f"{_MASK}\n    {SLOPE} * mask[real]")),
    bug("balance_of_unnormalised_scores", "P averages scores that are not normalised",
        "TransformerEngine PR#2720", (_MEAN, _MEAN.replace("probs[real]", "np.exp(logits)[real]"))),
    bug("z_loss_of_probabilities", "the z-loss is taken of the largest probability, not of the "
        "logits", "transformers#48293",
        (_Z, "z_loss = (probs.max(axis=1)[real] ** 2).sum() / count")),
    bug("z_loss_counts_padding", "the z-loss counts padding, whose logits are 0: (ln E)² each",
        "flaxformer",
        (_Z, "z_loss = (np.where(real, log_z, np.log(num_experts)) ** 2).sum() / tokens"),
        (D_Z, D_Z.replace("/ count", "/ len(x)"))),
)
