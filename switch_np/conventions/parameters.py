"""The parameters of a layer: their names and shapes under every convention, and their precision."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from switch_np.operations import check, rounded, tree
from switch_np.switch.config import SwitchConfig

ROUTER = ("w_router", "b_router", "w_noise", "select_bias")    # they decide the plan


def shapes(d_model: int, d_ff: int, config: SwitchConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter, by name.

    >>> list(shapes(8, 16, SwitchConfig(num_experts=4, router_bias=True)))
    ['w_router', 'b_router', 'w_in', 'w_out']
    >>> shapes(6, 8, SwitchConfig.like("hf_deepseek_v3", num_experts=16))["shared_w_in"]
    (6, 8)
    """
    conventions, e, d, f = config.conventions, config.num_experts, d_model, d_ff
    found: dict[str, tuple[int, ...]] = {"w_router": (d, e)}
    if config.router_bias:
        found["b_router"] = (e,)
    found |= {"w_in": (e, d, f), "w_out": (e, f, d)}
    if conventions.papers:
        return found
    shared, wide = conventions.shared_experts > 0, conventions.shared_width
    wide = conventions.shared_experts * f if wide is None else wide
    optional = {
        "w_noise": (conventions.logit_noise == "learned", (d, e)),
        "select_bias": (conventions.select_bias, (e,)),
        "balance_f": (conventions.balance_counts == "given", (e,)),
        "w_gate": (conventions.expert_gated, (e, d, f)),
        "b_in": (conventions.expert_biases, (e, f)),
        "b_gate": (conventions.expert_biases and conventions.expert_gated, (e, f)),
        "b_out": (conventions.expert_biases, (e, d)),
        "hidden_scale": (conventions.expert_hidden_scale, (e, f)),
        "shared_w_in": (shared, (d, wide)),
        "shared_w_gate": (shared and conventions.expert_gated, (d, wide)),
        "shared_w_out": (shared, (wide, d)),
        "shared_w_router": (conventions.shared_gate, (d, 1)),
        "shared_b_out": (conventions.shared_bias, (d,)),
    }
    return found | {name: shape for name, (present, shape) in optional.items() if present}


def in_precision(params: Mapping[str, Any], experts: str | None,
                 router: str | None) -> dict[str, Any]:
    """Return parameters, of a layer or a tree, that round everything computed with them.

    The layer casts x to the precision of the router's parameters for the router, and to that of
    `w_in` for the rest. The results round too: `.view(np.ndarray)` makes them plain arrays.

    Parameters
    ----------
    params
        As `init` gives them, float32 or float64.
    experts, router
        "bfloat16" or "float16" for the router's own parameters (`router`) and for all others
        (`experts`); None leaves them as they are. Section 2.4's selective precision is
        experts="bfloat16", router=None.

    Raises
    ------
    TypeError, ValueError
        If a precision is another, or a parameter is not an array of floats.

    Examples
    --------
    >>> params = {"w_router": np.array([[1.001]]), "w_in": np.array([[[1.001]]])}
    >>> {name: value.item() for name, value in in_precision(params, "bfloat16", None).items()}
    {'w_router': 1.001, 'w_in': 1.0}
    """
    check.instance("params", params, Mapping)
    for name, precision in (("experts", experts), ("router", router)):
        if precision is not None:
            check.choice(name, precision, list(rounded.KINDS))
    flat = tree.flatten(params)
    for name, value in flat.items():
        check.floats(f"params[{name!r}]", value, np.shape(value))
        precision = router if name.split(".")[-1] in ROUTER else experts
        flat[name] = value if precision is None else rounded.enter(value, precision)
    return tree.unflatten(flat)
