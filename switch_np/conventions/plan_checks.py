"""Checks that a plan is consistent, and was made for the arguments at hand."""

import numpy as np

from switch_np.operations import check
from switch_np.switch.config import SwitchConfig
from switch_np.switch.plan import Plan

MOST_ROWS = 2 ** 40    # of all buffers: more than any memory, and far from overflow


def check_plan(plan: Plan, config: SwitchConfig, num_tokens: int, num_groups: int,
               padding_T: np.ndarray | None = None) -> None:
    """Refuse a plan that contradicts itself, or was made for other arguments."""
    check.instance("plan", plan, Plan)
    check.integers("plan.load", plan.load, ("G", "E"), 0, np.inf)
    g, e = plan.load.shape
    check.integers("plan.expert", plan.expert, ("T", "K"), 0, e)
    t, k = plan.expert.shape
    have, want = (t, e, g, k), (num_tokens, config.num_experts, num_groups, config.num_choices)
    if have != want:
        raise ValueError("plan must be for {} tokens, {} experts, {} group(s) and {} choice(s) per "
                         "token, got one for {}, {}, {} and {}".format(*want, *have))
    _check_arrays(plan)
    twice = (np.diff(np.sort(plan.expert, axis=1), axis=1) == 0).any(axis=1)
    if twice.any():
        token = int(twice.argmax())
        raise ValueError("plan.expert must name an expert once per token, got "
                         f"{plan.expert[token].tolist()} for token {token}")
    owner_N = plan.expert[plan.token, plan.choice]
    if ((plan.row < plan.start[owner_N]) | (plan.row >= plan.start[owner_N + 1])).any():
        raise ValueError("plan.row must lie among the rows of the chosen expert, got one outside")
    if (np.diff(plan.row) <= 0).any():
        raise ValueError("plan.row must increase, got a row twice or out of order")
    kept_TK = np.zeros((t, k), bool)
    kept_TK[plan.token, plan.choice] = True
    if (kept_TK != plan.kept).any():
        raise ValueError("plan.kept must be True exactly for the choices listed in plan.token and "
                         "plan.choice, got another pattern")
    _check_padding(plan, config, padding_T)


def _check_arrays(plan: Plan) -> None:
    """Refuse arrays of the wrong kind, shape or range."""
    (t, k), (g, e), n = plan.expert.shape, plan.load.shape, np.size(plan.token)
    check.integer("plan.capacity", plan.capacity, 0)
    check.choice("plan.layout", plan.layout, ["packed", "buffers"])
    check.integers("plan.slot", plan.slot, (t, k), -1, np.inf)
    check.booleans("plan.kept", plan.kept, (t, k))
    check.integers("plan.group", plan.group, (t,), 0, g)
    check.integers("plan.start", plan.start, (e + 1,), 0, np.inf)
    check.integers("plan.balance_count", plan.balance_count, (g, e), 0, np.inf)
    check.integers("plan.balance_tokens", plan.balance_tokens, (g,), 0, np.inf)
    check.integers("plan.token", plan.token, (n,), 0, max(t, 1))
    check.integers("plan.choice", plan.choice, (n,), 0, k)
    check.integers("plan.row", plan.row, (n,), 0, plan.num_rows)
    if plan.layout == "packed" and plan.num_rows != n:
        raise ValueError(f"plan.start must end with the number of kept choices, {n}, with "
                         f"layout='packed', got {plan.num_rows}")


def _check_padding(plan: Plan, config: SwitchConfig, padding_T: np.ndarray | None) -> None:
    """Refuse a plan that was made for other padding."""
    conventions = config.conventions
    real_T = np.ones(len(plan.group), bool) if padding_T is None else ~padding_T
    kept_T = ~real_T & plan.kept.any(axis=1)
    if conventions.padding_routing == "left_out" and kept_T.any():
        raise ValueError("plan must keep no choice of padding, which is not routed here, got one "
                         f"that keeps token {kept_T.argmax()}")
    counted_T = real_T if conventions.balance_padding == "mask_valid" else np.ones_like(real_T)
    tokens = np.bincount(plan.group[counted_T], minlength=len(plan.load))
    if (plan.balance_tokens != tokens).any():
        raise ValueError(f"plan must be for the same padding: plan.balance_tokens must be {tokens},"
                         f" the tokens that the balance loss counts, got {plan.balance_tokens}")


def check_groups(num_tokens: int, num_groups: int) -> None:
    """Refuse a number of groups that does not divide the tokens."""
    check.integer("num_groups", num_groups, min(num_tokens, 1))
    if num_tokens % max(num_groups, 1):
        raise ValueError(f"num_groups must divide the number of tokens, {num_tokens}, got "
                         f"{num_groups}")


def check_buffers(capacity: int | None, num_experts: int, num_groups: int) -> None:
    """Refuse buffers too large for any memory."""
    if capacity is not None and num_experts * num_groups * capacity >= MOST_ROWS:
        raise ValueError(f"capacity must be less than {MOST_ROWS // (num_experts * num_groups)} "
                         f"with layout='buffers', where every slot is a row, got {capacity}; "
                         "layout='packed' has a row for each kept choice alone")
