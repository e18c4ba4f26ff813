"""The floating-point operations of a training step, to find models of equal cost.

Only matrix products are counted, two operations per multiply-add; everything else grows with the
width, not with its square. The backward of a product is two products of the same size, so a step
costs three times its forward.
"""

from switch_np.transformer.model_config import ModelConfig


def step(config: ModelConfig, batch_size: int, seq_len: int) -> int:
    """Return the operations of one training step, Switch layers with full buffers.

    >>> round(step(ModelConfig(), 32, 64) / step(ModelConfig(switch_every=0), 32, 64), 3)
    1.054
    """
    return 3 * forward(config, batch_size, seq_len, training=True)


def forward(config: ModelConfig, batch_size: int, seq_len: int, training: bool = False) -> int:
    """Return the operations of one forward pass of a decoder-only model."""
    tokens, d, heads = batch_size * seq_len, config.d_model, config.num_heads * config.d_kv
    attention = tokens * heads * (4 * d + 2 * seq_len)
    total = tokens * d * config.vocab_size + config.num_layers * attention
    for layer in range(config.num_layers):
        rows = tokens
        if config.is_switch(layer):
            rows = expert_rows(config, tokens, training)
            total += tokens * d * config.switch.num_experts
        total += rows * 2 * d * config.d_ff
    return 2 * total


def expert_rows(config: ModelConfig, tokens: int, training: bool) -> int:
    """Return the rows of all experts' buffers in one Switch layer; one per choice if unlimited.

    >>> expert_rows(ModelConfig(), 2048, training=True)
    2560
    """
    capacity = config.switch.expert_capacity(tokens, training)
    if capacity is None:
        return tokens * config.switch.num_choices
    return config.switch.num_experts * capacity
