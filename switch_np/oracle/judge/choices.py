"""Judge a choice of experts: the same, a legal flip at a near-tie, or wrong.

Rounding moves scores, so two experts with close scores may change places; and every library breaks
exact ties in its own way. So a choice is judged by what it gave up:

    gap = largest score left out - smallest score chosen
    gap < 0                the k best: the same
    0 <= gap <= tau        a tie or near-tie at the cut: the same or a legal flip
    gap > tau              wrong

The comparison with tau is exact: it includes the rounding error of the difference (Knuth's TwoSum),
so a gap just above tau is never let through.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from switch_np.operations import signatures
from switch_np.operations.adapters import lift, precision_of, to_numpy
from switch_np.operations.roundoff import named

SAME, FLIP, WRONG = 0, 1, 2
CHUNK = 2 ** 22                                          # scores compared at a time


@dataclass(frozen=True, eq=False)
class RoutingReport:
    """The verdict on each token's experts.

    Attributes
    ----------
    status
        (T,) 0 the same, 1 a legal flip, 2 wrong.
    gap, tau
        (T,) what the choice gave up, and how much it may.
    expert, wanted
        (T, K) the kernel's choice, and the k best, the lowest index first at a tie.
    """

    status: np.ndarray
    gap: np.ndarray
    tau: np.ndarray
    expert: np.ndarray
    wanted: np.ndarray

    @property
    def ok(self) -> bool:
        """Whether no token has a wrong expert."""
        return not (self.status == WRONG).any()

    def __str__(self) -> str:
        lines = [f"{np.count_nonzero(self.status == SAME)} of {len(self.status)} tokens have the "
                 f"expected experts"]
        for status, text in ((WRONG, "wrong"), (FLIP, "legal flip")):
            tokens = np.flatnonzero(self.status == status)
            if len(tokens):
                t = tokens[self.gap[tokens].argmax()]
                why = ("not distinct experts of the layer" if np.isinf(self.gap[t]) else
                       f"gap {self.gap[t]:.2g} {'>' if status == WRONG else '<='} tau "
                       f"{self.tau[t]:.2g}")
                lines.append(
                    f"{len(tokens)} {text}{'s' * (status == FLIP and len(tokens) > 1)}, such as "
                    f"token {t}: got {self.expert[t].tolist()}, want {self.wanted[t].tolist()}, "
                    f"{why}")
        return "; ".join(lines)


@signatures.checked
def compare_routing(scores: Any, expert: Any, *, tau: Any = None,
                    precision: str | None = None) -> RoutingReport:
    """Judge a choice of experts by these scores.

    Parameters
    ----------
    scores, expert
        (T, E) logits or probabilities, and (T,) or (T, K) ids, in any order, of any array library.
    tau
        Scalar or (T,): a choice that gives up no more than this is legal. Default: four units in
        the last place of the row's largest score.
    precision
        The precision of that last place; default: that of `scores`.

    Examples
    --------
    >>> report = compare_routing([[0.5, 0.5], [0.1, 0.9]], [1, 0], tau=1e-3)
    >>> report.status.tolist()
    [1, 2]
    >>> print(report)
    0 of 2 tokens have the expected experts; 1 wrong, such as token 1: got [0], want [1], gap 0.8 \
> tau 0.001; 1 legal flip, such as token 0: got [1], want [0], gap 0 <= tau 0.001
    """
    scores_TE = to_numpy(scores, "scores")
    if scores_TE.ndim != 2:
        raise ValueError(f"scores must have shape (T, E), got {scores_TE.shape}")
    if scores_TE.dtype.kind == "c" or np.isnan(scores_TE).any():
        raise ValueError("scores must be real numbers, got NaN or complex ones")
    t, e = scores_TE.shape
    expert_TK = to_numpy(expert, "expert")
    if expert_TK.dtype.kind not in "iu" or expert_TK.shape[:1] != (t,) or expert_TK.ndim > 2:
        raise ValueError(f"expert must hold whole numbers of shape ({t},) or ({t}, K), got "
                         f"{expert_TK.dtype} of shape {expert_TK.shape}")
    expert_TK = expert_TK.reshape(t, -1) if t else expert_TK.reshape(0, 1)
    if not 1 <= expert_TK.shape[1] <= e:
        raise ValueError(f"expert must name 1 to {e} experts per token, got {expert_TK.shape[1]}")
    if tau is None:
        unit = 2 * named(precision or precision_of(scores) or "float64").store
        # Experts that may not be chosen have a score of -inf.
        size_TE = np.where(np.isfinite(scores_TE), np.abs(scores_TE), 0)
        tau_T = 4 * unit * size_TE.max(axis=1, initial=0).astype(np.float64)
    else:
        tau_T = lift(tau, "tau")
        if tau_T.shape not in ((), (t,)) or not (tau_T >= 0).all():
            raise ValueError(f"tau must be a number of at least 0 or ({t},) of them, got "
                             f"{tau if tau_T.ndim == 0 else f'shape {tau_T.shape}'}")
        tau_T = np.broadcast_to(tau_T, (t,))
    rows = [slice(i, i + CHUNK // e + 1) for i in range(0, max(t, 1), CHUNK // e + 1)]
    parts = [_judge(scores_TE[part].astype(np.float64), expert_TK[part].astype(np.int64),
                    tau_T[part]) for part in rows]
    status, gap, wanted = map(np.concatenate, zip(*parts))
    return RoutingReport(status, gap, tau_T, expert_TK, wanted)


def valid(expert_TK: np.ndarray, num_experts: int) -> np.ndarray:
    """Return (T,) whether a token's choices are experts, and distinct ones."""
    ordered_TK = np.sort(expert_TK, axis=1)
    distinct_T = (np.diff(ordered_TK, axis=1) > 0).all(axis=1)
    return distinct_T & (ordered_TK[:, 0] >= 0) & (ordered_TK[:, -1] < num_experts)


def same_experts(one_TK: np.ndarray, other_TK: np.ndarray) -> np.ndarray:
    """Return (T,) whether a token's choices are the same, in whatever order."""
    same_T: np.ndarray = (np.sort(one_TK, axis=1) == np.sort(other_TK, axis=1)).all(axis=1)
    return same_T


def _judge(scores_TE: np.ndarray, expert_TK: np.ndarray,
           tau_T: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return status (T,), gap (T,) and the k best (T, K) of some tokens."""
    e, k = scores_TE.shape[1], expert_TK.shape[1]
    known_TK, invalid_T = np.clip(expert_TK, 0, e - 1), ~valid(expert_TK, e)
    lowest_T = np.take_along_axis(scores_TE, known_TK, axis=1).min(axis=1, initial=np.inf)
    rest_TE = scores_TE.copy()
    np.put_along_axis(rest_TE, known_TK, -np.inf, axis=1)
    highest_T = rest_TE.max(axis=1, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        gap_T = np.where(highest_T == lowest_T, 0.0, highest_T - lowest_T)
        back_T = gap_T + lowest_T                    # TwoSum: gap + lost is the exact difference
        lost_T = (highest_T - back_T) - (lowest_T - (back_T - gap_T))
    over_T = (gap_T > tau_T) | ((gap_T == tau_T) & (np.nan_to_num(lost_T) > 0))
    wanted_TK = expert_TK.copy()
    unsure_T = (gap_T >= 0) | invalid_T
    wanted_TK[unsure_T] = np.argsort(-scores_TE[unsure_T], axis=1, kind="stable")[:, :k]
    other_T = ~same_experts(wanted_TK, expert_TK)
    status_T = np.where(invalid_T | (over_T & other_T), WRONG, np.where(other_T, FLIP, SAME))
    gap_T[invalid_T] = np.inf
    return status_T.astype(np.int8), gap_T, wanted_TK
