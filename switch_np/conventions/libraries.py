"""Other libraries: source, differences from the paper, and layout of the weights.

Sizes and factors are each library's defaults, meant to be overridden. A library's bugs are knobs
too, so that its numbers are reproduced. The losses' coefficients, and how the losses of several
layers are combined, are up to the caller.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One library's conventions.

    `source` is the repository or package, its version or commit, and the file; `settings` are the
    fields of `SwitchConfig` and `Conventions` that differ from the paper; `weights` says how the
    library's layout of the weights maps to ours, and `leaves_out` what else the library does.
    If `recorded`, the tests match recorded outputs and gradients of the library, and if `live`, the
    library itself where it is installed; otherwise the preset was made by reading its source.
    `same_as` is the preset that computes the same, but for sizes.
    """

    source: str
    settings: Mapping[str, Any]
    weights: str
    leaves_out: tuple[str, ...] = ()
    recorded: bool = True
    live: bool = False
    same_as: str = ""


# Shared by several: padding unknown to the layer, Mesh TensorFlow's top-2 gate and its ports,
# Flaxformer's routers, the precision's own epsilon as the least sum, and SwiGLU without drops.
NO_PADDING = {"padding_routing": "routed", "balance_padding": "include", "z_padding": "include"}
MESH_TOP2 = {"top_k": 2, "eval_capacity_factor": 2.0, "min_capacity": 4, "jitter": 0.0,
             "capacity_at_most_group": True, "second_policy": "random", "renorm": "pre",
             "renorm_eps": 1e-9}
FLAXFORMER = {"eval_capacity_factor": 2.0, "min_capacity": 4, "jitter": 0.0,
              "capacity_rounding": "half_even", "balance_counts": "all", "z_padding": "zero_logits"}
BFLOAT16 = ("bfloat16 by default: switch_layer.in_precision(params, 'bfloat16', 'bfloat16'), or "
            "None and 'bfloat16' for the router alone")
CLAMPED = {"renorm_eps": "finfo", "renorm_eps_mode": "clamp", "z_when": "never"}
SWIGLU = {"capacity_factor": None, "jitter": 0.0, "renorm": "pre", "renorm_single": True,
          "z_when": "never", "expert_activation": "silu", "expert_gated": True}
DEEPSPEED_TOPK = {"top_k": 3, "capacity_factor": 1.0, "min_capacity": 4, "jitter": 0.0,
                  "capacity_per_choice": True, "capacity_rounding": "ceil", "slots": "position",
                  "renorm": "post", "balance_counts": "all_over_k", **CLAMPED, **NO_PADDING}
LINEAR = ("every weight transposed: nn.Linear keeps (out, in) for one expert; w_in[e] = "
          "{}.weight.T, w_out[e] = {}.weight.T, w_router = {}.weight.T")

PRESETS: dict[str, Preset] = {
    "paper": Preset("Fedus, Zoph, Shazeer, JMLR 23 (2022), arXiv 2101.03961v3",
        recorded=False, settings={},
        weights="none given; here w_router (D, E), w_in (E, D, F), w_out (E, F, D)"),
    "mesh_tf": Preset("tensorflow/mesh da90793, transformer/moe.py, gating 'switch'",
        settings={"eval_capacity_factor": 2.0, "min_capacity": 4, "capacity_at_most_group": True,
            "balance_padding": "real_fraction", "z_when": "training"},
        weights="as here: wi (E, D, F), wo (E, F, D), router (D, E)",
        leaves_out=("gating 'switch_max': priority='gate'",
            "groups: give their number; they have at most 1,024 tokens there",
            "the balance loss's coefficient multiplies the z-loss too, besides the z-loss's own; "
            "both are divided by the number of microbatches")),
    "mesh_tf_ntlb": Preset("tensorflow/mesh b6e9d08, transformer/moe.py, moe_switch_top_k > 1",
        recorded=False, settings={"eval_capacity_factor": 2.0, "min_capacity": 4, "tries": 4,
            "capacity_at_most_group": True, "balance_counts": "plain_over_k",
            "balance_padding": "real_fraction", "z_when": "never"},
        weights="as mesh_tf", leaves_out=("groups, as mesh_tf",)),
    "mesh_tf_top2": Preset("tensorflow/mesh da90793, transformer/moe.py, gating 'top_2'",
        settings={**MESH_TOP2, "balance_padding": "mask_full", "z_when": "never"},
        weights="as mesh_tf",
        leaves_out=("groups, as mesh_tf", "two-level gating (importance between 0 and 1)")),
    "flaxformer": Preset("google/flaxformer 399ea3a, architectures/moe/routing.py, masked routers",
        settings={**FLAXFORMER, "balance_padding": "mask_full"},
        weights="as here; gated experts: w_gate = wi_0 (activated), w_in = wi_1",
        leaves_out=("groups: give their number; at least E there, and zeros are appended until it "
            "divides the tokens",
            "padding: pass the mask; there every row of zeros is padding if ignore_padding_tokens, "
            "which is off by default", "t5x averages the losses over layers", BFLOAT16)),
    "flaxformer_scatter": Preset(
        "google/flaxformer 399ea3a, architectures/moe/routing.py, scatter router",
        settings={**FLAXFORMER, "balance_padding": "mask_p", "padding_routing": "first_experts"},
        weights="as flaxformer", leaves_out=("as flaxformer",)),
    "hf_switch": Preset("transformers 5.23.0, models/switch_transformers",
        settings={"capacity": 64, "groups": "rows", "jitter_reach": "experts",
             "balance_counts": "plain_over_k", **NO_PADDING},
        weights=LINEAR.format("expert_e.wi", "expert_e.wo", "router.classifier"),
        leaves_out=("f and P are pooled over the layers of a stack, and the losses are 0 if every "
            "layer is sparse",
            "with bfloat16 inputs: select_precision='bfloat16', jitter_reach='router'")),
    "hf_switch_v4": Preset(
        "transformers 4.30.2 (4.57.1 with dropped='zero'), models/switch_transformers",
        settings={"capacity": 64, "groups": "rows", "jitter_reach": "experts",
            "dropped": "gated_identity", "balance_drops": "post_as_0", **NO_PADDING},
        weights="as hf_switch", leaves_out=("pooling over layers, as hf_switch",)),
    "hf_mixtral": Preset("transformers 5.23.0, models/mixtral",
        settings={**SWIGLU, "top_k": 2, "jitter_reach": "experts", "balance_counts": "all",
            "padding_routing": "routed"},
        weights="gate_up_proj (E, 2F, D): w_gate[e] = its first F rows transposed, w_in[e] = the "
            "rest; w_out[e] = down_proj[e].T; w_router = gate.weight.T",
        leaves_out=("f and P are pooled over all layers",
            "the mask affects only the loss: pass it as padding")),
    "hf_deepseek_v3": Preset("transformers 5.23.0, models/deepseek_v3",
        settings={**SWIGLU, "num_experts": 256, "top_k": 8, "scores": "sigmoid",
            "select_bias": True, "select_groups": 8, "select_groups_kept": 4, "renorm_eps": 1e-20,
            "gate_scale": 2.5, "balance_counts": "none", "shared_experts": 1, **NO_PADDING},
        weights="as hf_mixtral; shared_w_gate, shared_w_in, shared_w_out = gate_proj, up_proj, "
            "down_proj of shared_experts, transposed; select_bias = e_score_correction_bias",
        leaves_out=("nothing updates the bias there: conventions.selection_bias can",
            "with fewer than 256 experts groups and choices shrink to what fits")),
    "deepspeed_top1": Preset("microsoft/DeepSpeed 38327e0, moe/sharded_moe.py, top1gating",
        settings={"capacity_factor": 1.0, "min_capacity": 4, "jitter": 0.0,
            "capacity_rounding": "ceil", "priority": "random", "slots": "position",
            "balance_padding": "mask_f", "z_when": "never"},
        weights="experts are the user's modules; " + LINEAR.format("in", "out", "wg"),
        leaves_out=("without random token selection torch.topk decides who is dropped, in an "
            "unspecified order: pass its order as noise.priority",
            "noisy_gate_policy: jitter=0.01, or sample=True for 'RSample'",
            "padding is its used_token")),
    "deepspeed_top2": Preset("microsoft/DeepSpeed 38327e0, moe/sharded_moe.py, top2gating",
        settings={"top_k": 2, "capacity_factor": 1.0, "min_capacity": 4, "jitter": 0.0,
            "capacity_per_choice": True, "capacity_rounding": "ceil", "second_choice": "sampled",
            "renorm": "post", **CLAMPED, **NO_PADDING},
        weights="as deepspeed_top1"),
    "deepspeed_topk": Preset(
        "deepspeedai/DeepSpeed since pull request 7986, moe/sharded_moe.py, topkgating (k > 2)",
        recorded=False, settings={**DEEPSPEED_TOPK, "priority": "gate"},
        weights="as deepspeed_top1", leaves_out=("drop_policy 'position': priority='token'",)),
    "deepspeed_topk_before_7986": Preset(
        "microsoft/DeepSpeed 38327e0, moe/sharded_moe.py, topkgating (k > 2)",
        settings={**DEEPSPEED_TOPK, "priority": "logit_or_zero"},
        weights="as deepspeed_top1", leaves_out=("as deepspeed_topk",)),
    "tutel": Preset("microsoft/tutel 82af7aa, impls/fast_dispatch.py, impls/losses.py",
        settings={"top_k": 2, "capacity_factor": 1.0, "capacity_per_choice": True, "jitter": 0.0,
            "capacity_whole_share": True, "renorm": "pre", "expert_biases": True, **CLAMPED,
            **NO_PADDING},
        weights="w_in[e] = batched_fc1_w[e].T, w_out[e] = batched_fc2_w[e] (as here), b_in and "
            "b_out = batched_fc1_bias, batched_fc2_bias; w_router = wg.weight.T",
        leaves_out=("gate_noise: logit_noise='normal', logit_noise_scale=gate_noise / E",
            "batch_prioritized_routing: priority='batch'; is_postscore=False: gate_at='input'",
            "the loss of importance and load: half the sum of both of conventions.variation_losses,"
            " with ddof=1 and eps=1e-10")),
    "st_moe": Preset("lucidrains/st-moe-pytorch d94e65d, and 0.1.8",
        live=True, settings={**MESH_TOP2, "groups": "rows", "renorm_eps_mode": "clamp",
            "dispatch_gradient": "straight_through", "balance_drops": "post",
            "balance_when": "training", "z_when": "training", "expert_activation": "gelu",
            "expert_gated": True, "expert_biases": True, "expert_hidden_scale": True, **NO_PADDING},
        weights="experts.e.net: 0 is Linear (2F, D), its first F rows w_in, the rest w_gate, "
            "transposed, its bias likewise; 1.mult_bias = hidden_scale; 2 is Linear (D, F) = w_out "
            "transposed; w_router = gate.to_gates.weight.T",
        leaves_out=("noise_gates: logit_noise='gumbel', but the z-loss there squares the clean "
            "logits", "differentiable_topk", "pre- and post-norms of its block")),
    "lucidrains": Preset("lucidrains/mixture-of-experts 0fb459f, and 0.2.3, MoE",
        live=True, settings={**MESH_TOP2, "groups": "rows", "z_when": "never", **NO_PADDING},
        weights="as here: experts.w1 (E, D, F), experts.w2 (E, F, D), gate.w_gating (D, E)",
        leaves_out=("second_policy='threshold' raises there", "the two-level version")),
    "litgpt": Preset("litgpt 0.5.13, model.py, LLaMAMoE",
        recorded=False, live=True,
        settings={**SWIGLU, "top_k": 2, "balance_counts": "none", **NO_PADDING},
        weights=LINEAR.format("experts.e.fc_2", "experts.e.proj", "gate")
            + "; w_gate[e] = experts.e.fc_1.weight.T",
        leaves_out=("bias: expert_biases=True, and routed_scaling_factor: gate_scale",
            "n_expert_groups: as hf_deepseek_v3 with renorm='none' unless norm_topk_prob, and "
            "select_group_best = n_topk_scores_per_group; experts of closed groups score 0 there, "
            "more than a negative score of an open group")),
    "labml": Preset("labmlai e6b3c8a, labml_nn/transformers/switch",
        settings={"capacity_factor": 1.0, "router_bias": True, "jitter": 0.0, "priority": "random",
            "dropped": "gated_identity", "z_when": "never", "expert_biases": True, **NO_PADDING},
        weights=LINEAR.format("experts.e.layer1", "experts.e.layer2", "switch")
            + "; biases as they are; tokens are (S, B)",
        leaves_out=("is_scale_prob=False: gate_gradient='unit'; drop_tokens=False: "
            "capacity_factor=None",)),
    "fairseq": Preset("facebookresearch/fairseq moe ebea007, modules/moe/top2gate.py",
        recorded=False, settings={"top_k": 2, "capacity_factor": 1.0, "capacity_per_choice": True,
            "jitter": 0.0, "capacity_whole_share": True, "eval_capacity_fraction": 0.25,
            "second_choice": "sampled", "second_compare": "score", "second_threshold": 0.5,
            "renorm": "post", "balance_padding": "mask_f", "expert_biases": True, **CLAMPED},
        weights=LINEAR.format("experts.e.fc1", "experts.e.fc2", "gate.wg"),
        leaves_out=("top-1: top_k=1, renorm='none', second_choice='largest'",
            "dropout after the expert", "losses are averaged over layers")),
    "fairscale": Preset("fairscale 0.4.13, nn/moe/top2gate.py, nn/moe/moe_layer.py",
        recorded=False, live=True, settings={"top_k": 2, "capacity_factor": 1.0,
            "capacity_per_choice": True, "jitter": 0.0, "second_choice": "sampled",
            "renorm": "post", "balance_scale": "mean", **CLAMPED, **NO_PADDING},
        weights="experts are the user's modules; " + LINEAR.format("in", "out", "gate.wg")),
    "hf_nllb_moe": Preset("transformers 5.24.0, models/nllb_moe, the router (and 4.57's layer)",
        recorded=False, settings={"top_k": 2, "capacity_factor": 1.0, "capacity_per_choice": True,
            "jitter": 0.0, "capacity_whole_share": True, "eval_capacity_fraction": 1.0,
            "second_compare": "score", "second_threshold": 0.5, "renorm": "post",
            "balance_counts": "all", "expert_biases": True, **CLAMPED},
        weights=LINEAR.format("experts.expert_e.fc1", "experts.expert_e.fc2", "router.classifier")
            + "; biases as they are",
        leaves_out=("version 5's layer reads its mask as an index: experts 0 and 1 alone run",
            "expert_capacity=64 in training: capacity=64, here also in evaluation",
            "second_expert_policy: second_choice='sampled' or second_policy='random'",
            "batch_prioritized_routing: priority='batch'",
            "moe_token_dropout p: drops outputs in training; in evaluation gate_scale=1 - p",
            "f and P are pooled over all layers")),
    "vmoe": Preset("google-research/vmoe 11e37d5, nn/routing.py, moe.py, nn/vit_moe.py",
        recorded=False, settings={"num_experts": 32, "top_k": 2, "capacity_factor": 1.05,
            "capacity_per_choice": True, "jitter": 0.0, "logit_noise": "normal",
            "capacity_rounding": "ceil", "capacity_multiple_of": 4, "z_when": "never",
            "expert_activation": "gelu_tanh", "expert_biases": True, **NO_PADDING},
        weights="as here: Mlp.Dense_0 and Dense_1, kernel (E, D, F) and (E, F, D), bias; "
            "Router.dense.kernel (D, E)",
        leaves_out=("the noise's deviation is noise_std / E, here 1 / E: logit_noise_scale",
            "groups: give their number; batch_priority: priority='batch'",
            "experts that choose: chooser='experts', balance_counts='none', top_k=1",
            "the losses of importance, from the scores without noise, and of load: "
            "conventions.variation_losses; gshard_loss is the balance loss, with weight 0")),
    "megatron": Preset("NVIDIA/Megatron-LM d98e8a6, core/transformer/moe",
        recorded=False, settings={"top_k": 2, "capacity_factor": None, "capacity_per_choice": True,
            "router_bias": True, "jitter": 0.0, "noise_when": "always", "capacity_rounding": "ceil",
            "priority": "weight", "slots": "position", "padding_routing": "routed", "renorm": "pre",
            "balance_counts": "plain_over_k", "expert_activation": "gelu", "expert_biases": True},
        weights=LINEAR.format("linear_fc1", "linear_fc2", "router")
            + "; a gated linear_fc1 has the gate's rows first; tokens are (S, B)",
        leaves_out=("softmax follows the choice there, which is renorm='pre' here; "
            "moe_router_pre_softmax: renorm='none'",
            "sigmoid: scores='sigmoid', renorm_eps=1e-20, balance_probs='normalised'",
            "losses by sequence or over all ranks",
            "the update of the bias: conventions.selection_bias",
            "moe_router_dtype: switch_layer.in_precision(params, 'bfloat16', None) for fp32")),
    "megablocks": Preset("databricks/megablocks 78eea65, layers/{router,moe,mlp}.py",
        recorded=False, settings={"capacity_factor": 1.0, "capacity_per_choice": True,
            "jitter": 0.0, "priority": "token", "balance_counts": "all_over_k",
            "expert_activation": "gelu_tanh", "shared_bias": True, **NO_PADDING},
        weights="w1 (E F, D): w_in[e] = its rows of e transposed; w2 (E F, D): w_out[e] = its rows "
            "of e; w_router = router.layer.weight.T; shared_b_out = experts.bias",
        leaves_out=("the dropless kind: capacity_factor=None",
            "moe_normalize_expert_weights=p: renorm='pre', renorm_single=True, renorm_power=p",
            "the loss is divided by the number of layers")),
    "nanomoe": Preset("wolfecameron/nanoMoE 661fbcf, model.py, manager.py",
        recorded=False, settings={"top_k": 2, "eval_capacity_factor": 2.0,
            "capacity_per_choice": True, "min_capacity": 4, "jitter": 0.0, "logit_noise": "learned",
            "noise_when": "always", "capacity_multiple_of": 2, "renorm": "pre",
            "renorm_single": True, "balance_counts": "all", "balance_probs": "chosen",
            "expert_activation": "gelu", **NO_PADDING},
        weights="c_fc (E, D, F) and c_proj (E, F, D) as here; w_router = w_g.weight.T, w_noise = "
            "w_noise.weight.T",
        leaves_out=("softmax follows the choice there, which is renorm='pre' here",)),
}
