"""The models of the paper and the published ones by name; `ModelConfig.like` makes them.

Source: table 9 of the paper (t5_base to switch_c), with T5's vocabulary of 32,128 tokens, one
table for both stacks and the head, and GEGLU where the table says so; the configurations of the
checkpoints google/switch-base-8 to google/switch-base-256 (transformers 5, switch_transformers).
"""

from typing import Any

from switch_np.operations import check
from switch_np.switch.config import SwitchConfig

VOCABULARY = 32128
# d_model, d_ff, heads, layers of each stack, GEGLU, stride of the Switch layers, experts
TABLE_9 = {
    "t5_base": (768, 2048, 12, 12, True, 0, 1),
    "t5_large": (1024, 2816, 16, 24, True, 0, 1),
    "t5_xxl": (4096, 10240, 64, 24, True, 0, 1),
    "switch_base": (768, 2048, 12, 12, True, 2, 128),
    "switch_large": (1024, 2816, 16, 24, True, 2, 128),
    "switch_xxl": (4096, 10240, 64, 24, True, 2, 64),
    "switch_c": (2080, 6144, 32, 15, False, 1, 2048),
}
PUBLISHED = {f"switch_base_{experts}": experts for experts in (8, 16, 32, 64, 128, 256)}
DESIGNS = (*TABLE_9, *PUBLISHED)


def settings(name: str) -> dict[str, Any]:
    """Return the fields of `ModelConfig` of a design.

    >>> settings("switch_c")["switch"].num_experts, settings("switch_base_8")["d_ff"]
    (2048, 3072)
    """
    check.choice("name", name, DESIGNS)
    if name in PUBLISHED:
        layer = SwitchConfig.like("hf_switch", num_experts=PUBLISHED[name], expert_dropout=0.1)
        return _stacks(768, 3072, 12, 12, 2) | {
            "switch": layer, "dropout": 0.1, "router_losses": "transformers",
            "balance_coef": 0.001, "z_coef": 0.001, "init_scale": 1.0}
    d_model, d_ff, heads, layers, gated, every, experts = TABLE_9[name]
    network = {"expert_activation": "gelu_tanh", "expert_gated": True} if gated else {}
    dense = {"activation": "gelu_tanh", "gated": True} if gated else {}
    return _stacks(d_model, d_ff, heads, layers, every) | dense | {
        "switch": SwitchConfig.like("paper", num_experts=experts, eval_capacity_factor=2.0,
                                    **network)}


def _stacks(d_model: int, d_ff: int, heads: int, layers: int, every: int) -> dict[str, Any]:
    """Return the sizes of an encoder and a decoder that are built alike."""
    return {"vocab_size": VOCABULARY, "d_model": d_model, "d_ff": d_ff, "num_heads": heads,
            "d_kv": 64, "num_layers": layers, "num_encoder_layers": layers,
            "switch_every": every, "encoder_switch_every": every}
