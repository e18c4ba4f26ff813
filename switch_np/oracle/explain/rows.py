"""Right rows and blocks in the wrong place, dropped tokens that are not dropped, misread rows."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from switch_np.oracle.explain.causes import Evidence, Suspects
from switch_np.oracle.explain.partial_sums import TILES
from switch_np.oracle.judge.tensor import by_row, describe, expert_axis
from switch_np.oracle.truth.reference import outputs_of
from switch_np.oracle.truth.solution import ROWS


def lost_rows(name: str, evidence: Evidence) -> Suspects:
    """Right, except that the rows of some tokens are zero."""
    if name in ROWS:
        got_TD, want_TD = (value.reshape(-1, value.shape[-1])
                           for value in (evidence.got[name], evidence.want[name]))
        lost_T = np.asarray(~got_TD.any(axis=1) & want_TD.any(axis=1))
        if lost_T.any():
            tokens = ", ".join(map(str, np.flatnonzero(lost_T)[:6]))
            tokens += ", ..." if lost_T.sum() > 6 else ""
            last = "" if got_TD[lost_T.argmax():].any() else ", the last ones"
            what = "rows" if by_row(name, evidence.truth) else "tokens"
            yield (f"{name} is zero for {lost_T.sum()} of {len(lost_T)} {what}{last}: {tokens}",
                   want_TD * ~lost_T[:, None])


def moved_rows(name: str, evidence: Evidence) -> Suspects:
    """The right rows of y or of a gradient, at the wrong places."""
    if name in ROWS:
        rows_TD = evidence.want[name].reshape(-1, evidence.want[name].shape[-1])
        source = _sources(evidence.got[name].reshape(rows_TD.shape), rows_TD)
        token = (source != np.arange(len(source))).argmax()
        what = "row" if by_row(name, evidence.truth) else "token"
        permuted = sorted(source) == list(range(len(source)))
        if name == "d_gates" and not permuted:             # so few numbers resemble some others
            return
        order = " into the order in which the experts get them" if (
            permuted and what == "token"
            and (np.diff(evidence.truth.plan.expert[source, :1], axis=0) >= 0).all()) else ""
        yield (f"{name} has its {what}s permuted{order}: {what} {token} holds the row of {what} "
               f"{source[token]}", rows_TD[source])


def moved_experts(name: str, evidence: Evidence) -> Suspects:
    """The right blocks of a weight's gradient, at the wrong experts."""
    want, e = evidence.want[name], evidence.truth.plan.load.shape[1]
    axis = expert_axis(name, want.shape, e)
    if axis is not None and want.ndim > 1:
        source = _sources(*(np.moveaxis(value, axis, 0).reshape(e, -1)
                            for value in (evidence.got[name], want)))
        first = (source != np.arange(e)).argmax()
        yield (f"{name} has its experts permuted: expert {first} holds that of expert "
               f"{source[first]}", np.take(want, source, axis=axis))


def _sources(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return for each row of `got` the nearest row of `want`; at a tie, its own."""
    size = (want ** 2).sum(axis=1)
    distance = size - 2 * got @ want.T
    distance[np.diag_indices(len(got))] -= 1e-9 * max(float(size.max(initial=0.0)), 1e-300)
    nearest: np.ndarray = distance.argmin(axis=1)
    return nearest


def transposed(name: str, evidence: Evidence) -> Suspects:
    """The right matrix, or an expert's, transposed."""
    want = evidence.want[name]
    if want.ndim > 1 and (name not in ROWS or name == "d_gates"):
        yield f"{name} is transposed", want.swapaxes(-1, -2).reshape(want.shape)


def passed_through(name: str, evidence: Evidence) -> Suspects:
    """y with dropped tokens passed through."""
    truth, gone_T = evidence.truth, np.asarray(~evidence.truth.plan.kept.any(axis=1))
    if name == "y" and truth.problem.whole and gone_T.any() and len(truth.plan.token):
        x_TD, y_TD = (value.reshape(-1, value.shape[-1]) for value in (truth.problem.x, truth.y))
        where = describe(int(gone_T.argmax()), truth.plan)
        for text, passed_TD in (("x", x_TD), ("gate · x", x_TD * truth.gates[:, :1])):
            yield (f"y: dropped tokens are passed on as {text}, want 0, such as {where}",
                   np.where(gone_T[:, None], passed_TD, y_TD))


def another_slot(name: str, evidence: Evidence) -> Suspects:
    """y with dropped choices that get what stands in a slot of their expert's buffer."""
    truth, plan, p = evidence.truth, evidence.truth.plan, evidence.truth.problem
    if name != "y" or not p.whole or plan.layout != "packed" or not plan.num_rows or (
            p.config.conventions.gate_at != "output"):
        return
    token_N, choice_N = np.nonzero(~plan.kept & p.served_T[:, None])
    if not len(token_N):
        return
    expert_N = plan.expert[token_N, choice_N]
    used_N1 = np.diff(plan.start)[expert_N][:, None] > 0
    out_RD, gates_N1 = truth.intermediates["experts.out"], truth.gates[token_N, choice_N][:, None]
    for which, row_N in (("last", plan.start[expert_N + 1] - 1), ("first", plan.start[expert_N])):
        y_TD = truth.y.reshape(-1, truth.y.shape[-1]).copy()
        np.add.at(y_TD, token_N, used_N1 * gates_N1 * out_RD[row_N.clip(0, plan.num_rows - 1)])
        yield f"y: dropped choices get the output in their expert's {which} slot, want 0", y_TD


def not_inverted(name: str, evidence: Evidence) -> Suspects:
    """Rows sent back in the order of the experts once more, not in that of the tokens."""
    truth, plan = evidence.truth, evidence.truth.plan
    if name not in ("y", "d_x") or truth.problem.alone not in (None, "experts") or (
            plan.layout != "packed" or not plan.kept.all() or not plan.kept.size):
        return
    order = plan.choice_of_row[evidence.rows.by_token]
    if name == "y":
        gates_TK1 = truth.gates[..., None]
        out_TKD = truth.intermediates["experts.out"][plan.row_of_choice]
        ways = [(out_TKD, gates_TK1), (gates_TK1 * out_TKD, np.ones_like(gates_TK1))]
    else:
        ways = [(evidence.rows.d_x_TKD, np.ones_like(truth.gates[..., None]))]
    for rows_TKD, weight_TK1 in ways:
        flat_QD = rows_TKD.reshape(len(order), -1)
        moved_TKD = flat_QD[order][order].reshape(rows_TKD.shape)
        more_TD = (weight_TK1 * (moved_TKD - rows_TKD)).sum(axis=1)
        yield (f"{name}: the rows come back by the permutation that sorted them by expert, not by "
               "its inverse", evidence.want[name] + more_TD.reshape(truth.y.shape))


def undropped(name: str, evidence: Evidence) -> Suspects:
    """Choices that were dropped but still have an effect."""
    other, truth = evidence.undropped, evidence.truth
    if other is not None and not name.endswith("_loss"):
        what = "are computed and added too" if name == "y" else "send a gradient too"
        yield f"{name}: dropped choices {what}", other.outputs()[name]
        for part in ("experts", "gate") if name == "d_x" else ():    # or one part alone changes
            yield (f"{name}: dropped choices {what}", truth.grads["x"]
                   + other.terms["x"].get(part, 0) - truth.terms["x"].get(part, 0))


def misread_rows(name: str, evidence: Evidence) -> Suspects:
    """Which wrong rows the experts seem to have read."""
    truth, plan = evidence.truth, evidence.truth.plan
    part = truth.problem.alone
    if name == "y" and plan.layout == "packed" and len(plan.token) and (
            part in (None, "experts", "product")):
        x_TD, y_TD = (value.reshape(-1, value.shape[-1]) for value in (truth.problem.x, truth.y))
        rest_TD = y_TD - evidence.rows.mixed(plan.choice_of_row, x_TD[plan.token_of_row])
        for text, choice_R, rows_RD in _readings(evidence, x_TD):
            yield f"y: {text}", rest_TD + evidence.rows.mixed(choice_R, rows_RD)


def _readings(evidence: Evidence, x_TD: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield a description, each row's supposed choice (token · K + k), and the rows read.

    Row r belongs to the expert whose rows in the plan include r.
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
                   "sorted to the front", shifted, x_TD[shifted // k])
        for shift in (-4, -3, -2, -1, 1, 2, 3, 4) if n > 1 else ():
            moved, where = np.roll(choice_R, shift), "before" if shift > 0 else "after"
            yield (f"each expert's rows are those {abs(shift)} {where} its own", moved,
                   x_TD[moved // k])
            yield (f"the experts' outputs go to the rows {abs(shift)} {where} their own", moved,
                   rows_RD)
    own_R = np.repeat(plan.start[:-1], np.diff(plan.start))
    for tile in TILES:
        yield (f"each expert's rows are read from a multiple of {tile} on, not from its own first "
               "row", plan.choice_of_row, x_TD[plan.token_of_row][np.arange(n) - own_R % tile])
    yield ("the experts read the first tokens in order, not those sent to them",
           plan.choice_of_row, x_TD[np.arange(n) % t])
    backwards = [np.arange(begin, end)[::-1] for begin, end in zip(plan.start, plan.start[1:])]
    yield ("each expert's tokens are read in reverse", plan.choice_of_row,
           x_TD[plan.token_of_row][np.concatenate(backwards)])


def other_orders(name: str, evidence: Evidence) -> Suspects:
    """Rows taken in another order than sorted by expert, and an expert's by token."""
    p, plan = evidence.truth.problem, evidence.truth.plan
    if p.alone not in ("dispatch", "combine"):
        return
    token_N, choice_N = np.nonzero(plan.kept)
    expert_N = plan.expert[token_N, choice_N]
    for text, keys in (("by expert, then first choices before second ones",
                        (token_N, choice_N, expert_N)),
                       ("by token, not by expert", (choice_N, token_N)),
                       ("by choice, then by token, not by expert", (token_N, choice_N)),
                       ("by expert, an expert's last token first", (-token_N, expert_N))):
        order = np.lexsort(keys)
        other = replace(plan, token=token_N[order], choice=choice_N[order])
        if (other.choice_of_row != plan.choice_of_row).any():
            yield f"{name}: the rows are in order {text}", outputs_of(p, other)[1][name]
