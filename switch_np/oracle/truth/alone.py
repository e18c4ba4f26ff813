"""A part of a layer alone: gates and choices are given, and the router need not be known.

The given gates stand in for the router's probabilities, with 0 for experts that were not chosen;
the layer gathers them again, and its forward and backward do the rest. The part asked for replaces
the mixture:

experts    the config's own mixture
product    rows sorted by expert times their expert's matrix:  y[r] = x[r] W[e of r],
           d_x[r] = d_y[r] W[e of r]ᵀ,   d_W[e] = Σ x[r]ᵀ d_y[r] over the rows of e
dispatch   tokens copied to the rows of the experts that they chose
combine    rows weighted by their gates and summed by token
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from switch_np.conventions import bind
from switch_np.conventions.bind import Part
from switch_np.conventions.noise import Noise
from switch_np.conventions.parameters import shapes
from switch_np.operations import check
from switch_np.operations.rows import take
from switch_np.switch import combine, dispatch, layer
from switch_np.switch.combine import CombineCache
from switch_np.switch.config import SwitchConfig
from switch_np.switch.experts import ExpertsCache
from switch_np.switch.layer import LayerCache, LayerOutput, Parts
from switch_np.switch.plan import Plan
from switch_np.switch.router import RouterCache, Routing

OF_ROUTERS = ("w_router", "b_router", "w_noise", "select_bias")
Arrays = Mapping[str, np.ndarray]


class PartCache(NamedTuple):
    """Saved for backward, under the names that a mixture's cache has, and the part's input."""

    plan: Plan
    experts: ExpertsCache
    combine: CombineCache
    x_TD: np.ndarray


class GivenGates(NamedTuple):
    """Gates (T, K) that stand in for a router; its parameter is `gates`."""

    gates_TK: np.ndarray
    plan: Plan

    def forward(self, params: Arrays, x_TD: np.ndarray,
                scale_TD: np.ndarray | None) -> tuple[Routing, RouterCache]:
        """Return the gates as probabilities."""
        shape = len(self.plan.expert), self.plan.load.shape[1]
        probs_TE = np.zeros_like(self.gates_TK, shape=shape)
        np.put_along_axis(probs_TE, self.plan.expert, self.gates_TK, axis=1)
        return Routing(probs_TE, probs_TE, probs_TE[:, 0]), RouterCache({}, x_TD, None, probs_TE)

    def backward(self, d_probs_TE: np.ndarray, d_log_z_T: None, cache: RouterCache,
                 d_logits_TE: None) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return d_x, which is 0, and d_gates."""
        _, x_TD, *_ = cache
        return np.zeros_like(x_TD), {
            "gates": np.take_along_axis(d_probs_TE, self.plan.expert, axis=1)}


def below_forward(part: str, params: Arrays, x_TD: np.ndarray, gates_TK: np.ndarray, plan: Plan,
                  *dropout: Any) -> tuple[np.ndarray, PartCache]:
    """Return what a part below the experts gives: y (R, F), rows (R, D) or y (T, D)."""
    rows = x_TD
    if part == "product":
        rows = y = np.concatenate([x_TD[own] @ w for own, w in zip(_rows(plan), params["weights"])])
    elif part == "dispatch":
        rows = y = dispatch.forward(x_TD, plan)
    else:
        y, _ = combine.forward(x_TD, gates_TK, plan)
    return y, PartCache(plan, ExpertsCache(params, None, [], plan),
                        CombineCache(rows, gates_TK, plan), x_TD)


def below_backward(part: str, d_y: np.ndarray, cache: PartCache
                   ) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return the gradients of a part's x, gates (T, K) and weights, where it has any."""
    plan, (params, *_), own, x_TD = cache
    nothing_TK = np.zeros_like(own.gates_TK)
    if part == "product":
        each = [(x_TD[own], d_y[own], w) for own, w in zip(_rows(plan), params["weights"])]
        d_x_TD = np.concatenate([d_y @ w.T for _, d_y, w in each])
        return d_x_TD, nothing_TK, {"weights": np.stack([x.T @ d_y for x, d_y, _ in each])}
    if part == "dispatch":
        return dispatch.backward(d_y, plan), nothing_TK, {}
    d_x_TD, _ = combine.backward(d_y, own)
    # Multiply, then add: a right kernel may round each product, so sigma must allow for it.
    d_gates_R = (take(d_y, plan.token_of_row) * x_TD).sum(axis=1)
    d_gates_TK = take(d_gates_R, plan.row_of_choice.ravel()).reshape(nothing_TK.shape)
    return d_x_TD, d_gates_TK, {}


def _rows(plan: Plan) -> list[slice]:
    return [slice(begin, end) for begin, end in zip(plan.start, plan.start[1:])]


BELOW = {part: Part(partial(below_forward, part), partial(below_backward, part))
         for part in ("product", "dispatch", "combine")}
NO_LOSS = Part(lambda *given: (None, None), lambda *given: 0.0)


def forward(part: str, params: Arrays, x: np.ndarray, config: SwitchConfig, plan: Plan,
            noise: Noise, padding_T: np.ndarray | None,
            training: bool) -> tuple[LayerOutput, LayerCache]:
    """Return what a part gives; `params` holds its gates, if it has any, as "gates"."""
    x_TD = x.reshape(-1, x.shape[-1])
    mixture = BELOW.get(part)
    if mixture is None:
        check_experts(params, x_TD, config)
        mixture = bind.parts(config, params, noise, padding_T, training).mixture
    gates_TK = params.get("gates", np.ones(plan.expert.shape))
    parts = Parts(router=GivenGates(gates_TK, plan), mixture=mixture, balance_loss=NO_LOSS,
                  z_loss=NO_LOSS)
    # The router's input is cast to the precision of its weights; without any, to that of x.
    out, cache = layer.forward({**params, "w_router": x_TD}, x_TD, config, plan,
                               keep_TKF=noise.expert_dropout, training=training, parts=parts)
    y = out.y if part in BELOW else out.y.reshape(x.shape)
    return out._replace(y=y), cache


def backward(d_y: np.ndarray, params: Arrays, shape: tuple[int, ...],
             cache: LayerCache) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the gradient of x, which has that shape, and those of the parameters."""
    d_x_TD, grads = layer.backward(d_y.reshape(-1, d_y.shape[-1]), cache)
    return d_x_TD.reshape(shape), {name: grads[name] for name in params}


def check_experts(params: Arrays, x_TD: np.ndarray, config: SwitchConfig) -> None:
    """Refuse parameters that are not just those of the config's experts."""
    own = {name: value for name, value in params.items() if name != "gates"}
    d = x_TD.shape[-1]
    check.keys("params", own, set(shapes(d, 1, config)) - set(OF_ROUTERS))
    check.floats("params['w_in']", own["w_in"], (config.num_experts, d, "F"))
    for name, shape in shapes(d, own["w_in"].shape[2], config).items():
        if name not in OF_ROUTERS:
            check.floats(f"params[{name!r}]", own[name], shape)
