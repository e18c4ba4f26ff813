"""The parameters of a Switch layer: their shapes, and how they are drawn."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from numpy.typing import DTypeLike

from switch_np.operations import check
from switch_np.operations.initialization import truncated_normal
from switch_np.switch.config import SwitchConfig


def init(rng: np.random.Generator, d_model: int, d_ff: int, config: SwitchConfig,
         scale: float = 0.1, dtype: DTypeLike = np.float64) -> dict[str, np.ndarray]:
    """Draw the parameters: truncated normal, standard deviation √(scale / fan-in).

    Returns
    -------
    dict
        `w_router` (D, E), `w_in` (E, D, F), `w_out` (E, F, D), and whatever else `shapes` lists;
        biases are zeros.

    Examples
    --------
    >>> config = SwitchConfig(num_experts=4)
    >>> params = init(np.random.default_rng(0), d_model=8, d_ff=16, config=config)
    >>> {name: value.shape for name, value in params.items()}
    {'w_router': (8, 4), 'w_in': (4, 8, 16), 'w_out': (4, 16, 8)}
    """
    check.instance("rng", rng, np.random.Generator)
    check.integer("d_model", d_model, 1)
    check.integer("d_ff", d_ff, 1)
    check.instance("config", config, SwitchConfig)
    check.number("scale", scale, 0)
    params = {}
    for name, shape in shapes(d_model, d_ff, config).items():
        if "w_" in name:
            params[name] = truncated_normal(rng, shape, shape[-2], scale, dtype)
        else:
            params[name] = (np.ones if name == "hidden_scale" else np.zeros)(shape, dtype)
    return params


def shapes(d_model: int, d_ff: int, config: SwitchConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every parameter.

    >>> list(shapes(8, 16, SwitchConfig(num_experts=4, router_bias=True)))
    ['w_router', 'b_router', 'w_in', 'w_out']
    """
    e = config.num_experts
    found = {"w_router": (d_model, e)} | ({"b_router": (e,)} if config.router_bias else {})
    found |= {"w_in": (e, d_model, d_ff), "w_out": (e, d_ff, d_model)}
    if config.foreign:
        found |= variant().shapes(d_model, d_ff, config)
    return found


def variant() -> ModuleType:
    """Return the layer under other libraries' conventions, imported when one is asked for."""
    from switch_np.switch.variants import layer

    return layer
