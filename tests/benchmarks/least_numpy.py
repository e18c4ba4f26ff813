"""The least NumPy that computes the layer.

One choice per token, packed rows, one group; no noise, padding, checks, plan or objects. From the
bare products to it is what NumPy costs; from it to ours, what a library costs.
"""

import numpy as np

from benchmarks import problems
from benchmarks.problems import LayerSize
from benchmarks.subjects import Subject
from switch_np.operations import threads
from switch_np.switch.config import SwitchConfig


def layer(size: LayerSize) -> Subject:
    """Return the layer, forward and backward."""
    problem = problems.layer(size)
    return Subject(lambda: run(*problem))


def run(config: SwitchConfig, params: dict[str, np.ndarray], x_TD: np.ndarray, d_y_TD: np.ndarray
        ) -> dict[str, np.ndarray]:
    """Return y and the gradients."""
    w_router_DE, w_in_EDF, w_out_EFD = (params[w] for w in ("w_router", "w_in", "w_out"))
    t, e, capacity = len(x_TD), len(w_in_EDF), config.expert_capacity(len(x_TD))
    probs_ET = (x_TD @ w_router_DE).T.copy()
    probs_ET -= probs_ET.max(axis=0)
    np.exp(probs_ET, out=probs_ET)
    probs_ET /= probs_ET.sum(axis=0)

    expert_T = probs_ET.argmax(axis=0)
    chosen_T = expert_T * t + np.arange(t)                # where each token's gate lies in probs_ET
    token_N = expert_T.astype(np.uint8).argsort(kind="stable")
    load_E = np.bincount(expert_T, minlength=e)
    if load_E.max() > capacity:
        slot_T = np.arange(t) - np.repeat(load_E.cumsum() - load_E, load_E)
        token_N = token_N[slot_T < capacity]
    ends = np.minimum(load_E, capacity).cumsum().tolist()
    rows_of = [slice(begin, end) for begin, end in zip([0, *ends], ends)]
    row_T = np.zeros(t, int)
    row_T[token_N] = np.arange(len(token_N))
    dropped_T = np.ones(t, bool)
    dropped_T[token_N] = False
    gate_T = probs_ET.take(chosen_T)

    rows_ND = x_TD.take(token_N, 0)
    hidden_NF = np.empty((len(rows_ND), w_in_EDF.shape[2]), x_TD.dtype)
    out_ND, zeros_F = np.empty_like(rows_ND), np.zeros_like(hidden_NF, shape=hidden_NF.shape[1])

    def forward(i: int) -> None:
        hidden = np.matmul(rows_ND[rows_of[i]], w_in_EDF[i], out=hidden_NF[rows_of[i]])
        np.maximum(hidden, zeros_F, out=hidden)
        np.matmul(hidden, w_out_EFD[i], out=out_ND[rows_of[i]])

    threads.each(forward, range(e), size=hidden_NF.size)
    y_TD = out_ND.take(row_T, 0)
    y_TD *= gate_T[:, None]
    y_TD[dropped_T] = 0

    d_out_ND = d_y_TD.take(token_N, 0)
    d_probs_ET = np.zeros_like(probs_ET)
    d_probs_ET.put(chosen_T.take(token_N), np.einsum("nd,nd->n", d_out_ND, out_ND))
    d_probs_ET += (problems.BALANCE_COEF * e / t ** 2 * load_E).astype(x_TD.dtype)[:, None]
    d_out_ND *= gate_T.take(token_N)[:, None]
    d_logits_ET = d_probs_ET * probs_ET
    d_logits_ET -= probs_ET * d_logits_ET.sum(axis=0)
    d_w_in_EDF, d_w_out_EFD = np.empty_like(w_in_EDF), np.empty_like(w_out_EFD)
    d_rows_ND = np.empty_like(rows_ND)

    def backward(i: int) -> None:
        rows, hidden, d_out = rows_ND[rows_of[i]], hidden_NF[rows_of[i]], d_out_ND[rows_of[i]]
        d_hidden = d_out @ w_out_EFD[i].T
        np.multiply(d_hidden, hidden > 0, out=d_hidden)
        np.matmul(rows.T, d_hidden, out=d_w_in_EDF[i])
        np.matmul(d_hidden, w_in_EDF[i].T, out=d_rows_ND[rows_of[i]])
        np.matmul(hidden.T, d_out, out=d_w_out_EFD[i])

    threads.each(backward, range(e), size=hidden_NF.size)
    d_x_TD = d_rows_ND.take(row_T, 0)
    d_x_TD[dropped_T] = 0
    d_x_TD += d_logits_ET.T @ w_router_DE.T
    return {"y": y_TD, "x": d_x_TD, "w_router": x_TD.T @ d_logits_ET.T, "w_in": d_w_in_EDF,
            "w_out": d_w_out_EFD}
