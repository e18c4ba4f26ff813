"""Checks of the layer's arguments; a message names the argument, what it must be and what it is."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from switch_np.conventions.parameters import ROUTER, shapes
from switch_np.conventions.serve import group_of
from switch_np.operations import check, signatures
from switch_np.switch.config import SwitchConfig
from switch_np.switch.layer import LayerCache
from switch_np.switch.plan import Plan

MOST_ROWS = 2 ** 40    # in all buffers: more than memory holds, and far below an overflow


def checked(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig,
            padding: np.ndarray | None, plan: Plan | None,
            training: bool) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Check all arguments; return x (T, D), padding (T,) and the number of groups."""
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
        check_plan(plan, config, tokens, groups, padding, training)
    elif config.layout == "buffers":
        check_buffers(config.layout, config.expert_capacity(tokens // max(groups, 1), training),
                      config.num_experts, groups)
    return x.reshape(tokens, x.shape[-1]), padding, groups


def _check_params(params: Mapping[str, np.ndarray], x: np.ndarray, config: SwitchConfig) -> None:
    """Refuse parameters whose names, shapes or precision do not fit the config and x."""
    check.keys("params", params, set(shapes(x.shape[-1], 1, config)))
    check.floats("params['w_in']", params["w_in"], (config.num_experts, x.shape[-1], "F"), like=x)
    for name, shape in shapes(x.shape[-1], params["w_in"].shape[2], config).items():
        check.floats(f"params[{name!r}]", params[name], shape, like=x, finite=name in ROUTER)


@cache
def without_capacity(config: SwitchConfig) -> SwitchConfig:
    """Return a config with room for every token."""
    return replace(config, capacity=None, capacity_factor=None, eval_capacity_factor="same",
                   conventions=replace(config.conventions, eval_capacity_fraction=None))


def num_groups(config: SwitchConfig, shape: tuple[int, ...]) -> int:
    """Return the number of groups of tokens in an x of this shape."""
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


@signatures.checked
def check_plan(plan: Plan, config: SwitchConfig, num_tokens: int, num_groups: int,
               padding_T: np.ndarray | None = None, training: bool = False) -> None:
    """Refuse a plan that contradicts itself or does not fit the config and the tokens."""
    if padding_T is not None:
        check.booleans("padding_T", padding_T, (num_tokens,))
    check.integers("plan.load", plan.load, ("G", "E"), 0, np.inf)
    g, e = plan.load.shape
    check.integers("plan.expert", plan.expert, ("T", "K"), 0, e)
    t, k = plan.expert.shape
    have, want = (t, e, g, k), (num_tokens, config.num_experts, num_groups, config.num_choices)
    if have != want:
        raise ValueError("plan must be for {} tokens, {} experts, {} group(s) and {} choice(s) per "
                         "token, got one for {}, {}, {} and {}".format(*want, *have))
    _check_arrays(plan, config.conventions.loss_groups(g, t))
    twice_T = (np.diff(np.sort(plan.expert, axis=1), axis=1) == 0).any(axis=1)
    if twice_T.any():
        token = int(twice_T.argmax())
        raise ValueError(f"plan.expert must name an expert once per token, got "
                         f"{plan.expert[token].tolist()} for token {token}")
    owner_N = plan.expert[plan.token, plan.choice]
    if ((plan.row < plan.start[owner_N]) | (plan.row >= plan.start[owner_N + 1])).any():
        raise ValueError("plan.row must lie among the rows of the chosen expert, got one outside")
    if (np.diff(plan.row) <= 0).any():
        raise ValueError("plan.row must increase, one row for each kept choice, got a row twice "
                         "or out of order")
    kept_TK = np.zeros((t, k), bool)
    kept_TK[plan.token, plan.choice] = True
    if (kept_TK != plan.kept).any():
        raise ValueError("plan.kept must be True for exactly the choices in plan.token and "
                         "plan.choice, got another pattern")
    most = np.bincount(owner_N * g + plan.group[plan.token], minlength=1).max()
    limit = config.expert_capacity(t // max(g, 1), training)
    if limit is not None and most > limit:
        raise ValueError(f"plan must keep at most {limit} choices per expert and group, the "
                         f"config's capacity, got {most}")
    _check_padding(plan, config, padding_T)


def _check_arrays(plan: Plan, loss_groups: int) -> None:
    """Refuse arrays of the wrong kind, shape or range."""
    (t, k), (g, e), n = plan.expert.shape, plan.load.shape, np.size(plan.token)
    check.integer("plan.capacity", plan.capacity, 0)
    check.choice("plan.layout", plan.layout, ["packed", "buffers"])
    check.integers("plan.slot", plan.slot, (t, k), -1, np.inf)
    check.booleans("plan.kept", plan.kept, (t, k))
    check.integers("plan.group", plan.group, (t,), 0, g)
    check.integers("plan.start", plan.start, (e + 1,), 0, np.inf)
    check.integers("plan.balance_count", plan.balance_count, (loss_groups, e), 0, np.inf)
    check.integers("plan.balance_tokens", plan.balance_tokens, (loss_groups,), 0, np.inf)
    check.integers("plan.token", plan.token, (n,), 0, max(t, 1))
    check.integers("plan.choice", plan.choice, (n,), 0, k)
    check.integers("plan.row", plan.row, (n,), 0, plan.num_rows)
    if plan.layout == "packed" and plan.num_rows != n:
        raise ValueError(f"plan.start must end with the number of kept choices, {n}, with "
                         f"layout='packed', got {plan.num_rows}")


def _check_padding(plan: Plan, config: SwitchConfig, padding_T: np.ndarray | None) -> None:
    """Refuse a plan made for other padding."""
    conventions = config.conventions
    real_T = np.ones(len(plan.group), bool) if padding_T is None else ~padding_T
    lost_T = ~real_T & plan.kept.any(axis=1)
    if conventions.padding_routing == "left_out" and lost_T.any():
        raise ValueError("plan must not keep choices of padding, which is not routed here, got one "
                         f"that keeps token {lost_T.argmax()}")
    counted_T = real_T if conventions.balance_padding == "mask_valid" else np.ones_like(real_T)
    g = len(plan.balance_count)
    tokens = np.bincount(group_of(len(real_T), g)[counted_T], minlength=g)
    if (plan.balance_tokens != tokens).any():
        raise ValueError(f"plan must be for the same padding: plan.balance_tokens must be {tokens},"
                         f" the tokens that the balance loss counts, got {plan.balance_tokens}")


def check_groups(num_tokens: int, num_groups: int, padding_T: np.ndarray | None = None) -> None:
    """Refuse groups and padding that do not fit the tokens."""
    check.integer("num_groups", num_groups, min(num_tokens, 1))
    if num_tokens % max(num_groups, 1):
        raise ValueError(f"num_groups must divide the number of tokens, {num_tokens}, got "
                         f"{num_groups}")
    if padding_T is not None:
        check.booleans("padding_T", padding_T, (num_tokens,))


def check_buffers(layout: str, capacity: int | None, num_experts: int, num_groups: int) -> None:
    """Refuse buffers that no memory could hold."""
    if layout == "buffers" and num_experts * num_groups * (capacity or 0) >= MOST_ROWS:
        raise ValueError(f"capacity must be less than {MOST_ROWS // (num_experts * num_groups)} "
                         f"with layout='buffers', where every slot is a row, got {capacity}; "
                         "layout='packed' has rows for kept choices only")
