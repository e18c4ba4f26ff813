"""The truth row by row: what each row of an expert adds to the gradients."""

from functools import cached_property

import numpy as np

from switch_np.oracle.truth.alone import below_forward
from switch_np.oracle.truth.caches import (
    ExpertsUsed, experts_used, with_fixed_sum, with_gates, with_outputs)
from switch_np.oracle.truth.reference import Reference
from switch_np.switch import dispatch, experts
from switch_np.switch.layer import LayerCache


class ExpertRows:
    """The rows of a reference's experts, computed when they are first asked for."""

    def __init__(self, truth: Reference) -> None:
        self.truth, self.plan = truth, truth.plan
        self._grads: dict[str, dict[str, np.ndarray]] = {}

    @cached_property
    def _layer(self) -> LayerCache:
        return self.truth.problem.forward(self.plan)[1]

    @cached_property
    def _used(self) -> ExpertsUsed:
        return experts_used(self._layer)

    def mixed(self, choice_R: np.ndarray, rows_RD: np.ndarray) -> np.ndarray:
        """Return the mixture (T, D) that results if the experts read these rows for these choices.

        A choice is token · K + k; its gate weighs the row's output, which goes to its token.
        """
        used = self._used
        if self.truth.problem.alone == "product":
            out_RD, _ = below_forward("product", used.params, rows_RD, used.gates_TK, self.plan)
        else:
            out_RD, _ = experts.forward(used.params, rows_RD, self.plan, network=used.network)
        y_TD = np.zeros((len(self.plan.expert), out_RD.shape[1]))
        gates_R1 = used.gates_TK.ravel()[choice_R][:, None]
        np.add.at(y_TD, choice_R // self.plan.expert.shape[1], gates_R1 * out_RD)
        return y_TD

    @cached_property
    def by_token(self) -> np.ndarray:
        """(R,) the rows with each expert's in the order of its tokens, as a sort leaves them."""
        token, choice = self.plan.token, self.plan.choice
        return self.plan.row[np.lexsort((choice, token, self.plan.expert[token, choice]))]

    def grads_of(self, name: str, tokens: slice) -> dict[str, np.ndarray]:
        """Return the parameters' gradients if d_y reached these tokens only; kept by `name`."""
        if name not in self._grads:
            p = self.truth.problem
            d_y_TD = np.zeros_like(p.d_y).reshape(-1, p.d_y.shape[-1])
            d_y_TD[tokens] = p.d_y.reshape(d_y_TD.shape)[tokens]
            self._grads[name] = p.backward(d_y_TD.reshape(p.d_y.shape), self._layer)
        return self._grads[name]

    def grads_with(self, gates_TK: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients of d_y alone if these gates had weighted it on its way back."""
        p = self.truth.problem
        return p.backward(p.d_y, with_gates(self._layer, gates_TK))

    def of_router(self, **d_router: np.ndarray) -> dict[str, np.ndarray]:
        """Return the gradients if these came to the router's probabilities or logits alone."""
        p = self.truth.problem
        return p.backward(np.zeros_like(p.d_y), self._layer, 0.0, 0.0, **d_router)

    @cached_property
    def through_gates(self) -> dict[str, dict[str, np.ndarray]]:
        """The gradients of d_y alone if the gates' own were computed wrongly, by what is wrong."""
        p, found = self.truth.problem, {}
        fixed = with_fixed_sum(self._layer)
        if fixed is not None:
            found["the sum that divides the gates is held fixed"] = p.backward(p.d_y, fixed)
        if "b_out" in p.params:
            owner_R = np.repeat(np.arange(len(p.params["b_out"])), np.diff(self.plan.start))
            bare_RD = self.truth.intermediates["experts.out"] - p.params["b_out"][owner_R]
            found["the gates' gradient is taken with outputs that lack b_out"] = p.backward(
                p.d_y, with_outputs(self._layer, bare_RD))
        return found

    def through(self, name: str) -> np.ndarray:
        """Return the part (T, D) of d_x that comes back through a weight of the experts' input."""
        d_z_RF, d_rows_RD = self.factors(name)[1], np.zeros_like(self._d_out_RD)
        for begin, end, weight in zip(self.plan.start, self.plan.start[1:],
                                      self.truth.problem.params[name]):
            d_rows_RD[begin:end] = d_z_RF[begin:end] @ weight.T
        return dispatch.sum_by_token(d_rows_RD, self.plan)

    @cached_property
    def _d_out_RD(self) -> np.ndarray:
        """The gradient at each row's output: its gate times d_y of its token."""
        p, token, choice = self.truth.problem, self.plan.token, self.plan.choice
        d_out_RD = np.zeros((self.plan.num_rows, p.d_y.shape[-1]))
        d_y_ND = p.d_y.reshape(-1, p.d_y.shape[-1])[token]
        d_out_RD[self.plan.row] = self._used.gates_TK[token, choice][:, None] * d_y_ND
        return d_out_RD

    def factors(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return two arrays (R, ...): an expert's gradient of a weight is left.T @ right.

        A network whose input is the unit matrix has d_z itself for its gradient of W_in.
        """
        if name == "weights":
            return self.truth.problem.x, self.truth.problem.d_y
        if name == "w_out":
            return self.truth.intermediates["experts.hidden"], self._d_out_RD
        d_z_RF = np.zeros((self.plan.num_rows, self.truth.problem.params[name].shape[2]))
        for rows, saved in self._used.blocks:
            d_out_RD = self._d_out_RD[rows]
            params = {key: np.zeros((len(d_out_RD), value.shape[1]))
                      if key in ("w_in", "w_gate") else value
                      for key, value in saved.params.items()}
            unit = saved._replace(x_TD=np.eye(len(d_out_RD)), params=params)
            d_z_RF[rows] = self._used.network.backward(d_out_RD, unit)[1][name]
        return self.truth.intermediates["experts.rows"], d_z_RF

    @cached_property
    def d_x_TKD(self) -> np.ndarray:
        """The gradient of each token's x through each of its experts; 0 for a dropped choice."""
        p = self.truth.problem
        d_rows_RD = np.zeros_like(self._d_out_RD) if p.whole else p.d_y
        for rows, saved in self._used.blocks:
            d_rows_RD[rows] = self._used.network.backward(self._d_out_RD[rows], saved)[0]
        d_x_TKD = np.zeros((*self.plan.expert.shape, d_rows_RD.shape[1]))
        d_x_TKD[self.plan.token, self.plan.choice] = d_rows_RD[self.plan.row]
        return d_x_TKD


def weights_by_token(parts_TKD: np.ndarray, sum_TD: np.ndarray) -> np.ndarray:
    """Return the weights (T, K) of each token's parts whose sum comes nearest to the given one.

    >>> weights_by_token(np.array([[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]]),
    ...                  np.array([[3.0, 4.0, 5.0]])).round(6).tolist()
    [[3.0, 2.0]]
    """
    weights: np.ndarray = np.einsum("tdk,td->tk", np.linalg.pinv(parts_TKD), sum_TD)
    return weights
