"""The router's losses of a stack: one for each Switch layer, or pooled over its layers.

Source: section 2.2 of the paper: every Switch layer adds its own. Pooled: transformers 5.23.0,
whose `load_balancing_loss_func` and `router_z_loss_func` see the router logits of all Switch layers
laid end to end along the sequence.

Forward:   sum: what the layers gave.  pooled: balance = mean over groups of E · Σ_e f_e P_e with f
           and P over the tokens of all L layers: with the counts and the tokens of all layers in
           each layer's slope, what the layers then give adds up;  z = mean of the layers' z-losses.
Backward:  sum: d_L goes to every layer.  pooled: f has no gradient; the probabilities of all layers
           get one and the same slope, that of `balance_loss` with the pooled counts; each layer's
           z-loss gets d_z / L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from switch_np.switch import balance_loss
from switch_np.switch.balance_loss import BalanceCache
from switch_np.switch.layer import LayerOutput
from switch_np.transformer.model_config import ModelConfig, StackConfig


class RouterLosses(NamedTuple):
    """What a stack adds, without coefficients.

    Saved for backward: whether the losses are pooled, over how many layers, and the slope of the
    pooled balance loss (None where there is none).
    """

    balance: tuple[np.ndarray, ...]
    z: tuple[np.ndarray, ...]
    pooled: bool
    num_layers: int
    slope: BalanceCache | None


def names(config: ModelConfig) -> tuple[str, ...]:
    """Return the names of what adds losses: the Switch layers, or the stacks that pool theirs.

    >>> names(ModelConfig()), names(ModelConfig(router_losses="pooled"))
    (('decoder.1', 'decoder.3'), ('decoder',))
    """
    if config.router_losses == "sum":
        return config.switch_names
    return tuple(name for name, kind in config.stacks.items() if _pools(config, kind))


def forward(switched: Sequence[LayerOutput], config: ModelConfig, kind: StackConfig,
            padding_T: np.ndarray | None = None) -> RouterLosses:
    """Return the losses of one stack.

    Parameters
    ----------
    switched
        What its Switch layers gave.
    config, kind
        The model's options, and the stack's.
    padding_T
        Bool (T,), True where a token is padding.

    Examples
    --------
    >>> from switch_np.switch.plan import fill
    >>> one, other = np.array([[.75, .25]]), np.array([[.25, .75]])
    >>> outs = [LayerOutput(None, 1.5, np.float64(1), p, None, None, fill(
    ...     p.argmax(1)[:, None], 2, capacity=1)) for p in (one, other)]
    >>> config = ModelConfig(router_losses="pooled")
    >>> float(forward(outs, config, config.decoder).balance[0])    # each layer by itself: 1.5
    1.0
    """
    if config.router_losses == "sum":
        return RouterLosses(tuple(out.balance_loss for out in switched),
                            tuple(out.z_loss for out in switched), False, len(switched), None)
    if not _pools(config, kind):
        return RouterLosses((), (), True, len(switched), None)
    if config.switch.conventions.balance_padding == "include":
        padding_T = None
    count_GE = sum(out.plan.balance_count for out in switched)
    tokens_G = sum(out.plan.balance_tokens for out in switched)
    parts, caches = zip(*(balance_loss.forward(
        out.probs, replace(out.plan, balance_count=count_GE, balance_tokens=tokens_G), padding_T)
        for out in switched))
    # NumPy 1.26 lifts a float32 scalar that meets a number, be it the 0 that sum begins with.
    balance, z = (sum(more, first) for first, *more in (parts, [out.z_loss for out in switched]))
    z = (z * (1 / len(switched))).astype(z.dtype)
    return RouterLosses((balance,), (z,), True, len(switched), caches[0])


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
