"""A network that memorizes a table: no attention, no positions, one feed-forward network.

Forward:   x = table[a] + table[b];  y = x + network(norm(x));  logits = norm(y) W_head
Backward:  the same lines, last one first; d_x reaches the rows of a and of b alike.

The network is dense or a Switch layer. The parameters are those of a model with one block, whose
attention takes no part: its gradient is zero, and it is as small as a model allows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np import switch_layer
from switch_np.model import Loss
from switch_np.operations import tree
from switch_np.transformer import cross_entropy, dense, embedding, head, norm
from switch_np.transformer.model_config import ModelConfig


def loss_and_grads(params: Mapping[str, Any], pairs_T2: np.ndarray, answers_T: np.ndarray,
                   config: ModelConfig, rng: np.random.Generator | None = None,
                   training: bool = False) -> tuple[Loss, dict[str, Any]]:
    """Return the loss of the answers to pairs (a, b), in nats, and all gradients."""
    block, table_VD = params["decoder"]["0"], params["embedding"]["table"]
    x_TD = table_VD[pairs_T2].sum(axis=1)
    normed_1TD, first = norm.forward(block["feed_forward_norm"], x_TD[None], config.norm_epsilon)
    if config.switch_every:
        out, switched = switch_layer.forward(block["switch"], normed_1TD, config.switch, rng=rng,
                                             training=training)
        y_1TD, balance, z, plans = x_TD + out.y, [out.balance_loss], [out.z_loss], [out.plan]
    else:
        hidden_1TD, cached = dense.forward(block["feed_forward"], normed_1TD, config)
        y_1TD, balance, z, plans = x_TD + hidden_1TD, [], [], []
    last_1TD, second = norm.forward(params["decoder"]["final_norm"], y_1TD, config.norm_epsilon)
    logits_1TV, read = head.forward(params, last_1TD)
    nats, soft = cross_entropy.forward(logits_1TV[0], answers_T)
    total = nats + sum(balance) * config.balance_coef + sum(z) * config.z_coef

    grads = tree.apply(np.zeros_like, params)
    changed = grads["decoder"]["0"]
    d_last_1TD, _, of_head = head.backward(cross_entropy.backward(1.0, soft)[None], read)
    grads |= of_head
    d_y_1TD, grads["decoder"]["final_norm"] = norm.backward(d_last_1TD, second)
    if config.switch_every:
        d_normed_1TD, changed["switch"] = switch_layer.backward(
            d_y_1TD, switched, config.balance_coef, config.z_coef)
    else:
        d_normed_1TD, changed["feed_forward"] = dense.backward(d_y_1TD, cached)
    d_x_1TD, changed["feed_forward_norm"] = norm.backward(d_normed_1TD, first)
    d_x_T2D = np.repeat((d_y_1TD + d_x_1TD)[0][:, None], 2, axis=1)
    grads["embedding"]["table"] = embedding.backward(d_x_T2D, pairs_T2, len(table_VD))
    return Loss(total, nats, tuple(balance), tuple(z), tuple(plans)), grads
