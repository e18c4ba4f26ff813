"""y if the experts had read or written other rows than their own tokens'.

Each function yields, in words, the tensors made from the reference that explain what came.
"""

from collections.abc import Iterator

import numpy as np

from switch_np.oracle.explain.causes import Evidence


def misread_rows(name: str, evidence: Evidence) -> Iterator[str]:
    """Yield which wrong rows the experts seem to have read."""
    truth, plan = evidence.truth, evidence.truth.plan
    if name != "y" or plan.layout != "packed" or not len(plan.token):
        return
    t, d = len(plan.expert), truth.y.shape[-1]
    x_TD = truth.problem.x.reshape(t, d)
    routed_TD = evidence.rows.mixed(plan.choice_of_row, x_TD[plan.token_of_row])
    rest_TD = truth.y.reshape(t, d) - routed_TD
    for text, choice_R, rows_RD in _readings(evidence, x_TD):
        suspect_TD = rest_TD + evidence.rows.mixed(choice_R, rows_RD)
        if evidence.misfit("y", suspect_TD.reshape(truth.y.shape)) < np.inf:
            yield f"y: {text}"


def _readings(evidence: Evidence, x_TD: np.ndarray
              ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield words, the choice (token · K + k) that each row is taken for, and the rows read.

    Row r belongs to the expert whose rows of the plan hold r.
    """
    plan = evidence.truth.plan
    (t, k), n, d = plan.expert.shape, plan.num_rows, x_TD.shape[1]
    dropped = np.flatnonzero(~plan.kept.ravel())
    for order in (np.arange(n), evidence.rows.by_token):
        choice_R = plan.choice_of_row[order]
        rows_RD = x_TD[choice_R // k]
        flat = rows_RD.ravel()
        if n > 1:
            yield ("row r of the experts' input starts at element r, not at r · D: a stride of 1",
                   choice_R, flat[np.arange(n)[:, None] + np.arange(d)])
        shifted = np.concatenate([dropped, choice_R])[:n]
        if len(dropped):
            yield ("the experts' rows are shifted by the number of dropped choices, which are "
                   "sorted to the head", shifted, x_TD[shifted // k])
        for shift in range(-4, 5):
            if shift and n > 1:
                moved = np.roll(choice_R, shift)
                yield (f"each expert's rows are those {abs(shift)} "
                       f"{'before' if shift > 0 else 'after'} its own", moved, x_TD[moved // k])
                yield (f"the experts' outputs go to the rows {abs(shift)} "
                       f"{'before' if shift > 0 else 'after'} their own", moved, rows_RD)
    yield ("the experts read the first tokens in order, not those sent to them",
           plan.choice_of_row, x_TD[np.arange(n) % t])
    yield ("each expert's tokens are read in reverse",
           plan.choice_of_row, x_TD[plan.token_of_row][_reversed(plan.start)])


def _reversed(start: np.ndarray) -> np.ndarray:
    return np.concatenate([np.arange(b - 1, a - 1, -1) for a, b in zip(start, start[1:])])
