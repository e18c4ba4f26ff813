"""The router's losses of a stack: one for each Switch layer, or pooled over its layers.

Source: section 2.2 of the paper: every Switch layer adds its own. Pooled: transformers 5.23.0,
whose `load_balancing_loss_func` and `router_z_loss_func` see the router logits of all Switch layers
concatenated along the sequence.

Forward:   sum: each layer's own.  pooled: balance = mean over groups of E · Σ_e f_e P_e with f and
           P over the tokens of all L layers. With the counts and tokens of all layers in its slope,
           each layer's loss is its term of that sum;  z = mean of the layers' z-losses.
Backward:  sum: d_L goes to every layer.  pooled: the probabilities of all layers get the same
           slope, that of `balance_loss` with the pooled counts; each layer's z-loss gets d_z / L.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from switch_np.switch import balance_loss
from switch_np.switch.balance_loss import BalanceCache
from switch_np.switch.layer import LayerOutput
from switch_np.transformer.model_config import ModelConfig, StackConfig


class RouterLosses(NamedTuple):
    """The losses of a stack, without coefficients; saved for backward, how they were pooled."""

    balance: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    pooled: bool
    num_layers: int
    slope: BalanceCache | None      # of the pooled balance loss


def names(config: ModelConfig) -> tuple[str, ...]:
    """Return the names of the losses: of the Switch layers, or of the stacks that pool theirs.

    >>> names(ModelConfig()), names(ModelConfig(router_losses="pooled"))
    (('decoder.1', 'decoder.3'), ('decoder',))
    """
    if config.router_losses == "sum":
        return config.switch_names
    return tuple(name for name, kind in config.stacks.items() if _pools(config, kind))


def forward(switched: Sequence[LayerOutput], config: ModelConfig, kind: StackConfig,
            padding_T: np.ndarray | None = None) -> RouterLosses:
    """Return the losses of one stack from what its Switch layers gave; `padding_T` is bool.

    >>> from switch_np.switch.plan import fill
    >>> one, other = np.array([[.75, .25]]), np.array([[.25, .75]])
    >>> outs = [LayerOutput(None, 1.5, np.float64(1), p, None, None, fill(
    ...     p.argmax(1)[:, None], 2, capacity=1)) for p in (one, other)]
    >>> config = ModelConfig(router_losses="pooled")
    >>> float(forward(outs, config, config.decoder).balance[0])    # each layer by itself: 1.5
    1.0
    """
    balance, z = [out.balance_loss for out in switched], [out.z_loss for out in switched]
    if config.router_losses == "sum":
        return RouterLosses(tuple(balance), tuple(z), False, len(switched), None)
    if not _pools(config, kind):
        return RouterLosses((), (), True, len(switched), None)
    if config.switch.conventions.balance_padding == "include":
        padding_T = None
    counts = {name: np.sum([getattr(out.plan, name) for out in switched], axis=0)
              for name in ("balance_count", "balance_tokens")}
    losses, caches = zip(*(balance_loss.forward(out.probs, replace(out.plan, **counts), padding_T)
                           for out in switched))
    # Not `sum`, which begins with 0: NumPy 1.26 lifts a float32 scalar that meets a number.
    sum_z = reduce(add, z)
    mean_z = (sum_z * (1 / len(switched))).astype(sum_z.dtype)
    return RouterLosses((reduce(add, losses),), (mean_z,), True, len(switched), caches[0])


def backward(d_balance: float, d_z: float,
             losses: RouterLosses) -> tuple[float, float, np.ndarray | None]:
    """Return what arrives at every layer: at its balance loss, z-loss, and probabilities (T, E)."""
    if not losses.pooled:
        return d_balance, d_z, None
    if losses.slope is None:
        return 0.0, 0.0, None
    return 0.0, d_z / losses.num_layers, balance_loss.backward(d_balance, losses.slope)


def _pools(config: ModelConfig, kind: StackConfig) -> bool:
    """Whether a stack has losses to pool."""
    return bool(kind.switch_layers) and not (
        config.router_losses == "transformers" and kind.switch_every == 1)
