"""The floating-point operations of a training step, to find models of equal cost.

Only matrix products are counted, two operations per multiply-add; everything else grows with the
width, not with its square. The backward of a product is two products of the same size, so a step
costs three times its forward.
"""

from math import prod

from switch_np.conventions import parameters
from switch_np.transformer.model_config import ModelConfig


def step(config: ModelConfig, batch_size: int, seq_len: int) -> int:
    """Return the operations of one training step, Switch layers with full buffers.

    >>> round(step(ModelConfig(), 32, 64) / step(ModelConfig(switch_every=0), 32, 64), 3)
    1.054
    """
    return 3 * forward(config, batch_size, seq_len, training=True)


def forward(config: ModelConfig, batch_size: int, seq_len: int, training: bool = False,
            source_len: int | None = None) -> int:
    """Return the operations of one forward pass.

    The decoder reads `seq_len` tokens of each sequence; an encoder, if there is one, `source_len`,
    by default as many.
    """
    lengths = {"encoder": seq_len if source_len is None else source_len, "decoder": seq_len}
    total = batch_size * seq_len * config.d_model * config.vocab_size
    for name, stack in config.stacks.items():
        tokens = batch_size * lengths[name]
        for layer in range(stack.num_layers):
            total += _attention(config, tokens, tokens, lengths[name])
            if config.switch_attention and stack.is_switch(layer):    # in place of three products
                total += 2 * _feed_forward(config, tokens, True, training)
                total -= 3 * tokens * config.d_model ** 2
            if stack.cross:
                memory = batch_size * lengths["encoder"]
                total += _attention(config, tokens, memory, lengths["encoder"])
            total += _feed_forward(config, tokens, stack.is_switch(layer), training)
    return 2 * total


def _attention(config: ModelConfig, tokens: int, memory: int, attended: int) -> int:
    """Return the multiply-adds: queries and output of `tokens`, keys and values of `memory`."""
    width = config.num_heads * config.d_kv
    return 2 * width * (tokens * config.d_model + memory * config.d_model + tokens * attended)


def _feed_forward(config: ModelConfig, tokens: int, switch: bool, training: bool) -> int:
    """Return the multiply-adds of a dense network, or of router, experts and shared expert."""
    if not switch:
        return tokens * (3 if config.gated else 2) * config.d_model * config.d_ff
    rows = expert_rows(config, tokens, training)
    found = parameters.shapes(config.d_model, config.d_ff, config.switch)
    weights = [shape for name, shape in found.items() if "w_" in name]
    return sum(rows * prod(shape[1:]) if len(shape) == 3 else tokens * prod(shape)
               for shape in weights)


def expert_rows(config: ModelConfig, tokens: int, training: bool) -> int:
    """Return the rows of all experts' buffers in one Switch layer; one per choice if unlimited.

    >>> expert_rows(ModelConfig(), 2048, training=True)
    2560
    """
    capacity = config.switch.expert_capacity(tokens, training)
    if capacity is None:
        return tokens * config.switch.num_choices
    return config.switch.num_experts * capacity
