"""Other balance losses: other means, or other products, than E Σ f P."""

from collections.abc import Iterator

import numpy as np

from switch_np.oracle.explain.causes import Evidence, Suspects


def other_balance_losses(name: str, evidence: Evidence) -> Suspects:
    """The balance loss, and gradients that hold its own, under another formula."""
    truth, p, plan = evidence.truth, evidence.truth.problem, evidence.truth.plan
    own = truth.seeds.get("balance", {}).get(name[2:])
    if truth.balance_loss is None or len(plan.balance_count) != 1 or not plan.balance_tokens[0]:
        return
    real_T = np.ones(len(plan.expert), bool) if p.padding_T is None else ~p.padding_T
    share_T1, f_E = real_T[:, None] / real_T.sum(), plan.balance_count[0] / plan.balance_tokens[0]
    mean_E = (share_T1 * truth.probs).sum(axis=0)
    if not np.allclose(len(f_E) * f_E @ mean_E, truth.balance_loss):
        return                                              # conventions of another formula
    for text, value, d_router in _formulas(evidence, f_E, mean_E, share_T1):
        text = f"{name}: {text}"
        if name == "balance_loss":
            yield text, np.asarray(value)
        elif own is not None and p.balance_coef:
            d_router = {key: p.balance_coef * d_TE for key, d_TE in d_router.items()}
            other = evidence.rows.of_router(**d_router)[name[2:]] if d_router else 0.0
            yield text, evidence.want[name] - p.balance_coef * own + other


def _formulas(evidence: Evidence, f_E: np.ndarray, mean_E: np.ndarray, share_T1: np.ndarray
              ) -> Iterator[tuple[str, float, dict[str, np.ndarray]]]:
    """Yield what is done, the loss, and its gradient with respect to probabilities or logits."""
    truth, expert_TK, e = evidence.truth, evidence.truth.plan.expert, len(f_E)
    chosen_TE = np.zeros_like(truth.probs)
    np.put_along_axis(chosen_TE, expert_TK, 1.0, axis=1)
    yield ("P is the mean of the logits, not of the probabilities",
           e * f_E @ (share_T1 * truth.logits).sum(axis=0), {"d_logits": e * share_T1 * f_E})
    yield ("the sum of f is multiplied by the sum of the chosen experts' mean probabilities",
           e * f_E.sum() * (share_T1 * chosen_TE * truth.probs).sum(),
           {"d_probs": e * f_E.sum() * share_T1 * chosen_TE})
    yield "f is multiplied by itself, not by P", e * f_E @ f_E, {}
    yield ("P is multiplied by itself, not by f", e * mean_E @ mean_E,
           {"d_probs": 2 * e * share_T1 * mean_E})
