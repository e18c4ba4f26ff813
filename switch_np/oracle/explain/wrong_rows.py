"""y if the experts had read or written other rows than their own tokens'."""

from collections.abc import Iterator

import numpy as np

from switch_np.oracle.explain.causes import Evidence, Suspects


def misread_rows(name: str, evidence: Evidence) -> Suspects:
    """Which wrong rows the experts seem to have read."""
    truth, plan = evidence.truth, evidence.truth.plan
    if name == "y" and plan.layout == "packed" and len(plan.token):
        x_TD, y_TD = (value.reshape(-1, value.shape[-1]) for value in (truth.problem.x, truth.y))
        rest_TD = y_TD - evidence.rows.mixed(plan.choice_of_row, x_TD[plan.token_of_row])
        for text, choice_R, rows_RD in _readings(evidence, x_TD):
            yield f"y: {text}", rest_TD + evidence.rows.mixed(choice_R, rows_RD)


def _readings(evidence: Evidence, x_TD: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield words, the choice (token · K + k) that each row is taken for, and the rows read.

    Row r belongs to the expert whose rows of the plan hold r.
    """
    plan = evidence.truth.plan
    (t, k), n, d = plan.expert.shape, plan.num_rows, x_TD.shape[1]
    dropped = np.flatnonzero(~plan.kept.ravel())
    for order in (np.arange(n), evidence.rows.by_token):
        choice_R = plan.choice_of_row[order]
        rows_RD = x_TD[choice_R // k]
        if n > 1:
            yield ("row r of the experts' input starts at element r, not at r · D: a stride of 1",
                   choice_R, rows_RD.ravel()[np.arange(n)[:, None] + np.arange(d)])
        if len(dropped):
            shifted = np.concatenate([dropped, choice_R])[:n]
            yield ("the experts' rows are shifted by the number of dropped choices, which are "
                   "sorted to the head", shifted, x_TD[shifted // k])
        for shift in (-4, -3, -2, -1, 1, 2, 3, 4) if n > 1 else ():
            moved, where = np.roll(choice_R, shift), "before" if shift > 0 else "after"
            yield (f"each expert's rows are those {abs(shift)} {where} its own", moved,
                   x_TD[moved // k])
            yield (f"the experts' outputs go to the rows {abs(shift)} {where} their own", moved,
                   rows_RD)
    yield ("the experts read the first tokens in order, not those sent to them",
           plan.choice_of_row, x_TD[np.arange(n) % t])
    backwards = [np.arange(begin, end)[::-1] for begin, end in zip(plan.start, plan.start[1:])]
    yield ("each expert's tokens are read in reverse", plan.choice_of_row,
           x_TD[plan.token_of_row][np.concatenate(backwards)])
