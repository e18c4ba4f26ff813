"""The general z-loss: optional, with padding counted in other ways.

Source: Mesh TensorFlow and ST-MoE in PyTorch (in training only), most others (none), Flaxformer
(padding counts as a token whose logits are 0, so log Z = log E).

Forward:   L = mean of log_z² over the tokens that count; 0 where there is no z-loss
Backward:  the paper's; the log E of padding is constant.
"""

import math

import numpy as np

from switch_np.conventions.table import Conventions
from switch_np.switch import z_loss
from switch_np.switch.z_loss import ZCache, backward

__all__ = ["backward", "forward"]


def forward(log_z_T: np.ndarray, padding_T: np.ndarray | None = None, *, conventions: Conventions,
            num_experts: int, training: bool) -> tuple[np.ndarray, ZCache]:
    """Return the loss, a scalar.

    >>> theirs, padding = Conventions(z_padding="zero_logits"), np.array([False, True])
    >>> float(forward(np.ones(2), padding, conventions=theirs, num_experts=1, training=False)[0])
    0.5
    """
    if conventions.z_when == "never" or (conventions.z_when == "training" and not training):
        return z_loss.forward(log_z_T, np.ones(len(log_z_T), bool))
    if padding_T is None or conventions.z_padding == "include":
        return z_loss.forward(log_z_T)
    if conventions.z_padding == "valid":
        return z_loss.forward(log_z_T, padding_T)
    loss, cache = z_loss.forward(np.where(padding_T, math.log(num_experts), log_z_T))
    return loss, cache._replace(log_z_T=log_z_T * ~padding_T)
