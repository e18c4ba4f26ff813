"""What the oracle reads in a layer's cache: here, and nowhere else.

`READ` lists it, so that whoever changes a cache knows what hangs on it; a test holds it.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from switch_np.switch.layer import LayerCache

READ = ("router.params", "router.noisy_TD", "mixture.experts.blocks", "mixture.experts.network",
        "mixture.experts.params", "mixture.combine.out_RD", "mixture.combine.gates_TK",
        "z.log_z_T")                # and every block's cache: params, x_TD, hidden_TF
ROUTER = ("w_router", "b_router", "w_noise")       # what only the router's own gradient meets


def without_router(cache: LayerCache) -> LayerCache:
    """Return the cache of which a backward gives d_x without what comes through the router."""
    params = {name: np.zeros_like(value) if name in ROUTER else value
              for name, value in cache.router.params.items()}
    return cache._replace(router=cache.router._replace(params=params))


def with_rounded_log_z(cache: LayerCache) -> LayerCache:
    """Return the cache whose backward derives log_z as others do, by exp(logits - log_z).

    That is off by as much as log_z is rounded, the same for all of a token's experts.
    """
    if cache.z is None:                                # a part alone has no losses
        return cache
    log_z_T = cache.z.log_z_T
    off_T = log_z_T * 1 - log_z_T
    return cache._replace(z=cache.z._replace(log_z_T=log_z_T * (1 + off_T)))


def with_gates(cache: LayerCache, gates_TK: np.ndarray) -> LayerCache:
    """Return the cache whose backward weighs what comes back to the experts by other gates."""
    combine = cache.mixture.combine._replace(gates_TK=gates_TK)
    return cache._replace(mixture=cache.mixture._replace(combine=combine))


class ExpertsUsed(NamedTuple):
    """The experts as a layer used them: their network, parameters, blocks of rows, and gates."""

    network: Any
    params: Mapping[str, np.ndarray]
    blocks: list[tuple[slice, Any]]
    gates_TK: np.ndarray


def experts_used(cache: LayerCache) -> ExpertsUsed:
    """Return what computes an expert's outputs and gradients row by row."""
    blocks = [(block.rows, block.cache) for block in cache.mixture.experts.blocks]
    return ExpertsUsed(cache.mixture.experts.network, cache.mixture.experts.params, blocks,
                       cache.mixture.combine.gates_TK)


def intermediates(cache: LayerCache) -> dict[str, np.ndarray]:
    """Return what the layer computed on its way, by name.

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
