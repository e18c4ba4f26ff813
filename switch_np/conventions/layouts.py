"""How transformers' layers name and lay out their parameters, and which of ours each one holds.

A line reads "their key (its axes) = our name", with two names where one array holds two: "a, b" are
its first and second half, "a / b" its even and odd entries. The axes are E, D and F as in ours;
S, the shared expert's width; 2F or 2S, both halves; EF, experts and hidden units in one axis; E+,
more experts than have weights; and 1. A key with {e} stands for one key per expert. A line without
"=" is the prefix of keys that belong to something else. A part named with "?" may be absent.
"""

SHARED = ("{}gate_proj.weight (S, D) = shared_w_gate", "{}up_proj.weight (S, D) = shared_w_in",
          "{}down_proj.weight (D, S) = shared_w_out")

PARTS: dict[str, tuple[str, ...]] = {
    # The router and the bias of the choice.
    "gate": ("gate.weight (E, D) = w_router",),
    "router": ("router.weight (E, D) = w_router",),
    "router_bias": ("router.bias (E) = b_router",),
    "layer": ("router.layer.weight (E, D) = w_router",),
    "wg": ("gate.wg.weight (E, D) = w_router",),
    "classifier": ("router.classifier.weight (E, D) = w_router",),
    "classifier_bias": ("router.classifier.bias (E) = b_router",),
    "router_gate": ("router.gate.weight (E, D) = w_router",),
    "bias": ("gate.e_score_correction_bias (E) = select_bias",),
    "bias_beside": ("e_score_correction_bias (E) = select_bias",),
    "expert_bias": ("expert_bias (E) = select_bias",),
    "statics": ("gate.moe_statics.e_score_correction_bias (1, E) = select_bias",),
    # The experts.
    "fused": ("experts.gate_up_proj (E, 2F, D) = w_gate, w_in",
              "experts.down_proj (E, D, F) = w_out"),
    "turned": ("experts.gate_up_proj (E, D, 2F) = w_gate, w_in",
               "experts.down_proj (E, F, D) = w_out"),
    "turned_biases": ("experts.gate_up_proj_bias (E, 2F) = b_gate, b_in",
                      "experts.down_proj_bias (E, D) = b_out"),
    "woven": ("experts.gate_up_proj (E, D, 2F) = w_gate / w_in",
              "experts.down_proj (E, F, D) = w_out",
              "experts.gate_up_proj_bias (E, 2F) = b_gate / b_in",
              "experts.down_proj_bias (E, D) = b_out"),
    "plain": ("experts.up_proj (E, F, D) = w_in", "experts.down_proj (E, D, F) = w_out"),
    "stacked": ("experts.mlp.w1 (EF, D) = w_gate", "experts.mlp.v1 (EF, D) = w_in",
                "experts.mlp.w2 (EF, D) = w_out"),
    "linear": ("input_linear.weight (E, 2F, D) = w_gate, w_in",
               "output_linear.weight (E, D, F) = w_out", "bias (D) = shared_b_out"),
    "single": ("experts.expert_{e}.wi.weight (F, D) = w_in",
               "experts.expert_{e}.wo.weight (D, F) = w_out"),
    "single_biases": ("experts.expert_{e}.fc1.weight (F, D) = w_in",
                      "experts.expert_{e}.fc2.weight (D, F) = w_out",
                      "experts.expert_{e}.fc1.bias (F) = b_in",
                      "experts.expert_{e}.fc2.bias (D) = b_out"),
    "text": ("text_moe.gate.weight (E, D) = w_router",
             "text_moe.gate.moe_statics.e_score_correction_bias (1, E) = select_bias",
             "text_moe.experts.gate_up_proj (E, 2F, D) = w_gate, w_in",
             "text_moe.experts.down_proj (E, D, F) = w_out", "vision_moe."),
    "identity": ("experts.gate_up_proj (E+, 2F, D) = w_gate, w_in",
                 "experts.down_proj (E, D, F) = w_out"),
    # The shared expert, and its gate.
    "shared": tuple(line.format("shared_experts.") for line in SHARED),
    "shared_one": tuple(line.format("shared_expert.") for line in SHARED),
    "shared_mlp": tuple(line.format("shared_mlp.") for line in SHARED),
    "shared_gate": ("shared_expert_gate.weight (1, D) = shared_w_router",),
    "shared_fused": ("shared_experts.gate_up_proj.weight (2S, D) = shared_w_gate, shared_w_in",
                     "shared_experts.down_proj.weight (D, S) = shared_w_out"),
    "shared_linear": ("shared_mlp.input_linear.weight (2S, D) = shared_w_gate, shared_w_in",
                      "shared_mlp.output_linear.weight (D, S) = shared_w_out"),
    "shared_plain": ("shared_experts.up_proj.weight (S, D) = shared_w_in",
                     "shared_experts.down_proj.weight (D, S) = shared_w_out"),
    "choice": ("gate.e_score_correction_bias",), "hash": ("gate.tid2eid",),
    "norm": ("post_mlp_layernorm.",),
}


def lines(weights: str) -> list[tuple[str, bool]]:
    """Return the lines of some parts, and whether each may be absent.

    >>> lines("gate bias?")[1]
    ('gate.e_score_correction_bias (E) = select_bias', True)
    """
    return [(line, part.endswith("?")) for part in weights.split()
            for line in PARTS[part.removesuffix("?")]]


def told(weights: str) -> str:
    """Return the lines in one text."""
    return "; ".join(line for line, _ in lines(weights) if " = " in line)
