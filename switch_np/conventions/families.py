"""The 76 model folders of transformers that have a sparse layer, each by its folder's name.

Source: transformers 5.24.0, `models/<name>/modeling_<name>.py`, and its configuration's defaults.
Each family lists only how it differs from another. What only one model has, such as experts that
return their input, gets no knob: `alone` names it, and `line` says how its experts are judged.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Family(NamedTuple):
    """A folder: its group of similar conventions, what it is like, and where it differs."""

    group: int
    base: str                     # the family or preset that it is like
    experts: int                  # default number of experts, and of choices per token
    top_k: int
    differs: Mapping[str, Any]    # settings that differ from the base's
    loss: str                     # the model's balance loss: a key of LOSSES
    weights: str                  # parts of `layouts.PARTS`
    line: str = ""
    alone: str = ""               # why there is no preset; `line` says how the layer is judged


SOURCE = "transformers 5.24.0, models/{}"
SHARED, NO_NORM = {"shared_experts": 1}, {"renorm": "none"}
LOSSES: dict[str, dict[str, Any]] = {
    "none": {"balance_counts": "none", "padding_routing": "routed", "balance_padding": "include",
             "z_padding": "include"},
    "pooled": {"balance_counts": "plain", "balance_probs": "softmax", "padding_routing": "routed",
               "balance_padding": "mask_valid"},
    "Switch's": {}, "NLLB's": {}, "Doge's": {},
}
GATED = {**SHARED, "shared_gate": True}
CLAMPED = {"expert_limit": 7.0, "expert_silu_factor": 1.702, "expert_linear_offset": 1.0}
GEGLU = {"expert_activation": "gelu_tanh"}
SIGMOID = {"scores": "sigmoid", "select_bias": True, "renorm_eps": 1e-20}
CHOSEN = "softmax over the chosen logits only, which is renorm='pre'"
BESIDE = "the shared expert is the decoder layer's shared_mlp: pass both; by default there is none"

F = Family
FAMILIES: dict[str, Family] = {
    "mixtral": F(1, "hf_mixtral", 8, 2, {}, "pooled", "gate fused", "jitter reaches the experts"),
    "minimax": F(1, "mixtral", 8, 2, {}, "pooled", "gate fused"),
    "qwen3_moe": F(1, "mixtral", 128, 8, NO_NORM, "pooled", "gate fused",
                   "norm_topk_prob: renorm='pre'"),
    "qwen3_vl_moe": F(1, "mixtral", 60, 4, {}, "pooled", "gate fused"),
    "mellum": F(1, "mixtral", 64, 8, {}, "pooled", "gate fused"),
    "olmoe": F(1, "qwen3_moe", 64, 8, {}, "pooled", "gate fused"),
    "flex_olmo": F(1, "qwen3_moe", 7, 5, {}, "pooled", "gate fused"),
    "jamba": F(1, "qwen3_moe", 16, 2, {}, "pooled", "router fused"),
    "granitemoe": F(1, "mixtral", 8, 2, {}, "pooled", "router fused", CHOSEN),
    "qwen3_omni_moe": F(1, "mixtral", 128, 8, {}, "pooled", "gate fused",
                        "the thinker's; the talker's is qwen2_moe"),
    "dbrx": F(2, "mixtral", 4, 1, {}, "pooled", "layer stacked",
              "moe_normalize_expert_weights=p: renorm_power=p; None: renorm='none'"),
    "aria": F(3, "mixtral", 8, 2, {"shared_experts": 2}, "none", "router turned shared", CHOSEN),
    "hunyuan_v1_moe": F(3, "mixtral", 1, 1, SHARED, "none", "wg fused shared_mlp"),
    "lara_mini": F(3, "mixtral", 128, 4, SHARED, "pooled", "gate fused shared_one"),
    "granitemoeshared": F(3, "granitemoe", 8, 2, {}, "pooled", "router fused shared_linear?",
                          BESIDE),
    "granitemoe_swa": F(3, "granitemoe", 8, 2, {}, "pooled", "router fused shared_linear?", BESIDE),
    "granitemoehybrid": F(3, "granitemoe", 8, 2, SHARED, "pooled", "router fused shared_linear?",
                          BESIDE),
    "deepseek_v2": F(4, "mixtral", 64, 6, {**NO_NORM, "shared_experts": 2,
                     "select_group_best": 1}, "none", "gate fused shared",
                     "topk_method 'group_limited_greedy': select_groups, select_groups_kept"),
    "deepseek_ocr2": F(4, "deepseek_v2", 64, 6, {}, "none", "gate fused shared"),
    "unlimited_ocr": F(4, "deepseek_v2", 64, 6, {}, "none", "gate fused shared"),
    "qwen2_moe": F(5, "qwen3_moe", 60, 4, {**GATED, "shared_experts": 4}, "pooled",
                   "gate fused shared_one shared_gate"),
    "qwen3_next": F(5, "mixtral", 512, 10, GATED, "pooled", "gate fused shared_one shared_gate"),
    "qwen3_5_moe": F(5, "qwen3_next", 256, 8, {}, "pooled", "gate fused shared_one shared_gate"),
    "qwen4_exp": F(5, "qwen3_next", 512, 10, {}, "pooled", "gate fused shared_one shared_gate"),
    "mistral4": F(6, "mixtral", 128, 4, {**SHARED, "renorm_eps": 1e-20}, "none",
                  "gate fused shared", "norm_topk_prob=False: renorm='none'"),
    "mistral_large4": F(6, "mistral4", 128, 4, {}, "none", "gate fused shared"),
    "ernie4_5_moe": F(7, "mixtral", 64, 6, {"select_bias": True, "renorm_eps": 1e-12,
                      "renorm_eps_mode": "clamp", "shared_experts": 2}, "pooled",
                      "gate statics? fused shared?"),
    "ernie4_5_vl_moe": F(8, "ernie4_5_moe", 64, 6, {}, "pooled", "text shared?",
                         "its experts for text; those for images are another such layer, without "
                         "the shared expert"),
    "longcat_flash": F(9, "mixtral", 512, 12, NO_NORM, "none", "identity",
                       "experts alone: as mixtral's, for index < n_routed_experts",
                       alone="some of whose experts return their input"),
    "jetmoe": F(10, "mixtral", 8, 2, {"shared_bias": True}, "pooled", "layer linear",
                "its mixture of attention heads is not covered"),
    "phimoe": F(11, "mixtral", 16, 2, {}, "pooled", "fused",
                "experts alone: as mixtral's",
                alone="whose router is SparseMixer"),
    "gemma4": F(12, "mixtral", 128, 8, GEGLU, "none", "fused",
                "experts alone: as mixtral's with expert_activation='gelu_tanh'",
                alone="whose router has a norm and scales"),
    "diffusion_gemma": F(12, "gemma4", 128, 8, {}, "none", "fused",
                         "experts alone: as gemma4's",
                         alone="whose router has a norm and scales"),
    "gpt_oss": F(13, "mixtral", 128, 4, {**CLAMPED, "router_bias": True, "expert_biases": True},
                 "pooled", "router router_bias woven", CHOSEN),
    "openai_privacy_filter": F(13, "gpt_oss", 128, 4, {}, "none",
                               "router router_bias turned turned_biases"),
    "cohere2_moe": F(14, "mixtral", 8, 2, {}, "none", "gate fused shared?",
                     "num_shared_experts=n: shared_experts=n, and shared_average=True by default"),
    "deepseek_v3": F(15, "hf_deepseek_v3", 256, 8, {}, "none", "gate bias? fused shared"),
    "deepseek_v32": F(15, "deepseek_v3", 256, 8, {}, "none", "gate bias? fused shared"),
    "axk1": F(15, "deepseek_v3", 192, 8, {}, "none", "gate bias? fused shared norm",
              "before its post_mlp_layernorm"),
    "bailing_hybrid": F(15, "deepseek_v3", 512, 8, {}, "none", "gate bias? fused shared"),
    "glm4_moe": F(15, "mixtral", 128, 8, {**SHARED, **SIGMOID}, "none", "gate bias? fused shared",
                  "n_group=g, topk_group=h: select_groups=g, select_groups_kept=h"),
    "dots1": F(15, "glm4_moe", 128, 6, NO_NORM, "none", "gate bias? fused shared"),
    "dots3_note": F(15, "glm4_moe", 256, 8, {}, "none", "gate bias? bias_beside? fused shared?",
                    "its layer for text; that for images has no shared expert"),
    "exaone_moe": F(15, "glm4_moe", 64, 8, {"gate_scale": 2.5}, "none", "gate bias? fused shared"),
    "glm4_moe_lite": F(15, "glm4_moe", 64, 4, {"gate_scale": 1.8}, "none",
                       "gate bias? fused shared"),
    "glm4v_moe": F(15, "glm4_moe", 128, 8, {}, "pooled", "gate bias? fused shared"),
    "glm_moe_dsa": F(15, "exaone_moe", 256, 8, {}, "none", "gate bias? fused shared"),
    "kimi_linear": F(15, "glm4_moe", 256, 8, {"gate_scale": 2.446}, "none",
                     "gate bias? fused shared"),
    "solar_open": F(15, "glm4_moe", 128, 8, {}, "none", "gate bias? fused shared"),
    "mimo_v2_flash": F(16, "glm4_moe", 256, 8, {"shared_experts": 0}, "none", "gate bias? fused"),
    "beam": F(16, "deepseek_v3", 256, 8, {"shared_experts": 0}, "none", "gate bias? fused"),
    "axk2": F(17, "exaone_moe", 128, 8, {}, "none", "gate bias? fused shared",
              "with n_group, experts of closed groups score 0 and may be chosen: pass plan="),
    "afmoe": F(18, "glm4_moe", 64, 6, {"shared_experts": 2}, "none",
               "router_gate expert_bias? fused shared"),
    "hy_v3": F(18, "glm4_moe", 192, 8, {"gate_scale": 2.826}, "none",
               "gate bias_beside? fused shared"),
    "minimax_m2": F(18, "glm4_moe", 256, 8, {"renorm_eps": 0.0, "shared_experts": 0,
                    "jitter_reach": "experts"}, "pooled", "gate bias_beside? fused"),
    "lfm2_moe": F(18, "glm4_moe", 32, 4, {"renorm_eps": 1e-6, "shared_experts": 0}, "none",
                  "gate expert_bias? fused", "use_expert_bias=False: select_bias=False"),
    "laguna": F(19, "glm4_moe", 256, 8, {"renorm_eps": 0.0}, "pooled", "gate bias? fused shared",
                "without moe_router_logit_softcapping, as by default"),
    "step3p7": F(20, "glm4_moe", 288, 8, {"renorm_eps": 0.0, "expert_limit_at": "output"}, "none",
                  "gate bias? fused shared", "swiglu_limits: expert_limit=, shared_limit="),
    "flint": F(21, "mixtral", 256, 6, {"scores": "sigmoid", "shared_experts": 2}, "pooled",
               "gate fused shared_one"),
    "kolibri1": F(22, "glm4_moe", 384, 6, {**NO_NORM, "select_bias": False}, "none",
                  "gate choice? fused shared",
                  "a bias on the logits decides the choice: pass the experts' ids as plan="),
    "glm5_next": F(23, "exaone_moe", 288, 8, {"expert_limit": 10.0}, "pooled",
                   "gate bias? fused shared"),
    "hy_v4": F(23, "exaone_moe", 256, 8, {"gate_scale": 2.827, "expert_limit": 10.0,
               "shared_limit": None}, "none", "gate bias? fused shared"),
    "hy_v4_vl": F(23, "hy_v4", 256, 8, {}, "none", "gate bias? fused shared"),
    "minimax_m3_vl": F(24, "glm4_moe", 128, 4, {**CLAMPED, "renorm_eps": 0.0, "gate_scale": 2.0},
                       "pooled", "gate bias? fused shared_fused"),
    "deepseek_v4": F(25, "glm4_moe", 256, 6, {"scores": "sqrtsoftplus", "gate_scale": 1.5,
                     "expert_limit": 10.0}, "pooled", "gate bias? hash? fused shared",
                     "for layers that choose experts by token id, pass the experts' ids as plan="),
    "inkling": F(26, "mixtral", 256, 6, {}, "none", "fused",
                 "experts alone: as mixtral's",
                 alone="whose router weighs the shared experts too"),
    "inkling2": F(27, "glm4_moe", 384, 8, {}, "none", "fused",
                  "the products alone: oracle.grouped_product",
                  alone="whose SwiGLU has soft caps"),
    "inkling2_loop": F(27, "inkling2", 128, 8, {}, "none", "fused",
                       "the products alone: oracle.grouped_product",
                       alone="whose SwiGLU has soft caps"),
    "muse_spark": F(28, "glm4_moe", 256, 8, {}, "none", "fused",
                    "the products alone: oracle.grouped_product",
                    alone="whose experts end in a norm"),
    "nemotron_h": F(29, "glm4_moe", 8, 2, {"expert_activation": "relu_squared",
                    "expert_gated": False}, "none", "gate bias? plain shared_plain",
                    "without moe_latent_size, as by default"),
    "llama4": F(30, "mixtral", 16, 1, {**SHARED, **NO_NORM, "scores": "sigmoid",
                "gate_at": "input"}, "none", "router turned shared_one"),
    "switch_transformers": F(31, "hf_switch", 8, 1, {}, "Switch's",
                             "classifier classifier_bias? single"),
    "nllb_moe": F(32, "paper", 128, 2, {"expert_biases": True}, "NLLB's", "single_biases",
                  "experts alone: as the paper's with expert_biases=True",
                  alone="of which 5.24 runs only experts 0 and 1"),
    "doge": F(33, "paper", 16384, 64, {}, "Doge's", "",
              "not at all",
              alone="whose product keys mix two tokens"),
    "zaya": F(34, "mixtral", 16, 1, NO_NORM, "none", "fused",
              "experts alone: as mixtral's",
              alone="whose router passes a state on to the next layer"),
    "vitpose_backbone": F(35, "paper", 1, 1, {}, "none", "",
                          "not at all",
                          alone="which has no router"),
}
