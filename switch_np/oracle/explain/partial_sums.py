"""Gradients that sum over the wrong rows: a part of the tokens, rows of a neighbour, one choice.

A weight's gradient is Σ over an expert's rows of input ⊗ d_z, and d_x sums over a token's choices.
"""

import numpy as np

from switch_np.oracle.explain.causes import Evidence, Suspects
from switch_np.oracle.explain.expert_rows import weights_by_token

TILES = (8, 16, 32, 64, 128)
PLAIN = ("d_w_in", "d_w_out", "d_w_gate", "d_weights")


def parts_of_tokens(name: str, evidence: Evidence) -> Suspects:
    """An expert's gradient from only a part of the tokens."""
    t = len(evidence.truth.plan.expert)
    if name != "d_x" and "experts" in evidence.truth.terms.get(name[2:], {}):
        for text, mine in (("first half", slice(t // 2)), ("second half", slice(t // 2, t)),
                           ("first quarter", slice(t // 4)), ("even-numbered half", slice(0, t, 2)),
                           ("last quarter", slice(t - t // 4, t))):
            yield (f"{name} sums only over the {text} of the tokens",
                   evidence.rows.grads_of(text, mine)[name[2:]])


def rows_of_neighbours(name: str, evidence: Evidence) -> Suspects:
    """Sums over rows that begin too early, or end so; experts whose rows are lost."""
    plan = evidence.truth.plan
    if name not in PLAIN or plan.layout != "packed":
        return
    left_RD, right_RF = evidence.rows.factors(name[2:])
    begin, n = plan.start[:-1], np.diff(plan.start)
    windows = {f"from a multiple of {tile} on, not from each expert's own first row":
               (begin // tile * tile, n) for tile in TILES}
    windows |= {f"from {shift} row{'s' * (shift > 1)} too early": (np.maximum(begin - shift, 0), n)
                for shift in range(1, 9)}
    windows |= {f"without each expert's last rows, those beyond a multiple of {tile}":
                (begin, n // tile * tile) for tile in TILES}
    ways = [*windows.items()] + [
        (f"up to a multiple of {tile}, and so the next expert's too", (begin, -(-n // tile) * tile))
        for tile in TILES] + [
        (f"of each expert's {half} half alone", (begin + first, count))
        for middle in (n // 2, (n + 1) // 2)
        for half, first, count in (("first", 0, middle), ("second", middle, n - middle))]
    for order in (np.arange(len(left_RD)), evidence.rows.by_token):
        left, right = left_RD[order], right_RF[order]
        for text, (first, count) in ways:
            if (first != begin).any() or (count != n).any():
                yield f"{name} sums over rows {text}", np.stack(
                    [left[i:i + m].T @ right[i:i + m] for i, m in zip(first, count)])
    empty, zero = (~value.reshape(len(n), -1).any(axis=1)
                   for value in (evidence.want[name], evidence.got[name]))
    lost = (n > 0) & zero & ~empty
    if lost.any() and not lost[n > 0].all():
        yield (f"{name} is zero for experts that have tokens "
               f"({', '.join(map(str, np.flatnonzero(lost)))}): their rows are lost", None)


def parts_of_features(name: str, evidence: Evidence) -> Suspects:
    """y if the experts' products leave out their last terms, or split them; d_x without a part."""
    truth, p = evidence.truth, evidence.truth.problem
    gated, plain = "w_gate" in p.params, p.config.conventions.gate_at == "output"
    if not p.whole or not len(truth.plan.token):
        return
    if name == "d_x" and gated and plain:
        for weight in ("w_in", "w_gate"):
            yield (f"d_x lacks what comes back through {weight}",
                   truth.grads["x"] - evidence.rows.through(weight).reshape(truth.y.shape))
    for names, what in ((("w_in", "w_gate")[:1 + gated], "features"),
                        (("w_out",), "hidden units")) if name == "y" else ():
        size = p.params[names[0]].shape[1]
        for left in sorted({size // tile * tile for tile in TILES} - {0, size}):
            tile = max(tile for tile in TILES if left % tile == 0)
            yield (f"y: the sums over the {size} {what} stop at {left}, the last multiple of "
                   f"{tile}", _y_of(evidence, names, slice(left)))
    if name == "y" and not gated and "b_in" not in p.params:
        half = p.params["w_in"].shape[1] // 2
        parts = [_y_of(evidence, ("w_in",), some)
                 for some in (slice(half), slice(half, None), slice(0))]
        yield ("y: the activation is taken of each half of the sum over the features, not of all "
               "of it", parts[0] + parts[1] - parts[2])


def _y_of(evidence: Evidence, names: tuple[str, ...], some: slice) -> np.ndarray:
    """Return y if of these weights' rows only some were not zero."""
    p, changed = evidence.truth.problem, dict(evidence.truth.problem.params)
    for name in names:
        changed[name] = np.zeros_like(p.params[name])
        changed[name][:, some] = p.params[name][:, some]
    return p._replace(params=changed).forward(evidence.truth.plan)[0].y


def empty_slots(name: str, evidence: Evidence) -> Suspects:
    """An output bias's gradient that counts empty slots, each with the same row."""
    plan, want = evidence.truth.plan, evidence.want[name]
    if name != "d_b_out" or len(plan.load) > 1:
        return
    empty_E = evidence.ref.plan.capacity - plan.kept_load.sum(axis=0)
    if len(set(empty_E)) > 1 and len(empty_E) > 2:
        row_D = empty_E @ (evidence.got[name] - want) / (empty_E @ empty_E)
        yield ("d_b_out counts the empty slots of each expert's buffer too",
               want + np.outer(empty_E, row_D))


def parts_of_choices(name: str, evidence: Evidence) -> Suspects:
    """d_x without the gradient through some of its tokens' experts."""
    truth, plan = evidence.truth, evidence.truth.plan
    (t, k), d = plan.expert.shape, truth.y.shape[-1]
    part = truth.problem.alone
    if name != "d_x" or 2 * k > d or not len(plan.token) or part in ("product", "combine"):
        return
    parts_TKD = evidence.rows.d_x_TKD
    router_TD = (truth.grads["x"] - truth.terms["x"]["experts"]).reshape(t, d)
    rest_TD = truth.terms["x"]["experts"].reshape(t, d) - parts_TKD.sum(axis=1)
    left_TD = evidence.got["d_x"].reshape(t, d) - router_TD - rest_TD
    found_TK = weights_by_token(parts_TKD, left_TD).round().clip(0, 1)
    wrong, kept = plan.kept & (found_TK == 0), plan.kept.sum()
    if 0 < wrong.sum() < kept:
        token, choice = np.argwhere(wrong)[0]
        yield (f"d_x lacks the gradient through {wrong.sum()} of {kept} choices of experts, such "
               f"as token {token}'s through expert {plan.expert[token, choice]}",
               router_TD + rest_TD + np.einsum("tk,tkd->td", found_TK, parts_TKD))
