"""The one place where the oracle reads a layer's cache.

`READ` lists the fields, so that whoever changes a cache sees what depends on it; a test checks it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.switch.layer import LayerCache

READ = ("router.params", "router.noisy_TD", "mixture.experts.blocks", "mixture.experts.network",
        "mixture.experts.params", "mixture.combine.out_RD", "mixture.combine.gates_TK",
        "z.log_z_T")     # and blocks' params, x_TD, hidden_TF; gates.slope_TK where a sum divides
ROUTER = ("w_router", "b_router", "w_noise")       # parameters of the router alone


def without_router(cache: LayerCache) -> LayerCache:
    """Return a cache whose backward leaves the router's part out of d_x."""
    params = {name: np.zeros_like(value) if name in ROUTER else value
              for name, value in cache.router.params.items()}
    return cache._replace(router=cache.router._replace(params=params))


def with_rounded_log_z(cache: LayerCache) -> LayerCache:
    """Return a cache whose backward derives log_z as other libraries do, by exp(logits - log_z).

    The rounding of log_z then shifts the gradients of all of a token's experts alike.
    """
    if cache.z is None:                                # a part alone has no losses
        return cache
    log_z_T = cache.z.log_z_T
    off_T = log_z_T * 1 - log_z_T
    return cache._replace(z=cache.z._replace(log_z_T=log_z_T * (1 + off_T)))


def with_gates(cache: LayerCache, gates_TK: np.ndarray) -> LayerCache:
    """Return a cache whose backward weights the experts' gradients by other gates."""
    combine = cache.mixture.combine._replace(gates_TK=gates_TK)
    return cache._replace(mixture=cache.mixture._replace(combine=combine))


def with_outputs(cache: LayerCache, out_RD: np.ndarray) -> LayerCache:
    """Return a cache whose backward takes the gates' gradient with other outputs of the experts."""
    combine = cache.mixture.combine._replace(out_RD=out_RD)
    return cache._replace(mixture=cache.mixture._replace(combine=combine))


def with_fixed_sum(cache: LayerCache) -> LayerCache | None:
    """Return a cache whose backward holds fixed what divides the gates; None if nothing does."""
    slope_TK = getattr(cache.gates, "slope_TK", None)
    if slope_TK is None or not slope_TK.any():
        return None
    return cache._replace(gates=cache.gates._replace(slope_TK=np.zeros_like(slope_TK)))


class ExpertsUsed(NamedTuple):
    """The experts as a layer used them: their network, parameters, blocks of rows, and gates."""

    network: Any
    params: Mapping[str, np.ndarray]
    blocks: list[tuple[slice, Any]]
    gates_TK: np.ndarray


def experts_used(cache: LayerCache) -> ExpertsUsed:
    """Return what is needed to compute an expert's outputs and gradients row by row."""
    blocks = [(block.rows, block.cache) for block in cache.mixture.experts.blocks]
    return ExpertsUsed(cache.mixture.experts.network, cache.mixture.experts.params, blocks,
                       cache.mixture.combine.gates_TK)


def intermediates(cache: LayerCache) -> dict[str, np.ndarray]:
    """Return the layer's intermediate results by name.

    "router.input" (T, D) with its noise; "experts.rows" (R, D), "experts.hidden" (R, F) and
    "experts.out" (R, D), in the order of the plan's rows.
    """
    found = {"router.input": cache.router.noisy_TD, "experts.out": cache.mixture.combine.out_RD}
    blocks = sorted(cache.mixture.experts.blocks, key=lambda block: block.rows.start)
    if blocks:
        for name, field in (("experts.rows", "x_TD"), ("experts.hidden", "hidden_TF")):
            found[name] = np.concatenate([getattr(block.cache, field) for block in blocks])
    return found


def over_ranks(cache: LayerCache) -> tuple[Any, Any, Any]:
    """Return the route of a layer over ranks, and what its combine and its experts saved."""
    mixture = cache.mixture                                    # of `parallel.mixture`
    return mixture.route, mixture.combine, mixture.experts
