"""The losses over ranks: what one process has for the tokens of all.

Source: equations 4 to 6 and section 5 of the paper. They stand in for `switch.balance_loss` and
`switch.z_loss` in the layer, and for `transformer.cross_entropy` in the model.

Forward:   L = Σ_r w_r L_r / Σ_r w_r, each rank's loss weighted by how much it is a mean of: real
           tokens (z-loss, cross-entropy) or groups that have any (balance loss). Ranks with as much
           count alike; with padding they have not, and a plain mean over ranks would be wrong.
Backward:  d_L_r = d_L · w_r / Σ_s w_s: the share. From there on, each rank's own backward.
The balance loss over all tokens instead of each rank's: f and P come from the counts and sums of
all ranks. With all counts in its slope, a rank's loss is its term of the sum, and its share is 1.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from switch_np.parallel import all_reduce
from switch_np.parallel.communicator import Communicator
from switch_np.switch import balance_loss, z_loss
from switch_np.switch.plan import Plan
from switch_np.transformer import cross_entropy


def mean(loss: np.ndarray, weight: float, comm: Communicator,
         what: str = "losses") -> tuple[np.ndarray, float]:
    """Return the ranks' losses averaged by weight, 0 without any weight; and this rank's share.

    >>> from switch_np.parallel import simulated
    >>> simulated.run(2, lambda comm: float(mean(np.array([1.0, 4.0])[comm.rank], [2, 1][comm.rank],
    ...                                          comm)[0]))
    [2.0, 2.0]
    """
    pair = np.array([loss * weight, weight], np.result_type(loss, np.float64))
    total, weights = all_reduce.forward(pair, comm, what)
    share = 1 / max(float(weights.real), 1.0)
    return (total * share).astype(loss.dtype), weight * share


class LossCache(NamedTuple):
    """Saved for backward: this rank's cache, and its share of the loss."""

    own: Any
    share: float


class Balance(NamedTuple):
    """The balance loss, over each rank's groups or over all tokens; `name` as of the mixture."""

    comm: Communicator
    over: str
    name: str = ""

    def forward(self, probs_TE: np.ndarray, plan: Plan,
                padding_T: np.ndarray | None = None) -> tuple[np.ndarray, LossCache]:
        """Return the loss of all ranks, a scalar."""
        if self.over == "all":
            plan = self._as_one_group(plan)
        loss, cache = balance_loss.forward(probs_TE, plan, padding_T)
        if self.over == "all":
            return all_reduce.forward(loss, self.comm, f"{self.name}balance"), LossCache(cache, 1.0)
        groups = int(np.count_nonzero(plan.balance_tokens))
        loss, share = mean(loss, groups, self.comm, f"{self.name}balance")
        return loss, LossCache(cache, share)

    def _as_one_group(self, plan: Plan) -> Plan:
        """Return a plan that counts the tokens of all ranks, in one group."""
        counts = np.append(plan.balance_count.sum(axis=0), plan.balance_tokens.sum())
        counts = all_reduce.forward(counts, self.comm, f"{self.name}load")
        return replace(plan, balance_count=counts[None, :-1], balance_tokens=counts[-1:],
                       group=np.zeros_like(plan.group))

    def backward(self, d_loss: float, cache: LossCache) -> np.ndarray:
        """Return d_probs (T, E)."""
        return balance_loss.backward(d_loss * cache.share, cache.own)


class Z(NamedTuple):
    """The z-loss; `name` as of the mixture."""

    comm: Communicator
    name: str = ""

    def forward(self, log_z_T: np.ndarray,
                padding_T: np.ndarray | None = None) -> tuple[np.ndarray, LossCache]:
        """Return the loss of all ranks, a scalar."""
        loss, cache = z_loss.forward(log_z_T, padding_T)
        tokens = len(log_z_T) - (0 if padding_T is None else int(padding_T.sum()))
        loss, share = mean(loss, tokens, self.comm, f"{self.name}z")
        return loss, LossCache(cache, share)

    def backward(self, d_loss: float, cache: LossCache) -> np.ndarray:
        """Return d_log_z (T,)."""
        return z_loss.backward(d_loss * cache.share, cache.own)


class CrossEntropy(NamedTuple):
    """The cross-entropy of the model."""

    comm: Communicator

    def forward(self, logits_TV: np.ndarray,
                targets_T: np.ndarray) -> tuple[np.ndarray, LossCache]:
        """Return the loss of all ranks, a scalar."""
        loss, cache = cross_entropy.forward(logits_TV, targets_T)
        counted = int((targets_T != cross_entropy.IGNORED).sum())
        loss, share = mean(loss, counted, self.comm, "cross-entropy")
        return loss, LossCache(cache, share)

    def backward(self, d_loss: float, cache: LossCache) -> np.ndarray:
        """Return d_logits (T, V)."""
        return cross_entropy.backward(d_loss * cache.share, cache.own)
