"""Checks of the layer's arguments; a message names the argument, what came and what is wanted."""

import math
from collections.abc import Mapping

import numpy as np

from switch_np.conventions.parameters import shapes
from switch_np.conventions.plan_checks import check_buffers, check_plan
from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import LayerCache
from switch_np.switch.plan import Plan

FINITE = ("w_router", "b_router", "w_noise", "select_bias")    # decisions depend on these


def checked(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig,
            padding: np.ndarray | None, plan: Plan | None,
            training: bool) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return x as (T, D), padding as (T,) and the number of groups, if all arguments fit."""
    check.instance("config", config, SwitchConfig)
    check.flag("training", training)
    if not isinstance(x, np.ndarray) or x.ndim not in (2, 3):
        have = f"shape {x.shape}" if isinstance(x, np.ndarray) else type(x).__name__
        raise (ValueError if isinstance(x, np.ndarray) else TypeError)(
            f"x must be an array of shape (T, D) or (B, S, D), got {have}")
    check.floats("x", x, x.shape, finite=True)
    _check_params(params, x, config)
    if padding is not None:
        check.booleans("padding", padding, x.shape[:-1])
        padding = padding.reshape(-1)
    tokens, groups = math.prod(x.shape[:-1]), num_groups(config, x.shape)
    if plan is not None:
        check_plan(plan, config, tokens, groups, padding)
    elif config.layout == "buffers":
        check_buffers(config.expert_capacity(tokens // max(groups, 1), training),
                      config.num_experts, groups)
    return x.reshape(tokens, x.shape[-1]), padding, groups


def _check_params(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig) -> None:
    """Refuse parameters whose names, shapes or precision do not fit the config and x."""
    check.keys("params", params, set(shapes(x.shape[-1], 1, config)))
    check.floats("params['w_in']", params["w_in"], (config.num_experts, x.shape[-1], "F"), like=x)
    for name, shape in shapes(x.shape[-1], params["w_in"].shape[2], config).items():
        check.floats(f"params[{name!r}]", params[name], shape, like=x, finite=name in FINITE)
    if type(params["w_router"]) is not type(params["w_in"]) and not config.conventions.papers:
        raise ValueError("params must share one precision under other libraries' conventions, got "
                         "a router in another: only the paper has selective precision")


def num_groups(config: SwitchConfig, shape: tuple[int, ...]) -> int:
    """Return how many groups the tokens of an x of this shape form."""
    if config.groups == "all":
        return 1
    if config.groups == "rows":
        if len(shape) != 3:
            raise ValueError(f"x must have shape (B, S, D) with groups='rows', got {shape}")
        return shape[0]
    tokens, groups = math.prod(shape[:-1]), int(config.groups)
    if tokens % groups:
        raise ValueError(f"groups must divide the number of tokens, {tokens}, got {groups}")
    return groups


def check_upstream(d_y: np.ndarray, cache: LayerCache, d_balance_loss: float, d_z_loss: float,
                   d_probs: np.ndarray | None, d_logits: np.ndarray | None) -> None:
    """Refuse gradients that do not fit what `forward` returned."""
    check.instance("cache", cache, LayerCache)
    probs_TE = cache.probs_TE
    for name, value, shape in (("d_y", d_y, cache.shape), ("d_probs", d_probs, probs_TE.shape),
                               ("d_logits", d_logits, probs_TE.shape)):
        if value is not None or name == "d_y":
            check.floats(name, value, shape, like=probs_TE)
        if value is not None and np.iscomplexobj(value) and cache.dtype.kind != "c":
            raise TypeError(f"{name} must be real, as x and params were, got {value.dtype}")
    check.number("d_balance_loss", d_balance_loss)
    check.number("d_z_loss", d_z_loss)
