"""The losses over ranks: what one process would compute from the tokens of all.

Source: equations 4 to 6 and section 5 of the paper. They stand in for `balance_loss` and `z_loss`
in the layer, and for `cross_entropy` in the model.

Forward:   L = Σ_r w_r L_r / Σ_r w_r, each rank's loss weighted by what it is a mean over: real
           tokens, targets that count, groups with real tokens. A plain mean over the ranks would
           be wrong as soon as padding makes them unequal.
Backward:  d_L_r = d_L · w_r / Σ_s w_s, the share; from there on, each rank's own backward.
The balance loss over all tokens: E Σ_e f_e P_e with f counted over all ranks is linear in P, which
is the ranks' P_r weighted by their tokens: so it is the mean of the losses that ranks have with f
of all and P of their own.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from switch_np.parallel import all_reduce
from switch_np.parallel.communicator import Communicator
from switch_np.switch import balance_loss, z_loss
from switch_np.switch.plan import Plan
from switch_np.transformer import cross_entropy as one_cross_entropy


class Mean(NamedTuple):
    """A loss averaged over ranks; `part` is a rank's own, `weight` takes what that takes."""

    part: Any
    weight: Callable[..., int]
    comm: Communicator
    what: str

    def forward(self, *arguments: Any) -> tuple[np.ndarray, tuple[Any, float]]:
        """Return the loss, the same on all ranks, 0 without weight; saved: cache and share."""
        loss, cache = self.part.forward(*arguments)
        weight = self.weight(*arguments)
        pair = np.array([loss * weight, weight], np.result_type(loss, np.float64))
        total, weights = all_reduce.forward(pair, self.comm, self.what)
        scale = 1 / max(float(weights.real), 1.0)
        return (total * scale).astype(loss.dtype), (cache, weight * scale)

    def backward(self, d_loss: float, cache: tuple[Any, float]) -> np.ndarray:
        """Return what the part's own backward does."""
        own, share = cache
        gradient: np.ndarray = self.part.backward(d_loss * share, own)
        return gradient


def z(comm: Communicator, name: str = "") -> Mean:
    """Return the z-loss of all ranks; `name` is a prefix for the name of its traffic.

    >>> from switch_np.parallel import simulated
    >>> log_z = [np.array([1.0, 3.0]), np.array([5.0])]
    >>> [float(loss) for loss, _ in simulated.run(2, lambda comm: z(comm).forward(log_z[comm.rank],
    ...                                                                         None))]
    [11.666666666666666, 11.666666666666666]
    """
    return Mean(z_loss, lambda log_z_T, padding_T: len(log_z_T) - (
        0 if padding_T is None else int(padding_T.sum())), comm, f"{name}z")


def cross_entropy(comm: Communicator) -> Mean:
    """Return the cross-entropy of all ranks."""
    return Mean(one_cross_entropy, lambda _, targets_T: int(
        (targets_T != one_cross_entropy.IGNORED).sum()), comm, "cross-entropy")


def balance(comm: Communicator, over: str = "rank", name: str = "") -> Mean:
    """Return the balance loss, over the groups of each rank or over the tokens of "all"."""
    if over == "all":
        return Mean(OverAll(comm, f"{name}load"), lambda _, plan, padding_T: int(
            plan.balance_tokens.sum()), comm, f"{name}balance")
    return Mean(balance_loss, lambda _, plan, padding_T: int(
        np.count_nonzero(plan.balance_tokens)), comm, f"{name}balance")


class OverAll(NamedTuple):
    """A rank's balance loss with f of all ranks and P of its own."""

    comm: Communicator
    what: str

    def forward(self, probs_TE: np.ndarray, plan: Plan,
                padding_T: np.ndarray | None) -> tuple[np.ndarray, Any]:
        """Return the loss, and what `balance_loss` saves."""
        count_E = all_reduce.forward(plan.balance_count.sum(axis=0), self.comm, self.what)
        tokens = plan.balance_tokens.sum(keepdims=True)
        plan = replace(plan, balance_count=count_E[None] / max(count_E.sum(), 1) * tokens,
                       balance_tokens=tokens, group=np.zeros_like(plan.group))
        return balance_loss.forward(probs_TE, plan, padding_T)

    def backward(self, d_loss: float, cache: Any) -> np.ndarray:
        """Return d_probs (T, E)."""
        return balance_loss.backward(d_loss, cache)
