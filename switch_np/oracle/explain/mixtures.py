"""Another mixture: the right experts with other gates, biases or a wrong shared expert."""

from dataclasses import replace

import numpy as np

from switch_np.conventions import general_mixture
from switch_np.conventions.table import Conventions
from switch_np.operations import softmax
from switch_np.operations.activations import sigmoid
from switch_np.oracle.explain.causes import Evidence, Suspects
from switch_np.oracle.explain.expert_rows import weights_by_token
from switch_np.oracle.judge.tensor import describe
from switch_np.oracle.truth.reference import Reference
from switch_np.switch import dispatch

TINY = 1e-300


def other_gates(name: str, evidence: Evidence) -> Suspects:
    """Other gates on the right experts' outputs: known ones, then those that fit best."""
    truth = evidence.truth
    if name != "y" or not len(truth.plan.token) or truth.problem.alone in (
            "product", "dispatch") or truth.problem.config.conventions.gate_at != "output":
        return
    fits = {text: evidence.misfit("y", _remixed(truth, gates_TK))
            for text, gates_TK in _gates(truth).items()}
    least = min(fits.values())
    if least < np.inf:                              # of equal gates, the first description
        yield f"y: {next(text for text in fits if fits[text] <= 1.001 * least + 1e-6)}", None
    (t, k), d = truth.gates.shape, truth.y.shape[-1]
    if 2 * k <= d:                                  # with more gates they would fit anything
        out_TKD = np.where(truth.plan.kept[..., None],
                           truth.intermediates["experts.out"][truth.plan.row_of_choice], 0.0)
        left_TD = (evidence.got["y"] - truth.y).reshape(t, d)
        found_TK = truth.gates + weights_by_token(out_TKD, left_TD)
        lost_TK = truth.plan.kept & (2 * np.abs(found_TK) < np.abs(truth.gates))
        if lost_TK.any():
            token, choice = np.argwhere(lost_TK)[0]
            yield (f"y lacks the output of {lost_TK.sum()} of {truth.plan.kept.sum()} choices of "
                   f"experts, as token {token}'s of expert {truth.plan.expert[token, choice]}",
                   _remixed(truth, np.where(lost_TK, 0, truth.gates)))
        yield _in_numbers(truth, found_TK), _remixed(truth, found_TK)


def _gates(truth: Reference) -> dict[str, np.ndarray]:
    """Return gates (T, K) that kernels are known to use in place of the right ones, by mistake."""
    plan, gates_TK = truth.plan, truth.gates
    scale = 1.0 if truth.problem.alone else truth.problem.config.conventions.gate_scale
    chosen_TK, logits_TK, softmax_TK = (
        np.take_along_axis(values, plan.expert, axis=1)
        for values in (truth.probs, truth.logits, softmax.forward(truth.logits)[0]))
    k = gates_TK.shape[1]
    found: dict[str, np.ndarray] = {}
    if scale != 1:
        found |= {f"the gate scale, {scale:g}, is not applied": gates_TK / scale,
                  f"the gate scale, {scale:g}, is applied twice": gates_TK * scale}
    found |= {
        "the gates are not applied": np.ones_like(gates_TK),
        "the gates are applied twice": gates_TK ** 2,
        "the gates are divided by the sum over the chosen experts": gates_TK / _sum(gates_TK),
        "the gates are divided by the sum over the kept experts": gates_TK / _sum(
            gates_TK * plan.kept)}
    if not truth.problem.alone:
        found |= {
            "the gates are the scores as they are": chosen_TK,
            "the gates are the logits": logits_TK,
            "the gates are the softmax of the chosen logits": scale * softmax.forward(logits_TK)[0],
            "the gates are the softmax over all experts": scale * softmax_TK,
            "the gates are the softmax over the tokens, not over the experts":
                scale * np.take_along_axis(softmax.forward(truth.logits.T)[0].T, plan.expert, 1),
            "the gates are the sigmoid of the logits": scale * sigmoid(logits_TK)}
    if k > 1:
        found |= _gates_of_several(gates_TK, scale)
    if "select_bias" in truth.problem.params:
        biased_TK = chosen_TK + truth.problem.params["select_bias"][plan.expert]
        found |= {"the gates are the scores + selection bias": scale * biased_TK,
                  "the gates are the scores + selection bias, divided by their sum":
                      scale * (biased_TK / _sum(biased_TK))}
    return {text: gates for text, gates in found.items()
            if not np.allclose(gates, gates_TK, rtol=1e-9, atol=0)}


def _gates_of_several(gates_TK: np.ndarray, scale: float) -> dict[str, np.ndarray]:
    """Return gates that belong to other choices, or are the same for all."""
    k, flat = gates_TK.shape[1], gates_TK.ravel()
    first_TK = np.where(np.arange(k) < k - 1, gates_TK, 0)
    return {
        "each gate is read at token + choice, not at token · K + choice":
            flat[np.arange(len(gates_TK))[:, None] + np.arange(k)],
        "the gates, (T, K), are read as if stored (K, T)": flat.reshape(k, -1).T,
        "the gates, stored (K, T), are read as if (T, K)": gates_TK.T.reshape(-1, k),
        "every choice gets the first one's gate": np.repeat(gates_TK[:, :1], k, axis=1),
        "the choices' gates are swapped: the first expert gets the last one's":
            gates_TK[:, ::-1],
        "the gates are all 1/k": np.full_like(gates_TK, scale / k),
        "the last choice is left out": first_TK,
        "the last choice is left out, and the gates are divided by the sum of the others":
            scale * (first_TK / _sum(first_TK))}


def _sum(values_TK: np.ndarray) -> np.ndarray:
    total = values_TK.sum(axis=1, keepdims=True)
    return np.where(total == 0, TINY, total)


def _in_numbers(truth: Reference, got_TK: np.ndarray) -> str:
    """Say what the gates that fit are."""
    kept_TK, want_TK = truth.plan.kept, truth.gates
    ratio_TK = got_TK / np.where(want_TK == 0, TINY, want_TK)
    factor = ratio_TK[kept_TK].mean()
    if np.allclose(ratio_TK[kept_TK], factor, rtol=0.02):
        return f"y: every gate is multiplied by {factor:.3g}"
    off_T = np.where(kept_TK, np.abs(got_TK - want_TK), 0).max(axis=1)
    token = int(off_T.argmax())
    if (np.abs(np.where(kept_TK, ratio_TK, 1) - 1) < 0.02)[:, 0].all():
        what = "the gates of later choices"
    else:
        what = f"the gates of {np.count_nonzero(off_T > 0.02 * np.abs(want_TK).max())} tokens"
    given, right = (", ".join(f"{value:.3g}" for value in row)
                    for row in (got_TK[token], want_TK[token]))
    return (f"y is the right experts' outputs with other gates: {what} differ, such as those of "
            f"{describe(token, truth.plan)}: got {given}, want {right}")


def _remixed(truth: Reference, gates_TK: np.ndarray) -> np.ndarray:
    more_R1 = _share(truth) * dispatch.by_row(gates_TK - truth.gates, truth.plan)[:, None]
    moved_TD = dispatch.sum_by_token(truth.intermediates["experts.out"] * more_R1, truth.plan)
    y: np.ndarray = truth.y + moved_TD.reshape(truth.y.shape)
    return y


def _share(truth: Reference) -> float:
    """Return the routed output's share in y; the shared expert's is the same."""
    return 0.5 if truth.problem.config.conventions.shared_average else 1.0


def gates_on_the_way_back(name: str, evidence: Evidence) -> Suspects:
    """A gradient of the experts whose d_y was not weighted by the gates, or was twice."""
    truth = evidence.truth
    p, wanted, gates_TK = truth.problem, truth.seeds["output"].get(name[2:]), truth.gates
    if wanted is None or p.alone in ("product", "dispatch") or name == "d_gates" or (
            p.config.conventions.gate_at != "output"):
        return
    for text, other_TK in (("lacks the gate", np.ones_like(gates_TK)),
                           ("has the gate twice", gates_TK ** 2)):
        if not np.allclose(other_TK, gates_TK, rtol=1e-9, atol=0):
            moved = evidence.rows.grads_with(other_TK)[name[2:]] - wanted
            if moved.any():
                yield f"{name} {text}", evidence.want[name] + moved


def gate_gradients(name: str, evidence: Evidence) -> Suspects:
    """The gates' own gradient computed wrongly, in whatever it reaches."""
    truth = evidence.truth
    wanted = truth.seeds["output"].get(name[2:])
    if wanted is not None and truth.problem.whole and (
            truth.problem.config.conventions.gate_at == "output"):
        for text, grads in evidence.rows.through_gates.items():
            if not np.array_equal(grads[name[2:]], wanted):
                yield f"{name}: {text}", evidence.want[name] + grads[name[2:]] - wanted


def shared_experts(name: str, evidence: Evidence) -> Suspects:
    """A shared expert that is missing, added twice, scaled, or fed with y."""
    truth, p = evidence.truth, evidence.truth.problem
    conventions = p.config.conventions
    if name != "y" or not conventions.shared_experts:
        return
    x_TD, y_TD = (value.reshape(-1, value.shape[-1]) for value in (p.x, truth.y))

    def shared(rows_TD: np.ndarray, has: Conventions = conventions) -> np.ndarray:
        return _share(truth) * general_mixture.shared_forward(p.params, rows_TD, p.served_T, has)[0]

    own_TD = shared(x_TD)
    routed_TD, scale = y_TD - own_TD, conventions.gate_scale
    yield "y: the shared expert is left out", routed_TD
    yield "y: the shared expert is added twice", y_TD + own_TD
    if conventions.shared_gate:
        bare_TD = shared(x_TD, replace(conventions, shared_gate=False))
        yield "y: the shared expert's gate is left out", routed_TD + bare_TD
        gate_T1 = sigmoid(x_TD @ p.params["shared_w_router"])
        yield ("y: the shared expert's gate multiplies the routed experts' output too",
               gate_T1 * routed_TD + own_TD)
    yield ("y: the shared expert reads the routed experts' output in place of x",
           routed_TD + shared(routed_TD))
    yield ("y: the shared expert reads x + the routed experts' output",
           routed_TD + shared(x_TD + routed_TD))
    yield (f"y: the shared expert is multiplied by the gate scale, {scale:g}",
           routed_TD + scale * own_TD)
    (c,), _ = evidence.factors({"y": [own_TD.reshape(truth.y.shape)]})
    yield f"y: the shared expert is multiplied by {c:.3g}", routed_TD + c * own_TD


def output_biases(name: str, evidence: Evidence) -> Suspects:
    """The experts' output bias outside the gate, or left out."""
    truth, plan = evidence.truth, evidence.truth.plan
    if name == "y" and "b_out" in truth.problem.params and len(plan.token):
        bias_ED, kept_TK = truth.problem.params["b_out"], truth.gates * plan.kept
        own_TKD, flat_Q = bias_ED[plan.expert], plan.expert.ravel()
        order_Q = np.argsort(flat_Q, kind="stable")
        for text, weight_TK, bias_TKD in (
                ("added without the gate", 1.0 * plan.kept, own_TKD),
                ("left out", kept_TK, np.zeros_like(own_TKD)),
                ("added in the order of the experts' rows to rows in the tokens' order", kept_TK,
                 bias_ED[flat_Q[order_Q]].reshape(own_TKD.shape)),
                ("added in the order of the tokens to rows in the experts' order", kept_TK,
                 bias_ED[flat_Q[np.argsort(order_Q)]].reshape(own_TKD.shape))):
            more_TD = _share(truth) * (np.einsum("tk,tkd->td", weight_TK, bias_TKD)
                                       - np.einsum("tk,tkd->td", kept_TK, own_TKD))
            yield f"y: b_out is {text}", truth.y + more_TD.reshape(truth.y.shape)
