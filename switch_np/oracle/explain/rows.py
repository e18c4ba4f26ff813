"""Right rows and blocks in the wrong place, and outputs with other gates or without drops.

Each function yields, in words, the tensors made from the reference that explain what came.
"""

from collections.abc import Iterator

import numpy as np

from switch_np.oracle.explain.causes import Evidence
from switch_np.oracle.judge.tensor import describe, expert_axis


def lost_rows(name: str, evidence: Evidence) -> Iterator[str]:
    """Right, except that the rows of some tokens are zero."""
    if name in ("y", "d_x"):
        want = evidence.want[name]
        rows = evidence.got[name].reshape(-1, want.shape[-1])
        lost = ~_any(rows) & _any(want.reshape(rows.shape))
        suspect = (want.reshape(rows.shape) * ~lost[:, None]).reshape(want.shape)
        if lost.any() and evidence.misfit(name, suspect) < np.inf:
            tokens = ", ".join(map(str, np.flatnonzero(lost)[:6]))
            last = "" if _any(rows)[lost.argmax():].any() else ", the last ones"
            yield f"{name} is zero for {lost.sum()} of {len(lost)} tokens{last}: {tokens}"


def moved_rows(name: str, evidence: Evidence) -> Iterator[str]:
    """The right rows of y or d_x, at the wrong tokens."""
    if name in ("y", "d_x"):
        want, plan = evidence.want[name], evidence.truth.plan
        rows = want.reshape(-1, want.shape[-1])
        source = _sources(evidence.got[name].reshape(rows.shape), rows)
        if evidence.misfit(name, rows[source].reshape(want.shape)) < np.inf:
            token = int(np.flatnonzero(source != np.arange(len(source)))[0])
            order = ", the order in which the experts get them" if (
                sorted(source) == list(range(len(source)))
                and (np.diff(plan.expert[source, 0]) >= 0).all()) else ""
            yield (f"{name} has its tokens permuted{order}: token {token} holds the row of "
                   f"token {source[token]}")


def moved_experts(name: str, evidence: Evidence) -> Iterator[str]:
    """The right blocks of a weight's gradient, at the wrong experts."""
    want, e = evidence.want[name], evidence.truth.plan.load.shape[1]
    axis = expert_axis(name, want.shape, e)
    if axis is None or want.ndim < 2:
        return
    mine, right = (np.moveaxis(value, axis, 0).reshape(e, -1)
                   for value in (evidence.got[name], want))
    source = _sources(mine, right)
    if evidence.misfit(name, np.take(want, source, axis=axis)) < np.inf:
        first = int(np.flatnonzero(source != np.arange(e))[0])
        yield (f"{name} has its experts permuted: expert {first} holds that of expert "
               f"{source[first]}")


def _any(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows.any(axis=1))


def _sources(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return for each row of `got` the nearest row of `want`; at a tie, its own."""
    distance = (want ** 2).sum(axis=1) - 2 * got @ want.T
    distance[np.arange(len(got)), np.arange(len(got))] -= 1e-9 * max(
        float((want ** 2).sum(axis=1).max(initial=0.0)), 1e-300)
    nearest: np.ndarray = distance.argmin(axis=1)
    return nearest


def transposed(name: str, evidence: Evidence) -> Iterator[str]:
    """The right matrix, or an expert's, transposed."""
    want = evidence.want[name]
    if want.ndim >= 2 and name not in ("y", "d_x"):
        if evidence.misfit(name, want.swapaxes(-1, -2).reshape(want.shape)) < np.inf:
            yield f"{name} is transposed"


def passed_through(name: str, evidence: Evidence) -> Iterator[str]:
    """y with dropped tokens passed through."""
    truth = evidence.truth
    plan, want = truth.plan, truth.y
    if name != "y" or not len(plan.token):
        return
    x, flat = truth.problem.x.reshape(-1, want.shape[-1]), want.reshape(-1, want.shape[-1])
    gone = ~_any(plan.kept)
    for text, passed in (("passed on as x", x),
                         ("passed on as gate · x", x * truth.gates[:, :1])):
        y = np.where(gone[:, None], passed, flat).reshape(want.shape)
        if gone.any() and evidence.misfit(name, y) < np.inf:
            token = int(gone.argmax())
            yield f"y: dropped tokens are {text}, want 0, as for {describe(token, plan)}"


def undropped(name: str, evidence: Evidence) -> Iterator[str]:
    """Choices that were dropped but still have an effect."""
    other, truth = evidence.undropped, evidence.truth
    if other is None or name.endswith("_loss"):
        return
    suspects = [other.outputs()[name]]
    if name == "d_x":               # or the experts' part alone changes, the gates' does not
        suspects.append(truth.grads["x"] + other.terms["x"]["experts"]
                        - truth.terms["x"]["experts"])
    if any(evidence.misfit(name, suspect) < np.inf for suspect in suspects):
        what = "are computed and added too" if name == "y" else "send a gradient too"
        yield f"{name}: dropped choices {what}"
