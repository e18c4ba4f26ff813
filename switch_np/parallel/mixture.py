"""The mixture of experts over ranks: rows go to their experts' ranks, and the outputs come back.

Source: equation 2 and section 5 of the paper. It stands in for `switch.mixture` in the layer.

Forward:   rows = dispatch(x);      all-to-all;  sort by expert
           out = experts(rows);     all-reduce over the ranks that share d_ff
           sort back;  all-to-all;  y = combine(out, gates)
Backward:  the same lines from the bottom up. An all-to-all carries d_out to the experts and another
           d_rows back. With d_ff cut, out = Σ_j relu(rows W_in,j) W_out,j over the ranks j: each
           j has all of d_out, so nothing is sent, and gives a part of d_rows = Σ_j d_rows_j: here
           the backward has an all-reduce too.
The gradients of an expert's weights are whole where the expert lives: all its rows are there.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.parallel import all_reduce, all_to_all
from switch_np.parallel.communicator import Communicator
from switch_np.parallel.route import Route, decide
from switch_np.switch import combine, dispatch, experts, feed_forward
from switch_np.switch.combine import CombineCache
from switch_np.switch.experts import ExpertsCache
from switch_np.switch.plan import Plan


class MixtureCache(NamedTuple):
    """Saved for backward: plan and route, and the caches of the parts."""

    plan: Plan
    route: Route
    experts: ExpertsCache
    combine: CombineCache


class Mixture(NamedTuple):
    """The mixture of one layer: between which ranks its experts and their d_ff are shared out.

    `name` is a prefix for the names under which traffic is counted; `network` is the experts'.
    """

    comm: Communicator
    model: Communicator
    name: str = ""
    network: Any = feed_forward

    def forward(self, params: Mapping[str, np.ndarray], x_TD: np.ndarray, gates_TK: np.ndarray,
                plan: Plan, keep_TKF: np.ndarray | None = None,
                rate: float = 0.0) -> tuple[np.ndarray, MixtureCache]:
        """Return y (T, D) of this rank's tokens; `params` are those of its own experts."""
        way = self.way(plan)
        rows_QD = dispatch.forward(self._send(dispatch.forward(x_TD, plan), way, "rows"), way.plan)
        keep_QF = None if keep_TKF is None else self._masks(dispatch.by_row(keep_TKF, plan), way)
        if "b_out" in params and self.model.rank:          # of those that share d_ff, one adds it
            params = {**params, "b_out": np.zeros_like(params["b_out"])}
        out_QD, experts_cache = experts.forward(params, rows_QD, way.plan, keep_QF, rate,
                                                self.network)
        out_QD = all_reduce.forward(out_QD, self.model, f"{self.name}outputs")
        out_RD = self._send_back(dispatch.backward(out_QD, way.plan), way, "outputs")
        y_TD, combine_cache = combine.forward(out_RD, gates_TK, plan)
        return y_TD, MixtureCache(plan, way, experts_cache, combine_cache)

    def backward(self, d_y_TD: np.ndarray, cache: MixtureCache
                 ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Return d_x (T, D), d_gates (T, K) and the gradients of this rank's experts."""
        way = cache.route
        d_out_RD, d_gates_TK = combine.backward(d_y_TD, cache.combine)
        d_out_QD = dispatch.forward(self._send(d_out_RD, way, "d_outputs"), way.plan)
        d_rows_QD, grads = experts.backward(d_out_QD, cache.experts)
        d_rows_QD = all_reduce.forward(d_rows_QD, self.model, f"{self.name}d_rows")
        d_rows_RD = self._send_back(dispatch.backward(d_rows_QD, way.plan), way, "d_rows")
        return dispatch.backward(d_rows_RD, cache.plan), d_gates_TK, grads

    def way(self, plan: Plan) -> Route:
        """Return which rows go where."""
        return decide(plan, self.comm, self.name)

    def _send(self, rows: np.ndarray, way: Route, what: str) -> np.ndarray:
        return all_to_all.forward(rows, way.to, way.come, self.comm, self.name + what)

    def _send_back(self, rows: np.ndarray, way: Route, what: str) -> np.ndarray:
        return all_to_all.backward(rows, way.to, way.come, self.comm, self.name + what)

    def _masks(self, keep_RF: np.ndarray, way: Route) -> np.ndarray:
        """Return the masks of expert dropout for the rows that come; they are sent as bits."""
        f = keep_RF.shape[1]
        bits = self._send(np.packbits(keep_RF, axis=1), way, "masks")
        begin, end = (f * j // self.model.size for j in (self.model.rank, self.model.rank + 1))
        return dispatch.forward(np.unpackbits(bits, axis=1, count=f), way.plan)[:, begin:end] > 0
